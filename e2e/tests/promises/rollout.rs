//! Promise: traffic moves to a new revision in steps where the author asks for that, and goes back by itself where the new one fails more often than
//! it may. Only requests of its share ever meet it.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use pilotlight_crds::condition::{READY, ROLLOUT_ABORTED, STALLED, WORKLOAD_READY};
use pilotlight_crds::status::{FunctionStatus, RevisionState};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::flaky::failing_every;
use pilotlight_e2e::load::Load;
use pilotlight_e2e::stage::{Stage, condition_by};
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

use crate::split::until_status;

/// Clients of the steady load, a hundred requests a second or more in all.
const CLIENTS: usize = 4;

fn with(mut spec: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().into_iter().flatten() {
        spec[key.as_str()] = value.clone();
    }
    spec
}

fn has_all(status: &FunctionStatus, name: &str) -> bool {
    let route = status.route.as_ref();
    route.is_some_and(|route| route.revision.as_deref() == Some(name) && route.split.is_empty())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_revision_that_fails_too_often_is_taken_back_by_itself() -> Result<()> {
    let rollout = json!({"rollout": {
        "strategy": "Gradual", "stepPercent": 10, "intervalSeconds": 60, "abortOn": {"errorPercent": 5},
    }});
    let stage = Stage::with_hello("rollout", with(failing_every(0), rollout)).await?;
    let start = Instant::now();
    let load = Load::start(&stage.reach, &stage.namespace, &["hello"], CLIENTS).await?;
    let sent = load.sent();
    until("a steady load", PATIENCE, || async { Ok(load.sent()) }, |now| *now > sent + 100).await?;

    stage.functions.patch("hello", failing_every(5)).await?;
    let stepped = until_status(&stage, "the first step", |status| status.rollout.is_some()).await?;
    let (began, rollout) = (Instant::now(), stepped.rollout.context("there is one")?);
    ensure!(
        (rollout.revision.as_str(), rollout.from.as_str(), rollout.percent) == ("hello-2", "hello-1", 10),
        "{rollout:?}"
    );

    let aborted = |c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| c.reason == ROLLOUT_ABORTED;
    let told = condition_by(&stage, "hello", (WORKLOAD_READY, "False"), (began, PATIENCE), aborted).await?;
    let took = began.elapsed();
    for part in ["hello-2", "hello-1", "requests failed", "errorPercent is 5", "spec.traffic"] {
        ensure!(told.message.contains(part), "no {part} in {}", told.message);
    }
    let status = until_status(&stage, "all traffic to be back", |status| has_all(status, "hello-1")).await?;
    ensure!(status.rollout.is_none(), "{status:?}");
    ensure!(status.revisions[0].state == RevisionState::Failed, "{status:?}");
    for condition in [(READY, "False"), (STALLED, "True")] {
        condition_by(&stage, "hello", condition, (began, PATIENCE), aborted).await?;
    }
    let events = || stage.events("Function", "hello");
    let warned = |events: &Vec<k8s_openapi::api::core::v1::Event>| {
        ["RolloutStep", ROLLOUT_ABORTED]
            .iter()
            .all(|reason| events.iter().any(|event| event.reason.as_deref() == Some(reason)))
    };
    until("the Events", PATIENCE, events, warned).await?;
    // Every activator has heard of it once it gives none of so many to the second.
    let calm = || async {
        let from = load.sent();
        until("more requests", PATIENCE, || async { Ok(load.sent()) }, |now| *now > from + 100).await?;
        let answers = load.answers();
        Ok(answers.iter().rev().take(80).all(|answer| answer.text.contains("(hello-1)")))
    };
    until("the first alone to answer", PATIENCE, calm, |calm| *calm).await?;

    // A mended one goes all the way.
    let quick = json!({"rollout": {"stepPercent": 50, "intervalSeconds": 3}});
    let calm_from = Instant::now();
    let mended = with(failing_every(0), json!({"podMetadata": {"labels": {"mended": "yes"}}}));
    stage.functions.patch("hello", with(mended, quick)).await?;
    let half = |status: &FunctionStatus| {
        status.rollout.as_ref().is_some_and(|rollout| (rollout.revision.as_str(), rollout.percent) == ("hello-3", 50))
    };
    until_status(&stage, "half of the traffic to be the third's", half).await?;
    until_status(&stage, "all of it", |status| has_all(status, "hello-3")).await?;
    condition_by(&stage, "hello", (READY, "True"), (began, 2 * PATIENCE), |_| true).await?;

    let rate = load.sent() as f64 / start.elapsed().as_secs_f64();
    let (sent, failures) = load.end().await?;
    let strange = failures.iter().find(|failure| {
        !failure.error.contains("500")
            || !failure.error.contains("(hello-2)")
            || failure.ended < began - took
            || failure.began > calm_from
    });
    ensure!(strange.is_none(), "not of the second's share: {strange:?}");
    ensure!(!failures.is_empty(), "nothing failed, so nothing was shown");
    println!(
        "  aborted {:.1} s after the first step, {} of {sent} requests failed, {rate:.0} a second",
        took.as_secs_f64(),
        failures.len()
    );
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn without_requests_it_goes_on_by_time_alone() -> Result<()> {
    let rollout =
        json!({"strategy": "Gradual", "stepPercent": 40, "intervalSeconds": 1, "abortOn": {"errorPercent": 0}});
    let stage = Stage::with_hello("rollout-idle", json!({"rollout": rollout, "scaling": {"idleSeconds": 2}})).await?;
    stage.functions.at_zero("hello").await?;
    stage.functions.patch("hello", json!({"env": [{"name": "SECOND", "value": "yes"}]})).await?;
    until_status(&stage, "the second to have all", |status| has_all(status, "hello-2")).await?;
    assert_eq!(stage.ok("hello", "/").await?.text(), "Hello from Go! (hello-2)\n");
    stage.strike().await
}
