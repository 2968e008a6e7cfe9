//! Where no activator is left, Services lead to the pods themselves, of which one is kept; and back to the activators once there are some. The
//! same for a Function with pods of its own, and for one that took over a Deployment.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use pilotlight_crds::condition::{FAILED_OPEN, ROUTE_READY, ROUTED};
use pilotlight_crds::names::endpoint_slice_name;
use pilotlight_e2e::existing::{adopting, deployment, service};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::reach::{ACTIVATORS, SYSTEM_NAMESPACE, ip_of, is_ready};
use pilotlight_e2e::stage::{Stage, condition};
use pilotlight_e2e::wait::until;
use serde_json::json;

/// A Function, and what selects its pods.
const FUNCTIONS: [(&str, &str); 2] = [("hello", "pilotlight.dev/function=hello"), ("web", "app=api")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn services_lead_to_the_pods_while_there_is_no_activator_and_then_back() -> Result<()> {
    let stage = Stage::set("fail-open").await?;
    stage.functions.create("hello", json!({"scaling": {"idleSeconds": 2}})).await?;
    stage.api::<Deployment>().create(&PostParams::default(), &deployment("api", "web", 1)?).await?;
    stage.api().create(&PostParams::default(), &service("web", "api")?).await?;
    stage.apply(&adopting("web", "api", json!({"idleSeconds": 2})).to_string()).await?.success()?;
    for (function, selector) in FUNCTIONS {
        stage.ready(function).await?;
        // The hard case: there is no pod to lead to yet.
        until("no pod", PATIENCE, || pods(&stage, selector), Vec::is_empty).await?;
    }
    let (name, replicas) = activators(&stage).await?;
    scale(&stage, &name, 0).await?;
    let opened = opened(&stage).await;
    scale(&stage, &name, replicas).await?;
    opened?;
    for (function, selector) in FUNCTIONS {
        route(&stage, function, ROUTED).await?;
        past(&stage, function, false).await?;
        until("no pod", PATIENCE, || pods(&stage, selector), Vec::is_empty).await?;
        stage.ok(function, "/").await?;
    }
    stage.strike().await
}

/// Every Service leads to the pods of its Function, and nobody else.
async fn opened(stage: &Stage) -> Result<()> {
    for (function, selector) in FUNCTIONS {
        route(stage, function, FAILED_OPEN).await?;
        let slices = stage.api::<EndpointSlice>();
        let look = || async {
            let slice = slices.get(&endpoint_slice_name(function)).await?;
            Ok((addresses(&slice), ready(&pods(stage, selector).await?)?))
        };
        let what = format!("the Service {function} to lead to its pods");
        let same = |(led, ready): &(BTreeSet<String>, BTreeSet<String>)| !led.is_empty() && led == ready;
        let (led, _) = until(&what, PATIENCE, look, same).await?;
        println!("{function} leads to {led:?}");
        if stage.reach.in_network() {
            past(stage, function, true).await?;
        }
    }
    Ok(())
}

/// Waits for an answer that went past the activators, or that did not.
async fn past(stage: &Stage, function: &str, wanted: bool) -> Result<()> {
    let what = format!("an answer of {function} {} the activators", if wanted { "past" } else { "through" });
    let answer = || stage.ok(function, "/");
    until(&what, PATIENCE, answer, |answer| answer.header("server-timing").is_empty() == wanted).await?;
    Ok(())
}

/// Waits until the condition says so of the Function's route.
async fn route(stage: &Stage, function: &str, reason: &str) -> Result<()> {
    let what = format!("{reason} of {function}");
    let get = || stage.functions.get(function);
    until(&what, PATIENCE, get, |now| condition(now, ROUTE_READY).is_some_and(|route| route.reason == reason)).await?;
    Ok(())
}

/// The pods that are selected, without those on their way out.
async fn pods(stage: &Stage, selector: &str) -> Result<Vec<Pod>> {
    let found = stage.api::<Pod>().list(&ListParams::default().labels(selector)).await?;
    Ok(found.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
}

fn ready(pods: &[Pod]) -> Result<BTreeSet<String>> {
    pods.iter().filter(|pod| is_ready(pod)).map(|pod| Ok(ip_of(pod)?.to_owned())).collect()
}

fn addresses(slice: &EndpointSlice) -> BTreeSet<String> {
    slice.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().cloned()).collect()
}

/// The activators' Deployment: its name and how many there are.
async fn activators(stage: &Stage) -> Result<(String, i32)> {
    let found = components(stage).list(&ListParams::default().labels(ACTIVATORS)).await?;
    let one = found.items.into_iter().next().context("no Deployment of activators")?;
    let replicas = one.spec.and_then(|spec| spec.replicas).unwrap_or(1);
    ensure!(replicas > 0, "there is no activator");
    Ok((one.metadata.name.context("a Deployment without a name")?, replicas))
}

/// Sets how many activators there are, and waits until there are so many.
async fn scale(stage: &Stage, name: &str, replicas: i32) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    components(stage).patch(name, &PatchParams::default(), &patch).await?;
    let wanted = usize::try_from(replicas)?;
    let ready = || stage.reach.ready_pods(SYSTEM_NAMESPACE, ACTIVATORS);
    until(&format!("{replicas} activators"), PATIENCE, ready, |pods| pods.len() == wanted).await?;
    Ok(())
}

fn components(stage: &Stage) -> Api<Deployment> {
    Api::namespaced(stage.reach.client.clone(), SYSTEM_NAMESPACE)
}
