//! Promise: a Function answers under every name that a plain Service would have, and under the name outside the cluster; a name of
//! nobody is told so.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use http_body_util::Full;
use hyper::Request;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::http::{self, Answer};
use pilotlight_e2e::namespace::TestNamespace;
use pilotlight_e2e::reach::{ACTIVATORS, SYSTEM_NAMESPACE};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

pub(crate) async fn by_host(stage: &Stage, host: &str) -> Result<Answer> {
    let start = Instant::now();
    let stream = stage.reach.activator().await?;
    let request = Request::get("/").header("host", host).body(Full::default())?;
    http::exchange(stream, request, start).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_pod_reaches_a_function_by_all_four_names() -> Result<()> {
    let stage = Stage::set("names").await?;
    stage.functions.create("hello", json!({})).await?;
    stage.ready("hello").await?;
    let elsewhere = TestNamespace::create(&stage.reach.client, "names-elsewhere").await?;

    let ns = &stage.namespace;
    let names =
        ["hello".to_owned(), format!("hello.{ns}"), format!("hello.{ns}.svc"), format!("hello.{ns}.svc.cluster.local")];
    // `hello` alone is a name within the namespace only, as with any Service.
    ask_from_a_pod(&stage, ns, &names).await?;
    ask_from_a_pod(&stage, &elsewhere.name, &names[1..]).await?;
    elsewhere.delete().await?;
    stage.strike().await
}

/// Runs a pod with one client for each name; every one must get its 200.
pub(crate) async fn ask_from_a_pod(stage: &Stage, namespace: &str, names: &[String]) -> Result<()> {
    let clients: Vec<Value> = names
        .iter()
        .enumerate()
        .map(|(number, name)| {
            json!({
                "name": format!("client-{number}"),
                "image": image("probe"), // the client of `helm test`: fails unless it is answered 200
                "imagePullPolicy": "IfNotPresent",
                "args": [format!("http://{name}")],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            })
        })
        .collect();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "clients"},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": clients,
        },
    });
    let pods: Api<Pod> = Api::namespaced(stage.reach.client.clone(), namespace);
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    let phase = || async {
        let status = pods.get("clients").await?.status.unwrap_or_default();
        Ok(status.phase.unwrap_or_default())
    };
    let phase =
        until("the clients to end", PATIENCE, phase, |phase| ["Succeeded", "Failed"].contains(&phase.as_str())).await?;
    let mut said = String::new();
    for number in 0..names.len() {
        let parameters = kube::api::LogParams { container: Some(format!("client-{number}")), ..Default::default() };
        said.push_str(&pods.logs("clients", &parameters).await?);
    }
    ensure!(phase == "Succeeded", "a client in {namespace} failed: {said}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_host_does_not_matter_at_the_functions_own_address() -> Result<()> {
    let stage = Stage::set("address").await?;
    if !stage.reach.in_network() {
        return stage.strike().await; // A ClusterIP can only be asked from within.
    }
    stage.functions.create("hello", json!({})).await?;
    stage.ready("hello").await?;
    for host in ["hello", "localhost:8080", "shop.example.com", "other.somewhere.svc"] {
        let stream = stage.reach.function(&stage.namespace, "hello").await?;
        let request = Request::get("/").header("host", host).body(Full::default())?;
        let answer = http::exchange(stream, request, Instant::now()).await?;
        assert_eq!(answer.status.as_u16(), 200, "Host: {host}: {}", answer.text());
    }
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_shared_port_finds_the_function_by_its_host() -> Result<()> {
    let stage = Stage::set("host").await?;
    stage.functions.create("hello", json!({})).await?;
    stage.functions.create("other", json!({})).await?;
    stage.ready("hello").await?;
    stage.ready("other").await?;
    let ns = &stage.namespace;
    let domain = domain(&stage).await?;
    let suffixes = [String::new(), ".svc".to_owned(), ".svc.cluster.local".to_owned(), format!(".{domain}")];
    for function in ["hello", "other"] {
        for suffix in &suffixes {
            for port in ["", ":8080"] {
                let host = format!("{function}.{ns}{suffix}{port}");
                let answer = by_host(&stage, &host).await?;
                assert_eq!(answer.status.as_u16(), 200, "Host: {host}: {}", answer.text());
                assert_eq!(answer.text(), format!("Hello from Go! ({function}-1)\n"));
            }
        }
    }
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_name_of_nobody_is_answered_with_404_and_its_reason() -> Result<()> {
    let stage = Stage::set("nobody").await?;
    for host in [format!("nobody.{}.svc", stage.namespace), "example.com".to_owned(), "localhost".to_owned()] {
        let answer = by_host(&stage, &host).await?;
        assert_eq!(answer.status.as_u16(), 404, "Host: {host}: {}", answer.text());
        let reason = answer.header("pilotlight-reason");
        ensure!(!reason.is_empty(), "Host: {host}: no pilotlight-reason");
        ensure!(answer.text().contains(reason), "the body must name {reason}: {}", answer.text());
    }
    stage.strike().await
}

/// The domain that the chart gave the activators.
async fn domain(stage: &Stage) -> Result<String> {
    let deployments: Api<Deployment> = Api::namespaced(stage.reach.client.clone(), SYSTEM_NAMESPACE);
    let selected = deployments.list(&ListParams::default().labels(ACTIVATORS)).await?;
    let activator = selected.items.first().context("no activator is installed")?;
    let container = activator
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref())
        .and_then(|spec| spec.containers.first())
        .context("the activator has no container")?;
    let from_environment = container
        .env
        .iter()
        .flatten()
        .find(|variable| variable.name == "PILOTLIGHT_DOMAIN")
        .and_then(|variable| variable.value.clone());
    let from_arguments = || {
        let arguments = [container.command.as_deref(), container.args.as_deref()];
        let mut all = arguments.into_iter().flatten().flatten();
        all.find_map(|argument| argument.strip_prefix("--domain=").map(str::to_owned))
    };
    from_environment
        .or_else(from_arguments)
        .filter(|domain| !domain.is_empty())
        .with_context(|| format!("{} has no domain", activator.name_any()))
}
