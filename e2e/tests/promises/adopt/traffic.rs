//! What is promised of every Function's requests holds for one that was taken over: its limit is exact, and what it speaks passes through.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use pilotlight_e2e::exclusive;
use pilotlight_e2e::existing::deployment_of;
use pilotlight_e2e::fixture::image;
use pilotlight_e2e::stage::Stage;
use serde_json::json;

use super::{adopt_with, at_zero, runs, through_activators};
use crate::protocols::say;

/// Requests that come at once.
const BURST: usize = 20;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn its_limit_of_one_is_exact_in_a_burst_warm_and_from_zero() -> Result<()> {
    let stage = Stage::set("adopt-limit").await?;
    runs(&stage, &deployment_of(&exclusive::container(), "api", "web", 2)?).await?;
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
