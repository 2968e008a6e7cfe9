//! Promise: a Function may keep idle pods in which nothing but a placeholder runs; the first request brings the function back in the same pod, or,
//! where that cannot be, in another, and never hears from a placeholder.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use pilotlight_crds::names::LABEL_RUNG;
use pilotlight_crds::status::Rung;
use pilotlight_crds::{Function, condition, park};
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::reach::ACTIVATORS;
use pilotlight_e2e::rung::is_parked;
use pilotlight_e2e::stage::{self, Stage};
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

use crate::metrics::{scrape, sum};
use crate::throttle::pod;

/// Parked after two seconds, and never at zero while the test runs.
pub(crate) fn spec(changes: Value) -> Value {
    let mut spec =
        json!({"scaling": {"idleSeconds": 3600, "idle": {"steps": [{"afterSeconds": 2, "rung": "Parked"}]}}});
    for (key, value) in changes.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    spec
}

fn status_of(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == "function")
}

pub(crate) async fn parked(stage: &Stage) -> Result<Pod> {
    pod(stage, "a parked pod", is_parked).await
}

async fn rung(stage: &Stage, wanted: Rung) -> Result<Function> {
    let function = || stage.functions.get("hello");
    let is = |function: &Function| function.status.as_ref().is_some_and(|status| status.rung == Some(wanted));
    until(&format!("the rung {wanted:?}"), PATIENCE, function, is).await
}

/// The function was there since, in the same pod; it may be parked again by now.
pub(crate) async fn woken(stage: &Stage, before: &Pod) -> Result<()> {
    let now = pod(stage, "one pod", |_| true).await?;
    assert_eq!(now.uid(), before.uid(), "the same pod");
    ensure!(park::turn(&now) > park::turn(before), "its function did not come back");
    Ok(())
}

pub(crate) fn restarts(pod: &Pod) -> i32 {
    status_of(pod).map_or(0, |status| status.restart_count)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_idle_pod_is_parked_and_the_next_request_is_answered_by_its_function() -> Result<()> {
    let probes = json!({
        "readinessProbe": {"httpGet": {"path": "/", "port": "http1"}, "periodSeconds": 1},
        "livenessProbe": {"tcpSocket": {"port": "http1"}, "periodSeconds": 1, "failureThreshold": 1},
    });
    let stage = Stage::with_hello("parked", spec(probes)).await?;
    let before = parked(&stage).await?;
    ensure!(before.labels().get(LABEL_RUNG).map(String::as_str) == Some("Parked"), "the pod says so");
    let function = rung(&stage, Rung::Parked).await?;
    let active = stage::condition(&function, condition::ACTIVE).context("no condition")?;
    assert_eq!((active.status.as_str(), active.reason.as_str()), ("False", condition::PARKED));
    let ready = stage::condition(&function, condition::READY).context("no condition")?;
    assert_eq!(ready.status, "True");
    let table = stage.kubectl_ok(&["get", "functions", "hello"]).await?;
    ensure!(table.contains("Parked"), "{table}");
    let told = || stage.events("Function", "hello");
    let is_told = |events: &Vec<_>| events.iter().any(|event: &Event| event.reason.as_deref() == Some("Parked"));
    until("the event Parked", PATIENCE, told, is_told).await?;

    let answer = stage.ok("hello", "/").await?;
    assert_eq!(answer.header("pilotlight-cold-start"), "true");
    ensure!(answer.header("pilotlight-placeholder").is_empty(), "the function answers");
    woken(&stage, &before).await?;
    let after = parked(&stage).await?;
    // Each swap is a restart for Kubernetes, and nothing else was one: the placeholder answers every probe.
    assert_eq!((after.uid(), restarts(&after)), (before.uid(), restarts(&before) + 2));
    stage.strike().await
}

/// `PILOTLIGHT_E2E_ROUNDS`, for a soak, or `few`, which is enough to see that it works.
pub(crate) fn rounds(few: u64) -> u64 {
    std::env::var("PILOTLIGHT_E2E_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(few)
}

/// Five times over are enough: kubelet would make the fourth restart of the same container wait for 40 s.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_pod_is_parked_and_woken_again_and_again_without_ever_being_held_back() -> Result<()> {
    let stage = Stage::with_hello("parked-again", spec(json!({}))).await?;
    let first = parked(&stage).await?;
    let rounds = rounds(5);
    for round in 1..=rounds {
        let before = parked(&stage).await?;
        // Each swap is a restart, and there is no other.
        assert_eq!((park::turn(&before), restarts(&before)), (2 * round - 1, i32::try_from(2 * round - 1)?));
        stage.ok("hello", "/").await?;
        woken(&stage, &first).await?;
    }
    let backed_off = stage.events("Pod", &first.name_any()).await?;
    let backed_off: Vec<_> = backed_off.iter().filter(|event| event.reason.as_deref() == Some("BackOff")).collect();
    ensure!(backed_off.is_empty(), "{backed_off:?}");
    let woken = sum(&scrape(&stage, ACTIVATORS).await?, "pilotlight_activator_unparks_total", &[&stage.namespace]);
    ensure!(woken >= rounds as f64, "the activators count {woken}");
    stage.strike().await
}

/// Where the way back is refused, by whatever policy, the request gets another pod.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn where_the_function_cannot_come_back_another_pod_answers() -> Result<()> {
    let stage = Stage::with_hello("parked-lost", spec(json!({}))).await?;
    let lost = parked(&stage).await?;
    let policy = Refusing::of(&stage).await?;
    let answer = stage.ok("hello", "/").await?;
    ensure!(answer.header("pilotlight-placeholder").is_empty(), "a function answers");
    let another = |pods: &Vec<Pod>| pods.iter().any(|pod| pod.uid() != lost.uid() && park::function_runs(pod));
    until("another pod's function", PATIENCE, || stage.functions.pods("hello"), another).await?;
    policy.lift().await?;
    // What is left over of the old one goes as load allows.
    let gone = || stage.functions.pods("hello");
    until("one pod", PATIENCE, gone, |pods| pods.len() == 1).await?;
    stage.ok("hello", "/").await?;
    stage.strike().await
}

/// A policy of the cluster's owner that lets nobody change the image of a pod in one namespace.
struct Refusing {
    name: String,
    policies: Api<ValidatingAdmissionPolicy>,
    bindings: Api<ValidatingAdmissionPolicyBinding>,
}

impl Refusing {
    async fn of(stage: &Stage) -> Result<Self> {
        let name = format!("{}-no-swaps", stage.namespace);
        let client = stage.reach.client.clone();
        let refusing = Self { name: name.clone(), policies: Api::all(client.clone()), bindings: Api::all(client) };
        let policy = json!({
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}},
                    "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}],
                },
                "validations": [{
                    "expression": "object.spec.containers.all(c, oldObject.spec.containers.exists(o, o.image == c.image))",
                    "message": "no swaps here",
                }],
            },
        });
        refusing.policies.create(&PostParams::default(), &serde_json::from_value(policy)?).await?;
        let binding = json!({
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        });
        refusing.bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
        refusing.in_force(stage).await?;
        Ok(refusing)
    }

    /// Policies take a moment.
    async fn in_force(&self, stage: &Stage) -> Result<()> {
        let pods = stage.api::<Pod>();
        let name = pod(stage, "the pod", |_| true).await?.name_any();
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        let swap = json!({"spec": {"containers": [{"name": "function", "image": "example.com/other:1"}]}});
        let attempt = || async { Ok(pods.patch(&name, &dry, &Patch::Strategic(&swap)).await.is_err()) };
        until("the policy in force", PATIENCE, attempt, |refused| *refused).await?;
        Ok(())
    }

    async fn lift(self) -> Result<()> {
        self.bindings.delete(&self.name, &DeleteParams::default()).await?;
        self.policies.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_function_whose_shape_no_placeholder_can_take_goes_to_zero_and_says_why() -> Result<()> {
    let stage = Stage::set("parked-shape").await?;
    stage.functions.create("hello", spec(json!({"command": ["/hello-go"]}))).await?;
    let function = stage.functions.condition("hello", condition::RUNG_UNAVAILABLE, "True").await?;
    let said = stage::condition(&function, condition::RUNG_UNAVAILABLE).context("no condition")?;
    assert_eq!(said.reason, condition::SHAPE_UNFIT);
    ensure!(said.message.contains("spec.command") && said.message.contains("Zero"), "{}", said.message);
    stage.functions.at_zero("hello").await?;
    stage.strike().await
}

/// Author's arguments, volumes and security settings stay on the container, and the placeholder lives with them; so do those who want the rung no
/// more, whose pods come back without a request.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_an_author_sets_stays_and_who_wants_the_rung_no_more_gets_the_function_back() -> Result<()> {
    let authored = json!({
        "args": ["beacon", "--colour=blue"],
        "env": [{"name": "PILOTLIGHT_PROBE_PORTS", "value": "1"}, {"name": "COLOUR", "value": "blue"}],
        "securityContext": {"runAsUser": 12345, "readOnlyRootFilesystem": true},
        "volumes": [{"name": "scratch", "emptyDir": {}}],
        "volumeMounts": [{"name": "scratch", "mountPath": "/data/scratch"}],
        "resources": {"limits": {"cpu": "200m", "memory": "64Mi"}, "requests": {"cpu": "200m", "memory": "64Mi"}},
    });
    let stage = Stage::with_hello("parked-authored", spec(authored)).await?;
    let low = parked(&stage).await?;
    let class = |pod: &Pod| pod.status.as_ref().and_then(|status| status.qos_class.clone());
    assert_eq!(class(&low).as_deref(), Some("Guaranteed"));
    stage.ok("hello", "/").await?;
    let low = parked(&stage).await?;
    stage.functions.patch("hello", json!({"scaling": {"idle": null}})).await?;
    let high =
        pod(&stage, "the function to run", |pod| park::function_runs(pod) && !pod.labels().contains_key(LABEL_RUNG))
            .await?;
    assert_eq!((class(&high).as_deref(), high.uid()), (Some("Guaranteed"), low.uid()));
    rung(&stage, Rung::Active).await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_function_of_grpc_is_parked_and_woken_by_its_own_probes() -> Result<()> {
    let grpc = json!({"image": image("grpc"), "protocol": "H2C", "readinessProbe": {"grpc": {"port": 8080}, "periodSeconds": 1}});
    let stage = Stage::with_hello("parked-grpc", spec(grpc)).await?;
    let low = parked(&stage).await?;
    stage.get("hello", "/").await?;
    woken(&stage, &low).await?;
    stage.strike().await
}

/// What a crash between the two writes of the way down or up leaves: a mark without the swap, and the swap without a mark.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn half_a_parking_heals() -> Result<()> {
    let stage = Stage::with_hello("parked-half", spec(json!({}))).await?;
    let low = parked(&stage).await?;
    let pods = stage.api::<Pod>();
    let unmarked = Patch::Merge(json!({"metadata": {"labels": {LABEL_RUNG: null}}}));
    pods.patch(&low.name_any(), &PatchParams::default(), &unmarked).await?;
    stage.ok("hello", "/").await?;
    woken(&stage, &low).await?;
    // The other way round: the mark is there, the image was not swapped yet. The next look finishes what was begun.
    let marked = json!({"metadata": {"labels": {LABEL_RUNG: "Parked"}}});
    pods.patch(&low.name_any(), &PatchParams::default(), &Patch::Merge(marked)).await?;
    let again = parked(&stage).await?;
    assert_eq!(again.uid(), low.uid());
    stage.ok("hello", "/").await?;
    stage.strike().await
}
