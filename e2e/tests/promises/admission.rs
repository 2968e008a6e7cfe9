//! Promise: what RBAC cannot narrow, the chart's admission policies do. Each attempt is made with a component's own identity, and
//! changes nothing but what Pilotlight needs to change.

use anyhow::{Context as _, Result, anyhow, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{ListParams, PostParams};
use pilotlight_crds::park;
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
    let (none, two) = (r#"{"spec":{"replicas":0}}"#, r#"{"spec":{"replicas":2}}"#);
    let only_labelled = Some("only changes pods with the label");
    let only_functions = Some("only scales Deployments with the label");
    let attempts: [Attempt<'_>; 14] = [
        (&["patch", "pod", &ours, "-p", cost], None),
        (&["patch", "pod", &ours, "-p", note], Some("changes no annotation of a pod but")),
        (&["patch", "pod", &ours, "-p", label], Some("changes nothing of a pod but its deletion cost and its rung")),
        (&["patch", "pod", &ours, "-p", swap], Some("swaps the image of a pod's function for")),
        (&["patch", "pod", &theirs, "-p", note], only_labelled),
        (&["patch", "pod", &theirs, "-p", label], only_labelled),
        (&["patch", "pod", &theirs, "-p", swap], only_labelled),
        // Which of a Deployment's pods that was taken over goes; nothing tells whose pod it is.
        (&["patch", "pod", &theirs, "-p", cost], None),
        (&["delete", "pod", &ours], Some("cannot delete")),
        (&["patch", "deployment", "plain", "-p", label], Some("only writes objects with the label")),
        (&["delete", "deployment", "plain"], Some("belongs to no Function")),
        (&["delete", "service", "plain"], Some("belongs to no Function")),
        (&["patch", "deployment", "plain", "--subresource=scale", "--type=merge", "-p", none], only_functions),
        (&["patch", "deployment", "hello-1", "--subresource=scale", "--type=merge", "-p", two], None),
    ];
    for (arguments, refusal) in &attempts {
        attempt(&stage, &operator, arguments, *refusal).await?;
    }
    let scale = ["patch", "deployment", "plain", "--subresource=scale", "--type=merge", "-p", two];
    attempt(&stage, &activator, &scale, only_functions).await?;
    let other_cost = cost.replace("-5", "-6");
    let by_activator = Some("changes nothing of a pod but that it");
    attempt(&stage, &activator, &["patch", "pod", &ours, "-p", &other_cost], by_activator).await?;
    attempt(&stage, &activator, &["patch", "pod", &theirs, "-p", &other_cost], only_labelled).await?;
    stage.strike().await
}

/// CPU of the function's container, as a patch of a pod's `resize`.
fn resize(request: &str, limit: &str) -> String {
    let resources = json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
    json!({"spec": {"containers": [{"name": "function", "resources": resources}]}}).to_string()
}

/// Its requests alone.
fn requests(cpu: &str, memory: &str) -> String {
    let resources = json!({"requests": {"cpu": cpu, "memory": memory}});
    json!({"spec": {"containers": [{"name": "function", "resources": resources}]}}).to_string()
}

/// The mark of a parked pod, with what its function requests.
fn note(requests: &str) -> String {
    let annotations = json!({"pilotlight.dev/requests": requests});
    json!({"metadata": {"labels": {"pilotlight.dev/rung": "Parked"}, "annotations": annotations}}).to_string()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn of_a_pod_s_resources_the_components_change_cpu_as_it_was_noted_or_taken() -> Result<()> {
    let stage = Stage::set("admission-resize").await?;
    let resources = json!({"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
    stage.functions.create("hello", json!({"resources": resources, "scaling": {"minReplicas": 1}})).await?;
    stage.ready("hello").await?;
    let pods = stage.functions.pods("hello").await?;
    let ours = pods[0].metadata.name.clone().context("a pod without a name")?;
    let (operator, activator) = (account(&stage, OPERATORS).await?, account(&stage, ACTIVATORS).await?);

    let mark = |rung: &str, cpu: &str| {
        let metadata = json!({"labels": {"pilotlight.dev/rung": rung}, "annotations": {"pilotlight.dev/cpu": cpu}});
        json!({"metadata": metadata}).to_string()
    };
    let (down, full, more) = (resize("1m", "10m"), resize("20m", "500m"), resize("20m", "2"));
    let memory = r#"{"spec":{"containers":[{"name":"function","resources":{"limits":{"cpu":"10m","memory":"32Mi"},"requests":{"cpu":"1m"}}}]}}"#;
    let other = r#"{"spec":{"containers":[{"name":"beacon","resources":{"limits":{"memory":"32Mi"}}}]}}"#;
    let (true_mark, false_mark, odd) =
        (mark("Throttled", "20m/500m"), mark("Throttled", "20m/2"), mark("Frozen", "20m/500m"));
    let unmark = r#"{"metadata":{"labels":{"pilotlight.dev/rung":null}}}"#;
    let unnote = r#"{"metadata":{"annotations":{"pilotlight.dev/cpu":null}}}"#;
    let boost = r#"{"metadata":{"annotations":{"pilotlight.dev/cpu-boost":"20m/2"}}}"#;
    let pod = |patch: &str| ["patch", "pod", ours.as_str(), "-p", patch].map(str::to_owned).to_vec();
    let size =
        |patch: &str| ["patch", "pod", ours.as_str(), "--subresource=resize", "-p", patch].map(str::to_owned).to_vec();
    let by_activator = Some("changes nothing of a pod but that it");
    let only_cpu = Some("nothing of a container's resources but its CPU");
    let attempts = [
        (&operator, size(&down), Some("after it has noted their CPU")),
        (&operator, pod(&false_mark), Some("what CPU the pod's function has")),
        (&operator, pod(&odd), Some("on the rung Throttled or Parked")),
        (&activator, pod(&true_mark), by_activator),
        (&operator, pod(&true_mark), None),
        (&operator, pod(unnote), Some("what CPU the pod's function has")),
        (&operator, size(&more), Some("gets the CPU that")),
        (&operator, size(memory), only_cpu),
        (&operator, size(other), Some("no container but the function's")),
        (&activator, size(&down), Some("gets the CPU that")),
        (&operator, size(&down), None),
        (&activator, size(&more), Some("gets the CPU that")),
        (&activator, size(&full), None),
        (&activator, pod(unmark), None),
        (&operator, size(&more), Some("gets the CPU that")),
        (&activator, pod(boost), by_activator),
        (&operator, pod(boost), None),
        (&activator, size(&more), Some("gets the CPU that")),
        (&operator, size(&resize("20m", "3")), Some("gets the CPU that")),
        (&operator, size(&resize("30m", "2")), Some("gets the CPU that")),
        (&operator, size(&more), None),
        (&operator, size(&full), None),
        (&operator, size(&requests("1m", "2Mi")), only_cpu),
        (&operator, pod(&note("30m/16Mi")), Some("what the pod's function requests")),
        (&activator, pod(&note("20m/16Mi")), by_activator),
        (&operator, pod(&note("20m/16Mi")), None),
        (&activator, size(&requests("1m", "2Mi")), only_cpu),
        (&operator, size(&requests("1m", "1Mi")), only_cpu),
        (&operator, size(&requests("1m", "2Mi")), None),
        (&operator, size(memory), only_cpu),
        (&activator, size(&requests("20m", "17Mi")), only_cpu),
        (&activator, size(&requests("20m", "16Mi")), None),
        (&activator, pod(unmark), None),
        (&operator, size(&requests("1m", "2Mi")), only_cpu),
    ];
    for (account, arguments, refusal) in &attempts {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        attempt(&stage, account, &arguments, *refusal).await?;
    }
    stage.strike().await
}

/// The image of the function's container, as a patch of a pod.
fn swap(image: &str) -> String {
    json!({"spec": {"containers": [{"name": "function", "image": image}]}}).to_string()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn of_a_pod_s_image_the_components_choose_between_the_function_s_and_the_placeholder_s() -> Result<()> {
    let stage = Stage::set("admission-swap").await?;
    // It wants the rung, so that nobody else takes the mark away, and long after the test.
    let steps = json!([{"afterSeconds": 3000, "rung": "Parked"}]);
    stage.functions.create("hello", json!({"scaling": {"idleSeconds": 3600, "idle": {"steps": steps}}})).await?;
    stage.ready("hello").await?;
    let pods = stage.functions.pods("hello").await?;
    let pod = pods.into_iter().next().context("no pod")?;
    let ours = pod.metadata.name.clone().context("a pod without a name")?;
    let plan = park::plan(&pod).map_err(|why| anyhow!(why))?;
    let (operator, activator) = (account(&stage, OPERATORS).await?, account(&stage, ACTIVATORS).await?);

    let pilot = plan.image.replace(":w1@", "@");
    let fresh = |reference: &str| reference.replace('@', ":w2@");
    let zeros = format!("@sha256:{}", "0".repeat(64));
    let unknown = |reference: &str| format!("{}{zeros}", reference.split_once('@').map_or("", |(name, _)| name));
    let mark = |image: &str| {
        json!({"metadata": {"labels": {"pilotlight.dev/rung": "Parked"}, "annotations": {"pilotlight.dev/image": image}}}).to_string()
    };
    let unnote = r#"{"metadata":{"annotations":{"pilotlight.dev/image":null}}}"#.to_owned();
    let back = json!({
        "metadata": {"labels": {"pilotlight.dev/rung": null}},
        "spec": {"containers": [{"name": "function", "image": fresh(&plan.function)}]},
    });
    let back = back.to_string();
    let beacon = json!({"spec": {"containers": [{"name": "beacon", "image": plan.image}]}}).to_string();
    let both = json!({"spec": {"containers": [{"name": "function", "image": plan.image}], "activeDeadlineSeconds": 1}})
        .to_string();
    let swaps = Some("swaps the image of a pod's function for");
    let notes = Some("notes in pilotlight.dev/image what kubelet says");
    let attempts = [
        (&operator, swap(&plan.image), swaps),
        (&activator, mark(&plan.function), Some("changes nothing of a pod but that it")),
        (&operator, mark(&pilot), notes),
        (&operator, mark(&unknown(&plan.function)), notes),
        (&operator, mark(&plan.function), None),
        (&operator, unnote, Some("changes no annotation of a pod but")),
        (&operator, mark(&pilot), Some("changes no annotation of a pod but")),
        (&activator, swap(&plan.image), swaps),
        (&operator, swap(&fresh(&unknown(&pilot))), swaps),
        (&operator, swap("example.com/evil"), swaps),
        (
            &operator,
            swap(&format!("example.com/evil:w1@{}", plan.image.split_once('@').map_or("", |(_, digest)| digest))),
            swaps,
        ),
        (&operator, swap(&plan.image.replace(":w1@", ":latest@")), swaps),
        (&operator, swap(&pilot), swaps),
        (&operator, beacon, Some("changes nothing of a pod but its deletion cost and its rung")),
        (&operator, both, Some("changes nothing of a pod but its deletion cost and its rung")),
        (&operator, swap(&plan.image), None),
        (&activator, swap(&plan.image.replace(":w1@", ":w3@")), swaps),
        (&activator, swap(&fresh(&unknown(&plan.function))), swaps),
        (&activator, swap(&fresh(&plan.function)), Some("changes nothing of a pod but that it")),
        (&activator, back, None),
    ];
    for (account, patch, refusal) in &attempts {
        attempt(&stage, account, &["patch", "pod", &ours, "-p", patch], *refusal).await?;
    }
    stage.strike().await
}

/// Makes an attempt as `account`. Allowed ones are made for real as well: a policy that refuses everything would be as wrong.
pub(crate) async fn attempt(stage: &Stage, account: &str, arguments: &[&str], refusal: Option<&str>) -> Result<()> {
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
