//! Pilotlight's own life: upgraded, uninstalled and installed again by Helm while Functions are in use. One test, since each
//! step begins where the one before ended; it runs apart from all others.

mod tls;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use pilotlight_crds::names::LABEL_FUNCTION;
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::load::Load;
use pilotlight_e2e::reach::{ACTIVATORS, Reach, SYSTEM_NAMESPACE};
use pilotlight_e2e::rung::is_parked;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use pilotlight_e2e::{chart, existing, http, tools};
use serde_json::json;

/// Functions that are in use all the time, and what makes each another case.
fn in_use() -> [(&'static str, serde_json::Value); 4] {
    [
        ("warm", json!({"scaling": {"idleSeconds": 3}})),
        ("limited", json!({"scaling": {"idleSeconds": 3}, "concurrency": {"limit": 2}})),
        ("several", json!({"scaling": {"idleSeconds": 3, "minReplicas": 2}})),
        ("one", json!({"scaling": {"idleSeconds": 3, "maxReplicas": 1}})),
    ]
}

/// Clients of each of these Functions.
const CLIENTS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn functions_answer_across_upgrade_uninstall_and_reinstall() -> Result<()> {
    let stage = Stage::set("lifecycle").await?;
    let (reach, functions) = (&stage.reach, &stage.functions);
    let used: Vec<&str> = in_use().iter().map(|(name, _)| *name).collect();
    for (name, changes) in in_use().into_iter().chain([("cold", json!({"scaling": {"idleSeconds": 3}}))]) {
        functions.create(name, changes).await?;
    }
    // A Deployment of somebody's own, taken over.
    functions_of_existing(&stage).await?;
    let parked = json!({"scaling": {"idleSeconds": 3600, "idle": {"steps": [{"afterSeconds": 2, "rung": "Parked"}]}}});
    functions.create("parked", parked).await?;
    for name in used.iter().chain(&["cold", "parked", ADOPTED]) {
        stage.ready(name).await?;
    }

    println!("helm test wakes a Function");
    tools::helm(&["test", chart::RELEASE, "--namespace", SYSTEM_NAMESPACE, "--timeout", "3m"]).await?.success()?;

    println!("upgrade: every component is rolled under load");
    functions.at_zero("cold").await?;
    let pods = || functions.pods("parked");
    until("a parked pod", PATIENCE, pods, |pods| pods.len() == 1 && pods.iter().all(is_parked)).await?;
    let loaded: Vec<&str> = used.iter().copied().chain([ADOPTED]).collect();
    let load = Load::start(reach, &stage.namespace, &loaded, CLIENTS).await?;
    chart::install(&["operator.podAnnotations.rolled=once", "activator.podAnnotations.rolled=once"]).await?;
    println!("  {} requests sent", load.sent());

    // Helm is content as soon as the new pods are ready, so this begins while the old ones still go. With nothing to do they go
    // soon; whoever asks next must not be led to them, although no operator looks after the Services meanwhile.
    println!("uninstall, amid the rollout: plain Deployments with a pod each stay behind, and answer");
    load.pause(true);
    let gone = async {
        rolled(reach).await?;
        load.pause(false);
        anyhow::Ok(())
    };
    tokio::try_join!(chart::uninstall(), gone)?;
    println!("  {} requests, none failed", load.end_without_failure().await?);
    for name in used.iter().copied().chain(["cold", "parked"]) {
        plain_deployment(reach, &stage.namespace, name).await?;
        let answer = http::get(reach, &stage.namespace, name, "/").await?;
        ensure!(answer.status.is_success(), "{name} after uninstall: {}", answer.text());
        ensure!(answer.header("pilotlight-cold-start").is_empty(), "an activator still answers");
        ensure!(answer.header("pilotlight-placeholder").is_empty(), "{name}: a placeholder answers");
    }

    println!("what was taken over is as it was, and nothing holds its Function");
    given_back(&stage).await?;

    println!("a Function that is deleted without Pilotlight goes, and all it owns; no finalizer hangs");
    tools::kubectl(&["delete", "function", "cold", "--namespace", &stage.namespace, "--timeout=60s"])
        .await?
        .success()?;
    until(
        "the garbage collector to take what cold owned",
        PATIENCE,
        || async { functions.pods("cold").await },
        Vec::is_empty,
    )
    .await?;

    println!("reinstall: Pilotlight takes over again");
    let load = Load::start(reach, &stage.namespace, &loaded, CLIENTS).await?;
    chart::install(&[]).await?;
    println!("  {} requests, none failed", load.end_without_failure().await?);
    until(
        "the Deployment to be taken over again",
        PATIENCE,
        || functions.get(ADOPTED),
        |function| !function.finalizers().is_empty(),
    )
    .await?;
    stage.ready(ADOPTED).await?;
    policies_hold(&stage).await?;
    functions.at_zero("warm").await?;
    let answer = http::get(reach, &stage.namespace, "warm", "/").await?;
    ensure!(answer.status.is_success(), "the first request after a reinstall: {}", answer.text());
    ensure!(answer.header("pilotlight-cold-start") == "true", "it was no cold start");
    stage.strike().await
}

/// A Deployment and its Service that nobody made for Pilotlight, taken over by a Function of the same name.
const ADOPTED: &str = "adopted";

async fn functions_of_existing(stage: &Stage) -> Result<()> {
    stage.api().create(&PostParams::default(), &existing::deployment(ADOPTED, ADOPTED, 2)?).await?;
    stage.api().create(&PostParams::default(), &existing::service(ADOPTED, ADOPTED)?).await?;
    let function = existing::adopting(ADOPTED, ADOPTED, json!({"idleSeconds": 3}));
    stage.apply(&function.to_string()).await?.success()?;
    Ok(())
}

/// Neither Service nor Deployment nor Function has anything of Pilotlight's any more.
async fn given_back(stage: &Stage) -> Result<()> {
    let service = stage.api::<Service>().get(ADOPTED).await?;
    ensure!(service.annotations().keys().all(|key| !key.starts_with("pilotlight.dev/")), "{:?}", service.annotations());
    let selector = service.spec.and_then(|spec| spec.selector);
    ensure!(selector == existing::service(ADOPTED, ADOPTED)?.spec.and_then(|spec| spec.selector), "{selector:?}");
    let deployment = stage.api::<Deployment>().get(ADOPTED).await?;
    ensure!(deployment.spec.and_then(|spec| spec.replicas) >= Some(2), "it has fewer replicas than before");
    let function = stage.functions.get(ADOPTED).await?;
    ensure!(function.finalizers().is_empty(), "the finalizer is left");
    let answer = stage.ok(ADOPTED, "/").await?;
    ensure!(answer.header("server-timing").is_empty(), "an activator still answers");
    Ok(())
}

/// What RBAC cannot narrow is as narrow as at the first install, also for what was made since.
async fn policies_hold(stage: &Stage) -> Result<()> {
    let mut plain = existing::deployment("plain", "plain", 1)?;
    plain.metadata.labels = None;
    stage.api().create(&PostParams::default(), &plain).await?;
    let account = format!("--as=system:serviceaccount:{SYSTEM_NAMESPACE}:pilotlight-operator");
    let down = r#"{"spec":{"replicas":0}}"#;
    let patch = ["patch", "deployment", "plain", "--subresource=scale", "--type=merge", "-p", down];
    let acting = [&[account.as_str(), "--as-group=system:authenticated"], patch.as_slice()].concat();
    let printed = stage.kubectl(&acting).await?;
    ensure!(printed.err.contains("only scales Deployments with the label"), "{}{}", printed.out, printed.err);
    Ok(())
}

/// Waits until the activators from before the upgrade are gone.
async fn rolled(reach: &Reach) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(reach.client.clone(), SYSTEM_NAMESPACE);
    let activators = ListParams::default().labels(ACTIVATORS);
    let new = |pod: &Pod| pod.annotations().contains_key("rolled");
    let listed = || async { Ok(pods.list(&activators).await?.items) };
    until("the activators from before the upgrade to be gone", PATIENCE, listed, |pods| pods.iter().all(new)).await?;
    Ok(())
}

/// The Function's Deployment has at least one ready pod and no trace of Pilotlight is needed for it.
async fn plain_deployment(reach: &Reach, namespace: &str, name: &str) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(reach.client.clone(), namespace);
    let owned = ListParams::default().labels(&format!("{LABEL_FUNCTION}={name}"));
    let ready = |deployment: &Deployment| deployment.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
    until(
        &format!("a ready pod of {name} without Pilotlight"),
        PATIENCE,
        || async { Ok(deployments.list(&owned).await?.items.iter().map(ready).sum::<i32>()) },
        |ready| *ready >= 1,
    )
    .await?;
    Ok(())
}
