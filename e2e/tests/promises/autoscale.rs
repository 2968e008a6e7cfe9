//! Promise: the number of pods follows load, step by step, up and down and up again, and at a burst; nobody's request pays for it. The
//! scenarios are those of Knative Serving's autoscaling and conformance tests (`test/e2e/autoscale_test.go`), on slow requests, so that a small machine
//! carries them.
//!
//! The example `sse` answers within a second or less of doing nothing. Each client asks again at its answer: as many requests are under
//! way as there are clients.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::{join_all, try_join_all};
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::history::History;
use pilotlight_e2e::http;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;
use tokio::sync::watch;

/// A second at a pod.
const SECOND: &str = "/?interval=1s&count=2";
/// A fifth of a second at a pod.
const SHORT: &str = "/?interval=200ms&count=2";

/// Clients whose number changes; a request that fails ends the test.
struct Clients<'a> {
    stage: &'a Stage,
    wanted: watch::Sender<usize>,
    answered: AtomicUsize,
}

impl<'a> Clients<'a> {
    fn none(stage: &'a Stage) -> Self {
        Self { stage, wanted: watch::Sender::new(0), answered: AtomicUsize::new(0) }
    }

    /// The client of this number asks as long as it is among those that are wanted.
    async fn ask(&self, number: usize) -> Result<Infallible> {
        let mut wanted = self.wanted.subscribe();
        loop {
            wanted.wait_for(|wanted| number < *wanted).await?;
            self.stage.ok("sse", SECOND).await?;
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs a scenario beside at most `most` clients.
    async fn beside<T>(&self, most: usize, scenario: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            failed = try_join_all((0..most).map(|number| self.ask(number))) => {
                failed?;
                unreachable!("a client goes on until it fails")
            }
            done = scenario => done,
        }
    }

    fn set(&self, wanted: usize) {
        self.wanted.send_replace(wanted);
    }

    /// Waits for so many more answers to each client.
    async fn answers(&self, each: usize) -> Result<()> {
        let enough = self.answered.load(Ordering::Relaxed) + each * *self.wanted.borrow();
        let answered = || async { Ok(self.answered.load(Ordering::Relaxed)) };
        until("the answers", PATIENCE, answered, |answered| *answered >= enough).await.map(drop)
    }
}

async fn ready_pods(stage: &Stage, wanted: i32) -> Result<()> {
    let sse = || stage.functions.get("sse");
    let ready = |sse: &pilotlight_crds::Function| sse.status.as_ref().is_some_and(|s| s.ready_replicas >= wanted);
    until(&format!("{wanted} ready pods"), PATIENCE, sse, ready).await.map(drop)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn pods_follow_steps_of_load_one_by_one() -> Result<()> {
    let stage = Stage::set("steps").await?;
    // 7 of 10 requests at once are aimed at in a pod.
    let scaling = json!({"targetConcurrency": 10, "idleSeconds": 5, "stableWindowSeconds": 10});
    stage.functions.create("sse", json!({"image": image("sse"), "scaling": scaling})).await?;
    stage.functions.at_zero("sse").await?;
    let history = History::begin(&stage.reach.client, &stage.namespace, "sse").await?;
    let clients = Clients::none(&stage);
    let steps = async {
        for (pods, wanted) in [(1, 6), (2, 13), (3, 20), (4, 27)] {
            let before = history.replicas("sse-1").len();
            clients.set(wanted);
            ready_pods(&stage, pods).await?;
            // For longer than the stable window.
            clients.answers(15).await?;
            let seen = history.replicas("sse-1").split_off(before);
            let highest = seen.iter().max().copied().unwrap_or(pods);
            ensure!(highest <= pods + 1, "{wanted} clients want {pods} pods; there were {seen:?}");
            // A client that is slow to ask again is load that was not there.
            let fell = seen.windows(2).any(|pair| pair[1] < pair[0] && pair[1] + 1 < pods);
            ensure!(!fell, "{wanted} clients want {pods} pods; there were {seen:?}");
        }
        Ok(())
    };
    clients.beside(27, steps).await?;
    stage.functions.at_zero("sse").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn up_and_down_and_up_again_fails_no_request() -> Result<()> {
    let stage = Stage::set("updown").await?;
    let scaling = json!({"targetConcurrency": 4, "idleSeconds": 5, "stableWindowSeconds": 10});
    stage.functions.create("sse", json!({"image": image("sse"), "scaling": scaling})).await?;
    stage.functions.at_zero("sse").await?;
    let history = History::begin(&stage.reach.client, &stage.namespace, "sse").await?;
    let clients = Clients::none(&stage);
    let scenario = async {
        clients.set(8);
        ready_pods(&stage, 3).await?;
        clients.set(1);
        let replicas = || stage.functions.replicas("sse");
        until("one pod for one client", PATIENCE, replicas, |replicas| *replicas == 1).await?;
        clients.set(8);
        ready_pods(&stage, 3).await
    };
    clients.beside(8, scenario).await?;
    stage.functions.at_zero("sse").await?;
    // With a client there is never none.
    let seen = history.replicas("sse-1");
    ensure!(seen.iter().filter(|replicas| **replicas == 0).count() == 2, "at zero between two loads: {seen:?}");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_burst_is_answered_and_decided_on_by_a_poke() -> Result<()> {
    let stage = Stage::set("burst").await?;
    let spec = json!({
        "image": image("sse"),
        "concurrency": {"limit": 1},
        "scaling": {"maxReplicas": 10, "minReplicas": 1, "stableWindowSeconds": 10},
    });
    stage.functions.create("sse", spec).await?;
    stage.ready("sse").await?;
    ready_pods(&stage, 1).await?;
    let history = History::begin(&stage.reach.client, &stage.namespace, "sse").await?;
    stage.ok("sse", SHORT).await?;
    let (address, host) = (stage.reach.address(&stage.namespace, "sse").await?, format!("sse.{}.svc", stage.namespace));
    let begun = Instant::now();
    let patched = async {
        until("the first patch", PATIENCE, || async { Ok(history.replicas("sse-1")) }, |seen| seen.len() > 1).await?;
        anyhow::Ok(begun.elapsed())
    };
    let burst = join_all((0..100).map(|_| http::get_at(&stage.reach, &address, &host, SHORT)));
    let (patched, answers) = tokio::join!(patched, burst);
    println!("a burst of 100: {} ms from its first request to the patch, as seen by a watch", patched?.as_millis());
    for answer in answers.into_iter().collect::<Result<Vec<_>>>()? {
        ensure!(answer.status.as_u16() == 200, "one of the burst was answered {}: {}", answer.status, answer.text());
    }
    ensure!(history.most_pods() <= 10, "{} pods at one moment, maxReplicas is 10", history.most_pods());

    let log = stage.decisions("sse").await?;
    let told = log["history"].as_array().context("no history")?;
    let first = told.iter().rev().find(|decision| decision["replicas"].as_u64() > Some(1));
    let first = first.with_context(|| format!("no step up is told: {log:#}"))?;
    // An activator's words about the burst: its poke, or the sample that was due at the same time. No tick was waited for.
    ensure!(
        first["trigger"] == "Poke" || first["trigger"] == "Sample",
        "the burst was not decided on at once: {log:#}"
    );
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_new_revision_starts_its_initial_pods_and_keeps_its_minimum() -> Result<()> {
    let stage = Stage::set("initial").await?;
    let scaling = json!({"initialReplicas": 3, "minReplicas": 2, "idleSeconds": 10, "stableWindowSeconds": 10});
    let history = History::begin(&stage.reach.client, &stage.namespace, "sse").await?;
    stage.functions.create("sse", json!({"image": image("sse"), "scaling": scaling})).await?;
    stage.ready("sse").await?;
    let replicas = || async { Ok(history.replicas("sse-1")) };
    // Three prove the revision, by one write, never by way of the floor; two are the floor that silence ends at.
    let steps = until("the floor", PATIENCE, replicas, |seen| seen.last() == Some(&2)).await?;
    assert_eq!(steps, [0, 3, 2]);
    stage.ok("sse", SECOND).await?;
    stage.functions.patch("sse", json!({"scaling": {"minReplicas": 0}})).await?;
    stage.functions.at_zero("sse").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn zero_is_as_fast_as_its_own_time_whatever_the_window() -> Result<()> {
    let stage = Stage::set("fast-zero").await?;
    let scaling = json!({"idleSeconds": 1, "stableWindowSeconds": 600});
    stage.functions.create("sse", json!({"image": image("sse"), "scaling": scaling})).await?;
    stage.functions.at_zero("sse").await?;
    stage.ok("sse", SECOND).await?;
    stage.functions.at_zero("sse").await?;
    let told = || stage.decisions("sse");
    let told = until("the step to zero in the log", PATIENCE, told, |told| told["lastChange"]["to"] == 0).await?;
    let why = told["lastChange"]["message"].as_str().context("no reason")?;
    ensure!(why.ends_with("1 s are enough"), "{why}");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn two_minutes_of_load_are_answered() -> Result<()> {
    const CLIENTS: usize = 10;
    const LASTS: Duration = Duration::from_secs(120);
    let stage = Stage::set("sustained").await?;
    let spec = json!({"image": image("sse"), "scaling": {"targetConcurrency": 5, "idleSeconds": 5}});
    stage.functions.create("sse", spec).await?;
    stage.functions.at_zero("sse").await?;
    let begun = Instant::now();
    let one = || async {
        let (mut sent, mut failed) = (0_usize, Vec::new());
        while begun.elapsed() < LASTS {
            sent += 1;
            if let Err(error) = stage.ok("sse", SHORT).await {
                failed.push(format!("{error:#}"));
            }
        }
        (sent, failed)
    };
    let (mut sent, mut failed) = (0, Vec::new());
    for (more, errors) in join_all((0..CLIENTS).map(|_| one())).await {
        sent += more;
        failed.extend(errors);
    }
    println!("{sent} requests in two minutes, {} failed", failed.len());
    ensure!(failed.len() * 1000 <= sent, "{} of {sent} failed, the first: {:?}", failed.len(), failed.first());
    stage.strike().await
}
