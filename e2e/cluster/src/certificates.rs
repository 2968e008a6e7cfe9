//! The cluster's keys and certificates: one authority, and for each component an identity of its own with the names
//! that Kubernetes' built-in RBAC roles expect. They live as long as the cluster's directory.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::error::{Error, Result};
use crate::layout::{Layout, set_mode, write};
use crate::network::{API_ADDRESS, NODE_ADDRESS, NODE_NAME};

/// A client or server identity. `name` is the file name below `pki/`.
struct Identity {
    name: &'static str,
    common_name: String,
    organization: Option<&'static str>,
    alternative_names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
}

/// The components that talk to the API server, each with its file's name, user and group.
pub(crate) const CLIENTS: [(&str, &str, Option<&str>); 7] = [
    ("admin", "pilotlight-admin", Some("system:masters")),
    ("controller-manager", "system:kube-controller-manager", None),
    ("scheduler", "system:kube-scheduler", None),
    ("kubelet", "system:node:pilotlight", Some("system:nodes")),
    ("proxy", "system:kube-proxy", None),
    ("coredns", COREDNS_USER, None),
    ("apiserver-kubelet-client", KUBELET_API_USER, None),
];

/// Who CoreDNS is to the API server.
pub(crate) const COREDNS_USER: &str = "pilotlight:coredns";
/// Who the API server is to the kubelet.
pub(crate) const KUBELET_API_USER: &str = "pilotlight:apiserver-kubelet-client";

fn identities() -> Vec<Identity> {
    let mut all: Vec<Identity> = CLIENTS
        .iter()
        .map(|&(name, user, organization)| Identity {
            name,
            common_name: user.to_owned(),
            organization,
            alternative_names: Vec::new(),
            usage: ExtendedKeyUsagePurpose::ClientAuth,
        })
        .collect();
    let api_names =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
    all.push(Identity {
        name: "apiserver",
        common_name: "kube-apiserver".to_owned(),
        organization: None,
        alternative_names: api_names
            .iter()
            .map(|name| (*name).to_owned())
            .chain(["localhost".to_owned(), "127.0.0.1".to_owned(), API_ADDRESS.to_string(), NODE_ADDRESS.to_string()])
            .collect(),
        usage: ExtendedKeyUsagePurpose::ServerAuth,
    });
    all.push(Identity {
        name: "kubelet-server",
        common_name: format!("system:node:{NODE_NAME}"),
        organization: Some("system:nodes"),
        alternative_names: vec![NODE_NAME.to_owned(), NODE_ADDRESS.to_string()],
        usage: ExtendedKeyUsagePurpose::ServerAuth,
    });
    all
}

/// Writes `pki/ca.{crt,key}`, `pki/service-account.{key,pub}`, and `pki/<name>.{crt,key}` for every identity.
pub(crate) fn generate(layout: &Layout) -> Result<()> {
    let failed = |error: rcgen::Error| Error::Internal(format!("generating certificates: {error}"));

    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "pilotlight-cluster");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let authority_key = KeyPair::generate().map_err(failed)?;
    let certificate = authority.self_signed(&authority_key).map_err(failed)?;
    store(layout, "ca", &certificate.pem(), &authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let service_accounts = KeyPair::generate().map_err(failed)?;
    write(&layout.pki().join("service-account.pub"), service_accounts.public_key_pem())?;
    write_key(layout, "service-account", &service_accounts)?;

    for identity in identities() {
        let mut params = CertificateParams::new(identity.alternative_names).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, identity.common_name);
        if let Some(organization) = identity.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![identity.usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        store(layout, identity.name, &certificate.pem(), &key)?;
    }
    Ok(())
}

fn store(layout: &Layout, name: &str, certificate: &str, key: &KeyPair) -> Result<()> {
    write(&layout.pki().join(format!("{name}.crt")), certificate)?;
    write_key(layout, name, key)
}

fn write_key(layout: &Layout, name: &str, key: &KeyPair) -> Result<()> {
    let path = layout.pki().join(format!("{name}.key"));
    write(&path, key.serialize_pem())?;
    set_mode(&path, 0o600)
}
