//! Promise: what RBAC cannot narrow, the chart's admission policies do. Each attempt is made with a component's own identity, and
//! changes nothing but what Pilotlight needs to change.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{ListParams, PostParams};
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::reach::{ACTIVATORS, OPERATORS};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

use crate::security::account;

/// An attempt to change something, as arguments of kubectl, and what the refusal must say; nothing where it must be allowed.
type Attempt<'a> = (&'a [&'a str], Option<&'a str>);

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_components_cannot_reach_beyond_functions() -> Result<()> {
    let stage = Stage::set("admission").await?;
    stage.functions.create("hello", json!({"scaling": {"minReplicas": 1}})).await?;
    stage.ready("hello").await?;
    stage.api::<Deployment>().create(&PostParams::default(), &plain_deployment()?).await?;
    stage.api::<Service>().create(&PostParams::default(), &plain_service()?).await?;
    let pods = stage.functions.pods("hello").await?;
    let ours = pods[0].metadata.name.clone().context("a pod without a name")?;
    let theirs = plain_pod(&stage).await?;
    let operator = account(&stage, OPERATORS).await?;
    let activator = account(&stage, ACTIVATORS).await?;

    let cost = r#"{"metadata":{"annotations":{"controller.kubernetes.io/pod-deletion-cost":"-5"}}}"#;
    let note = r#"{"metadata":{"annotations":{"example.com/note":"x"}}}"#;
    let label = r#"{"metadata":{"labels":{"example.com/label":"x"}}}"#;
    let swap = r#"{"spec":{"containers":[{"name":"function","image":"example.com/evil"}]}}"#;
    let two = r#"{"spec":{"replicas":2}}"#;
    let attempts: [Attempt<'_>; 11] = [
        (&["patch", "pod", &ours, "-p", cost], None),
        (&["patch", "pod", &ours, "-p", note], Some("changes no annotation of a pod but")),
        (&["patch", "pod", &ours, "-p", label], Some("changes nothing of a pod but its deletion cost")),
        (&["patch", "pod", &ours, "-p", swap], Some("changes nothing of a pod but its deletion cost")),
        (&["patch", "pod", &theirs, "-p", cost], Some("only changes pods with the label")),
        (&["delete", "pod", &ours], Some("cannot delete")),
        (&["patch", "deployment", "plain", "-p", label], Some("only writes objects with the label")),
        (&["delete", "deployment", "plain"], Some("belongs to no Function")),
        (&["delete", "service", "plain"], Some("belongs to no Function")),
        (
            &["patch", "deployment", "plain", "--subresource=scale", "--type=merge", "-p", two],
            Some("only scales Deployments whose selector"),
        ),
        (&["patch", "deployment", "hello-1", "--subresource=scale", "--type=merge", "-p", two], None),
    ];
    for (arguments, refusal) in &attempts {
        attempt(&stage, &operator, arguments, *refusal).await?;
    }
    let only_functions = Some("only scales Deployments whose selector");
    let scale = ["patch", "deployment", "plain", "--subresource=scale", "--type=merge", "-p", two];
    attempt(&stage, &activator, &scale, only_functions).await?;
    attempt(&stage, &activator, &["patch", "pod", &ours, "-p", cost], Some("cannot patch")).await?;
    stage.strike().await
}

/// Makes an attempt as `account`. Allowed ones are made for real as well: a policy that refuses everything would be as wrong.
async fn attempt(stage: &Stage, account: &str, arguments: &[&str], refusal: Option<&str>) -> Result<()> {
    let acting = format!("--as={account}");
    let mut all = vec![acting.as_str(), "--as-group=system:serviceaccounts", "--as-group=system:authenticated"];
    all.extend(arguments);
    let printed = stage.kubectl(&all).await?;
    match refusal {
        None => ensure!(printed.ok, "{account} must be allowed {arguments:?}: {}", printed.err),
        Some(words) => {
            ensure!(!printed.ok, "{account} was allowed {arguments:?}: {}", printed.out);
            ensure!(printed.err.contains(words), "{arguments:?} was refused for another reason: {}", printed.err);
        }
    }
    Ok(())
}

/// The name of the pod that has nothing to do with Pilotlight, as soon as there is one.
async fn plain_pod(stage: &Stage) -> Result<String> {
    let pods = stage.api::<Pod>();
    let plain = ListParams::default().labels("app=plain");
    let list = || async { Ok(pods.list(&plain).await?.items) };
    let found = until("the plain pod", PATIENCE, list, |pods| !pods.is_empty()).await?;
    found[0].metadata.name.clone().context("a pod without a name")
}

fn plain_deployment() -> Result<Deployment> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": "plain"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "plain"}},
            "template": {
                "metadata": {"labels": {"app": "plain"}},
                "spec": {"containers": [{"name": "function", "image": image("hello-go"), "securityContext": restricted()}]},
            },
        },
    }))?)
}

fn plain_service() -> Result<Service> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": "plain"},
        "spec": {"selector": {"app": "plain"}, "ports": [{"port": 80}]},
    }))?)
}

fn restricted() -> Value {
    json!({
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}
