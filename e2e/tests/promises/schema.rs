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

/// The documents of a folder of `e2e/tests/data`.
fn documents(folder: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(repository().join("e2e/tests/data").join(folder))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The words with which a document must be refused: what its first line says after `# expect: `.
fn expected(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path)?;
    let words = text.lines().next().and_then(|line| line.strip_prefix("# expect: "));
    Ok(words.context("no line `# expect: …` comes first")?.trim().to_owned())
}

/// Applies a document as a user does, and returns the words with which it was refused.
async fn refusal(stage: &Stage, path: &Path) -> Result<String> {
    let file = path.to_str().context("a path that is not UTF-8")?;
    let printed = stage.kubectl(&["apply", "--filename", file]).await?;
    ensure!(!printed.ok, "it was accepted: {}", printed.out);
    ensure!(!printed.err.trim().is_empty(), "it was refused without a word");
    Ok(printed.err)
}

async fn is_refused_as_expected(stage: &Stage, path: &Path) -> Result<()> {
    let expected = expected(path)?;
    let words = refusal(stage, path).await?;
    ensure!(words.contains(&expected), "it was refused with other words than {expected:?}: {words}");
    Ok(())
}

/// Judges documents, a few at a time, and tells of all failures at once.
async fn judge<'a, F>(all: &'a [PathBuf], one: impl Fn(&'a Path) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let one = &one;
    let judged = futures::stream::iter(all)
        .map(|path| async move { (path, one(path).await) })
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
    let words = all.iter().map(|path| expected(path)).collect::<Result<Vec<_>>>()?;
    // A rule about a change needs something to change: the one that there is is shown in adopt/refusals.rs.
    for rule in pilotlight_crds::rules::all().into_iter().filter(|rule| !rule.rule.contains("oldSelf")) {
        ensure!(words.contains(&rule.message), "no bad example for the rule {:?}", rule.message);
    }
    judge(&all, |path| is_refused_as_expected(&stage, path)).await?;
    nothing_is_left(&stage).await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn malformed_documents_are_refused_and_leave_nothing_behind() -> Result<()> {
    let stage = Stage::set("malformed").await?;
    let all = documents("malformed")?;
    ensure!(all.len() >= 50, "only {} malformed documents", all.len());
    let stage_ref = &stage;
    judge(&all, |path| async move { refusal(stage_ref, path).await.map(drop) }).await?;
    nothing_is_left(&stage).await?;
    stage.strike().await
}
