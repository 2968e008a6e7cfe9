//! What is promised of every Function's requests holds for one that was taken over: its limit is exact, what it speaks passes through, and no pod
//! goes with a request.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use pilotlight_e2e::exclusive;
use pilotlight_e2e::existing::deployment_of;
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::load::Load;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;

use super::{adopt, adopt_with, at_zero, pods, running, runs, through_activators};
use crate::protocols::say;

/// Clients of the steady load.
const CLIENTS: usize = 6;
/// Requests that come at once.
const BURST: usize = 20;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn its_limit_of_one_is_exact_in_a_burst_warm_and_from_zero() -> Result<()> {
    let stage = Stage::set("adopt-limit").await?;
    runs(&stage, &deployment_of(&exclusive::container(), "api", "web", 2)?).await?;
    stage.answers("web").await?;
    let scaling = json!({"minReplicas": 2, "maxReplicas": 2, "idleSeconds": 3});
    adopt_with(&stage, scaling, json!({"concurrency": {"limit": 1}})).await?;
    through_activators(&stage, true).await?;
    let warm = burst(&stage).await?;
    assert_eq!(warm.len(), 2, "all went to one pod");
    stage.functions.patch("web", json!({"scaling": {"minReplicas": 0}})).await?;
    at_zero(&stage).await?;
    // The queue drains into the pods' first moments.
    burst(&stage).await?;
    stage.strike().await
}

/// The pods that answered. The app answers 500 to a request that is with it beside another.
async fn burst(stage: &Stage) -> Result<BTreeSet<String>> {
    let all = try_join_all((0..BURST).map(|_| stage.ok("web", "/"))).await?;
    Ok(all.iter().map(|answer| answer.text()).collect())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn its_grpc_calls_are_answered_with_their_trailers_warm_and_from_zero() -> Result<()> {
    let stage = Stage::set("adopt-h2c").await?;
    runs(&stage, &deployment_of(&json!({"image": image("grpc")}), "api", "web", 1)?).await?;
    // New rules of a Service take effect when kube-proxy has them.
    until("a first answer", PATIENCE, || async { Ok(say(&stage, "web", "first").await.ok()) }, Option::is_some).await?;
    adopt_with(&stage, json!({"idleSeconds": 3}), json!({"protocol": "H2C"})).await?;
    for name in ["warm", "cold"] {
        let answer = say(&stage, "web", name).await?;
        assert_eq!(answer.status.as_u16(), 200, "{name}: {}", answer.text());
        let greeting = format!("Hello, {name}!");
        ensure!(answer.text().contains(&greeting), "{:?} has no {greeting:?}", answer.text());
        let status = answer.trailers.get("grpc-status").context("the trailer grpc-status was lost")?;
        assert_eq!(status, "0");
        at_zero(&stage).await?;
    }
    stage.strike().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn its_pods_become_fewer_under_load_and_no_request_fails() -> Result<()> {
    let stage = Stage::set("adopt-fewer").await?;
    running(&stage, 4).await?;
    adopt(&stage, json!({"minReplicas": 4, "maxReplicas": 4})).await?;
    // At once: kube-proxy may still lead some to the pods themselves, past whoever knows which pod is in use.
    let load = Load::start(&stage.reach, &stage.namespace, &["web"], CLIENTS).await?;
    for fewer in [3, 1] {
        stage.functions.patch("web", json!({"scaling": {"minReplicas": fewer, "maxReplicas": fewer}})).await?;
        until("fewer pods", PATIENCE, || pods(&stage), |pods| pods.len() == fewer).await?;
    }
    let sent = load.sent();
    until("requests to the last", PATIENCE, || async { Ok(load.sent()) }, |now| *now > sent + 50).await?;
    println!("{} requests, none failed", load.end_without_failure().await?);
    stage.strike().await
}
