//! Pilotlight's own life: upgraded, uninstalled and installed again by Helm while Functions are in use. One test, since each
//! step begins where the one before ended; it runs apart from all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use pilotlight_crds::names::LABEL_FUNCTION;
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::reach::{Reach, SYSTEM_NAMESPACE, is_ready};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use pilotlight_e2e::{chart, http, tools};
use serde_json::json;
use tokio::task::JoinHandle;

/// Selects the pods of both components.
const COMPONENTS: &str = "app.kubernetes.io/component in (operator,activator)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn functions_answer_across_upgrade_uninstall_and_reinstall() -> Result<()> {
    let stage = Stage::set("lifecycle").await?;
    let (reach, functions) = (&stage.reach, &stage.functions);
    for name in ["warm", "cold"] {
        functions.create(name, json!({"scaling": {"idleSeconds": 3}})).await?;
        stage.ready(name).await?;
    }

    println!("helm test wakes a Function");
    tools::helm(&["test", chart::RELEASE, "--namespace", SYSTEM_NAMESPACE, "--timeout", "3m"]).await?.success()?;

    println!("upgrade: every component is rolled under load");
    let load = Load::start(reach, &stage.namespace, "warm");
    chart::install(&["operator.podAnnotations.rolled=once", "activator.podAnnotations.rolled=once"]).await?;
    // Helm is content before the last old pod has gone; an uninstall amid a rollout would be another story.
    rolled(reach).await?;
    load.end_without_failure().await?;

    println!("uninstall: plain Deployments with a pod each stay behind, and answer");
    functions.at_zero("cold").await?;
    let load = Load::start(reach, &stage.namespace, "warm");
    chart::uninstall().await?;
    load.end_without_failure().await?;
    for name in ["warm", "cold"] {
        plain_deployment(reach, &stage.namespace, name).await?;
        let answer = http::get(reach, &stage.namespace, name, "/").await?;
        ensure!(answer.status.is_success(), "{name} after uninstall: {}", answer.text());
        ensure!(answer.header("pilotlight-cold-start").is_empty(), "an activator still answers");
    }

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
    let load = Load::start(reach, &stage.namespace, "warm");
    chart::install(&[]).await?;
    load.end_without_failure().await?;
    functions.at_zero("warm").await?;
    let answer = http::get(reach, &stage.namespace, "warm", "/").await?;
    ensure!(answer.status.is_success(), "the first request after a reinstall: {}", answer.text());
    ensure!(answer.header("pilotlight-cold-start") == "true", "it was no cold start");
    stage.strike().await
}

/// Waits until only new pods of both components are left.
async fn rolled(reach: &Reach) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(reach.client.clone(), SYSTEM_NAMESPACE);
    let components = ListParams::default().labels(COMPONENTS);
    let new = |pod: &Pod| is_ready(pod) && pod.annotations().get("rolled").is_some_and(|rolled| rolled == "once");
    until(
        "the rollout to end",
        PATIENCE,
        || async { Ok(pods.list(&components).await?.items) },
        |pods| pods.iter().all(new),
    )
    .await?;
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

/// Requests one after the other until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    driver: JoinHandle<Vec<String>>,
}

impl Load {
    fn start(reach: &Reach, namespace: &str, name: &str) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (stop.clone(), sent.clone());
        let (reach, namespace, name) = (reach.clone(), namespace.to_owned(), name.to_owned());
        let driver = tokio::spawn(async move {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                counted.fetch_add(1, Ordering::Relaxed);
                match http::get(&reach, &namespace, &name, "/").await {
                    Ok(answer) if answer.status.is_success() => {}
                    Ok(answer) => failures.push(format!("{}: {}", answer.status, answer.text())),
                    Err(error) => failures.push(format!("{error:#}")),
                }
                tokio::time::sleep(Duration::from_millis(10)).await; // the load's rate: at most 100 requests a second
            }
            failures
        });
        Self { stop, sent, driver }
    }

    async fn end_without_failure(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.driver.await?;
        let sent = self.sent.load(Ordering::Relaxed);
        println!("  {sent} requests, {} failed", failures.len());
        ensure!(failures.is_empty(), "{} of {sent} requests failed, first: {}", failures.len(), failures[0]);
        ensure!(sent > 0, "no request was sent");
        Ok(())
    }
}
