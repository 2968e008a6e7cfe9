//! A namespace that is deleted with a Function in it that took over a Deployment goes as one without: nothing is given back where all goes.

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pilotlight_crds::{Function, names};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;

use super::{adopt, running, through_activators};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn its_function_goes_and_nothing_is_given_back() -> Result<()> {
    let stage = Stage::set("adopt-namespace").await?;
    running(&stage, 1).await?;
    adopt(&stage, json!({"minReplicas": 1})).await?;
    through_activators(&stage, true).await?;
    // Kept from going, they show what was written meanwhile.
    stays::<Deployment>(&stage, "api", &["example.com/stays"]).await?;
    stays::<Service>(&stage, "web", &["example.com/stays"]).await?;
    let namespaces: Api<Namespace> = Api::all(stage.reach.client.clone());
    namespaces.delete(&stage.namespace, &DeleteParams::background()).await?;
    stage.gone::<Function>("web").await?;
    let service = stage.api::<Service>().get("web").await?;
    let selector = service.spec.and_then(|spec| spec.selector);
    ensure!(selector.is_none(), "it was given back: {selector:?}");
    let annotations = service.metadata.annotations.unwrap_or_default();
    ensure!(annotations.contains_key(names::ANNOTATION_SELECTOR), "it was given back");
    stays::<Deployment>(&stage, "api", &[]).await?;
    stays::<Service>(&stage, "web", &[]).await?;
    let gone = || async { Ok(namespaces.get_opt(&stage.namespace).await?) };
    until("the namespace to be gone", PATIENCE, gone, Option::is_none).await?;
    Ok(())
}

/// Sets an object's finalizers.
async fn stays<K>(stage: &Stage, name: &str, finalizers: &[&str]) -> Result<()>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
    K::DynamicType: Default,
{
    let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    stage.api::<K>().patch(name, &PatchParams::default(), &patch).await?;
    Ok(())
}
