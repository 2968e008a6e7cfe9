//! Promise: without stated times Pilotlight decides itself what becomes of idle pods, says why, remembers what it learnt, and tells what it saved.

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join;
use k8s_openapi::api::core::v1::Event;
use pilotlight_crds::Function;
use pilotlight_crds::status::{IdleStatus, Rung};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::reach::OPERATORS;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;

use crate::metrics::{scrape, sum};

/// Waits until the Function is on a rung, and its status has what `is` asks for.
async fn idle(stage: &Stage, rung: Rung, what: &str, is: impl Fn(&IdleStatus) -> bool) -> Result<IdleStatus> {
    let status = |function: &Function| function.status.clone().filter(|status| status.rung == Some(rung));
    let get = || stage.functions.get("hello");
    let there = |function: &Function| status(function).and_then(|status| status.idle).is_some_and(|idle| is(&idle));
    let function = until(&format!("{rung:?} and {what}"), PATIENCE, get, there).await?;
    status(&function).and_then(|status| status.idle).context("it was there")
}

/// Asks until the Function is seen to be awake: a request that is over before its activator hears of the pod's CPU leaves the pod as it is.
async fn woken(stage: &Stage) -> Result<()> {
    let ask = || async {
        stage.ok("hello", "/").await?;
        stage.functions.get("hello").await
    };
    let awake = |function: &Function| function.status.as_ref().is_some_and(|status| status.rung == Some(Rung::Active));
    until("the Function to be awake", PATIENCE, ask, awake).await.map(drop)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_idle_function_is_moved_by_what_is_learnt_and_explains_itself() -> Result<()> {
    let stage = Stage::set("adaptive").await?;
    let resources = json!({"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "200m", "memory": "32Mi"}});
    let scaling = json!({"idle": {"policy": "Adaptive"}});
    stage.functions.create("hello", json!({"resources": resources, "scaling": scaling})).await?;
    stage.ready("hello").await?;
    for _ in 0..3 {
        woken(&stage).await?;
        let throttled = idle(&stage, Rung::Throttled, "a plan", |idle| idle.plan.is_some()).await?;
        let plan = throttled.plan.context("a plan")?;
        assert_eq!(plan.rung, Rung::Throttled);
        ensure!(plan.reason.starts_with("idle for ") && plan.reason.contains("known gaps"), "{}", plan.reason);
        ensure!(plan.next_move.is_some(), "it does not stay there for ever");
    }
    let known = idle(&stage, Rung::Throttled, "something learnt", |idle| idle.learnt.is_some()).await?;
    let cost = known.cost.context("an account")?;
    // It is as of the last write, which may have come before the first second of rest was over; the metrics below are of now.
    ensure!(cost.rung_seconds.active > 0, "{cost:?}");
    ensure!(cost.reserved.memory_mib_seconds <= cost.always_on.memory_mib_seconds, "{cost:?}");
    let told = || stage.events("Function", "hello");
    let explains = |event: &Event| {
        event.reason.as_deref() == Some("Throttled")
            && event.message.as_deref().is_some_and(|message| message.contains("known gaps"))
    };
    until("an Event with the reason", PATIENCE, told, |events: &Vec<Event>| events.iter().any(explains)).await?;

    let labels = [format!("namespace=\"{}\"", stage.namespace), "rung=\"Throttled\"".to_owned()];
    let labels = [labels[0].as_str(), labels[1].as_str()];
    let counted = || async {
        let pages = scrape(&stage, OPERATORS).await?;
        Ok(sum(&pages, "pilotlight_operator_function_rung_seconds_total", &labels))
    };
    until("the operator to count the rest", PATIENCE, counted, |seconds| *seconds >= 1.0).await?;
    let wide = stage.kubectl_ok(&["get", "fn", "-o", "wide"]).await?;
    ensure!(wide.contains("SAVED %"), "{wide}");

    // Who states a time gets it.
    stage.functions.patch("hello", json!({"scaling": {"idle": null, "idleSeconds": 2}})).await?;
    let at_zero = idle(&stage, Rung::Zero, "what was learnt", |idle| idle.learnt.is_some()).await?;
    ensure!(at_zero.plan.as_ref().is_some_and(|plan| plan.rung == Rung::Zero), "{:?}", at_zero.plan);
    stage.strike().await
}

/// Waits until a Function that nobody asks anything is on a rung, because too little is known of it.
async fn rests(stage: &Stage, name: &str, rung: Rung) -> Result<()> {
    stage.ready(name).await?;
    stage.ok(name, "/").await?;
    let there = |function: &Function| function.status.as_ref().is_some_and(|status| status.rung == Some(rung));
    let get = || stage.functions.get(name);
    until(&format!("{name} on {rung:?}"), PATIENCE, get, there).await?;
    let told = || stage.events("Function", name);
    let explains = |event: &Event| {
        let words = event.message.as_deref().unwrap_or_default();
        words.contains("it is not kept running for longer than 60 s")
    };
    until("an Event with the reason", PATIENCE, told, |events: &Vec<Event>| events.iter().any(explains)).await?;
    stage.ok(name, "/").await.map(drop)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn who_says_nothing_is_parked_after_a_minute_or_at_zero_where_that_cannot_be() -> Result<()> {
    let stage = Stage::set("adaptive-default").await?;
    stage.functions.create("parks", json!({})).await?;
    stage.functions.create("goes", json!({"coldStart": {"beacon": "Disabled"}})).await?;
    try_join(rests(&stage, "parks", Rung::Parked), rests(&stage, "goes", Rung::Zero)).await?;
    stage.strike().await
}
