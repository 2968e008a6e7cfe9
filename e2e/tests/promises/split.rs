//! Promise: traffic is shared among revisions as the author says, exact to within sampling error over all activators. Each of them scales by its own
//! requests, a change of the shares loses nothing, and a hard limit holds throughout.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use pilotlight_crds::condition::{TRAFFIC_READY, TRAFFIC_SPLIT};
use pilotlight_crds::status::FunctionStatus;
use pilotlight_e2e::exclusive;
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::http::{Answer, Session};
use pilotlight_e2e::load::Load;
use pilotlight_e2e::reach::{ACTIVATORS, Address, SYSTEM_NAMESPACE};
use pilotlight_e2e::stage::{Stage, condition_by};
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

/// Requests for each split.
const REQUESTS: usize = 10_000;
/// Connections to each activator.
const CONNECTIONS: usize = 4;
/// Of what is asserted; three would be exceeded once in 370 times by chance alone.
const SIGMAS: f64 = 5.0;

fn split(shares: &[(u64, u32)]) -> Value {
    let target =
        |(number, percent): &(u64, u32)| json!({"revisionName": format!("hello-{number}"), "percent": percent});
    json!({"traffic": shares.iter().map(target).collect::<Vec<_>>()})
}

/// Has the traffic shared so, and waits until it is.
async fn share(stage: &Stage, shares: &[(u64, u32)]) -> Result<()> {
    stage.functions.patch("hello", split(shares)).await?;
    let start = (Instant::now(), PATIENCE);
    condition_by(stage, "hello", (TRAFFIC_READY, "True"), start, |_| true).await?;
    Ok(())
}

/// Waits until the status of `hello` is so.
pub(crate) async fn until_status(
    stage: &Stage,
    what: &str,
    holds: impl Fn(&FunctionStatus) -> bool,
) -> Result<FunctionStatus> {
    let status = || async { stage.functions.get("hello").await?.status.context("the Function has no status") };
    until(what, PATIENCE, status, holds).await
}

/// The revision that an answer names: in parentheses, or at the beginning of a pod's name.
pub(crate) fn revision(answer: &str) -> String {
    let (_, name) = answer.trim_end().trim_end_matches(')').rsplit_once('(').unwrap_or(("", answer));
    name.splitn(3, '-').take(2).collect::<Vec<_>>().join("-")
}

/// Where each activator takes requests for all hosts.
pub(crate) async fn activators(stage: &Stage) -> Result<Vec<Address>> {
    let pods = stage.reach.ready_pods(SYSTEM_NAMESPACE, ACTIVATORS).await?;
    ensure!(pods.len() >= 2, "two activators are needed");
    pods.iter().map(|pod| stage.reach.pod_address(pod, 8080)).collect()
}

/// So many requests, as many through each activator; who answered how often. Each must be answered with 200.
async fn count(stage: &Stage, requests: usize) -> Result<BTreeMap<String, usize>> {
    let activators = activators(stage).await?;
    let each = requests.div_ceil(activators.len() * CONNECTIONS);
    let host = format!("hello.{}.svc", stage.namespace);
    let connections = activators.iter().flat_map(|address| std::iter::repeat_n(address, CONNECTIONS));
    let asked = connections.map(|address| ask(stage, address, &host, each));
    let mut counts = BTreeMap::new();
    for answer in try_join_all(asked).await?.into_iter().flatten() {
        ensure!(answer.status.as_u16() == 200, "{}: {}", answer.status, answer.text());
        *counts.entry(revision(&answer.text())).or_default() += 1;
    }
    Ok(counts)
}

/// So many requests one after the other over one connection.
async fn ask(stage: &Stage, address: &Address, host: &str, requests: usize) -> Result<Vec<Answer>> {
    let mut session = Session::begin(stage.reach.open(address).await?).await?;
    let mut answers = Vec::with_capacity(requests);
    for _ in 0..requests {
        let request = Request::get("/").header("host", host).body(Full::<Bytes>::default())?;
        answers.push(session.send(request).await?);
    }
    Ok(answers)
}

/// Two revisions that have proved themselves, all traffic at the first.
pub(crate) async fn two(prefix: &str, spec: Value) -> Result<Stage> {
    let mut spec = spec;
    spec["traffic"] = json!([{"revisionName": "hello-1"}]);
    let stage = Stage::with_hello(prefix, spec).await?;
    stage.functions.patch("hello", json!({"env": [{"name": "SECOND", "value": "yes"}]})).await?;
    let proved = |status: &FunctionStatus| status.latest_ready_revision.as_deref() == Some("hello-2");
    until_status(&stage, "the second revision to prove itself", proved).await?;
    Ok(stage)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn splits_are_exact_to_within_sampling_error_through_two_activators() -> Result<()> {
    let stage = two("split", json!({"scaling": {"maxReplicas": 2}})).await?;
    for (first, second) in [(90, 10), (50, 50), (1, 99)] {
        share(&stage, &[(1, first), (2, second)]).await?;
        let start = (Instant::now(), PATIENCE);
        condition_by(&stage, "hello", (TRAFFIC_READY, "True"), start, |c| c.reason == TRAFFIC_SPLIT).await?;
        // Until both activators know, what is seen is not this split.
        let new = format!("hello-{}", if first > second { 1 } else { 2 });
        let known = || count(&stage, 80);
        until("both activators to know", PATIENCE, known, |seen| seen.len() <= 2 && seen.contains_key(&new)).await?;
        count(&stage, 200).await?;
        let seen = count(&stage, REQUESTS).await?;
        let (all, part) = (seen.values().sum::<usize>(), f64::from(second) / 100.0);
        let of_second = seen.get("hello-2").copied().unwrap_or(0);
        let expected = all as f64 * part;
        let sigma = (expected * (1.0 - part)).sqrt();
        let off = (of_second as f64 - expected) / sigma;
        println!("  {first}/{second}: {of_second} of {all} went to the second, {off:+.2} sigma");
        ensure!(seen.len() == 2 && off.abs() <= SIGMAS, "{seen:?}: {off:+.2} sigma from {expected}");
    }
    stage.strike().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn each_share_wakes_and_rests_by_itself() -> Result<()> {
    let stage = two("split-zero", json!({"scaling": {"idleSeconds": 3}})).await?;
    share(&stage, &[(1, 50), (2, 50)]).await?;
    for _ in 0..2 {
        stage.functions.at_zero("hello").await?;
        // Each is woken by the first request that is its own.
        let seen = count(&stage, 64).await?;
        ensure!(seen.len() == 2, "{seen:?}");
    }
    // One that has no share any more is at zero though the other is asked all the time.
    share(&stage, &[(1, 0), (2, 100)]).await?;
    let pods = || async {
        stage.ok("hello", "/").await?;
        stage.functions.pods("hello").await
    };
    let of =
        |pod: &k8s_openapi::api::core::v1::Pod| pod.metadata.name.as_deref().is_some_and(|n| n.starts_with("hello-2-"));
    until("the second alone to run", PATIENCE, pods, |pods| !pods.is_empty() && pods.iter().all(of)).await?;
    assert_eq!(count(&stage, 64).await?.into_keys().collect::<Vec<_>>(), ["hello-2"]);
    stage.strike().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn shares_move_under_load_and_no_request_fails() -> Result<()> {
    let stage = two("split-moves", json!({})).await?;
    let load = Load::start(&stage.reach, &stage.namespace, &["hello"], 3).await?;
    for shares in [[(1, 90), (2, 10)], [(1, 50), (2, 50)], [(1, 10), (2, 90)], [(1, 0), (2, 100)], [(1, 100), (2, 0)]] {
        share(&stage, &shares).await?;
        let sent = load.sent();
        until("more requests", PATIENCE, || async { Ok(load.sent()) }, |now| *now > sent + 100).await?;
    }
    // A rollout goes on from there.
    stage.functions.patch("hello", json!({"traffic": null, "image": image("hello-rust")})).await?;
    let third = || async { Ok(stage.ok("hello", "/").await?.text()) };
    until("the third to answer", PATIENCE, third, |text| text.contains("(hello-3)")).await?;
    let strange = load.answers().into_iter().find(|answer| !revision(&answer.text).starts_with("hello-"));
    ensure!(strange.is_none(), "{strange:?}");
    println!("  {} requests, none failed", load.end_without_failure().await?);
    stage.strike().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_limit_of_one_is_exact_while_shares_move() -> Result<()> {
    let mut spec = exclusive::container();
    spec["concurrency"] = json!({"limit": 1});
    spec["scaling"] = json!({"maxReplicas": 3});
    let stage = two("split-limit", spec).await?;
    let load = Load::start(&stage.reach, &stage.namespace, &["hello"], 6).await?;
    for shares in [[(1, 80), (2, 20)], [(1, 20), (2, 80)], [(1, 0), (2, 100)], [(1, 50), (2, 50)], [(1, 100), (2, 0)]] {
        share(&stage, &shares).await?;
        let sent = load.sent();
        until("more requests", PATIENCE, || async { Ok(load.sent()) }, |now| *now > sent + 60).await?;
    }
    // The app answers 500 to whoever comes beside another.
    println!("  {} requests, none beside another", load.end_without_failure().await?);
    stage.strike().await
}
