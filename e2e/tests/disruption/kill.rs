//! kill -9 of operator, activator or the node's agents while a request is held: only what the killed process held may fail; every later request
//! is answered.

mod adopting;
mod leader;
mod node;
pub(crate) mod parked;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::http;
use pilotlight_e2e::kill::kill_containers;
use pilotlight_e2e::reach::{ACTIVATORS, OPERATORS, Reach, SYSTEM_NAMESPACE, is_ready};
use pilotlight_e2e::renew::renew;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;

/// Kills of each component. Kubelet waits longer before each restart, so more would test its patience.
const ROUNDS: usize = 3;
/// Kubelet waits for up to five minutes before it starts a container again that has ended often.
const BACK: Duration = Duration::from_secs(360);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_killed_operator_fails_no_request() -> Result<()> {
    let stage = prepare("kill-operator").await?;
    renew(&stage.reach, OPERATORS).await?;
    let (reach, functions) = (&stage.reach, &stage.functions);
    for round in 0..ROUNDS {
        functions.at_zero("hello").await?;
        let held = tokio::spawn(get(reach.clone(), stage.namespace.clone()));
        let killed = kill_all(reach, OPERATORS).await?;
        let answer = held.await??;
        ensure!(answer.status.is_success(), "round {round}: {} {}", answer.status, answer.text());
        back(reach, OPERATORS, killed).await?;
    }
    stage.strike().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_killed_activator_fails_at_most_what_it_held() -> Result<()> {
    let stage = prepare("kill-activator").await?;
    renew(&stage.reach, ACTIVATORS).await?;
    let (reach, functions) = (&stage.reach, &stage.functions);
    let mut survived = 0;
    for round in 0..ROUNDS {
        functions.at_zero("hello").await?;
        let held = tokio::spawn(get(reach.clone(), stage.namespace.clone()));
        until("the wake", PATIENCE, || functions.replicas("hello"), |replicas| *replicas > 0).await?;
        let killed = kill_all(reach, ACTIVATORS).await?;
        survived += usize::from(held.await?.is_ok_and(|answer| answer.status.is_success()));
        back(reach, ACTIVATORS, killed).await?;
        // The first request after the components are back, and all that follow, must be answered.
        for later in 0..20 {
            let answer = http::get(reach, &stage.namespace, "hello", "/").await?;
            ensure!(answer.status.is_success(), "round {round}, later request {later}: {}", answer.text());
        }
    }
    println!("{survived} of {ROUNDS} held requests outlived the kill of every activator");
    stage.strike().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_other_operator_takes_over_when_the_leader_is_killed() -> Result<()> {
    let stage = prepare("failover").await?;
    renew(&stage.reach, OPERATORS).await?;
    let (reach, functions) = (&stage.reach, &stage.functions);
    let killed = kill_all(reach, OPERATORS).await?;
    functions.create("born-meanwhile", json!({"scaling": {"idleSeconds": 2}})).await?;
    stage.ready("born-meanwhile").await?;
    let answer = http::get(reach, &stage.namespace, "born-meanwhile", "/").await?;
    ensure!(answer.status.is_success(), "{}", answer.text());
    back(reach, OPERATORS, killed).await?;
    stage.strike().await
}

async fn prepare(prefix: &str) -> Result<Stage> {
    Stage::with_hello(prefix, json!({"scaling": {"idleSeconds": 2}})).await
}

async fn get(reach: Reach, namespace: String) -> Result<http::Answer> {
    http::get(&reach, &namespace, "hello", "/").await
}

/// Kills every pod's containers; returns the sum of their restart counts before.
async fn kill_all(reach: &Reach, selector: &str) -> Result<i32> {
    let pods = components(reach, selector).await?;
    ensure!(!pods.is_empty(), "no pod is selected by {selector}");
    for pod in &pods {
        kill_containers(pod).with_context(|| format!("killing {:?}", pod.metadata.name))?;
    }
    Ok(pods.iter().map(restarts).sum())
}

/// Waits until the killed containers were started again and are all ready.
async fn back(reach: &Reach, selector: &str, restarts_before: i32) -> Result<()> {
    until(
        &format!("{selector} to be back"),
        BACK,
        || components(reach, selector),
        |pods| pods.iter().all(is_ready) && pods.iter().map(restarts).sum::<i32>() > restarts_before,
    )
    .await?;
    Ok(())
}

/// The component's pods, without those that are told to go.
async fn components(reach: &Reach, selector: &str) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(reach.client.clone(), SYSTEM_NAMESPACE);
    let found = pods.list(&ListParams::default().labels(selector)).await?;
    Ok(found.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).sum()
}
