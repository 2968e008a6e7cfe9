//! Promise: a Function may keep idle pods that use next to no CPU; the first request is answered at once, and gives the CPU back.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use pilotlight_crds::names::{ANNOTATION_CPU, LABEL_RUNG};
use pilotlight_crds::status::Rung;
use pilotlight_crds::throttle::{Cpu, LIMIT};
use pilotlight_crds::{Function, condition};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::reach::ACTIVATORS;
use pilotlight_e2e::rung::cpu_limit;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

use crate::metrics::{scrape, sum};

const REQUEST: &str = "20m";
const FULL: &str = "500m";

/// Throttled after six seconds, longer than kubelet takes to tell of a resize, and never at zero while the test runs.
fn spec(resources: &Value) -> Value {
    let steps = json!([{"afterSeconds": 6, "rung": "Throttled"}]);
    json!({"resources": resources, "scaling": {"idleSeconds": 3600, "idle": {"steps": steps}}})
}

fn burstable() -> Value {
    json!({"limits": {"cpu": FULL}, "requests": {"cpu": REQUEST}})
}

/// The Function's only pod, once it is as it should be.
pub(crate) async fn pod(stage: &Stage, what: &str, done: impl Fn(&Pod) -> bool) -> Result<Pod> {
    let pods = || stage.functions.pods("hello");
    let found = until(what, PATIENCE, pods, |pods| pods.len() == 1 && pods.iter().all(&done)).await?;
    found.into_iter().next().context("no pod")
}

async fn throttled(stage: &Stage) -> Result<Pod> {
    pod(stage, "a throttled pod", |pod| cpu_limit(pod) == Some(LIMIT) && pod.labels().get(LABEL_RUNG).is_some()).await
}

async fn rung(stage: &Stage, wanted: Rung) -> Result<Function> {
    let function = || stage.functions.get("hello");
    let is = |function: &Function| function.status.as_ref().is_some_and(|status| status.rung == Some(wanted));
    until(&format!("the rung {wanted:?}"), PATIENCE, function, is).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_idle_pod_loses_its_cpu_and_gets_it_back_with_the_first_request() -> Result<()> {
    let stage = Stage::with_hello("throttled", spec(&burstable())).await?;
    let before = throttled(&stage).await?;
    let function = rung(&stage, Rung::Throttled).await?;
    let active = pilotlight_e2e::stage::condition(&function, condition::ACTIVE).context("no condition")?;
    assert_eq!((active.status.as_str(), active.reason.as_str()), ("True", "Throttled"));
    let table = stage.kubectl_ok(&["get", "functions", "hello"]).await?;
    ensure!(table.contains("Throttled"), "{table}");
    let told = || stage.events("Function", "hello");
    let is_told = |events: &Vec<_>| events.iter().any(|event: &Event| event.reason.as_deref() == Some("Throttled"));
    until("the event Throttled", PATIENCE, told, is_told).await?;

    for _ in 0..3 {
        let answer = stage.ok("hello", "/").await?;
        ensure!(answer.header("pilotlight-cold-start").is_empty(), "no pod had to start");
        let after = pod(&stage, "its CPU to be back", |pod| cpu_limit(pod) == Some(FULL)).await?;
        assert_eq!(after.uid(), before.uid(), "the same pod");
        let cpu = Cpu::of(&after).context("no CPU")?;
        assert_eq!((cpu.request.as_str(), cpu.limit.as_str()), (REQUEST, FULL));
        let restarts = after.status.iter().flat_map(|s| s.container_statuses.iter().flatten()).map(|s| s.restart_count);
        assert_eq!(restarts.sum::<i32>(), 0, "nothing was restarted");
        throttled(&stage).await?;
    }
    let restores = sum(&scrape(&stage, ACTIVATORS).await?, "pilotlight_activator_restores_total", &[&stage.namespace]);
    ensure!(restores >= 3.0, "an activator counts {restores}");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_guaranteed_pod_stays_so_and_who_wants_it_no_more_gets_the_cpu_back() -> Result<()> {
    let all = json!({"cpu": FULL, "memory": "64Mi"});
    let stage = Stage::with_hello("throttled-guaranteed", spec(&json!({"limits": all, "requests": all}))).await?;
    let low = throttled(&stage).await?;
    let class = |pod: &Pod| pod.status.as_ref().and_then(|status| status.qos_class.clone());
    assert_eq!(class(&low).as_deref(), Some("Guaranteed"));
    stage.functions.patch("hello", json!({"scaling": {"idle": null}})).await?;
    let high = pod(&stage, "its CPU to be back", |pod| cpu_limit(pod) == Some(FULL)).await?;
    assert_eq!((class(&high).as_deref(), high.uid()), (Some("Guaranteed"), low.uid()));
    pod(&stage, "no rung", |pod| pod.labels().get(LABEL_RUNG).is_none()).await?;
    rung(&stage, Rung::Active).await?;
    stage.strike().await
}

/// What a crash between the two writes of the way down or up leaves: a mark without the deed, and the deed without a mark.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn half_a_move_heals() -> Result<()> {
    let stage = Stage::with_hello("throttled-half", spec(&burstable())).await?;
    let low = throttled(&stage).await?;
    let pods = stage.api::<Pod>();
    // Somebody took the mark away and died before the CPU was back.
    let unmarked = Patch::Merge(json!({"metadata": {"labels": {LABEL_RUNG: null}}}));
    pods.patch(&low.name_any(), &PatchParams::default(), &unmarked).await?;
    stage.ok("hello", "/").await?;
    let high = pod(&stage, "its CPU to be back", |pod| cpu_limit(pod) == Some(FULL)).await?;
    assert_eq!(high.uid(), low.uid());
    // The other way round: the mark is there, the CPU was not taken yet. The next look finishes what was begun.
    let noted = format!("{REQUEST}/{FULL}");
    let marked = json!({"metadata": {"labels": {LABEL_RUNG: "Throttled"}, "annotations": {ANNOTATION_CPU: noted}}});
    pods.patch(&low.name_any(), &PatchParams::default(), &Patch::Merge(marked)).await?;
    throttled(&stage).await?;
    stage.ok("hello", "/").await?;
    pod(&stage, "its CPU to be back", |pod| cpu_limit(pod) == Some(FULL) && !pod.labels().contains_key(LABEL_RUNG))
        .await?;
    stage.strike().await
}
