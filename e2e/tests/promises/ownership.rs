//! Promise: what a Function owns comes back when someone deletes or bends it; what it does not own is left alone; and `replicas` is
//! not fought over.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use pilotlight_crds::condition::ROUTE_READY;
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::history::History;
use pilotlight_e2e::stage::{Stage, condition};
use pilotlight_e2e::wait::until;
use serde_json::json;

/// Deletes an object of the Function and expects another one in its place, and an answer.
async fn comes_back<K>(kind: &str, name: &str) -> Result<()>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
    K::DynamicType: Default,
{
    let stage = Stage::set(&format!("own-{kind}")).await?;
    stage.functions.create("hello", json!({})).await?;
    stage.ready("hello").await?;
    let api = stage.api::<K>();
    let uid = api.get(name).await?.uid().context("no uid")?;
    api.delete(name, &DeleteParams::background()).await?;
    let again = stage.again::<K>(name, &uid).await?;
    let owners = again.owner_references();
    ensure!(
        owners.iter().any(|o| o.kind == "Function" && o.name == "hello" && o.controller == Some(true)),
        "made again without its owner: {owners:?}"
    );
    stage.answers("hello").await?;
    stage.ready("hello").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_deleted_service_comes_back() -> Result<()> {
    comes_back::<Service>("service", "hello").await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_deleted_endpoint_slice_comes_back() -> Result<()> {
    comes_back::<EndpointSlice>("slice", "hello-pilotlight").await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_deleted_deployment_comes_back() -> Result<()> {
    comes_back::<Deployment>("deployment", "hello-1").await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_bent_template_is_repaired_and_a_foreign_annotation_stays() -> Result<()> {
    let stage = Stage::set("own-template").await?;
    stage.functions.create("hello", json!({})).await?;
    stage.ready("hello").await?;
    let deployments = stage.api::<Deployment>();
    let bent = json!({
        "metadata": {"annotations": {"example.com/note": "mine"}},
        "spec": {"template": {"spec": {"containers": [
            {"name": "function", "image": image("hello-rust")},
        ]}}},
    });
    let bent = deployments.patch("hello-1", &PatchParams::default(), &Patch::Strategic(bent)).await?;
    let generation = bent.metadata.generation;
    let runs = |deployment: &Deployment| {
        let spec = deployment.spec.as_ref()?.template.spec.as_ref()?;
        spec.containers.first()?.image.clone()
    };
    let now = || async { Ok(deployments.get("hello-1").await?) };
    let repaired = until("the template to be repaired", PATIENCE, now, |now| {
        now.metadata.generation > generation && runs(now).as_deref() == Some(image("hello-go").as_str())
    })
    .await?;
    let note = repaired.annotations().get("example.com/note");
    assert_eq!(note.map(String::as_str), Some("mine"), "what others set is theirs");
    let go = || async { Ok(stage.ok("hello", "/").await?.text()) };
    until("the repaired pods to answer", PATIENCE, go, |text| text == "Hello from Go! (hello-1)\n").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn replicas_set_by_hand_are_not_fought_over() -> Result<()> {
    let stage = Stage::set("own-replicas").await?;
    let spec = json!({"scaling": {"idleSeconds": 5}});
    stage.functions.create("hello", spec).await?;
    stage.functions.at_zero("hello").await?;

    let history = History::begin(&stage.reach.client, &stage.namespace, "hello").await?;
    stage.kubectl_ok(&["scale", "deployment/hello-1", "--replicas=2"]).await?;
    // Nobody reverts it at once; the autoscaler decides by load, and there is none: back to zero, with at most one step between.
    let replicas = || async { Ok(history.replicas("hello-1")) };
    let replicas = until("the step back to zero", PATIENCE, replicas, |replicas| {
        replicas.len() > 1 && replicas.last() == Some(&0)
    })
    .await?;
    stage.functions.at_zero("hello").await?;
    let after = history.replicas("hello-1");
    assert_eq!(after, replicas, "nobody writes once it stands at zero");
    ensure!(replicas.starts_with(&[0, 2]) && replicas.len() <= 4, "a fight over replicas: {replicas:?}");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_foreign_service_of_the_same_name_is_not_stolen() -> Result<()> {
    let stage = Stage::set("own-foreign").await?;
    let foreign = json!({
        "metadata": {"name": "hello"},
        "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80, "targetPort": 3000}]},
    });
    let foreign: Service = serde_json::from_value(foreign)?;
    let services = stage.api::<Service>();
    let foreign = services.create(&PostParams::default(), &foreign).await?;

    stage.functions.create("hello", json!({})).await?;
    let refused = stage.functions.condition("hello", ROUTE_READY, "False").await?;
    let refused = condition(&refused, ROUTE_READY).context("no RouteReady")?;
    ensure!(
        refused.message.contains("Service") && refused.message.contains("hello"),
        "RouteReady does not say what is in the way: {}",
        refused.message
    );
    let now = services.get("hello").await?;
    assert_eq!(now.uid(), foreign.uid());
    assert_eq!(now.spec, foreign.spec, "the foreign Service must stay as it was");
    ensure!(now.owner_references().is_empty(), "the foreign Service was taken over");

    services.delete("hello", &DeleteParams::default()).await?;
    stage.ready("hello").await?;
    stage.ok("hello", "/").await?;
    stage.strike().await
}
