//! Who else writes what was taken over is named, with what to do about it: whoever restores the Service's selector, and whoever sets the replicas.

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Event, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use pilotlight_crds::condition::{FOREIGN_WRITER, READY, REPLICAS_CONTESTED, ROUTE_READY, SELECTOR_CONTESTED};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::stage::{Stage, condition};
use pilotlight_e2e::wait::until;
use serde_json::json;

use super::{adopt, pods, running, through_activators};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn whoever_restores_the_selector_is_named_and_it_is_taken_away_again() -> Result<()> {
    let stage = Stage::set("adopt-selector").await?;
    running(&stage, 1).await?;
    adopt(&stage, json!({"minReplicas": 1})).await?;
    through_activators(&stage, true).await?;
    let before = stage.functions.get("web").await?;
    ensure!(condition(&before, SELECTOR_CONTESTED).is_none(), "its owner wrote it before it was taken over");
    // Managed fields and conditions have whole seconds: what is written in that of the takeover may have been before it.
    let routed = condition(&before, ROUTE_READY).context("it is routed")?.last_transition_time.0;
    let over = || async { Ok(Timestamp::now().as_second() - routed.as_second()) };
    until("the second of the takeover to be over", PATIENCE, over, |seconds| *seconds > 1).await?;
    let selector = Patch::Apply(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": {"app": "api"}},
    }));
    let argo = PatchParams::apply("argocd-controller").force();
    for _ in 0..3 {
        stage.api::<Service>().patch("web", &argo, &selector).await?;
        unselected(&stage).await?;
        told(&stage, SELECTOR_CONTESTED, &["argocd-controller", "/spec/selector", "ignoreDifferences"]).await?;
    }
    through_activators(&stage, true).await?;
    let ready = stage.functions.ready("web").await?;
    assert_eq!(condition(&ready, READY).map(|ready| ready.status.as_str()), Some("True"), "it is a warning");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_horizontal_pod_autoscaler_beside_it_is_named() -> Result<()> {
    let stage = Stage::set("adopt-hpa").await?;
    running(&stage, 1).await?;
    adopt(&stage, json!({"minReplicas": 1, "maxReplicas": 1})).await?;
    through_activators(&stage, true).await?;
    // What it keeps at least takes no metrics.
    let beside: HorizontalPodAutoscaler = serde_json::from_value(json!({
        "metadata": {"name": "beside"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"},
            "minReplicas": 2, "maxReplicas": 3,
        },
    }))?;
    stage.api().create(&PostParams::default(), &beside).await?;
    told(&stage, REPLICAS_CONTESTED, &["HorizontalPodAutoscaler", "Deployment api by /scale"]).await?;
    stage.api::<HorizontalPodAutoscaler>().delete("beside", &DeleteParams::default()).await?;
    until("its pods to be gone", PATIENCE, || pods(&stage), |pods| pods.len() == 1).await?;
    stage.ok("web", "/").await?;
    stage.strike().await
}

/// Waits for the condition and for its event, in these words.
async fn told(stage: &Stage, type_: &str, words: &[&str]) -> Result<()> {
    let function = stage.functions.condition("web", type_, "True").await?;
    let contested = condition(&function, type_).context("it was there")?;
    assert_eq!(contested.reason, FOREIGN_WRITER);
    for word in words {
        ensure!(contested.message.contains(word), "no {word:?} in {:?}", contested.message);
    }
    let is_told = |event: &Event| event.reason.as_deref() == Some(type_);
    until("the event", PATIENCE, || stage.events("Function", "web"), |events| events.iter().any(is_told)).await?;
    Ok(())
}

/// Waits until the Service has no selector.
async fn unselected(stage: &Stage) -> Result<()> {
    let services = stage.api::<Service>();
    let selects = |service: &Service| service.spec.as_ref().is_some_and(|spec| spec.selector.is_some());
    let look = || async { Ok(services.get("web").await?) };
    until("the selector to be taken away again", PATIENCE, look, |service| !selects(service)).await?;
    Ok(())
}
