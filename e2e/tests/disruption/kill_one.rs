//! kill -9 of one of two activators, again and again under load: what it held is lost, and nothing that comes once nobody is led to
//! it any more.
//!
//! Between the kill and the moment at which the node's kube-proxy has taken the address out of its rules, a new connection may still be
//! led to it. Nobody listens there, so the kernel refuses it before a byte of a request is sent: the one thing that may
//! befall those. It is counted and told.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::kill::{has_ended, kill_containers};
use pilotlight_e2e::load::{Failure, Load};
use pilotlight_e2e::reach::{ACTIVATORS, SYSTEM_NAMESPACE};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;
use tokio::process::Command;

/// How many are killed.
const KILLS: usize = 20;
/// Each has one request in flight.
const CLIENTS: usize = 4;
/// Requests before a kill, and after it has been dealt with.
const REQUESTS: usize = 50;

#[derive(Debug, Default)]
struct Tally {
    sent: usize,
    held: usize,
    refused: usize,
    longest_millis: u128,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn only_what_a_killed_activator_held_is_lost() -> Result<()> {
    let stage = Stage::set("kill-one").await?;
    stage.functions.create("hello", json!({"scaling": {"minReplicas": 1}})).await?;
    let function = stage.ready("hello").await?;
    let route = function.status.and_then(|status| status.route).context("the Function has no route")?;
    let mut tally = Tally::default();
    for round in 0..KILLS {
        let pods = both_led_to(&stage, route.port).await?;
        let victim = &pods[round % pods.len()];
        kill_under_load(&stage, victim, route.port, &mut tally).await.with_context(|| format!("kill {round}"))?;
        // Another in its place: kubelet waits longer before each restart of a container.
        let api: Api<Pod> = Api::namespaced(stage.reach.client.clone(), SYSTEM_NAMESPACE);
        api.delete(&victim.name_any(), &DeleteParams::default()).await?;
    }
    println!(
        "{KILLS} kills, {} requests: {} were lost in the killed processes, {} were refused by the kernel of a killed one's pod; it took {} \
         ms at most until nobody was led there any more",
        tally.sent, tally.held, tally.refused, tally.longest_millis
    );
    both_led_to(&stage, route.port).await?;
    stage.strike().await
}

async fn kill_under_load(stage: &Stage, victim: &Pod, port: u16, tally: &mut Tally) -> Result<()> {
    let load = Load::start(&stage.reach, &stage.namespace, &["hello"], CLIENTS).await?;
    more(&load, REQUESTS).await?;
    let processes = kill_containers(victim)?;
    let ended = || async { Ok(processes.iter().all(|process| has_ended(*process))) };
    until("the killed process to end", PATIENCE, ended, |ended| *ended).await?;
    let killed = Instant::now();
    let restarts = restarts(victim);
    let dealt_with = || async {
        let back =
            activators(stage).await?.iter().any(|pod| pod.uid() == victim.uid() && restarts < self::restarts(pod));
        Ok(back || !leads_to(victim, port).await?)
    };
    until("nobody to be led to the killed activator, or it to be back", PATIENCE, dealt_with, |dealt_with| *dealt_with)
        .await?;
    let over = Instant::now();
    tally.longest_millis = tally.longest_millis.max(over.duration_since(killed).as_millis());
    more(&load, REQUESTS).await?;
    let (sent, failures) = load.end().await?;
    let (held, later): (Vec<&Failure>, _) = failures.iter().partition(|failure| failure.began <= killed);
    let (between, after): (Vec<&Failure>, _) = later.into_iter().partition(|failure| failure.began < over);
    ensure!(held.len() <= CLIENTS, "{} requests were lost, but only {CLIENTS} can have been in flight", held.len());
    if let Some(failure) = between.iter().find(|failure| !failure.error.starts_with("connecting to")) {
        anyhow::bail!("a request was sent over a connection that was made after the kill, and was lost: {failure}");
    }
    if let Some(failure) = after.first() {
        anyhow::bail!("{} failed although nobody was led to the killed activator any more: {failure}", after.len());
    }
    tally.sent += sent;
    tally.held += held.len();
    tally.refused += between.len();
    Ok(())
}

/// Waits until the load has begun so many requests more.
async fn more(load: &Load, requests: usize) -> Result<()> {
    let enough = load.sent() + requests;
    until("the load to go on", PATIENCE, || async { Ok(load.sent()) }, |sent| *sent >= enough).await?;
    Ok(())
}

/// Waits until two activators are ready and the Function's Service leads to both.
async fn both_led_to(stage: &Stage, port: u16) -> Result<Vec<Pod>> {
    let both = || async {
        let pods = activators(stage).await?;
        for pod in &pods {
            ensure!(leads_to(pod, port).await?, "nobody is led to {}", pod.name_any());
        }
        Ok(pods)
    };
    until("the Service to lead to two activators", PATIENCE, both, |pods| pods.len() == 2).await
}

async fn activators(stage: &Stage) -> Result<Vec<Pod>> {
    stage.reach.ready_pods(SYSTEM_NAMESPACE, ACTIVATORS).await
}

/// Whether the node's kube-proxy leads connections to a pod's port. The rules are those of the cluster's network namespace here.
async fn leads_to(pod: &Pod, port: u16) -> Result<bool> {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).context("the pod has no address")?;
    let rules = Command::new("iptables-save").args(["-t", "nat"]).output().await.context("cannot run iptables-save")?;
    ensure!(rules.status.success(), "iptables-save: {}", String::from_utf8_lossy(&rules.stderr));
    let target = format!("--to-destination {ip}:{port}");
    Ok(String::from_utf8_lossy(&rules.stdout).lines().any(|rule| rule.ends_with(&target)))
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).sum()
}
