//! A request at every millisecond across the step to zero: each is answered, whichever side of the step it falls on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use pilotlight_e2e::http;
use pilotlight_e2e::reach::{Address, Reach};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::timeline::{Observer, Step, Subject};
use serde_json::json;

/// Functions that step down at the same time, each on its own.
const LANES: usize = 8;
/// Rounds of each lane.
const ROUNDS: usize = 25;
/// Rounds of each lane that only find out when the step comes.
const CALIBRATION: usize = 3;

/// Which side of the step a round's request fell on.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_request_at_every_millisecond_across_the_step_to_zero_is_answered() -> Result<()> {
    let stage = Stage::set("step").await?;
    let lanes = (0..LANES).map(|lane| run_lane(&stage, lane));
    let sides: Vec<Side> = try_join_all(lanes).await?.into_iter().flatten().collect();
    let before = sides.iter().filter(|side| **side == Side::Before).count();
    println!("{} requests answered: {before} before the step, {} after it", sides.len(), sides.len() - before);
    ensure!(sides.len() == LANES * ROUNDS, "only {} rounds of {}", sides.len(), LANES * ROUNDS);
    ensure!(before >= 20 && sides.len() - before >= 20, "the rounds missed the step: only {before} came before it");
    stage.strike().await
}

async fn run_lane(stage: &Stage, lane: usize) -> Result<Vec<Side>> {
    let name = format!("lane-{lane}");
    let (reach, namespace) = (&stage.reach, stage.namespace.as_str());
    stage.functions.create(&name, json!({"scaling": {"idleSeconds": 1, "initialReplicas": 0}})).await?;
    stage.ready(&name).await?;
    let mut observer = Observer::start(&reach.client, namespace, &Subject::function(&name));

    let address = reach.address(namespace, &name).await?;
    let host = format!("{name}.{namespace}.svc");

    let mut delays = Vec::new();
    for _ in 0..CALIBRATION {
        let idle_since = answered(reach, &address, &host).await?;
        delays.push(observer.step(Step::ToZero, idle_since).await.context("the watch ended")? - idle_since);
    }
    let mut sides = Vec::new();
    for round in 0..ROUNDS {
        delays.sort();
        let usual = delays[delays.len() / 2];
        // Offsets -100..100 ms, spread over the lanes so that together they meet every millisecond once.
        let offset = (round * LANES + lane) as u64;
        let idle_since = answered(reach, &address, &host).await?;
        let due = idle_since + (usual + Duration::from_millis(offset)).saturating_sub(Duration::from_millis(100));
        tokio::time::sleep_until(due.into()).await;
        let answer = http::get_at(reach, &address, &host, "/").await?;
        ensure!(answer.status.is_success(), "{name}, round {round}: {} {}", answer.status, answer.text());
        let cold = answer.header("pilotlight-cold-start") == "true";
        sides.push(if cold { Side::After } else { Side::Before });
        if cold && let Some(step) = observer.latest(Step::ToZero, idle_since) {
            delays.push(step - idle_since);
        }
    }
    Ok(sides)
}

/// Sends a request that must succeed, and tells when its answer was complete.
async fn answered(reach: &Reach, address: &Address, host: &str) -> Result<Instant> {
    let answer = http::get_at(reach, address, host, "/").await?;
    ensure!(answer.status.is_success(), "{host}: {} {}", answer.status, answer.text());
    Ok(Instant::now())
}
