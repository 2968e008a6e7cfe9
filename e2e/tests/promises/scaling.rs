//! Promise: pods follow load up to the maximum and back to zero; the hard limit holds at every moment; no pod goes while a request is
//! with it.
//!
//! The example `sse` answers with the moment, by its own clock, of its first and its last event: between the two the request was
//! with a pod for sure. Requests of the same pod that overlap would show there, whatever the network did.

use std::convert::Infallible;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use futures::future::{join_all, try_join_all};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use pilotlight_crds::FunctionStatus;
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::history::History;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::stream;
use pilotlight_e2e::wait::until;
use serde_json::json;

/// When a request was with a pod, by the pod's clock.
type Stay = (MicroTime, MicroTime);

async fn stay(stage: &Stage, path: &str) -> Result<Stay> {
    let text = stage.ok("sse", path).await?.text();
    let mut moments = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let first = moments.next().context("no event")?;
    let last = moments.next_back().context("only one event")?;
    Ok((serde_json::from_value(json!(first))?, serde_json::from_value(json!(last))?))
}

async fn ask_until_it_fails(stage: &Stage, stays: &Mutex<Vec<Stay>>) -> Result<Infallible> {
    loop {
        let one = stay(stage, "/?interval=200ms&count=2").await?;
        stays.lock().expect("no client panics").push(one);
    }
}

async fn long_requests(stage: &Stage) -> Result<Infallible> {
    loop {
        stage.ok("sse", "/?interval=600ms&count=3").await?;
    }
}

/// The highest number of stays at one moment.
fn most_at_once(stays: &[Stay]) -> usize {
    let at = |moment: &MicroTime| {
        let over = |(from, to): &&Stay| from.0 <= moment.0 && moment.0 < to.0;
        stays.iter().filter(over).count()
    };
    stays.iter().map(|(from, _)| at(from)).max().unwrap_or(0)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_limit_of_one_is_never_exceeded() -> Result<()> {
    let stage = Stage::set("limit").await?;
    let spec = json!({
        "image": image("sse"),
        "concurrency": {"limit": 1},
        "scaling": {"maxReplicas": 1, "idleSeconds": 5},
    });
    stage.functions.create("sse", spec).await?;
    stage.functions.at_zero("sse").await?;
    // From zero, so that the queue drains into the pod's first moments as well.
    let all = (0..20).map(|_| stay(&stage, "/?interval=100ms&count=2"));
    let stays = try_join_all(all).await?;
    assert_eq!(most_at_once(&stays), 1, "requests overlapped in the one pod");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn load_brings_pods_up_to_the_maximum_and_no_load_to_zero() -> Result<()> {
    let stage = Stage::set("load").await?;
    let spec = json!({
        "image": image("sse"),
        "concurrency": {"limit": 1},
        "scaling": {"maxReplicas": 3, "idleSeconds": 5, "stableWindowSeconds": 10},
    });
    stage.functions.create("sse", spec).await?;
    stage.functions.at_zero("sse").await?;
    let history = History::begin(&stage.reach.client, &stage.namespace, "sse").await?;

    let stays = Mutex::new(Vec::new());
    let load = try_join_all((0..12).map(|_| ask_until_it_fails(&stage, &stays)));
    let scaled = async {
        let ready = || stage.functions.get("sse");
        until("three ready pods", PATIENCE, ready, |sse| sse.status.as_ref().is_some_and(|s| s.ready_replicas == 3))
            .await?;
        // All three at work at once: the load is spread, and nothing queues beside a free pod.
        let most = || async { Ok(most_at_once(&stays.lock().expect("no client panics"))) };
        until("three requests at once", PATIENCE, most, |most| *most >= 3).await
    };
    let most = tokio::select! {
        failed = load => {
            failed?;
            unreachable!("a client goes on until it fails")
        }
        scaled = scaled => scaled?,
    };
    assert_eq!(most, 3, "more requests at once than pods with a limit of one");
    stage.functions.at_zero("sse").await?;
    ensure!(history.most_pods() <= 3, "{} pods at one moment, maxReplicas is 3", history.most_pods());
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn pods_that_are_never_idle_are_removed_without_a_failed_request() -> Result<()> {
    let stage = Stage::set("shrink").await?;
    let spec = json!({
        "image": image("sse"),
        "scaling": {"minReplicas": 3, "idleSeconds": 5, "stableWindowSeconds": 10},
    });
    stage.functions.create("sse", spec).await?;
    stage.ready("sse").await?;
    let replicas = |wanted: i32| {
        let ready = || stage.functions.get("sse");
        let count = move |status: &FunctionStatus| (status.replicas, status.ready_replicas) == (wanted, wanted);
        until("the replicas", PATIENCE, ready, move |sse| sse.status.as_ref().is_some_and(count))
    };
    replicas(3).await?;

    // Nine clients, each with a request of 1.2 s after the other: every pod is busy at every moment.
    let load = try_join_all((0..9).map(|_| long_requests(&stage)));
    let shrunk = async {
        stage.functions.patch("sse", json!({"scaling": {"minReplicas": 0}})).await?;
        replicas(1).await
    };
    tokio::select! {
        failed = load => {
            failed?;
        }
        shrunk = shrunk => {
            shrunk?;
        }
    }
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_stream_keeps_its_pod_however_long_it_lasts() -> Result<()> {
    let stage = Stage::set("stream").await?;
    let spec = json!({
        "image": image("sse"),
        "scaling": {"idleSeconds": 2, "stableWindowSeconds": 10},
    });
    stage.functions.create("sse", spec).await?;
    stage.functions.at_zero("sse").await?;
    let history = History::begin(&stage.reach.client, &stage.namespace, "sse").await?;

    // Ten times the idle time: one request, arrived long ago, must still count.
    let path = "/?interval=1s&count=20";
    let mut stream = stream::open(&stage.reach, &stage.namespace, "sse", path).await?;
    for id in 1..=20 {
        let event = stream.event().await?;
        let event = event.with_context(|| format!("the stream ended before event {id}"))?;
        ensure!(event.starts_with(&format!("id: {id}\n")), "event {id} is {event:?}");
    }
    ensure!(stream.event().await?.is_none(), "the stream did not end");
    assert_eq!(history.replicas("sse-1"), [0, 1], "a step was taken while the stream was open");
    stage.functions.at_zero("sse").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_full_queue_refuses_at_once_and_the_rest_is_answered() -> Result<()> {
    let stage = Stage::set("queue").await?;
    let spec = json!({
        "image": image("sse"),
        "concurrency": {"limit": 1},
        "scaling": {"maxReplicas": 1, "idleSeconds": 5},
        "coldStart": {"pendingRequests": 3},
    });
    stage.functions.create("sse", spec).await?;
    stage.functions.at_zero("sse").await?;
    let all = (0..40).map(|_| stage.get("sse", "/?interval=200ms&count=2"));
    let answers = join_all(all).await.into_iter().collect::<Result<Vec<_>>>()?;
    let (answered, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status.as_u16() == 200);
    ensure!(answered.len() >= 3, "only {} were answered", answered.len());
    ensure!(!refused.is_empty(), "forty fitted into a queue of three");
    for answer in refused {
        ensure!(matches!(answer.status.as_u16(), 429 | 503), "refused with {}: {}", answer.status, answer.text());
        ensure!(!answer.header("retry-after").is_empty(), "refused without Retry-After: {}", answer.text());
        ensure!(!answer.header("pilotlight-reason").is_empty(), "refused without a reason");
    }
    stage.strike().await
}
