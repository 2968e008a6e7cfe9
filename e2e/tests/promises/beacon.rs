//! Promise: a starting pod announces its address, so that a wake does not wait for Kubernetes to report it; nobody else's word about a pod
//! changes anything, and everything works without.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use pilotlight_crds::condition::BEACON_FAILING;
use pilotlight_e2e::fixture::{PATIENCE, registry};
use pilotlight_e2e::kill::resident_kib;
use pilotlight_e2e::reach::ACTIVATORS;
use pilotlight_e2e::stage::{Stage, condition};
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

use crate::metrics::{scrape, sum};

const BEACON: &str = "beacon";
/// What the pilot promises to be content with.
const MOST_KIB: u64 = 1024;
/// Wakes until one is by beacon: on a crowded node kubelet may happen to look at the very moment at which the pod starts.
const WAKES: usize = 5;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_wake_by_beacon_knows_the_address_before_kubernetes_reports_it() -> Result<()> {
    let stage = Stage::set("beacon").await?;
    stage.functions.create("hello", json!({"scaling": {"idleSeconds": 5}})).await?;
    let mut timings = Vec::new();
    while !timings.iter().any(|timing: &String| timing.contains("beacon;dur=")) {
        ensure!(timings.len() < WAKES, "no wake was by beacon: {timings:#?}");
        stage.functions.at_zero("hello").await?;
        let answer = stage.ok("hello", "/").await?;
        timings.push(answer.header("server-timing").to_owned());
    }
    let believed = sum(&scrape(&stage, ACTIVATORS).await?, "pilotlight_activator_beacons_total", &["\"Believed\""]);
    ensure!(believed >= 1.0, "no activator counted a beacon that it believed");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_function_can_do_without() -> Result<()> {
    let stage = Stage::set("no-beacon").await?;
    let spec = json!({"coldStart": {"beacon": "Disabled"}, "scaling": {"idleSeconds": 5}});
    stage.functions.create("hello", spec).await?;
    stage.functions.at_zero("hello").await?;
    let answer = stage.ok("hello", "/").await?;
    let timing = answer.header("server-timing");
    ensure!(timing.contains("ip-seen") && !timing.contains(BEACON), "{timing}");
    let pod = running(&stage, "hello").await?;
    let containers = pod.spec.map(|spec| spec.containers.len());
    assert_eq!(containers, Some(1));

    // Changing one's mind makes no new revision: it takes effect at the next start from zero.
    stage.functions.patch("hello", json!({"coldStart": {"beacon": "Enabled"}})).await?;
    stage.functions.at_zero("hello").await?;
    let deployment = || stage.functions.deployment("hello");
    until("the beacon in the Deployment", PATIENCE, deployment, |deployment| {
        let template = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        template.is_some_and(|spec| spec.containers.iter().any(|container| container.name == BEACON))
    })
    .await?;
    assert_eq!(stage.functions.deployment("hello").await?.name_any(), "hello-1");
    stage.ok("hello", "/").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_beacon_costs_next_to_nothing_and_is_in_nobody_s_way() -> Result<()> {
    let stage = Stage::with_hello("beacon-cost", json!({"scaling": {"minReplicas": 1}})).await?;
    let pod = running(&stage, "hello").await?;
    let all = stage.kubectl(&["logs", "deployment/hello-1"]).await?;
    ensure!(all.ok && !all.err.contains("Defaulted container"), "logs do not mean the function: {}", all.err);
    if stage.reach.in_network() {
        let kib = resident_kib(&pod, BEACON)?;
        eprintln!("the beacon uses {kib} KiB");
        ensure!(kib <= MOST_KIB, "the beacon uses {kib} KiB");
    }

    let image = "pilotlight.dev/no-such-image:none";
    let broken = json!({"spec": {"containers": [{"name": BEACON, "image": image}]}});
    let patch = Patch::Strategic(broken);
    stage.api::<Pod>().patch(&pod.name_any(), &PatchParams::default(), &patch).await?;
    let failing = stage.functions.condition("hello", BEACON_FAILING, "True").await?;
    let said = condition(&failing, BEACON_FAILING).context("the condition is gone")?;
    ensure!(said.message.contains(image), "{}", said.message);
    // A beacon that does not run takes nothing from the Function.
    stage.functions.ready("hello").await?;
    stage.ok("hello", "/").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn forged_beacons_from_another_pod_change_nothing() -> Result<()> {
    let stage = Stage::with_hello("forged", json!({"scaling": {"minReplicas": 1}})).await?;
    let victim = running(&stage, "hello").await?;
    let address = victim.status.as_ref().and_then(|status| status.pod_ip.clone()).context("no address")?;
    // One that has no node and so never gets an address, but a uid.
    let nowhere = json!({"nodeSelector": {"pilotlight.dev/test": "nowhere"}});
    stage.functions.create("nowhere", nowhere).await?;
    let pods = || stage.functions.pods("nowhere");
    let pending = until("a pod without a node", PATIENCE, pods, |pods| !pods.is_empty()).await?.remove(0);

    let template = victim.spec.as_ref().and_then(|spec| spec.containers.iter().find(|c| c.name == BEACON));
    let activators =
        template.and_then(|c| c.env.as_ref()?.iter().find(|v| v.name == "PILOTLIGHT_ACTIVATORS")?.value.clone());
    let activators = activators.context("the beacon knows no activator")?;
    let own = json!({"valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}});
    let rows = [
        ("own-address", "hello", &victim, own.clone(), "OtherAddress"),
        ("its-address", "hello", &victim, json!({"value": address}), "OtherSource"),
        ("no-node", "nowhere", &pending, own, "NotScheduled"),
    ];
    for (name, function, of, ip, _) in &rows {
        let forger = forger(name, &stage.namespace, function, of, ip, &activators);
        stage.api::<Pod>().create(&PostParams::default(), &forger).await?;
    }
    for (name, _, _, _, reason) in &rows {
        let log = || async { stage.kubectl(&["logs", &format!("pod/{name}")]).await };
        until(&format!("the answer {reason} to {name}"), PATIENCE, log, |log| log.out.contains(reason)).await?;
        let pages = scrape(&stage, ACTIVATORS).await?;
        ensure!(sum(&pages, "pilotlight_activator_beacons_total", &[reason]) >= 1.0, "{reason} was not counted");
    }
    let answer = stage.ok("hello", "/").await?;
    ensure!(answer.text().contains("Hello from Go!"), "another pod answered: {}", answer.text());
    stage.strike().await
}

/// A pod that announces itself in the place of another.
fn forger(name: &str, namespace: &str, function: &str, of: &Pod, ip: &Value, activators: &str) -> Pod {
    let mut address = ip.clone();
    address["name"] = json!("POD_IP");
    let revision = of.labels().get("pilotlight.dev/revision").cloned().unwrap_or_default();
    let forger = json!({
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "forger",
                "image": format!("{}/pilot:dev", registry()),
                "imagePullPolicy": "IfNotPresent",
                "args": ["beacon"],
                "env": [
                    {"name": "POD_NAMESPACE", "value": namespace},
                    {"name": "POD_UID", "value": of.uid().unwrap_or_default()},
                    address,
                    {"name": "PILOTLIGHT_FUNCTION", "value": function},
                    {"name": "PILOTLIGHT_REVISION", "value": revision},
                    {"name": "PILOTLIGHT_ACTIVATORS", "value": activators},
                ],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    serde_json::from_value(forger).expect("a pod")
}

/// The Function's pod, once all of its containers run.
async fn running(stage: &Stage, name: &str) -> Result<Pod> {
    let pods = || stage.functions.pods(name);
    let found = until("a pod that runs", PATIENCE, pods, |pods| {
        pods.iter().any(|pod| {
            let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            let mut states = statuses.map(|s| s.state.as_ref().is_some_and(|state| state.running.is_some())).peekable();
            pod.metadata.deletion_timestamp.is_none() && states.peek().is_some() && states.all(|runs| runs)
        })
    })
    .await?;
    found.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none()).context("the pod went")
}
