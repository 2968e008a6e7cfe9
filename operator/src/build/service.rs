//! The Services of a Function: a name and a virtual address, without a selector of its own, and an alias for each tag.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pilotlight_crds::workload::Protocol;
use pilotlight_crds::{Function, names};
use std::collections::BTreeMap;

use super::pod::port_name;
use super::{labels, owned_metadata};

/// The application protocol that a Service's port announces.
pub fn app_protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::HTTP1 => "http",
        Protocol::H2C => "kubernetes.io/h2c",
    }
}

/// The Service. `selector` is `None` while Pilotlight serves it, and the revision's once it is released.
///
/// The target port is the name of the pods' port; it counts only when there is a selector.
pub fn service(function: &Function, protocol: Protocol, selector: Option<BTreeMap<String, String>>) -> Service {
    let name = function.metadata.name.clone().unwrap_or_default();
    let labels = labels(&name);
    Service {
        metadata: owned_metadata(function, name, labels),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector,
            ports: Some(vec![ServicePort {
                name: Some(port_name(protocol).to_owned()),
                port: i32::from(names::SERVICE_PORT),
                target_port: Some(IntOrString::String(port_name(protocol).to_owned())),
                protocol: Some("TCP".to_owned()),
                app_protocol: Some(app_protocol(protocol).to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The Service of a tag: an alias of the activators' Service, at the DNS name `host`.
pub fn alias(function: &Function, name: String, host: &str) -> Service {
    let labels = labels(function.metadata.name.as_deref().unwrap_or_default());
    let spec = ServiceSpec {
        type_: Some("ExternalName".to_owned()),
        external_name: Some(host.to_owned()),
        ..ServiceSpec::default()
    };
    Service { metadata: owned_metadata(function, name, labels), spec: Some(spec), status: None }
}
