//! kill -9 of the node's own agents in the middle of each move: kubelet and the container runtime come back, and what was asked of them is done.

use anyhow::{Context as _, Result, ensure};
use pilotlight_crds::park::{Parking, is_marked};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::kill::kill_component;
use pilotlight_e2e::rung::is_parked;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;

use super::parked::{goes_on, pods, prepare as with_parking};
use super::{get, prepare};

const AGENTS: [&str; 2] = ["kubelet", "containerd"];

/// A request that is held while `agent` is killed is answered.
async fn answered(stage: &Stage, agent: &str, moved: impl Future<Output = Result<()>>) -> Result<()> {
    let held = tokio::spawn(get(stage.reach.clone(), stage.namespace.clone()));
    moved.await?;
    kill_component(agent).await?;
    let answer = held.await?.with_context(|| format!("{agent} was killed"))?;
    ensure!(answer.status.is_success(), "{agent} was killed: {} {}", answer.status, answer.text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_node_whose_agents_are_killed_while_a_function_starts_answers_all_the_same() -> Result<()> {
    let stage = prepare("kill-node").await?;
    for agent in AGENTS {
        stage.functions.at_zero("hello").await?;
        let woken = async {
            until("the wake", PATIENCE, || stage.functions.replicas("hello"), |replicas| *replicas > 0).await?;
            Ok(())
        };
        answered(&stage, agent, woken).await?;
        goes_on(&stage, agent).await?;
    }
    stage.functions.at_zero("hello").await?;
    stage.strike().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_node_whose_agents_are_killed_while_it_parks_and_wakes_a_pod_does_both() -> Result<()> {
    let stage = with_parking("kill-node-parked").await?;
    for agent in AGENTS {
        let marked = |pod: &_| is_marked(pod) || Parking::of(pod).is_some();
        pods(&stage, "a pod that is about to be parked", marked).await?;
        kill_component(agent).await?;
        pods(&stage, "a parked pod", is_parked).await?;
        let woken = async {
            pods(&stage, "a pod whose function was asked for", |pod| Parking::of(pod).is_none()).await?;
            Ok(())
        };
        answered(&stage, agent, woken).await?;
        goes_on(&stage, agent).await?;
    }
    pods(&stage, "a parked pod", is_parked).await?;
    stage.strike().await
}
