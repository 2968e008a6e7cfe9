//! Promise: a mistake in a YAML is refused by the API server itself, with words that teach, and leaves nothing behind.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use pilotlight_crds::Function;
use pilotlight_e2e::chart::repository;
use pilotlight_e2e::stage::Stage;

/// The documents of a folder of `e2e/tests/data`, each with what its first line promises of it.
fn documents(folder: &str) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(repository().join("e2e/tests/data").join(folder))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            // Not every one is UTF-8: that is one of the ways to be malformed.
            let bytes = std::fs::read(&path)?;
            let text = String::from_utf8_lossy(&bytes);
            let expected = text.lines().next().and_then(|line| line.strip_prefix("# expect: "));
            let expected = expected.with_context(|| format!("{} has no `# expect: ` line", path.display()))?;
            found.push((path.clone(), expected.trim().to_owned()));
        }
    }
    found.sort();
    Ok(found)
}

/// Applies a document as a user does, and judges what kubectl printed.
async fn is_refused(stage: &Stage, path: &Path, expected: &str) -> Result<()> {
    let file = path.to_str().context("a path that is not UTF-8")?;
    let printed = stage.kubectl(&["apply", "--filename", file]).await?;
    ensure!(!printed.ok, "it was accepted: {}", printed.out);
    ensure!(printed.err.contains(expected), "it was refused with other words than {expected:?}: {}", printed.err);
    Ok(())
}

/// Judges every document of a folder, a few at a time, and tells of all failures at once.
async fn all_are_refused(stage: &Stage, all: &[(PathBuf, String)]) -> Result<()> {
    let judged = futures::stream::iter(all)
        .map(|(path, expected)| async move { (path, is_refused(stage, path, expected).await) })
        .buffer_unordered(4)
        .collect::<Vec<_>>()
        .await;
    let failures: Vec<String> = judged
        .into_iter()
        .filter_map(|(path, judged)| judged.err().map(|error| format!("{}: {error:#}", path.display())))
        .collect();
    if !failures.is_empty() {
        bail!("{} of {} documents:\n{}", failures.len(), all.len(), failures.join("\n"));
    }
    Ok(())
}

async fn nothing_is_left(stage: &Stage) -> Result<()> {
    let all = ListParams::default();
    let functions = stage.api::<Function>().list(&all).await?.items;
    ensure!(functions.is_empty(), "Functions are left: {functions:?}");
    let deployments = stage.api::<Deployment>().list(&all).await?.items;
    ensure!(deployments.is_empty(), "Deployments are left: {deployments:?}");
    let services = stage.api::<Service>().list(&all).await?.items;
    ensure!(services.is_empty(), "Services are left: {services:?}");
    let pods = stage.api::<Pod>().list(&all).await?.items;
    ensure!(pods.is_empty(), "pods are left: {pods:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn every_rule_and_bound_refuses_its_bad_example_in_its_words() -> Result<()> {
    let stage = Stage::set("invalid").await?;
    let all = documents("invalid")?;
    let rules = pilotlight_crds::rules::all();
    for rule in &rules {
        ensure!(
            all.iter().any(|(_, expected)| *expected == rule.message),
            "no bad example for the rule {:?}",
            rule.message
        );
    }
    all_are_refused(&stage, &all).await?;
    nothing_is_left(&stage).await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn fifty_malformed_documents_leave_nothing_behind() -> Result<()> {
    let stage = Stage::set("malformed").await?;
    let all = documents("malformed")?;
    ensure!(all.len() >= 50, "only {} malformed documents", all.len());
    all_are_refused(&stage, &all).await?;
    nothing_is_left(&stage).await?;
    stage.strike().await
}
