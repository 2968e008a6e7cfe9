//! Promise: a Function may have more CPU while it starts; once it is ready it has what its spec says, in the same container.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use pilotlight_crds::names::{ANNOTATION_BOOST, ANNOTATION_CPU};
use pilotlight_e2e::fixture::image;
use pilotlight_e2e::reach::is_ready;
use pilotlight_e2e::rung::cpu_limit;
use pilotlight_e2e::stage::Stage;
use serde_json::{Value, json};

use crate::throttle::pod;

const REQUEST: &str = "20m";
const NORMAL: &str = "200m";
const BOOSTED: &str = "1";

/// It starts long enough for kubelet to tell of a resize meanwhile.
fn spec(resources: &Value) -> Value {
    json!({
        "image": image("slow-start"),
        "env": [{"name": "START_DURATION", "value": "20s"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
        "resources": resources,
        "coldStart": {"cpuBoost": BOOSTED},
        "scaling": {"idleSeconds": 3600, "initialReplicas": 0},
    })
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).sum()
}

fn class(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.qos_class.as_deref()
}

/// From zero: more CPU before it is ready, then as the spec says, and not again.
async fn boosts(resources: &Value, expected: &str) -> Result<()> {
    let stage = Stage::with_hello("boost", spec(resources)).await?;
    let (answer, starting) = tokio::join!(
        stage.ok("hello", "/"),
        pod(&stage, "a starting pod with more CPU", |pod| cpu_limit(pod) == Some(BOOSTED) && !is_ready(pod)),
    );
    let starting = starting?;
    ensure!(answer?.text().starts_with("Ready after 20s"), "it was answered before it was ready");
    let started =
        pod(&stage, "its CPU as its spec says", |pod| cpu_limit(pod) == Some(NORMAL) && is_ready(pod)).await?;
    assert_eq!((started.uid(), restarts(&started)), (starting.uid(), 0));
    assert_eq!((class(&starting), class(&started)), (Some(expected), Some(expected)));
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_starting_pod_has_more_cpu_until_it_is_ready() -> Result<()> {
    boosts(&json!({"limits": {"cpu": NORMAL}, "requests": {"cpu": REQUEST}}), "Burstable").await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_guaranteed_pod_stays_one_while_it_is_boosted() -> Result<()> {
    boosts(&json!({"limits": {"cpu": NORMAL, "memory": "64Mi"}}), "Guaranteed").await
}

/// What an operator leaves that dies between a boost and its end: the notes and the CPU on a pod that is ready.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_boost_that_nobody_ended_ends() -> Result<()> {
    let resources = json!({"limits": {"cpu": NORMAL}, "requests": {"cpu": REQUEST}});
    let stage = Stage::with_hello("boost-left", json!({"resources": resources, "scaling": {"minReplicas": 1}})).await?;
    let ready = pod(&stage, "a ready pod", is_ready).await?;
    let (pods, params) = (stage.api::<Pod>(), PatchParams::default());
    let notes =
        json!({ANNOTATION_CPU: format!("{REQUEST}/{NORMAL}"), ANNOTATION_BOOST: format!("{REQUEST}/{BOOSTED}")});
    let notes = Patch::Merge(json!({"metadata": {"annotations": notes}}));
    pods.patch(&ready.name_any(), &params, &notes).await?;
    let more = json!({"requests": {"cpu": REQUEST}, "limits": {"cpu": BOOSTED}});
    let more = Patch::Strategic(json!({"spec": {"containers": [{"name": "function", "resources": more}]}}));
    pods.patch_subresource("resize", &ready.name_any(), &params, &more).await?;
    let limit =
        |pod: &Pod| Some(pod.spec.as_ref()?.containers[0].resources.as_ref()?.limits.as_ref()?.get("cpu")?.0.clone());
    let ended = pod(&stage, "the boost to end", |pod| limit(pod).as_deref() == Some(NORMAL)).await?;
    assert_eq!(ended.uid(), ready.uid());
    stage.strike().await
}
