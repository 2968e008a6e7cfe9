//! Promise: every example works as it is written: applied by kubectl, it answers, goes to zero, and answers from there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use pilotlight_crds::Function;
use pilotlight_e2e::chart::repository;
use pilotlight_e2e::fixture::registry;
use pilotlight_e2e::stage::Stage;
use serde_json::json;

use crate::protocols;

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

async fn example(stage: &Stage, document: &Path) -> Result<()> {
    let text = std::fs::read_to_string(document)?;
    let text = text.replace("image: pilotlight.dev/", &format!("image: {}/", registry()));
    let function: Function = serde_saphyr::from_str(&text)?;
    let name = function.metadata.name.context("no name")?;
    stage.apply(&text).await?.success()?;
    stage.ready(&name).await?;
    answers(stage, &name).await?;

    // Some are written to stay for minutes. Their idle time is read live, so this is the same revision.
    stage.functions.patch(&name, json!({"scaling": {"idleSeconds": 5}})).await?;
    stage.functions.at_zero(&name).await?;
    answers(stage, &name).await
}

/// Asks an example in the way that it is meant to be asked.
async fn answers(stage: &Stage, name: &str) -> Result<()> {
    match name {
        "grpc" => {
            let answer = protocols::say(stage, name, "example").await?;
            assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
            assert_eq!(answer.trailers["grpc-status"], "0");
        }
        "websocket" => protocols::echo(stage, name).await?,
        "sse" => {
            let answer = stage.ok(name, "/?count=1").await?;
            ensure!(answer.text().contains("id: 1"), "{}", answer.text());
        }
        _ => {
            let answer = stage.ok(name, "/").await?;
            ensure!(answer.text().contains(&format!("({name}-1)")), "{}", answer.text());
        }
    }
    Ok(())
}
