//! Promise: a Function at zero pods answers every request that finds it there, and is woken for all of them once.

use anyhow::{Result, ensure};
use futures::future::join_all;
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::history::History;
use pilotlight_e2e::http;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;

const REQUESTS: usize = 100;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_hundred_requests_at_zero_get_a_hundred_answers_and_one_wake() -> Result<()> {
    let stage = Stage::set("wake").await?;
    // One pod is meant to bear them all, so that a second one would be a wake too many and not the autoscaler's work.
    let spec = json!({"scaling": {"idleSeconds": 5, "targetConcurrency": 2 * REQUESTS}});
    stage.functions.create("hello", spec).await?;
    stage.functions.at_zero("hello").await?;

    let history = History::begin(&stage.reach.client, &stage.namespace, "hello").await?;
    let answers = join_all((0..REQUESTS).map(|_| stage.ok("hello", "/"))).await;
    let answers = answers.into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(
        answers.iter().all(|answer| answer.text().contains("Hello from Go! (hello-1)")),
        "an answer was not the Function's own"
    );
    let cold = answers.iter().filter(|answer| answer.header("pilotlight-cold-start") == "true");
    ensure!(cold.count() > 0, "none of the requests says that it was held for the wake");

    stage.functions.at_zero("hello").await?;
    let replicas = || async { Ok(history.replicas("hello-1")) };
    let replicas = until("the step back to zero", PATIENCE, replicas, |replicas| {
        replicas.last() == Some(&0) && replicas.len() > 1
    })
    .await?;
    assert_eq!(replicas, [0, 1, 0], "replicas over the whole time: one wake, one step down");
    assert_eq!(history.pods(), 1, "pods over the whole time");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn only_the_request_that_waited_says_that_it_was_a_cold_start() -> Result<()> {
    let stage = Stage::set("cold").await?;
    stage.functions.create("hello", json!({})).await?;
    stage.ready("hello").await?;
    stage.functions.patch("hello", json!({"scaling": {"idleSeconds": 5}})).await?;
    stage.functions.at_zero("hello").await?;

    let cold = stage.ok("hello", "/").await?;
    assert_eq!(cold.header("pilotlight-cold-start"), "true");
    let timing = cold.header("server-timing");
    ensure!(timing.contains("dur="), "Server-Timing must tell the phases of the cold start: {timing:?}");
    let warm = stage.ok("hello", "/").await?;
    assert_eq!(warm.header("pilotlight-cold-start"), "");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_slow_starter_is_not_asked_before_it_is_ready() -> Result<()> {
    let stage = Stage::set("slow").await?;
    let spec = json!({
        "image": image("slow-start"),
        "env": [{"name": "START_DURATION", "value": "3s"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http1"}, "periodSeconds": 1},
        "scaling": {"idleSeconds": 5},
    });
    stage.functions.create("slow", spec).await?;
    stage.functions.at_zero("slow").await?;

    // It answers 503 by itself while it starts: a single request let through early would show.
    let answers = join_all((0..10).map(|_| stage.ok("slow", "/"))).await;
    answers.into_iter().collect::<Result<Vec<_>>>()?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_client_that_gives_up_while_it_waits_disturbs_nobody() -> Result<()> {
    let stage = Stage::set("gone").await?;
    let spec = json!({"scaling": {"idleSeconds": 5}});
    stage.functions.create("hello", spec).await?;
    stage.functions.at_zero("hello").await?;

    let gives_up = http::get(&stage.reach, &stage.namespace, "hello", "/");
    let stays = stage.ok("hello", "/");
    let patient = async {
        // The impatient one is dropped as soon as its wake has begun, long before a pod can answer.
        let begun = || stage.functions.replicas("hello");
        until("the wake to begin", PATIENCE, begun, |replicas| *replicas > 0).await
    };
    tokio::select! {
        begun = patient => { begun?; }
        answer = gives_up => { answer?; }
    }
    stays.await?;
    stage.strike().await
}
