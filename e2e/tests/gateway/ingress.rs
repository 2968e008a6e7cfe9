//! Promise: where the chart names a class of Ingress, every external name of a Function leads to it from outside the cluster, from zero, too.

use anyhow::{Result, ensure};
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use pilotlight_crds::Function;
use pilotlight_crds::condition::{INGRESS_CREATED, INGRESS_PUBLISHED, NAME_TAKEN};
use pilotlight_e2e::chart;
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::namespace::TestNamespace;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::traefik::{CLASS, PUBLISHED, Traefik};
use pilotlight_e2e::wait::until;
use serde_json::json;

use crate::{answers_from_zero, leads_nowhere, nothing_said, said};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_request_from_outside_comes_in_by_an_ingress() -> Result<()> {
    let stage = Stage::set("ingress").await?;
    let edge = TestNamespace::create(&stage.reach.client, "edge").await?;
    let class = format!("ingress.className={CLASS}");
    chart::install(&[&class, "ingress.annotations.example\\.com/note=first"]).await?;
    let other = format!("www.{}.hostnames.test", stage.namespace);
    let own = format!("hello.{}.functions.test", stage.namespace);
    stage.functions.create("hello", json!({"hostnames": [other], "scaling": {"idleSeconds": 2}})).await?;
    stage.ready("hello").await?;
    let created = said(&stage, "hello", "Unknown", INGRESS_CREATED).await?;
    ensure!(created.message.contains(CLASS), "{created:?}");

    println!("a controller takes it: requests from outside wake the Function under each of its names");
    let traefik = Traefik::begin(&stage.reach, edge, false).await?;
    let published = said(&stage, "hello", "True", INGRESS_PUBLISHED).await?;
    ensure!([&own, &other, PUBLISHED].iter().all(|part| published.message.contains(*part)), "{published:?}");
    until("the first name to lead here", PATIENCE, || traefik.get(&own), |answer| answer.status.as_u16() == 200)
        .await?;
    answers_from_zero(&stage, &traefik, "hello", &[&own, &other]).await?;
    let ingresses: Api<Ingress> = stage.api();
    let made = ingresses.get("hello").await?;
    ensure!(made.metadata.generation == Some(1), "it was written again: {made:?}");

    println!("a name that is given up goes from it");
    stage.functions.patch("hello", json!({"hostnames": null})).await?;
    leads_nowhere(&traefik, &other).await?;

    println!("what the chart no longer asks for goes, too");
    chart::install(&[&class]).await?;
    let noted = |ingress: &Ingress| {
        ingress.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("example.com/note"))
    };
    let now = || async { Ok(ingresses.get("hello").await?) };
    until("the annotation to be gone", PATIENCE, now, |ingress| !noted(ingress)).await?;

    println!("an Ingress of somebody else stays as it is, and the condition names it");
    let theirs = json!({
        "metadata": {"name": "theirs"},
        "spec": {"ingressClassName": "other", "defaultBackend": {"service": {"name": "hello", "port": {"number": 80}}}},
    });
    let theirs: Ingress = ingresses.create(&PostParams::default(), &serde_json::from_value(theirs)?).await?;
    stage.functions.create("theirs", json!({})).await?;
    let taken = said(&stage, "theirs", "False", NAME_TAKEN).await?;
    ensure!(taken.message.contains("Ingress named theirs exists already"), "{taken:?}");
    ensure!(ingresses.get("theirs").await?.metadata.resource_version == theirs.metadata.resource_version);

    println!("the Ingress goes with its Function");
    let functions: Api<Function> = stage.api();
    functions.delete("hello", &DeleteParams::default()).await?;
    leads_nowhere(&traefik, &own).await?;
    stage.gone::<Ingress>("hello").await?;
    chart::install(&[]).await?;
    nothing_said(&stage, "theirs").await?;
    traefik.end().await?;
    stage.strike().await
}
