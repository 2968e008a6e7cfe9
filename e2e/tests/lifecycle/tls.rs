//! Promise: certificates in Secrets that the chart names are served by the names in them, and a Secret that changes is followed without
//! a restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::Request;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::reach::{ACTIVATORS, Reach, SYSTEM_NAMESPACE};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use pilotlight_e2e::{chart, http};
use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio_rustls::TlsConnector;

type Certificate = CertifiedKey<KeyPair>;

/// Kubelet brings a changed Secret to its pods within its sync period and the age of its cache: about two minutes.
const KUBELET: Duration = Duration::from_secs(180);

fn certificate(name: &str) -> Result<Certificate> {
    Ok(rcgen::generate_simple_self_signed([name.to_owned()])?)
}

async fn put(secrets: &Api<Secret>, name: &str, certificate: &Certificate) -> Result<()> {
    let data = [("tls.crt", certificate.cert.pem()), ("tls.key", certificate.signing_key.serialize_pem())];
    let data = data.into_iter().map(|(key, pem)| (key.to_owned(), ByteString(pem.into_bytes()))).collect();
    let mut secret = Secret { type_: Some("kubernetes.io/tls".to_owned()), data: Some(data), ..Secret::default() };
    secret.metadata.name = Some(name.to_owned());
    let params = PatchParams::apply("pilotlight-e2e").force();
    secrets.patch(name, &params, &Patch::Apply(&secret)).await?;
    Ok(())
}

/// One request to `host`, by a client that trusts this certificate alone.
async fn ask(reach: &Reach, trusted: &Certificate, host: &str, protocol: &str) -> Result<http::Answer> {
    let start = Instant::now();
    let mut roots = RootCertStore::empty();
    roots.add(trusted.cert.der().clone())?;
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = ServerName::try_from(host.to_owned())?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, reach.activators_tls().await?).await?;
    let agreed = stream.get_ref().1.alpn_protocol();
    ensure!(agreed == Some(protocol.as_bytes()), "{protocol} was not agreed upon, but {agreed:?}");
    let request = Request::get(format!("https://{host}/")).header("host", host).body(http_body_util::Full::default())?;
    let exchange = async {
        match protocol {
            "h2" => http::exchange_h2c(Box::new(stream), request, start).await,
            _ => http::exchange(Box::new(stream), request, start).await,
        }
    };
    let answer = exchange.await?;
    ensure!(answer.status.is_success(), "{} {}", answer.status, answer.text());
    Ok(answer)
}

/// Uid and restarts of each activator that is to stay.
async fn activators(reach: &Reach) -> Result<Vec<(Option<String>, i32)>> {
    let pods: Api<Pod> = Api::namespaced(reach.client.clone(), SYSTEM_NAMESPACE);
    let listed = pods.list(&ListParams::default().labels(ACTIVATORS)).await?;
    let restarts = |pod: &Pod| {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        statuses.map(|status| status.restart_count).sum()
    };
    let stay = listed.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let mut all: Vec<_> = stay.map(|pod| (pod.uid(), restarts(pod))).collect();
    all.sort();
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn secrets_with_certificates_are_served_by_name_and_followed() -> Result<()> {
    let stage = Stage::set("tls").await?;
    let reach = &stage.reach;
    let host = format!("secure.{}.functions.test", stage.namespace);
    let secrets: Api<Secret> = Api::namespaced(reach.client.clone(), SYSTEM_NAMESPACE);
    let (fallback, first) = (certificate("any.functions.test")?, certificate(&host)?);
    put(&secrets, "e2e-fallback", &fallback).await?;
    put(&secrets, "e2e-secure", &first).await?;
    chart::install(&[
        "activator.tls.certificates[0].secretName=e2e-fallback",
        "activator.tls.certificates[1].secretName=e2e-secure",
    ])
    .await?;

    stage.functions.create("secure", json!({"scaling": {"idleSeconds": 3}})).await?;
    stage.ready("secure").await?;
    stage.functions.at_zero("secure").await?;
    println!("a request over TLS wakes it");
    let answer = ask(reach, &first, &host, "http/1.1").await?;
    ensure!(answer.header("pilotlight-cold-start") == "true", "it was no cold start");
    println!("HTTP/2 is agreed upon with those who know it");
    ask(reach, &first, &host, "h2").await?;
    let refused = ask(reach, &fallback, &host, "h2").await;
    ensure!(refused.is_err(), "the certificate is that of another name");

    println!("a changed Secret is served by the same processes");
    let before = activators(reach).await?;
    let second = certificate(&host)?;
    put(&secrets, "e2e-secure", &second).await?;
    let renewed = || async { Ok(ask(reach, &second, &host, "h2").await.err().map(|error| format!("{error:#}"))) };
    until("the new certificate to be served", KUBELET, renewed, Option::is_none).await?;
    ensure!(activators(reach).await? == before, "an activator was replaced or restarted");

    println!("without certificates in the values, there is no port for TLS");
    chart::install(&[]).await?;
    let closed = || async { Ok(reach.activators_tls().await.is_err()) };
    until("the port for TLS to be closed", PATIENCE, closed, |closed| *closed).await?;
    for name in ["e2e-fallback", "e2e-secure"] {
        secrets.delete(name, &DeleteParams::default()).await.context("deleting the Secret")?;
    }
    stage.strike().await
}
