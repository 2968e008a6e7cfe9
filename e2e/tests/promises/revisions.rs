//! Promise: a change of what shapes pods is a new revision. The old one serves until the new one has proved itself; one that cannot
//! start never gets a request.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::ListParams;
use pilotlight_crds::condition::WORKLOAD_READY;
use pilotlight_crds::names::LABEL_FUNCTION;
use pilotlight_crds::status::{FunctionStatus, RevisionState};
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;

/// With the pull policy `Never`: a mistake that no waiting heals.
const MISSING: &str = "pilotlight.dev/no-such-image:v1";

async fn status(stage: &Stage) -> Result<FunctionStatus> {
    let status = stage.functions.get("hello").await?.status;
    status.context("the Function has no status")
}

async fn deployments(stage: &Stage) -> Result<Vec<(String, i32)>> {
    let selected = ListParams::default().labels(&format!("{LABEL_FUNCTION}=hello"));
    let found = stage.api::<Deployment>().list(&selected).await?;
    let replicas = |deployment: &Deployment| deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let mut found: Vec<_> =
        found.items.iter().map(|deployment| (deployment.name_any(), replicas(deployment))).collect();
    found.sort();
    Ok(found)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_new_image_takes_over_without_a_failed_request() -> Result<()> {
    let stage = Stage::set("rollout").await?;
    stage.functions.create("hello", json!({})).await?;
    stage.ready("hello").await?;
    let first = stage.ok("hello", "/").await?;
    assert_eq!(first.text(), "Hello from Go! (hello-1)\n");

    stage.functions.patch("hello", json!({"image": image("hello-rust")})).await?;
    // Every look of this wait is a request, and each must be answered by one revision or the other.
    let failed = std::cell::RefCell::new(None);
    let answers = || async {
        let text = stage.ok("hello", "/").await.map(|answer| answer.text());
        match text {
            Ok(text) => Ok(text),
            Err(error) => {
                failed.borrow_mut().get_or_insert(error);
                Ok(String::new())
            }
        }
    };
    let took_over = until("the new revision to answer", PATIENCE, answers, |text| {
        failed.borrow().is_some() || text == "Hello from Rust! (hello-2)\n"
    })
    .await;
    if let Some(error) = failed.into_inner() {
        return Err(error.context("a request failed during the change"));
    }
    took_over?;

    // Once it has taken over, it stays so, and the old one is kept at zero.
    let kept = || deployments(&stage);
    until("the old revision to be kept at zero", PATIENCE, kept, |kept| {
        kept.len() == 2 && kept[0] == ("hello-1".to_owned(), 0) && kept[1].0 == "hello-2"
    })
    .await?;
    let again = stage.ok("hello", "/").await?;
    assert_eq!(again.text(), "Hello from Rust! (hello-2)\n");
    let status = status(&stage).await?;
    assert_eq!(status.latest_ready_revision.as_deref(), Some("hello-2"));
    assert_eq!(status.latest_created_revision.as_deref(), Some("hello-2"));
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_broken_new_revision_never_gets_a_request() -> Result<()> {
    let stage = Stage::set("broken").await?;
    let spec = json!({"scaling": {"idleSeconds": 5}, "coldStart": {"timeoutSeconds": 30}});
    stage.functions.create("hello", spec).await?;
    stage.ready("hello").await?;
    stage.functions.patch("hello", json!({"image": MISSING, "imagePullPolicy": "Never"})).await?;
    stage.functions.condition("hello", WORKLOAD_READY, "False").await?;

    let broken = status(&stage).await?;
    assert_eq!(broken.latest_created_revision.as_deref(), Some("hello-2"));
    assert_eq!(broken.latest_ready_revision.as_deref(), Some("hello-1"));
    let routed = broken.route.context("no route")?.revision;
    assert_eq!(routed.as_deref(), Some("hello-1"), "the route must stay at the revision that works");
    let states: Vec<_> = broken.revisions.iter().map(|r| (r.name.as_str(), r.state)).collect();
    assert_eq!(states, [("hello-2", RevisionState::Failed), ("hello-1", RevisionState::Ready)]);
    assert_eq!(stage.ok("hello", "/").await?.text(), "Hello from Go! (hello-1)\n");

    // Neither does it from zero: the revision that works is the one that is woken.
    let at_zero = || deployments(&stage);
    until("the working revision to step to zero", PATIENCE, at_zero, |all| {
        all.first() == Some(&("hello-1".to_owned(), 0))
    })
    .await?;
    assert_eq!(stage.ok("hello", "/").await?.text(), "Hello from Go! (hello-1)\n");

    stage.functions.patch("hello", json!({"image": image("hello-rust"), "imagePullPolicy": "IfNotPresent"})).await?;
    let corrected = || async { Ok(stage.ok("hello", "/").await?.text()) };
    until("the corrected revision to answer", PATIENCE, corrected, |text| text.starts_with("Hello from Rust!")).await?;
    stage.ready("hello").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_does_not_shape_pods_makes_no_revision() -> Result<()> {
    let stage = Stage::set("live").await?;
    stage.functions.create("hello", json!({})).await?;
    stage.ready("hello").await?;
    let changes = json!({
        "scaling": {"maxReplicas": 3, "idleSeconds": 5},
        "timeouts": {"requestSeconds": 17, "responseStartSeconds": 17},
        "concurrency": {"limit": 7},
        "coldStart": {"pendingRequests": 5},
    });
    stage.functions.patch("hello", changes).await?;
    stage.functions.at_zero("hello").await?; // The new idle time counts already.
    let all = deployments(&stage).await?;
    assert_eq!(all, [("hello-1".to_owned(), 0)]);

    let changes = json!({"env": [{"name": "GREETING", "value": "hi"}]});
    stage.functions.patch("hello", changes).await?;
    let second = || async { Ok(stage.ok("hello", "/").await?.text()) };
    until("the changed environment to serve", PATIENCE, second, |text| text == "Hello from Go! (hello-2)\n").await?;
    let all = deployments(&stage).await?;
    ensure!(all.len() == 2, "the environment shapes pods, so it makes a revision: {all:?}");
    stage.strike().await
}
