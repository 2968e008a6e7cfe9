//! Promise: a failure is not remembered longer than it lasts. Where the cause was outside the Function, removing it there is enough.

use anyhow::Result;
use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use kube::api::{DeleteParams, PostParams};
use pilotlight_crds::condition::WORKLOAD_READY;
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::stage::{Stage, condition};
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

fn later() -> Result<Secret> {
    let secret = json!({"metadata": {"name": "later"}, "stringData": {"KEY": "value"}});
    Ok(serde_json::from_value(secret)?)
}

async fn create_and_fail(stage: &Stage, spec: Value, reason: &str) -> Result<()> {
    stage.functions.create("hello", spec).await?;
    let what = format!("WorkloadReady=False for {reason}");
    let hello = || stage.functions.get("hello");
    until(&what, PATIENCE, hello, |hello| {
        condition(hello, WORKLOAD_READY).is_some_and(|c| c.status == "False" && c.reason == reason)
    })
    .await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_secret_that_comes_later_is_enough() -> Result<()> {
    let stage = Stage::set("heal-secret").await?;
    let spec = json!({
        "envFrom": [{"secretRef": {"name": "later"}}],
        "coldStart": {"timeoutSeconds": 10},
    });
    create_and_fail(&stage, spec, "ContainerConfigInvalid").await?;
    stage.api().create(&PostParams::default(), &later()?).await?;
    stage.answers("hello").await?;
    stage.ready("hello").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_function_that_was_given_up_heals_at_a_request() -> Result<()> {
    let stage = Stage::set("heal-given-up").await?;
    let spec = json!({
        "envFrom": [{"secretRef": {"name": "later"}}],
        "coldStart": {"timeoutSeconds": 10},
        "scaling": {"idleSeconds": 5},
    });
    create_and_fail(&stage, spec, "ContainerConfigInvalid").await?;
    // A pod that cannot start is not kept for ever.
    let pods = || stage.functions.pods("hello");
    until("the pod that cannot start to go", 2 * PATIENCE, pods, Vec::is_empty).await?;
    stage.api().create(&PostParams::default(), &later()?).await?;
    stage.answers("hello").await?;
    stage.ready("hello").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_quota_that_goes_away_is_enough() -> Result<()> {
    let stage = Stage::set("heal-quota").await?;
    let quota = json!({"metadata": {"name": "no-pods"}, "spec": {"hard": {"pods": "0"}}});
    let quota: ResourceQuota = serde_json::from_value(quota)?;
    let quotas = stage.api::<ResourceQuota>();
    quotas.create(&PostParams::default(), &quota).await?;
    let spec = json!({"coldStart": {"timeoutSeconds": 10}});
    create_and_fail(&stage, spec, "QuotaExceeded").await?;
    quotas.delete("no-pods", &DeleteParams::default()).await?;
    stage.answers("hello").await?;
    stage.ready("hello").await?;
    stage.strike().await
}
