//! `kubectl drain` of the node that a parked pod is on: its Function answers from another pod as soon as there is room for one.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use pilotlight_e2e::http;
use pilotlight_e2e::rung::is_parked;
use pilotlight_e2e::stage::Stage;

use crate::kill::parked::{pods, prepare};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_request_for_a_parked_function_outlasts_the_drain_of_its_node() -> Result<()> {
    let stage = prepare("drain-node").await?;
    let parked = pods(&stage, "a parked pod", is_parked).await?;
    ensure!(parked.len() == 1, "{} pods", parked.len());
    let nodes: Api<Node> = Api::all(stage.reach.client.clone());
    let node = nodes.list(&ListParams::default()).await?.items.first().context("no node")?.name_any();
    let outcome = drained(&stage, &node, &parked[0].uid().unwrap_or_default()).await;
    // Whatever came of it: others need the node.
    stage.kubectl_ok(&["uncordon", &node]).await?;
    let held = outcome?;
    let answer = held.await??;
    ensure!(answer.status.is_success(), "{} {}", answer.status, answer.text());
    stage.strike().await
}

/// Drains the node, of the Function's pods alone because there is no other for the rest, and asks the Function. Returns the request that waits, once
/// its pod does.
async fn drained(stage: &Stage, node: &str, parked: &str) -> Result<tokio::task::JoinHandle<Result<http::Answer>>> {
    let selector = "--pod-selector=pilotlight.dev/function=hello";
    stage.kubectl_ok(&["drain", node, selector, "--delete-emptydir-data", "--timeout=120s"]).await?;
    let (reach, namespace) = (stage.reach.clone(), stage.namespace.clone());
    let held = tokio::spawn(async move { http::get(&reach, &namespace, "hello", "/").await });
    let waits = |pod: &Pod| pod.uid().as_deref() != Some(parked) && unschedulable(pod);
    pods(stage, "a pod that waits for a node", waits).await?;
    ensure!(!held.is_finished(), "the request was not held");
    Ok(held)
}

fn unschedulable(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|it| it.type_ == "PodScheduled" && it.reason.as_deref() == Some("Unschedulable"))
}
