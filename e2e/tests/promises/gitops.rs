//! Promise: tools that apply and wait (kstatus, Flux, Argo CD) are told the truth at every moment: of every version of a Function that
//! the API server ever told of, the tools' own libraries say what a user would.

use anyhow::{Context as _, Result, ensure};
use kube::api::{Patch, PatchParams};
use pilotlight_crds::Function;
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::gitops::{Judged, Onlooker};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;

/// What a tool said in turn, with repetitions left out.
fn story<'a>(judged: &'a [Judged], tool: impl Fn(&'a Judged) -> &'a str) -> Vec<&'a str> {
    let mut told: Vec<&str> = judged.iter().map(tool).collect();
    told.dedup();
    told
}

/// Waits until kstatus said these in turn and nothing else, Flux the same, and Argo CD's script the likes of it.
async fn told(onlooker: &Onlooker, expected: &[&str]) -> Result<Vec<Judged>> {
    let what = format!("kstatus to have said {expected:?} in turn");
    let kstatus = |judged: &Vec<Judged>| story(judged, |one| &one.verdict.kstatus) == expected;
    let judged = until(&what, PATIENCE, || onlooker.judged(), kstatus).await?;
    assert_eq!(story(&judged, |one| &one.verdict.flux), expected, "Flux carries a copy of kstatus");
    let argo: Vec<&str> = expected
        .iter()
        .map(|said| match *said {
            "Current" => "Healthy",
            "Failed" => "Degraded",
            _ => "Progressing",
        })
        .collect();
    assert_eq!(story(&judged, |one| &one.verdict.argo), argo, "{judged:#?}");
    Ok(judged)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_function_is_in_progress_until_it_answers_and_current_at_zero() -> Result<()> {
    let stage = Stage::set("gitops-life").await?;
    let onlooker = Onlooker::begin(&stage.reach.client, &stage.namespace, "hello").await?;
    let spec = json!({"scaling": {"idleSeconds": 5}});
    stage.functions.create("hello", spec).await?;
    stage.functions.at_zero("hello").await?;
    let judged = told(&onlooker, &["InProgress", "Current"]).await?;
    let fresh = judged.first().context("nothing was seen")?;
    ensure!(
        fresh.verdict.message.contains("observed generation is -1"),
        "the Function as it was created, before anyone looked at it, must be known as such: {fresh:#?}"
    );

    // Waking and going to zero is what it is for: a tool that watches must see no trouble in it.
    stage.reachable("hello").await?;
    stage.ok("hello", "/").await?;
    stage.functions.at_zero("hello").await?;
    told(&onlooker, &["InProgress", "Current"]).await?;

    // A change is in progress until its revision has proved itself, and has the traffic.
    stage.functions.patch("hello", json!({"env": [{"name": "GREETING", "value": "again"}]})).await?;
    let judged = told(&onlooker, &["InProgress", "Current", "InProgress", "Current"]).await?;
    for one in &judged {
        let status = one.function.status.as_ref();
        let proven = status.and_then(|status| status.latest_ready_revision.as_deref());
        let serving = status.and_then(|status| status.route.as_ref()?.revision.as_deref());
        let changed = one.function.metadata.generation == Some(2);
        if changed && one.verdict.kstatus == "Current" {
            assert_eq!((proven, serving), (Some("hello-2"), Some("hello-2")), "Current too soon: {one:#?}");
        }
    }
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_wrong_image_is_failed_until_it_is_corrected() -> Result<()> {
    let stage = Stage::set("gitops-fault").await?;
    let onlooker = Onlooker::begin(&stage.reach.client, &stage.namespace, "typo").await?;
    // One that the node is not to look for elsewhere, so that there is nothing to hope for.
    stage
        .functions
        .create("typo", json!({"image": "pilotlight.dev/no-such-image:v1", "imagePullPolicy": "Never"}))
        .await?;
    let judged = told(&onlooker, &["InProgress", "Failed"]).await?;
    let last = &judged.last().context("nothing was seen")?.verdict;
    for words in [&last.message, &last.argo_message] {
        ensure!(words.contains("no-such-image:v1"), "who waits is not told the cause: {last:#?}");
    }
    stage.functions.patch("typo", json!({"image": image("hello-go"), "imagePullPolicy": "IfNotPresent"})).await?;
    told(&onlooker, &["InProgress", "Failed", "InProgress", "Current"]).await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn one_that_is_being_deleted_is_terminating() -> Result<()> {
    let stage = Stage::set("gitops-delete").await?;
    let onlooker = Onlooker::begin(&stage.reach.client, &stage.namespace, "hello").await?;
    stage.functions.create("hello", json!({})).await?;
    stage.functions.ready("hello").await?;
    // Held back by somebody's finalizer, as by a tool that has something to clean up: Pilotlight sets none.
    let functions = stage.api::<Function>();
    let hold = |finalizers: serde_json::Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    functions.patch("hello", &PatchParams::default(), &hold(json!(["example.com/hold"]))).await?;
    stage.kubectl_ok(&["delete", "function", "hello", "--wait=false"]).await?;
    let what = "kstatus and Flux to say that it is terminating";
    let last = || async { Ok(onlooker.judged().await?.pop()) };
    until(what, PATIENCE, last, |last| {
        last.as_ref()
            .is_some_and(|one| [&one.verdict.kstatus, &one.verdict.flux].iter().all(|said| *said == "Terminating"))
    })
    .await?;
    functions.patch("hello", &PatchParams::default(), &hold(json!(null))).await?;
    stage.gone::<Function>("hello").await?;
    stage.strike().await
}
