//! An image that the node has thrown away while its function was parked: the request that finds that out is answered by another pod.

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use pilotlight_crds::names::ANNOTATION_IMAGE;
use pilotlight_crds::park::function_runs;
use pilotlight_e2e::fixture::image;
use pilotlight_e2e::rung::is_parked;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::tools::ctr;

use crate::kill::parked::{goes_on, pods, prepare};

/// The digest under which a parked function comes back is gone from the node and in no registry; the tag of which a fresh pod is made is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_parked_function_whose_image_is_gone_from_the_node_answers_from_another_pod() -> Result<()> {
    let stage = prepare("image-gone").await?;
    let parked = pods(&stage, "a parked pod", is_parked).await?;
    ensure!(parked.len() == 1, "{} pods", parked.len());
    let recorded = parked[0].annotations().get(ANNOTATION_IMAGE).context("no image is recorded")?;
    ctr(&["images", "rm", "--sync", recorded]).await?.success()?;
    let outcome = answered_by_another(&stage, &parked[0].uid().unwrap_or_default()).await;
    // Whatever came of it: others have the same image.
    ctr(&["images", "tag", "--force", &image("hello-go"), recorded]).await?.success()?;
    outcome?;
    // The pod that was left over goes, and the ladder goes on.
    pods(&stage, "one pod, parked", is_parked).await?;
    goes_on(&stage, "after the image came back").await?;
    stage.strike().await
}

async fn answered_by_another(stage: &Stage, lost: &str) -> Result<()> {
    let answer = stage.ok("hello", "/").await?;
    ensure!(answer.header("pilotlight-cold-start") == "true", "it was not cold");
    ensure!(answer.header("pilotlight-placeholder").is_empty(), "a placeholder answers");
    let all = stage.functions.pods("hello").await?;
    let old = all.iter().find(|pod| pod.uid().as_deref() == Some(lost));
    ensure!(!old.is_some_and(function_runs), "the function came back in its pod: its image was not gone");
    ensure!(all.iter().any(|pod| pod.uid().as_deref() != Some(lost)), "there is no other pod");
    Ok(())
}
