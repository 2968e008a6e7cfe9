//! Promise: the author says which revision has the traffic. A change of it is at once, loses nothing and is undone as easily; a revision that cannot
//! have the traffic never gets a request, and the author is told why.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::ListParams;
use pilotlight_crds::condition::{
    READY, REVISION_FAILED, REVISION_MISSING, REVISION_PINNED, TRAFFIC_READY, WORKLOAD_READY,
};
use pilotlight_crds::names::{LABEL_FUNCTION, LABEL_STATE, LABEL_TRAFFIC};
use pilotlight_crds::status::{FunctionStatus, RevisionState};
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::load::{Answered, Load};
use pilotlight_e2e::stage::{Stage, condition_by};
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

use crate::parked::{self, parked, rounds};
use crate::split::until_status;

/// Clients of the steady load, a hundred requests a second or more in all.
const CLIENTS: usize = 3;
/// So many answers one after the other, of both activators, show that a change has arrived everywhere.
const IN_A_ROW: usize = 50;
/// With the pull policy `Never`: a mistake that no waiting heals.
const MISSING: &str = "pilotlight.dev/no-such-image:v1";

/// The revision that gave an answer: what stands in the parentheses.
fn revision(answer: &Answered) -> &str {
    let text = answer.text.trim_end().trim_end_matches(')');
    text.rsplit_once('(').map_or(text, |(_, revision)| revision)
}

async fn load(stage: &Stage) -> Result<Load> {
    Load::start(&stage.reach, &stage.namespace, &["hello"], CLIENTS).await
}

/// Waits until a revision alone answers. Gives when that was known, and its first answer to a request that was made, or held, after `from`.
async fn serves(load: &Load, name: &str, from: Instant) -> Result<(Instant, Duration)> {
    let what = format!("{name} alone to answer");
    let alone = |answers: &Vec<Answered>| {
        let of_late = answers.iter().rev().take(IN_A_ROW).filter(|answer| answer.began > from);
        of_late.filter(|answer| revision(answer) == name).count() == IN_A_ROW
    };
    let answers = until(&what, PATIENCE, || async { Ok(load.answers()) }, alone).await?;
    let first = answers.iter().find(|answer| answer.ended > from && revision(answer) == name);
    let first = first.context("one of them was the first")?;
    Ok((Instant::now(), first.ended.duration_since(from)))
}

/// Every answer to a request that began after `from` came from this revision.
fn only(load: &Load, name: &str, from: Instant) -> Result<()> {
    let answers = load.answers();
    let mut since = answers.iter().filter(|answer| answer.began > from).peekable();
    ensure!(since.peek().is_some(), "nothing was asked since");
    let other = since.find(|answer| revision(answer) != name);
    ensure!(other.is_none(), "not {name}: {other:?}");
    Ok(())
}

async fn more(load: &Load) -> Result<()> {
    let sent = load.sent();
    until("more requests", PATIENCE, || async { Ok(load.sent()) }, |now| *now > sent + IN_A_ROW).await.map(drop)
}

async fn status(stage: &Stage) -> Result<FunctionStatus> {
    stage.functions.get("hello").await?.status.context("the Function has no status")
}

fn has_proved(status: &FunctionStatus, name: &str) -> bool {
    status.revisions.iter().any(|revision| revision.name == name && revision.state == RevisionState::Ready)
}

fn pin(name: &str) -> Value {
    json!({"traffic": [{"revisionName": name}]})
}

/// Numbers of the revisions that exist.
async fn numbers(stage: &Stage) -> Result<Vec<u64>> {
    let selected = ListParams::default().labels(&format!("{LABEL_FUNCTION}=hello"));
    let found = stage.api::<Deployment>().list(&selected).await?;
    let number = |deployment: &Deployment| deployment.name_any().rsplit_once('-')?.1.parse().ok();
    let mut all: Vec<u64> = found.iter().filter_map(number).collect();
    all.sort_unstable();
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn blue_then_green_and_back_again_under_load() -> Result<()> {
    let stage = Stage::with_hello("traffic", pin("hello-1")).await?;
    let start = Instant::now();
    condition_by(&stage, "hello", (TRAFFIC_READY, "True"), (start, PATIENCE), |c| c.reason == REVISION_PINNED).await?;
    let load = load(&stage).await?;

    // Green proves itself while blue has all the traffic.
    stage.functions.patch("hello", json!({"image": image("hello-rust")})).await?;
    until_status(&stage, "green to prove itself", |status| has_proved(status, "hello-2")).await?;
    more(&load).await?;
    only(&load, "hello-1", start)?;

    let asked = Instant::now();
    stage.functions.patch("hello", json!({"traffic": [{"latestRevision": true}]})).await?;
    let (_, took) = serves(&load, "hello-2", asked).await?;
    println!("  green answered {} ms after it was asked for", took.as_millis());
    let blue = || stage.functions.pods("hello");
    let gone =
        |pods: &Vec<k8s_openapi::api::core::v1::Pod>| pods.iter().all(|pod| !pod.name_any().starts_with("hello-1-"));
    until("blue to be at zero", PATIENCE, blue, gone).await?;

    let asked = Instant::now();
    stage.functions.patch("hello", pin("hello-1")).await?;
    let (known, took) = serves(&load, "hello-1", asked).await?;
    println!("  blue answered from zero {} ms after it was asked for", took.as_millis());
    more(&load).await?;
    only(&load, "hello-1", known)?;
    let table = stage.kubectl_ok(&["get", "functions", "hello"]).await?;
    ensure!(table.contains("hello-1"), "{table}");

    // Not named any more, the newest has it again.
    let asked = Instant::now();
    stage.functions.patch("hello", json!({"traffic": null})).await?;
    let (known, _) = serves(&load, "hello-2", asked).await?;
    more(&load).await?;
    only(&load, "hello-2", known)?;
    let columns = format!("{LABEL_TRAFFIC},{LABEL_STATE}");
    let arguments = ["get", "deployments", "-l", "pilotlight.dev/function=hello", "-L", &columns, "--no-headers"];
    let told = |table: &String| {
        let row = |name: &str| table.lines().find(|row| row.starts_with(name)).unwrap_or_default().to_owned();
        let says = |row: String, end: [&str; 2]| row.split_whitespace().rev().take(2).eq(end);
        says(row("hello-1"), ["Ready", "0"]) && says(row("hello-2"), ["Ready", "100"])
    };
    until("the table of revisions to tell", PATIENCE, || stage.kubectl_ok(&arguments), told).await?;
    let seconds = start.elapsed().as_secs_f64();
    let sent = load.end_without_failure().await?;
    println!("  {sent} requests, {:.0} a second, none failed", sent as f64 / seconds);
    stage.strike().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn one_deploy_after_the_other_good_and_broken_under_load() -> Result<()> {
    let stage = Stage::with_hello("deploys", json!({})).await?;
    let load = load(&stage).await?;
    let start = Instant::now();
    let (mut good, mut newest) = (vec!["hello-1".to_owned()], 1);
    for round in 0..rounds(6) {
        let breaks = round % 2 == 0;
        newest += 1;
        let name = format!("hello-{newest}");
        let asked = Instant::now();
        if breaks {
            let broken = match (round / 2) % 3 {
                0 => json!({"image": MISSING, "imagePullPolicy": "Never"}),
                1 => json!({"command": ["/no-such-program"]}),
                _ => json!({"readinessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 1}}),
            };
            stage.functions.patch("hello", broken).await?;
            let tried = (WORKLOAD_READY, "False");
            condition_by(&stage, "hello", tried, (asked, PATIENCE), |_| true).await?;
            let status = status(&stage).await?;
            ensure!(status.latest_created_revision.as_ref() == Some(&name), "{status:?}");
        } else {
            let mended = json!({
                "image": image("hello-go"), "imagePullPolicy": null, "command": null, "readinessProbe": null,
                "env": [{"name": "DEPLOY", "value": round.to_string()}],
            });
            stage.functions.patch("hello", mended).await?;
            serves(&load, &name, asked).await?;
            good.push(name);
        }
    }
    more(&load).await?;
    let answers = load.answers();
    let strange = answers.iter().find(|answer| !good.iter().any(|good| good == revision(answer)));
    ensure!(strange.is_none(), "answered by one that is broken: {strange:?}");
    let kept = numbers(&stage).await?;
    ensure!(kept.len() <= 8, "{kept:?}");
    let seconds = start.elapsed().as_secs_f64();
    let sent = load.end_without_failure().await?;
    println!("  {} deploys, {sent} requests, {:.0} a second, none failed", newest - 1, sent as f64 / seconds);
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn going_back_to_a_parked_revision_wakes_its_own_pod() -> Result<()> {
    let stage = Stage::with_hello("traffic-parked", parked::spec(json!({}))).await?;
    let before = parked(&stage).await?;
    stage.functions.patch("hello", json!({"image": image("hello-rust")})).await?;
    let routed = |name: &'static str| {
        move |status: &FunctionStatus| {
            status.route.as_ref().is_some_and(|route| route.revision.as_deref() == Some(name))
        }
    };
    until_status(&stage, "the new revision to have the traffic", routed("hello-2")).await?;
    // What lost the traffic goes to zero after ten seconds.
    let asked = Instant::now();
    stage.functions.patch("hello", pin("hello-1")).await?;
    until_status(&stage, "the old one to have it again", routed("hello-1")).await?;
    let answers = || async { Ok(stage.ok("hello", "/").await?.text()) };
    until("the old revision to answer", PATIENCE, answers, |text| text.contains("(hello-1)")).await?;
    println!("  answered {} ms after it was asked for", asked.elapsed().as_millis());
    let pods = stage.functions.pods("hello").await?;
    ensure!(pods.iter().any(|pod| pod.uid() == before.uid()), "the pod that was parked is there");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_name_that_cannot_have_the_traffic_changes_nothing_and_is_told() -> Result<()> {
    let stage = Stage::with_hello("traffic-refused", json!({})).await?;
    let broken = json!({"image": MISSING, "imagePullPolicy": "Never"});
    stage.functions.patch("hello", broken).await?;
    stage.functions.condition("hello", WORKLOAD_READY, "False").await?;
    stage.functions.patch("hello", json!({"image": image("hello-go"), "imagePullPolicy": null})).await?;
    stage.ready("hello").await?;
    until_status(&stage, "the third to prove itself", |status| has_proved(status, "hello-3")).await?;
    for (name, reason) in [("hello-9", REVISION_MISSING), ("hello-2", REVISION_FAILED)] {
        let asked = Instant::now();
        stage.functions.patch("hello", pin(name)).await?;
        let told =
            condition_by(&stage, "hello", (TRAFFIC_READY, "False"), (asked, PATIENCE), |c| c.reason == reason).await?;
        for part in [name, "hello-3", "spec.traffic"] {
            ensure!(told.message.contains(part), "no {part} in {}", told.message);
        }
        condition_by(&stage, "hello", (READY, "False"), (asked, PATIENCE), |c| c.reason == reason).await?;
        let events = || stage.events("Function", "hello");
        let warned = |events: &Vec<k8s_openapi::api::core::v1::Event>| {
            events.iter().any(|event| event.reason.as_deref() == Some(reason))
        };
        until("an Event", PATIENCE, events, warned).await?;
        assert_eq!(stage.ok("hello", "/").await?.text(), "Hello from Go! (hello-3)\n");
    }
    stage.functions.patch("hello", json!({"traffic": []})).await?;
    stage.ready("hello").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_is_named_is_never_collected() -> Result<()> {
    let scaling = json!({"initialReplicas": 0, "idleSeconds": 2});
    let stage =
        Stage::with_hello("traffic-kept", json!({"scaling": scaling, "traffic": pin("hello-1")["traffic"]})).await?;
    for newest in 2..=8 {
        stage.functions.patch("hello", json!({"env": [{"name": "N", "value": newest.to_string()}]})).await?;
        let name = format!("hello-{newest}");
        until_status(&stage, "the next revision", |status| status.latest_created_revision.as_ref() == Some(&name))
            .await?;
    }
    let all = || numbers(&stage);
    until("the older ones to go", PATIENCE, all, |all| *all == [1, 3, 4, 5, 6, 7, 8]).await?;
    assert_eq!(stage.ok("hello", "/").await?.text(), "Hello from Go! (hello-1)\n");
    stage.functions.patch("hello", json!({"traffic": null})).await?;
    until("the first to go, too", PATIENCE, all, |all| *all == [3, 4, 5, 6, 7, 8]).await?;
    assert_eq!(stage.ok("hello", "/").await?.text(), "Hello from Go! (hello-8)\n");
    stage.strike().await
}
