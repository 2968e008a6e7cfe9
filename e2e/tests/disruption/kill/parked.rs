//! kill -9 in the middle of parking and of waking: whoever comes next finds on the pod what it takes to go on, and no placeholder stays that nobody
//! wakes.

use std::fmt::Display;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use pilotlight_crds::park::{Parking, is_marked};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::http;
use pilotlight_e2e::reach::{ACTIVATORS, OPERATORS};
use pilotlight_e2e::renew::renew;
use pilotlight_e2e::rung::is_parked;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;

use super::{ROUNDS, back, get, kill_all};

/// The Function `hello`, whose pods are parked after two seconds.
pub(crate) async fn prepare(prefix: &str) -> Result<Stage> {
    let steps = json!([{"afterSeconds": 2, "rung": "Parked"}]);
    let resources = json!({"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
    let spec = json!({"resources": resources, "scaling": {"idleSeconds": 3600, "idle": {"steps": steps}}});
    Stage::with_hello(prefix, spec).await
}

/// Waits until there are pods, and all of them are so.
pub(crate) async fn pods(stage: &Stage, what: &str, are: impl Fn(&Pod) -> bool) -> Result<Vec<Pod>> {
    let pods = || stage.functions.pods("hello");
    until(what, PATIENCE, pods, |pods| !pods.is_empty() && pods.iter().all(&are)).await
}

/// The next requests are answered by the function.
pub(crate) async fn goes_on(stage: &Stage, round: impl Display) -> Result<()> {
    for later in 0..5 {
        let answer = http::get(&stage.reach, &stage.namespace, "hello", "/").await?;
        ensure!(answer.status.is_success(), "round {round}, later request {later}: {}", answer.text());
        ensure!(answer.header("pilotlight-placeholder").is_empty(), "round {round}: a placeholder answers");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn operators_killed_while_they_park_a_pod_leave_nothing_that_does_not_wake() -> Result<()> {
    let stage = prepare("kill-parking").await?;
    renew(&stage.reach, OPERATORS).await?;
    for round in 0..ROUNDS {
        // From the mark on it is under way.
        let marked = |pod: &Pod| is_marked(pod) || Parking::of(pod).is_some();
        pods(&stage, "a pod that is about to be parked", marked).await?;
        let killed = kill_all(&stage.reach, OPERATORS).await?;
        goes_on(&stage, round).await?;
        back(&stage.reach, OPERATORS, killed).await?;
        pods(&stage, "a parked pod", is_parked).await?;
        goes_on(&stage, round).await?;
    }
    stage.strike().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn activators_killed_while_they_wake_a_pod_lose_no_more_than_what_they_held() -> Result<()> {
    let stage = prepare("kill-unparking").await?;
    renew(&stage.reach, ACTIVATORS).await?;
    for round in 0..ROUNDS {
        pods(&stage, "a parked pod", is_parked).await?;
        let held = tokio::spawn(get(stage.reach.clone(), stage.namespace.clone()));
        let woken = |pod: &Pod| Parking::of(pod).is_none();
        pods(&stage, "a pod whose function was asked for", woken).await.context("the wake")?;
        let killed = kill_all(&stage.reach, ACTIVATORS).await?;
        // Whether that one was answered is a matter of luck.
        drop(held.await?);
        back(&stage.reach, ACTIVATORS, killed).await?;
        goes_on(&stage, round).await?;
    }
    stage.strike().await
}
