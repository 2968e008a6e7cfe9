//! Promise: every example works as it is written: applied by kubectl, it answers, and goes to zero.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use pilotlight_crds::Function;
use pilotlight_e2e::chart::repository;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;

use crate::protocols;

/// Idle time at its default, and what a busy machine takes for the rest.
const TO_ZERO: Duration = Duration::from_secs(240);

/// Every `function.yaml` under `examples/`.
fn documents() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(repository().join("examples"))? {
        let document = entry?.path().join("function.yaml");
        if document.exists() {
            found.push(document);
        }
    }
    found.sort();
    Ok(found)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn every_example_answers_as_written_and_goes_to_zero() -> Result<()> {
    let documents = documents()?;
    ensure!(documents.len() >= 8, "examples are missing: only {documents:?}");
    let stage = Stage::set("examples").await?;
    let told = join_all(documents.iter().map(|document| example(&stage, document))).await;
    for (document, told) in documents.iter().zip(told) {
        told.with_context(|| document.display().to_string())?;
    }
    stage.strike().await
}

async fn example(stage: &Stage, document: &std::path::Path) -> Result<()> {
    let text = std::fs::read_to_string(document)?;
    let function: Function = serde_saphyr::from_str(&text)?;
    let name = function.metadata.name.context("no name")?;
    stage.apply(&text).await?.success()?;
    stage.ready(&name).await?;

    match name.as_str() {
        "grpc" => {
            let answer = protocols::say(stage, &name, "example").await?;
            assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
            assert_eq!(answer.trailers["grpc-status"], "0");
        }
        "websocket" => protocols::echo(stage, &name).await?,
        "sse" => {
            let answer = stage.ok(&name, "/?count=1").await?;
            ensure!(answer.text().contains("id: 1"), "{}", answer.text());
        }
        _ => {
            let answer = stage.ok(&name, "/").await?;
            ensure!(answer.text().contains(&format!("({name}-1)")), "{}", answer.text());
        }
    }

    let what = format!("{name} at zero");
    let pods = || stage.functions.pods(&name);
    until(&what, TO_ZERO, pods, Vec::is_empty).await?;
    stage.ready(&name).await?; // At zero it still is Ready.
    Ok(())
}
