//! What was taken over stays its owner's: who changes the Deployment meanwhile sees it rolled out, without a lost request, or hears why it does not start.

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use pilotlight_crds::condition::{READY, WORKLOAD_READY};
use pilotlight_crds::names;
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::load::Load;
use pilotlight_e2e::stage::{Stage, condition};
use pilotlight_e2e::wait::until;
use serde_json::json;

use super::{CLIENTS, adopt, as_made, at_zero, pods, running, through_activators};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn its_rollout_replaces_the_pods_and_no_request_fails() -> Result<()> {
    let stage = Stage::set("adopt-rollout").await?;
    running(&stage, 2).await?;
    adopt(&stage, json!({"minReplicas": 2})).await?;
    through_activators(&stage, true).await?;
    let old = as_made(&pods(&stage).await?);
    let load = Load::start(&stage.reach, &stage.namespace, &["web"], CLIENTS).await?;
    stage.kubectl_ok(&["rollout", "restart", "deployment/api"]).await?;
    stage.kubectl_ok(&["rollout", "status", "deployment/api", "--timeout=120s"]).await?;
    let new = |now: &Vec<Pod>| as_made(now).keys().all(|uid| !old.contains_key(uid));
    until("the pods from before to be gone", PATIENCE, || pods(&stage), new).await?;
    let sent = load.sent();
    until("requests at the new pods", PATIENCE, || async { Ok(load.sent()) }, |now| *now > sent + 200).await?;
    println!("{} requests, none failed", load.end_without_failure().await?);
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_does_not_start_is_told_to_callers_and_in_the_status_and_healed_by_its_owner() -> Result<()> {
    let stage = Stage::set("adopt-broken").await?;
    running(&stage, 1).await?;
    adopt(&stage, json!({"idleSeconds": 3})).await?;
    through_activators(&stage, true).await?;
    at_zero(&stage).await?;
    let good = stage.api::<Deployment>().get("api").await?.spec.map(|spec| spec.template);
    stage.kubectl_ok(&["set", "image", "deployment/api", "app=Not an image"]).await?;
    let answer = stage.get("web", "/").await?;
    assert_eq!((answer.status.as_u16(), answer.header(names::HEADER_REASON)), (503, "InvalidImageName"));
    ensure!(answer.text().contains("Not an image"), "{}", answer.text());
    let told = stage.functions.condition("web", WORKLOAD_READY, "False").await?;
    for kind in [WORKLOAD_READY, READY] {
        assert_eq!(condition(&told, kind).map(|told| told.reason.as_str()), Some("InvalidImageName"));
    }
    let back = json!({"spec": {"template": good}}).to_string();
    stage.kubectl_ok(&["patch", "deployment", "api", "--type=merge", "-p", &back]).await?;
    stage.answers("web").await?;
    stage.functions.ready("web").await?;
    stage.strike().await
}
