//! Promise: a Function is held to Pod Security `restricted` until its author says otherwise, and Pilotlight itself takes no more
//! rights than it needs.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod, PodSpec};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use pilotlight_crds::condition::WORKLOAD_READY;
use pilotlight_e2e::reach::{ACTIVATORS, OPERATORS, SYSTEM_NAMESPACE};
use pilotlight_e2e::stage::{Stage, condition};
use pilotlight_e2e::tools::kubectl;
use serde_json::json;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_default_function_runs_restricted_without_token_or_links() -> Result<()> {
    let stage = Stage::set("restricted").await?; // The namespace enforces `restricted`.
    let spec = json!({"scaling": {"minReplicas": 1}});
    stage.functions.create("hello", spec).await?;
    stage.ready("hello").await?;
    stage.ok("hello", "/").await?;

    let pods = stage.functions.pods("hello").await?;
    let pod = pods.first().context("no pod runs")?;
    let spec = pod.spec.as_ref().context("no spec")?;
    assert_eq!(spec.automount_service_account_token, Some(false));
    assert_eq!(spec.enable_service_links, Some(false));
    ensure!(spec.volumes.iter().flatten().all(|v| v.projected.is_none()), "a service account token is mounted");
    assert_restricted(pod.name_any().as_str(), spec)?;
    let names: Vec<&str> = spec.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["function", "beacon"], "no other sidecar");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_author_can_widen_knowingly_where_the_namespace_allows() -> Result<()> {
    let stage = Stage::set("widened").await?;
    let spec = json!({
        "securityContext": {"runAsNonRoot": false, "runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}},
        "automountServiceAccountToken": true,
        "enableServiceLinks": true,
        "scaling": {"minReplicas": 1},
    });
    stage.functions.create("root", spec).await?;
    let refused = stage.functions.condition("root", WORKLOAD_READY, "False").await?;
    let refused = condition(&refused, WORKLOAD_READY).context("no WorkloadReady")?;
    assert_eq!(refused.reason, "PodSecurityViolation", "{}", refused.message);
    ensure!(refused.message.contains("restricted"), "the policy is not named: {}", refused.message);

    let namespaces: Api<Namespace> = Api::all(stage.reach.client.clone());
    let label = "pod-security.kubernetes.io/enforce";
    let privileged = json!({"metadata": {"labels": {label: "privileged"}}});
    namespaces.patch(&stage.namespace, &PatchParams::default(), &Patch::Merge(privileged)).await?;
    stage.answers("root").await?;
    let pods = stage.functions.pods("root").await?;
    let spec = pods.first().and_then(|pod| pod.spec.as_ref()).context("no pod runs")?;
    let context = spec.containers[0].security_context.as_ref().context("no security context")?;
    assert_eq!(context.run_as_user, Some(0));
    assert_eq!(context.run_as_non_root, Some(false));
    // What the author left out keeps the narrow default.
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_eq!(spec.automount_service_account_token, Some(true));
    assert_eq!(spec.enable_service_links, Some(true));
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn pilotlights_own_pods_are_restricted_and_write_nothing() -> Result<()> {
    let stage = Stage::set("components").await?;
    for selector in [OPERATORS, ACTIVATORS] {
        for pod in components(&stage, selector).await? {
            let spec = pod.spec.as_ref().context("no spec")?;
            assert_restricted(&pod.name_any(), spec)?;
            for container in &spec.containers {
                let context = container.security_context.as_ref();
                let read_only = context.and_then(|c| c.read_only_root_filesystem);
                assert_eq!(read_only, Some(true), "{} can write to its image", pod.name_any());
                let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
                ensure!(limits.is_some_and(|l| l.contains_key("memory")), "{} has no memory limit", pod.name_any());
            }
            ensure!(spec.host_network != Some(true) && spec.host_pid != Some(true), "a component stands in the host");
        }
    }
    // Kubernetes' own judgement: to enforce `restricted` there would warn of every pod that violates it.
    let label = "pod-security.kubernetes.io/enforce=restricted";
    let judged = kubectl(&["label", "--dry-run=server", "--overwrite", "namespace", SYSTEM_NAMESPACE, label]).await?;
    ensure!(judged.ok && !judged.err.contains("Warning"), "{}{}", judged.out, judged.err);
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_operator_may_do_only_what_it_does() -> Result<()> {
    let stage = Stage::set("rbac-operator").await?;
    let account = account(&stage, OPERATORS).await?;
    may(&account, true, "create", "deployments.apps").await?;
    may(&account, true, "patch", "functions.pilotlight.dev/status").await?;
    never(&account).await?;
    // It never writes a Function's spec: patch is for a finalizer, and an admission policy allows no more.
    may(&account, true, "patch", "functions.pilotlight.dev").await?;
    for verb in ["create", "update", "delete"] {
        may(&account, false, verb, "functions.pilotlight.dev").await?;
    }
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_activator_may_do_only_what_it_does() -> Result<()> {
    let stage = Stage::set("rbac-activator").await?;
    let account = account(&stage, ACTIVATORS).await?;
    may(&account, true, "patch", "deployments.apps/scale").await?;
    may(&account, true, "watch", "pods").await?;
    never(&account).await?;
    for resource in [
        "deployments.apps",
        "services",
        "endpointslices.discovery.k8s.io",
        "functions.pilotlight.dev",
        "functions.pilotlight.dev/status",
        "configmaps",
    ] {
        for verb in ["create", "update", "patch", "delete"] {
            may(&account, false, verb, resource).await?;
        }
    }
    // Of pods it only gives CPU back; admission policies narrow that.
    for resource in ["pods", "pods/resize"] {
        may(&account, true, "patch", resource).await?;
        for verb in ["create", "update", "delete"] {
            may(&account, false, verb, resource).await?;
        }
    }
    stage.strike().await
}

/// What no component may, anywhere.
async fn never(account: &str) -> Result<()> {
    let rights = [
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "secrets"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("update", "pods/ephemeralcontainers"),
        ("delete", "namespaces"),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io"),
        ("bind", "clusterroles.rbac.authorization.k8s.io"),
        ("escalate", "clusterroles.rbac.authorization.k8s.io"),
        ("impersonate", "users"),
        ("create", "serviceaccounts/token"),
    ];
    for (verb, resource) in rights {
        may(account, false, verb, resource).await?;
    }
    Ok(())
}

/// Asks the API server what an account may, anywhere: a verb and a resource, or `resource/subresource`.
async fn may(account: &str, expected: bool, verb: &str, resource: &str) -> Result<()> {
    let acting = format!("--as={account}");
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let subresource = format!("--subresource={subresource}");
    let groups = "--as-group=system:serviceaccounts";
    let printed =
        kubectl(&["auth", "can-i", &acting, groups, verb, resource, &subresource, "--all-namespaces"]).await?;
    let answer = printed.out.trim();
    ensure!(["yes", "no"].contains(&answer), "can-i {verb} {resource}: {}{}", printed.out, printed.err);
    assert_eq!(answer == "yes", expected, "{account}: can-i {verb} {resource} {subresource}");
    Ok(())
}

async fn components(stage: &Stage, selector: &str) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(stage.reach.client.clone(), SYSTEM_NAMESPACE);
    let found = pods.list(&ListParams::default().labels(selector)).await?;
    ensure!(!found.items.is_empty(), "no pod of {selector}");
    Ok(found.items)
}

pub(crate) async fn account(stage: &Stage, selector: &str) -> Result<String> {
    let pods = components(stage, selector).await?;
    let name =
        pods[0].spec.as_ref().and_then(|spec| spec.service_account_name.clone()).context("no service account")?;
    ensure!(name != "default", "{selector} has no account of its own");
    Ok(format!("system:serviceaccount:{SYSTEM_NAMESPACE}:{name}"))
}

fn assert_restricted(name: &str, spec: &PodSpec) -> Result<()> {
    let pod = spec.security_context.as_ref();
    for container in &spec.containers {
        let context = container.security_context.as_ref().with_context(|| format!("{name} has no security context"))?;
        let non_root = context.run_as_non_root.or(pod.and_then(|pod| pod.run_as_non_root));
        assert_eq!(non_root, Some(true), "{name} may run as root");
        assert_eq!(context.allow_privilege_escalation, Some(false), "{name}");
        let dropped = context.capabilities.as_ref().and_then(|c| c.drop.as_ref());
        ensure!(dropped.is_some_and(|dropped| dropped.iter().any(|c| c == "ALL")), "{name} keeps capabilities");
        let seccomp = context.seccomp_profile.as_ref().or(pod.and_then(|pod| pod.seccomp_profile.as_ref()));
        assert_eq!(seccomp.map(|profile| profile.type_.as_str()), Some("RuntimeDefault"), "{name}");
    }
    Ok(())
}
