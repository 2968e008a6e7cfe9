//! The step to Parked against activators in every mood, and what each crash in the middle of it leaves behind.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pilotlight_crds::FunctionSpec;
use pilotlight_crds::control::{DrainOutcome, DrainPurpose, DrainScope};
use pilotlight_crds::park::{self, Parking, Requests};
use pilotlight_scaling::idle::IdleReason;
use pilotlight_scaling::{Cause, Rung};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use super::fakes::{FakeActivator, FakeCluster, Mood, TOKEN};
use super::moving::{move_of_hello, step_to};
use crate::autoscaler::cluster::ClusterError;
use crate::autoscaler::control::ControlClient;
use crate::autoscaler::drain::TTL;
use crate::autoscaler::parking::unfit;
use crate::autoscaler::situation::{StepKind, available};
use crate::autoscaler::stepdown::{StepOutcome, Steps};

const FUNCTION: &str = "hello@sha256:aa";
const PILOT: &str = "pilot@sha256:bb";

fn pod(name: &str, ready: bool) -> Pod {
    let status = |name: &str, image: &str| json!({"name": name, "image": "", "imageID": image, "ready": true, "restartCount": 0, "state": {"running": {}}});
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1",
            "labels": {"pilotlight.dev/revision": "hello-1"}},
        "spec": {"containers": [{"name": "function", "image": "hello:v1"}, {"name": "beacon", "image": "pilot:v1"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            "containerStatuses": [status("function", FUNCTION), status("beacon", PILOT)],
        },
    }))
    .unwrap()
}

async fn park(cluster: &FakeCluster) -> StepOutcome {
    let (control, shutdown) = (ControlClient::new(TOKEN), CancellationToken::new());
    Steps { cluster, control: &control, known: &[], shutdown: &shutdown, ttl: TTL }.park(&move_of_hello()).await
}

async fn unpark(cluster: &FakeCluster) -> StepOutcome {
    let (control, shutdown) = (ControlClient::new(TOKEN), CancellationToken::new());
    Steps { cluster, control: &control, known: &[], shutdown: &shutdown, ttl: TTL }.unpark(&move_of_hello()).await
}

fn images(cluster: &FakeCluster) -> Vec<(String, bool)> {
    cluster.with(|model| {
        let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        model.whole.iter().map(|pod| (image(pod), park::is_marked(pod))).collect()
    })
}

fn as_it_was() -> Vec<(String, bool)> {
    vec![("hello:v1".to_owned(), false)]
}

#[tokio::test]
async fn when_all_agree_a_placeholder_takes_the_place_of_each_ready_pod_s_function() {
    let (a, b) = (FakeActivator::start(Mood::Drained).await, FakeActivator::start(Mood::Drained).await);
    let cluster = FakeCluster::of_pods(&[&a, &b], vec![pod("a", true), pod("starting", false)]);
    let outcome = park(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Moved { pods: 1 }), "{outcome:?}");
    assert_eq!(images(&cluster), [("pilot:w1@sha256:bb".to_owned(), true), ("hello:v1".to_owned(), false)]);
    for activator in [&a, &b] {
        let drain = &activator.drains()[0];
        let scope = DrainScope::Pods { uids: vec!["uid-a".to_owned()] };
        assert_eq!((&drain.scope, drain.purpose), (&scope, DrainPurpose::Park));
        assert_eq!(activator.outcomes(), [DrainOutcome::Committed]);
    }
    let again = park(&cluster).await;
    assert!(matches!(again, StepOutcome::Moved { pods: 0 }), "{again:?}");
}

#[tokio::test]
async fn a_busy_activator_keeps_the_pods_as_they_are() {
    let (a, b) = (FakeActivator::start(Mood::Drained).await, FakeActivator::start(Mood::Busy).await);
    let cluster = FakeCluster::of_pods(&[&a, &b], vec![pod("a", true)]);
    let outcome = park(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Busy { .. }), "{outcome:?}");
    assert_eq!(images(&cluster), as_it_was());
    assert_eq!(a.outcomes(), [DrainOutcome::Aborted]);
}

#[tokio::test]
async fn a_pod_that_was_written_since_it_was_marked_keeps_its_function_and_is_used_again() {
    let a = FakeActivator::start(Mood::Drained).await;
    let cluster = FakeCluster::of_pods(&[&a], vec![pod("a", true)]);
    // What a fence does while the swap is on its way.
    cluster.with(|model| {
        model.on_swap.push(Box::new(|model| {
            model.whole[0].metadata.resource_version = Some("9".to_owned());
            None
        }));
    });
    let outcome = park(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Moved { pods: 0 }), "{outcome:?}");
    assert_eq!(images(&cluster), as_it_was());
    assert_eq!(a.outcomes(), [DrainOutcome::Aborted]);
}

#[tokio::test]
async fn what_the_api_server_refuses_is_undone_and_said() {
    let a = FakeActivator::start(Mood::Drained).await;
    let cluster = FakeCluster::of_pods(&[&a], vec![pod("a", true)]);
    let refuse = |_: &mut _| Some(ClusterError::Refused { code: 422, message: "no".to_owned() });
    cluster.with(|model| model.on_swap.push(Box::new(refuse)));
    let outcome = park(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Failed(ClusterError::Refused { code: 422, .. })), "{outcome:?}");
    assert_eq!(images(&cluster), as_it_was());
    assert_eq!(a.outcomes(), [DrainOutcome::Aborted]);
}

#[tokio::test]
async fn where_nobody_knows_whether_it_happened_the_mark_stays_and_nothing_is_released() {
    let a = FakeActivator::start(Mood::Drained).await;
    let cluster = FakeCluster::of_pods(&[&a], vec![pod("a", true)]);
    let lost = |_: &mut _| Some(ClusterError::Uncertain("the connection broke".to_owned()));
    cluster.with(|model| model.on_swap.push(Box::new(lost)));
    let outcome = park(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Failed(ClusterError::Uncertain(_))), "{outcome:?}");
    assert!(cluster.with(|model| Parking::of(&model.whole[0]).is_some()), "whoever comes next takes it away");
    assert!(a.outcomes().is_empty());
    // The next step does not take the mark for the deed.
    let outcome = park(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Moved { pods: 1 }), "{outcome:?}");
}

#[tokio::test]
async fn pods_get_their_function_back_once_nothing_is_left_of_the_old_process() {
    let a = FakeActivator::start(Mood::Drained).await;
    let cluster = FakeCluster::of_pods(&[&a], vec![pod("a", true)]);
    park(&cluster).await;
    let early = unpark(&cluster).await;
    assert!(matches!(early, StepOutcome::Moved { pods: 0 }), "the function has not ended yet: {early:?}");
    cluster.with(|model| {
        let status = model.whole[0].status.as_mut().unwrap();
        status.container_statuses.as_mut().unwrap()[0].image_id = PILOT.to_owned();
    });
    let outcome = unpark(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Moved { pods: 1 }), "{outcome:?}");
    assert_eq!(images(&cluster), [("hello:w2@sha256:aa".to_owned(), false)]);
}

#[tokio::test]
async fn a_pod_that_cannot_be_parked_says_why_and_nobody_is_asked() {
    let a = FakeActivator::start(Mood::Drained).await;
    let mut odd = pod("a", true);
    odd.spec.as_mut().unwrap().containers[0].command = Some(vec!["/app".to_owned()]);
    let cluster = FakeCluster::of_pods(&[&a], vec![odd]);
    let outcome = park(&cluster).await;
    let StepOutcome::Failed(ClusterError::Refused { message, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("spec.command"), "{message}");
    assert!(a.drains().is_empty());
}

/// What is done about these pods.
fn done(rung: Rung, wanted: bool, past: bool, pods: &[Pod]) -> Option<StepKind> {
    done_because(Cause::NotIdleYet { silent_seconds: 9, needed_seconds: 60 }, rung, wanted, past, pods)
}

fn done_because(cause: Cause, rung: Rung, wanted: bool, past: bool, pods: &[Pod]) -> Option<StepKind> {
    let pods: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
    step_to(rung, cause, wanted, past, &pods)
}

pub(super) fn parked(name: &str) -> Pod {
    let mut parked = pod(name, true);
    parked.labels_mut().insert("pilotlight.dev/rung".to_owned(), "Parked".to_owned());
    parked.annotations_mut().insert("pilotlight.dev/image".to_owned(), FUNCTION.to_owned());
    parked.spec.as_mut().unwrap().containers[0].image = Some("pilot:w1@sha256:bb".to_owned());
    parked.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].image_id = PILOT.to_owned();
    parked
}

#[test]
fn functions_are_given_back_by_the_autoscaler_only_where_no_activator_would() {
    let unpark = Some(StepKind::Unpark);
    assert_eq!(done(Rung::Parked, true, false, &[pod("a", true)]), Some(StepKind::Park));
    assert_eq!(done(Rung::Parked, true, false, &[parked("a")]), None, "it is parked");
    assert_eq!(done(Rung::Active, true, false, &[parked("a")]), None, "samples may be missing; an activator does it");
    assert_eq!(done(Rung::Active, true, false, &[parked("a"), pod("b", true)]), unpark, "requests are at another");
    assert_eq!(done(Rung::Active, true, true, &[parked("a")]), unpark, "requests reach it past the activators");
    assert_eq!(done(Rung::Active, false, false, &[parked("a")]), unpark, "its author does not want it any more");
    assert_eq!(done(Rung::Throttled, true, false, &[parked("a")]), None, "it is further down already");
    let expected = || Cause::Ladder(IdleReason::Prewarm { idle_millis: 9_000, stay_millis: 900, percent: 80, gaps: 9 });
    assert_eq!(done_because(expected(), Rung::Active, true, false, &[parked("a")]), unpark, "ahead of a request");
    let mut ending = parked("a");
    ending.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].image_id = FUNCTION.to_owned();
    assert_eq!(done_because(expected(), Rung::Active, true, false, &[ending]), None, "its function has not ended yet");
}

/// Parked or not, with what its function requests and what was noted of that.
pub(super) fn requesting(mut pod: Pod, cpu: &str, memory: &str) -> Pod {
    pod.annotations_mut().insert("pilotlight.dev/image".to_owned(), FUNCTION.to_owned());
    pod.annotations_mut().insert("pilotlight.dev/requests".to_owned(), "50m/64Mi".to_owned());
    let resources = json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": "1", "memory": "1Gi"}});
    pod.spec.as_mut().unwrap().containers[0].resources = serde_json::from_value(resources).unwrap();
    pod
}

#[test]
fn a_throttled_pod_has_its_cpu_again_before_it_is_parked() {
    let whole = requesting(pod("a", true), "50m", "64Mi");
    let mut throttled = whole.clone();
    throttled.labels_mut().insert("pilotlight.dev/rung".to_owned(), "Throttled".to_owned());
    throttled.annotations_mut().insert("pilotlight.dev/cpu".to_owned(), "50m/1".to_owned());
    assert_eq!(done(Rung::Parked, true, false, &[throttled]), Some(StepKind::Restore));
    let kubelet_tells = |limit: &str| {
        let mut pod = whole.clone();
        let resources = json!({"limits": {"cpu": limit}});
        pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].resources =
            serde_json::from_value(resources).unwrap();
        done(Rung::Parked, true, false, &[pod])
    };
    assert_eq!(kubelet_tells("10m"), None, "it is on its way back");
    assert_eq!(kubelet_tells("1"), Some(StepKind::Park));
}

fn requests(cluster: &FakeCluster) -> Vec<String> {
    cluster.with(|model| model.whole.iter().map(|pod| Requests::of(pod).unwrap().record()).collect())
}

#[test]
fn parked_pods_reserve_less_and_whoever_was_left_with_it_gets_it_back() {
    let low = || requesting(parked("a"), "1m", "2Mi");
    assert_eq!(done(Rung::Parked, true, false, &[requesting(parked("a"), "50m", "64Mi")]), Some(StepKind::Shrink));
    assert_eq!(done(Rung::Parked, true, false, &[low()]), None);
    let left = || requesting(pod("a", true), "1m", "2Mi");
    for rung in [Rung::Active, Rung::Throttled] {
        assert_eq!(done(rung, true, false, &[left()]), Some(StepKind::Regrow), "whoever woke it died");
    }
    assert_eq!(done(Rung::Parked, true, false, &[left()]), Some(StepKind::Park), "it is parked again as it is");
    assert_eq!(done(Rung::Active, true, false, &[requesting(pod("a", true), "50m", "64Mi")]), None);
}

#[tokio::test]
async fn requests_shrink_only_in_the_pod_that_was_seen_and_come_back_with_the_function() {
    let cluster = FakeCluster::of_pods(&[], vec![requesting(parked("a"), "50m", "64Mi")]);
    let (control, shutdown) = (ControlClient::new(TOKEN), CancellationToken::new());
    let steps = Steps { cluster: &cluster, control: &control, known: &[], shutdown: &shutdown, ttl: TTL };
    // Somebody wakes it in between.
    let woken = |_: &mut _| ClusterError::Conflict;
    cluster.with(|model| model.on_resize.push(Box::new(woken)));
    let outcome = steps.resize_requests(&move_of_hello(), park::to_shrink).await;
    assert!(matches!(outcome, StepOutcome::Moved { pods: 0 }), "{outcome:?}");
    let outcome = steps.resize_requests(&move_of_hello(), park::to_shrink).await;
    assert!(matches!(outcome, StepOutcome::Moved { pods: 1 }), "{outcome:?}");
    assert_eq!(requests(&cluster), ["1m/2Mi"]);
    let refuse = |_: &mut _| ClusterError::Refused { code: 403, message: "no".to_owned() };
    cluster.with(|model| model.on_resize.push(Box::new(refuse)));
    let outcome = unpark(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Moved { pods: 1 }), "the function comes first: {outcome:?}");
    assert_eq!(requests(&cluster), ["1m/2Mi"]);
    let outcome = steps.resize_requests(&move_of_hello(), park::to_regrow).await;
    assert!(matches!(outcome, StepOutcome::Moved { pods: 1 }), "{outcome:?}");
    assert_eq!(requests(&cluster), ["50m/64Mi"]);
    let outcome = steps.resize_requests(&move_of_hello(), park::to_regrow).await;
    assert!(matches!(outcome, StepOutcome::Moved { pods: 0 }), "{outcome:?}");
}

#[test]
fn the_adaptive_policy_parks_where_that_frees_something_and_the_cluster_lets_it() {
    let can = |changes: Value, refused: Option<Rung>| {
        let mut spec = json!({"image": "hello:v1", "scaling": {"idle": {"policy": "Adaptive"}}});
        for (key, value) in changes.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let spec = serde_json::from_value(spec).unwrap();
        available(&spec, false, |rung| Some(rung) == refused).contains(Rung::Parked)
    };
    assert!(can(json!({}), None));
    assert!(can(json!({}), Some(Rung::Throttled)));
    assert!(!can(json!({}), Some(Rung::Parked)));
    assert!(!can(json!({"command": ["/app"]}), None));
    for (image, parks) in
        [("hello", false), ("registry:5000/hello", false), ("a/hello:latest", false), ("hello@sha256:aa", true)]
    {
        assert_eq!(can(json!({"image": image}), None), parks, "{image}");
    }
    assert!(can(json!({"image": "hello", "imagePullPolicy": "IfNotPresent"}), None));
    assert!(!can(json!({"imagePullPolicy": "Always"}), None));
    let whole = json!({"cpu": "1", "memory": "64Mi"});
    assert!(!can(json!({"resources": {"limits": whole, "requests": whole}}), None), "it would reserve as much");
    assert!(!can(json!({"resources": {"limits": whole}}), None));
    assert!(!can(json!({"resources": {"limits": whole, "requests": {"cpu": "1"}}}), None));
    assert!(can(json!({"resources": {"limits": whole, "requests": {"memory": "32Mi"}}}), None));
}

#[test]
fn a_shape_that_forbids_the_rung_takes_the_next_best_one() {
    let spec = |changes: Value| {
        let mut spec =
            json!({"image": "hello:v1", "scaling": {"idle": {"steps": [{"afterSeconds": 9, "rung": "Parked"}]}}});
        for (key, value) in changes.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value::<FunctionSpec>(spec).unwrap()
    };
    let fit = spec(json!({}));
    assert_eq!((unfit(&fit), available(&fit, false, |_| false).substitute(Rung::Parked)), (None, Rung::Parked));
    let commanded = spec(json!({"command": ["/app"]}));
    assert!(unfit(&commanded).unwrap().contains("spec.command"));
    assert_eq!(available(&commanded, false, |_| false).substitute(Rung::Parked), Rung::Zero);
    assert!(unfit(&spec(json!({"coldStart": {"beacon": "Disabled"}}))).unwrap().contains("coldStart.beacon"));
    let health = json!({"livenessProbe": {"httpGet": {"port": 9000, "path": "/health"}}});
    assert_eq!(unfit(&spec(health)), None, "its pods tell the placeholder of the port");
}
