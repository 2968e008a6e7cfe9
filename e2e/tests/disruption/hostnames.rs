//! Promise: whoever leads and whatever happened meanwhile, a host name stays with the Function that has it.

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use pilotlight_crds::Function;
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::reach::{OPERATORS, SYSTEM_NAMESPACE};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;

/// Sets how many operators there are, and waits until that is so.
async fn operators(stage: &Stage, replicas: i32) -> Result<i32> {
    let selected = ListParams::default().labels(OPERATORS);
    let deployments: Api<Deployment> = Api::namespaced(stage.reach.client.clone(), SYSTEM_NAMESPACE);
    let name = deployments.list(&selected).await?.items.first().map(|found| found.name_any()).unwrap_or_default();
    let before = deployments.get(&name).await?.spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let patch = json!({"spec": {"replicas": replicas}});
    deployments.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    let ready = || async { Ok(stage.reach.ready_pods(SYSTEM_NAMESPACE, OPERATORS).await?.len()) };
    until("as many operators", PATIENCE, ready, |count| i32::try_from(*count) == Ok(replicas)).await?;
    Ok(before)
}

async fn held(stage: &Stage, name: &str, hosts: &[&String]) -> Result<()> {
    let what = format!("{name} to have {hosts:?}");
    let has = |function: &Function| {
        let status = function.status.as_ref();
        let current = status.is_some_and(|status| status.observed_generation == function.metadata.generation);
        current && status.is_some_and(|status| status.hostnames.iter().eq(hosts.iter().copied()))
    };
    until(&what, PATIENCE, || stage.functions.get(name), has).await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_name_stays_where_it_is_whatever_happened_while_nobody_led() -> Result<()> {
    let stage = Stage::set("hostnames-led").await?;
    let host = |label: &str| format!("{label}.{}.hostnames.test", stage.namespace);
    let (kept, freed, new) = (host("kept"), host("freed"), host("new"));
    // The oldest, which asks last.
    stage.functions.create("oldest", json!({})).await?;
    stage.functions.create("keeps", json!({"hostnames": [kept]})).await?;
    stage.functions.create("goes", json!({"hostnames": [freed]})).await?;
    for (name, hosts) in [("keeps", &kept), ("goes", &freed)] {
        stage.ready(name).await?;
        held(&stage, name, &[hosts]).await?;
    }
    let before = operators(&stage, 0).await?;
    stage.functions.create("youngest", json!({"hostnames": [new, freed]})).await?;
    stage.functions.patch("oldest", json!({"hostnames": [kept, new, freed]})).await?;
    let functions: Api<Function> = stage.api();
    functions.delete("goes", &DeleteParams::default()).await?;
    operators(&stage, before).await?;
    held(&stage, "keeps", &[&kept]).await?;
    held(&stage, "oldest", &[&new, &freed]).await?;
    held(&stage, "youngest", &[]).await?;
    let youngest = stage.functions.get("youngest").await?.status.unwrap_or_default();
    ensure!(youngest.hostnames.is_empty());
    stage.strike().await
}
