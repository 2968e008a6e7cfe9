//! Promise: how many pods there are at a wake, while there is load, while there is none, and at a time of day is the author's choice; why there are so many can be
//! asked; and whoever else writes the replicas is named.

use anyhow::{Context as _, Result, ensure};
use pilotlight_crds::condition::{FOREIGN_WRITER, REPLICAS_CONTESTED, STALLED};
use pilotlight_crds::status::Rung;
use pilotlight_crds::{Function, FunctionStatus};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::history::History;
use pilotlight_e2e::stage::{Stage, condition};
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

async fn ready_replicas(stage: &Stage, wanted: i32) -> Result<Function> {
    let ready = || stage.functions.get("hello");
    let count = move |status: &FunctionStatus| (status.replicas, status.ready_replicas) == (wanted, wanted);
    until("the ready replicas", PATIENCE, ready, move |hello| hello.status.as_ref().is_some_and(count)).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_first_request_brings_the_activation_replicas_at_once() -> Result<()> {
    let stage = Stage::set("activation").await?;
    let scaling = json!({"activationReplicas": 3, "idleSeconds": 10, "stableWindowSeconds": 10});
    stage.functions.create("hello", json!({"scaling": scaling})).await?;
    stage.functions.at_zero("hello").await?;
    let history = History::begin(&stage.reach.client, &stage.namespace, "hello").await?;
    stage.ok("hello", "/").await?;
    ready_replicas(&stage, 3).await?;
    assert_eq!(history.replicas("hello-1")[..2], [0, 3], "not by one write");
    // They forbid no zero.
    stage.functions.at_zero("hello").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_active_minimum_holds_under_load_and_forbids_no_zero() -> Result<()> {
    let stage = Stage::set("active-min").await?;
    let scaling = json!({"minActiveReplicas": 2, "metric": "RPS", "idleSeconds": 10, "stableWindowSeconds": 10});
    stage.functions.create("hello", json!({"scaling": scaling})).await?;
    stage.functions.at_zero("hello").await?;
    let history = History::begin(&stage.reach.client, &stage.namespace, "hello").await?;
    stage.ok("hello", "/").await?;
    ready_replicas(&stage, 2).await?;
    stage.functions.at_zero("hello").await?;
    let seen = history.replicas("hello-1");
    assert_eq!(seen, [0, 2, 0], "load that falls took some away before silence took all");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_step_keeps_as_many_idle_pods_as_it_says() -> Result<()> {
    let stage = Stage::set("step-keeps").await?;
    let idle = json!({"steps": [{"afterSeconds": 5, "rung": "Parked", "replicas": 2}]});
    let scaling = json!({"activationReplicas": 3, "idleSeconds": 30, "stableWindowSeconds": 10, "idle": idle});
    stage.functions.create("hello", json!({"scaling": scaling})).await?;
    stage.functions.at_zero("hello").await?;
    let history = History::begin(&stage.reach.client, &stage.namespace, "hello").await?;
    stage.ok("hello", "/").await?;
    let hello = || stage.functions.get("hello");
    let parked = |status: &FunctionStatus| (status.replicas, status.rung) == (2, Some(Rung::Parked));
    let is_parked = |hello: &Function| hello.status.as_ref().is_some_and(parked);
    until("two parked pods", PATIENCE, hello, is_parked).await?;
    stage.functions.at_zero("hello").await?;
    assert_eq!(history.replicas("hello-1"), [0, 3, 2, 0], "neither all stayed nor only one");
    stage.strike().await
}

/// In force always, but for a minute in four years.
fn always(replicas: u32) -> Value {
    json!([{"name": "always", "start": "* * * * *", "end": "0 0 29 2 *", "timeZone": "Europe/Berlin", "minReplicas": replicas}])
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_schedule_keeps_pods_without_load_and_lets_them_go() -> Result<()> {
    let stage = Stage::set("schedule").await?;
    stage.functions.create("hello", json!({"scaling": {"idleSeconds": 2}})).await?;
    stage.functions.at_zero("hello").await?;
    stage.functions.patch("hello", json!({"scaling": {"schedules": always(2)}})).await?;
    ready_replicas(&stage, 2).await?;
    let told = stage.decisions("hello").await?;
    assert_eq!(told["replicas"], 2, "{told:#}");
    let change = told["lastChange"]["message"].as_str().context("no change is told")?;
    ensure!(change.ends_with("the schedule always keeps 2"), "{change}");
    stage.functions.patch("hello", json!({"scaling": {"schedules": []}})).await?;
    stage.functions.at_zero("hello").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_schedule_that_means_nothing_is_named() -> Result<()> {
    let stage = Stage::set("schedule-bad").await?;
    let schedules = json!([{"name": "night", "start": "0 25 * * *", "end": "0 6 * * *", "minReplicas": 1}]);
    stage.functions.create("hello", json!({"scaling": {"schedules": schedules}})).await?;
    let hello = stage.functions.condition("hello", STALLED, "True").await?;
    let words = condition(&hello, STALLED).context("it was there")?.message.clone();
    ensure!(words.contains("spec.scaling.schedules[0]") && words.contains("five fields"), "{words}");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_last_decisions_can_be_read_with_kubectl() -> Result<()> {
    let stage = Stage::set("decisions").await?;
    stage.functions.create("hello", json!({"scaling": {"idleSeconds": 2}})).await?;
    stage.functions.at_zero("hello").await?;
    stage.ok("hello", "/").await?;
    stage.functions.at_zero("hello").await?;
    let told = || stage.decisions("hello");
    let told = until("the step to zero in the log", PATIENCE, told, |told| told["lastChange"]["to"] == 0).await?;
    ensure!(told["lastChange"]["message"].as_str().is_some_and(|words| words.contains("no request for")), "{told:#}");
    let history = told["history"].as_array().context("no history")?;
    let reasons: Vec<_> = history.iter().filter_map(|decision| decision["reason"].as_str()).collect();
    // Newest first.
    let idle = reasons.iter().position(|reason| *reason == "Idle").context("why it went to zero is not told")?;
    ensure!(reasons.len() > idle + 1, "nothing is told of before: {reasons:?}");
    ensure!(history.iter().all(|decision| decision["times"].as_u64() >= Some(1)), "{told:#}");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn another_writer_of_replicas_is_named_in_a_condition_and_an_event() -> Result<()> {
    let stage = Stage::set("contested").await?;
    stage.functions.create("hello", json!({"scaling": {"idleSeconds": 5, "stableWindowSeconds": 10}})).await?;
    stage.ready("hello").await?;
    stage.kubectl_ok(&["scale", "deployment", "hello-1", "--replicas", "3"]).await?;
    let hello = stage.functions.condition("hello", REPLICAS_CONTESTED, "True").await?;
    let contested = condition(&hello, REPLICAS_CONTESTED).context("it was there")?;
    assert_eq!(contested.reason, FOREIGN_WRITER);
    let words = &contested.message;
    ensure!(words.contains("kubectl scale function hello") && words.contains("hello-1"), "{words}");
    let events = || stage.events("Function", "hello");
    let is_told = |event: &k8s_openapi::api::core::v1::Event| event.reason.as_deref() == Some(REPLICAS_CONTESTED);
    until("the event", PATIENCE, events, |events| events.iter().any(is_told)).await?;
    // It is undone all the same, and the Function stays well.
    stage.functions.at_zero("hello").await?;
    stage.answers("hello").await?;
    stage.strike().await
}
