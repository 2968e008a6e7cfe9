//! Promise: a Function takes over an existing Deployment with its Service (`spec.targetRef`) and gives both back, and no request notices. Of
//! the Deployment nothing but its replicas is touched, of its pods nothing.

mod contest;
mod namespace;
mod owner;
mod refusals;
mod rights;
mod traffic;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use pilotlight_crds::condition::READY;
use pilotlight_crds::{Function, names};
use pilotlight_e2e::existing::{adopting, deployment, service};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::load::Load;
use pilotlight_e2e::reach::is_ready;
use pilotlight_e2e::stage::{Stage, condition};
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

/// Clients of the steady load.
const CLIENTS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_deployment_is_taken_over_and_given_back_under_load_and_no_request_fails() -> Result<()> {
    let stage = Stage::set("adopt-load").await?;
    let service = running(&stage, 2).await?;
    let (pods, deployment) = (pods(&stage).await?, stage.api::<Deployment>().get("api").await?);
    let load = Load::start(&stage.reach, &stage.namespace, &["web"], CLIENTS).await?;

    adopt(&stage, json!({"minReplicas": 2})).await?;
    through_activators(&stage, true).await?;
    let taken = stage.api::<Service>().get("web").await?.spec.context("no spec")?;
    ensure!(
        taken.selector.is_none_or(|selector| selector.is_empty()),
        "Kubernetes still leads the Service to the pods"
    );
    let sent = load.sent();
    until("requests through the activators", PATIENCE, || async { Ok(load.sent()) }, |now| *now > sent + 200).await?;

    stage.api::<Function>().delete("web", &DeleteParams::default()).await?;
    stage.gone::<Function>("web").await?;
    let sent = load.sent();
    until("requests past the activators", PATIENCE, || async { Ok(load.sent()) }, |now| *now > sent + 200).await?;
    through_activators(&stage, false).await?;
    println!("{} requests, none failed", load.end_without_failure().await?);
    released(&stage, &service, 2).await?;
    assert_eq!(as_made(&self::pods(&stage).await?), as_made(&pods), "pods were restarted or changed");
    let after = stage.api::<Deployment>().get("api").await?;
    assert_eq!(
        (after.metadata.generation, after.metadata.labels, after.metadata.annotations),
        (deployment.metadata.generation, deployment.metadata.labels, deployment.metadata.annotations),
        "the Deployment was written"
    );
    assert_eq!(after.metadata.owner_references, None);
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn it_goes_to_zero_wakes_by_a_request_and_has_its_replicas_back_at_the_end() -> Result<()> {
    let stage = Stage::set("adopt-zero").await?;
    let service = running(&stage, 2).await?;
    adopt(&stage, json!({"idleSeconds": 3})).await?;
    through_activators(&stage, true).await?;

    at_zero(&stage).await?;
    let listed = stage.kubectl_ok(&["get", "fn", "web"]).await?;
    ensure!(listed.contains("Zero") && listed.contains("True"), "{listed}");
    let answer = stage.ok("web", "/").await?;
    assert_eq!(answer.header(names::HEADER_COLD_START), "true", "it was no cold start");

    at_zero(&stage).await?;
    stage.api::<Function>().delete("web", &DeleteParams::default()).await?;
    stage.gone::<Function>("web").await?;
    released(&stage, &service, 2).await?;
    through_activators(&stage, false).await?;
    let reasons: Vec<_> = stage.events("Function", "web").await?.into_iter().filter_map(|event| event.reason).collect();
    for reason in ["Adopted", "Released"] {
        ensure!(reasons.iter().any(|told| told == reason), "no event {reason} among {reasons:?}");
    }
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn consent_is_a_label_and_without_it_both_are_given_back() -> Result<()> {
    let stage = Stage::set("adopt-consent").await?;
    let service = running(&stage, 1).await?;
    adopt(&stage, json!({"idleSeconds": 3})).await?;
    for (kind, name, reason) in [("deployment", "api", "TargetNotLabelled"), ("service", "web", "ServiceNotLabelled")] {
        through_activators(&stage, true).await?;
        // The hard case: what is given back has no pods.
        at_zero(&stage).await?;
        stage.kubectl_ok(&["label", kind, name, "pilotlight.dev/function-"]).await?;
        refused(&stage, "web", reason).await?;
        through_activators(&stage, false).await?;
        released(&stage, &service, 1).await?;
        stage.kubectl_ok(&["label", kind, name, "pilotlight.dev/function=web"]).await?;
        stage.functions.ready("web").await?;
    }
    stage.strike().await
}

/// A plain Deployment `api` with so many pods, and its Service `web`, labelled and in use; the Service's spec.
async fn running(stage: &Stage, replicas: i32) -> Result<ServiceSpec> {
    let service = runs(stage, &deployment("api", "web", replicas)?).await?;
    stage.answers("web").await?;
    Ok(service)
}

/// This Deployment with ready pods, and its Service `web`, labelled; the Service's spec.
async fn runs(stage: &Stage, deployment: &Deployment) -> Result<ServiceSpec> {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let wanted = usize::try_from(wanted)?;
    stage.api::<Deployment>().create(&PostParams::default(), deployment).await?;
    let service = stage.api::<Service>().create(&PostParams::default(), &service("web", "api")?).await?;
    let all = || pods(stage);
    until("ready pods", PATIENCE, all, |pods| pods.len() == wanted && pods.iter().all(is_ready)).await?;
    service.spec.context("no spec")
}

/// Takes `api` over, and waits until the Function is ready.
async fn adopt(stage: &Stage, scaling: Value) -> Result<()> {
    adopt_with(stage, scaling, json!({})).await
}

/// The same with these fields of its spec, too.
async fn adopt_with(stage: &Stage, scaling: Value, fields: Value) -> Result<()> {
    let mut function = adopting("web", "api", scaling);
    for (key, value) in fields.as_object().into_iter().flatten() {
        function["spec"][key] = value.clone();
    }
    stage.apply(&function.to_string()).await?.success()?;
    stage.functions.ready("web").await?;
    Ok(())
}

/// The Deployment's pods, without those on their way out.
async fn pods(stage: &Stage) -> Result<Vec<Pod>> {
    let found = stage.api::<Pod>().list(&ListParams::default().labels("app=api")).await?;
    Ok(found.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
}

/// What of pods must never change: who they are, what is written on them, and how often they began anew.
fn as_made(pods: &[Pod]) -> BTreeMap<String, (Value, i32)> {
    let made = |pod: &Pod| {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let written = json!({"labels": pod.labels(), "annotations": pod.annotations(), "spec": pod.spec});
        (pod.uid().unwrap_or_default(), (written, statuses.map(|status| status.restart_count).sum()))
    };
    pods.iter().map(made).collect()
}

/// Waits until requests go, or do not go, through an activator.
async fn through_activators(stage: &Stage, wanted: bool) -> Result<()> {
    let what = if wanted { "answers through activators alone" } else { "answers past the activators alone" };
    // On the way kube-proxy leads some there and some here. One after the other, for apps that take no more.
    let several = || async {
        let mut there = 0;
        for _ in 0..20 {
            there += usize::from(stage.ok("web", "/").await?.header("server-timing").is_empty() != wanted);
        }
        Ok(there)
    };
    until(what, PATIENCE, several, |there| *there == 20).await?;
    Ok(())
}

/// Waits until the Deployment asks for no pods and has none.
async fn at_zero(stage: &Stage) -> Result<()> {
    let deployments: Api<Deployment> = stage.api();
    let look = || async { Ok((deployments.get("api").await?, pods(stage).await?)) };
    let none = |(deployment, pods): &(Deployment, Vec<Pod>)| {
        pods.is_empty() && deployment.spec.as_ref().is_some_and(|spec| spec.replicas == Some(0))
    };
    until("the adopted Deployment at zero", PATIENCE, look, none).await?;
    Ok(())
}

/// Waits until the Function says why it has not taken over its target.
async fn refused(stage: &Stage, name: &str, reason: &str) -> Result<String> {
    let what = format!("Ready=False of {name} with the reason {reason}");
    let function = until(
        &what,
        PATIENCE,
        || stage.functions.get(name),
        |function| condition(function, READY).is_some_and(|ready| ready.status == "False" && ready.reason == reason),
    )
    .await?;
    Ok(condition(&function, READY).context("the condition was there a moment ago")?.message.clone())
}

/// Waits until nothing of Pilotlight's is left on Service and Deployment, and both are as they were.
async fn released(stage: &Stage, service: &ServiceSpec, replicas: i32) -> Result<()> {
    stage.gone::<EndpointSlice>(&names::endpoint_slice_name("web")).await?;
    let services = stage.api::<Service>();
    let left = |service: &Service| service.annotations().keys().any(|key| key.starts_with("pilotlight.dev/"));
    let now = until(
        "our annotations to be gone",
        PATIENCE,
        || async { Ok(services.get("web").await?) },
        |service| !left(service),
    )
    .await?;
    assert_eq!(now.spec.as_ref(), Some(service), "the Service is another than before");
    assert_eq!(now.annotations().get("example.com/note").map(String::as_str), Some("stays"));
    assert_eq!(now.metadata.owner_references, None);
    let deployment = stage.api::<Deployment>().get("api").await?;
    assert_eq!(deployment.spec.and_then(|spec| spec.replicas), Some(replicas));
    assert_eq!(deployment.metadata.owner_references, None);
    Ok(())
}
