//! The step to Throttled against activators in every mood, and what each crash in the middle of it leaves behind.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pilotlight_crds::control::{DrainOutcome, DrainPurpose, DrainScope};
use pilotlight_crds::throttle::{Cpu, is_marked, to_give_back, to_take};
use pilotlight_scaling::{Cause, Rung};
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use super::fakes::{FakeActivator, FakeCluster, Mood, TOKEN};
use super::moving::{move_of_hello, step_to};
use crate::autoscaler::cluster::ClusterError;
use crate::autoscaler::control::ControlClient;
use crate::autoscaler::drain::TTL;
use crate::autoscaler::situation::StepKind;
use crate::autoscaler::stepdown::{StepOutcome, Steps};

fn pod(name: &str, ready: bool, limit: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1",
            "labels": {"pilotlight.dev/revision": "hello-1"}},
        "spec": {"containers": [
            {"name": "function", "resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": limit}}},
            {"name": "beacon"},
        ]},
        "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    }))
    .unwrap()
}

async fn throttle(cluster: &FakeCluster) -> StepOutcome {
    let (control, shutdown) = (ControlClient::new(TOKEN), CancellationToken::new());
    Steps { cluster, control: &control, known: &[], shutdown: &shutdown, ttl: TTL }.throttle(&move_of_hello()).await
}

async fn restore(cluster: &FakeCluster) -> StepOutcome {
    let (control, shutdown) = (ControlClient::new(TOKEN), CancellationToken::new());
    Steps { cluster, control: &control, known: &[], shutdown: &shutdown, ttl: TTL }.restore(&move_of_hello()).await
}

/// Each pod's limit, and whether it is marked.
fn pods(cluster: &FakeCluster) -> Vec<(String, bool)> {
    cluster.with(|model| model.whole.iter().map(|pod| (Cpu::of(pod).unwrap().limit, is_marked(pod))).collect())
}

fn as_it_was() -> Vec<(String, bool)> {
    vec![("500m".to_owned(), false)]
}

#[tokio::test]
async fn when_all_agree_ready_pods_lose_their_cpu_and_all_hear_of_it() {
    let (a, b) = (FakeActivator::start(Mood::Drained).await, FakeActivator::start(Mood::Drained).await);
    let all = vec![pod("a", true, "500m"), pod("starting", false, "500m"), pod("little", true, "10m")];
    let cluster = FakeCluster::of_pods(&[&a, &b], all);
    let outcome = throttle(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Moved { pods: 1 }), "{outcome:?}");
    let expected = [("10m", true), ("500m", false), ("10m", false)];
    assert_eq!(pods(&cluster), expected.map(|(limit, marked)| (limit.to_owned(), marked)));
    for activator in [&a, &b] {
        let drain = &activator.drains()[0];
        assert_eq!(
            (&drain.scope, drain.purpose),
            (&DrainScope::Pods { uids: vec!["uid-a".to_owned()] }, DrainPurpose::Throttle)
        );
        assert_eq!(activator.outcomes(), [DrainOutcome::Committed]);
    }
    assert_eq!(cluster.replicas(), 1);
    let again = throttle(&cluster).await;
    assert!(matches!(again, StepOutcome::Moved { pods: 0 }), "nothing is left to take: {again:?}");
    assert_eq!(a.drains().len(), 1);
}

#[tokio::test]
async fn a_busy_activator_keeps_the_pods_as_they_are() {
    let (a, b) = (FakeActivator::start(Mood::Drained).await, FakeActivator::start(Mood::Busy).await);
    let cluster = FakeCluster::of_pods(&[&a, &b], vec![pod("a", true, "500m")]);
    let outcome = throttle(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Busy { .. }), "{outcome:?}");
    assert_eq!(pods(&cluster), as_it_was());
    assert_eq!(a.outcomes(), [DrainOutcome::Aborted]);
}

#[tokio::test]
async fn a_pod_that_was_written_since_it_was_marked_keeps_its_cpu() {
    let a = FakeActivator::start(Mood::Drained).await;
    let cluster = FakeCluster::of_pods(&[&a], vec![pod("a", true, "500m")]);
    // An activator takes the mark away while the resize is on its way: what a fence does.
    cluster.with(|model| {
        model.on_listing.insert(2, Box::new(|model| model.whole[0].metadata.resource_version = Some("9".to_owned())));
    });
    let outcome = throttle(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Moved { pods: 0 }), "{outcome:?}");
    assert_eq!(pods(&cluster), as_it_was());
}

#[tokio::test]
async fn what_the_api_server_refuses_is_undone_and_said() {
    let a = FakeActivator::start(Mood::Drained).await;
    let cluster = FakeCluster::of_pods(&[&a], vec![pod("a", true, "500m")]);
    let refuse = |_: &mut _| ClusterError::Refused { code: 403, message: "no".to_owned() };
    cluster.with(|model| model.on_resize.push(Box::new(refuse)));
    let outcome = throttle(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Failed(ClusterError::Refused { code: 403, .. })), "{outcome:?}");
    assert_eq!(pods(&cluster), as_it_was());
    assert_eq!(a.outcomes(), [DrainOutcome::Aborted]);
}

#[tokio::test]
async fn where_nobody_knows_whether_it_happened_the_mark_stays_and_nothing_is_released() {
    let a = FakeActivator::start(Mood::Drained).await;
    let cluster = FakeCluster::of_pods(&[&a], vec![pod("a", true, "500m")]);
    let lost = |_: &mut _| ClusterError::Uncertain("the connection broke".to_owned());
    cluster.with(|model| model.on_resize.push(Box::new(lost)));
    let outcome = throttle(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Failed(ClusterError::Uncertain(_))), "{outcome:?}");
    assert!(cluster.with(|model| to_give_back(&model.whole[0]).is_some()), "whoever comes next takes it away");
    assert!(a.outcomes().is_empty());
    // The next step does not take the mark for the deed.
    let outcome = throttle(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Moved { pods: 1 }), "{outcome:?}");
}

#[tokio::test]
async fn pods_get_back_what_they_had() {
    let a = FakeActivator::start(Mood::Drained).await;
    let cluster = FakeCluster::of_pods(&[&a], vec![pod("a", true, "500m"), pod("b", true, "2")]);
    throttle(&cluster).await;
    assert!(cluster.with(|model| model.whole.iter().all(|pod| to_take(pod).is_none())));
    let outcome = restore(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Moved { pods: 2 }), "{outcome:?}");
    assert_eq!(pods(&cluster), [("500m".to_owned(), false), ("2".to_owned(), false)]);
    let outcome = restore(&cluster).await;
    assert!(matches!(outcome, StepOutcome::Moved { pods: 0 }), "{outcome:?}");
}

/// What is done about a pod with this limit and mark.
fn done(rung: Rung, wanted: bool, past: bool, limit: &str, marked: bool) -> Option<StepKind> {
    let mut object = pod("a", true, limit);
    if limit == "10m" {
        object.spec.as_mut().unwrap().containers[0].resources = serde_json::from_value(json!({
            "requests": {"cpu": "1m"}, "limits": {"cpu": "10m"},
        }))
        .unwrap();
    }
    if marked {
        object.labels_mut().insert("pilotlight.dev/rung".to_owned(), "Throttled".to_owned());
    }
    object.annotations_mut().insert("pilotlight.dev/cpu".to_owned(), "50m/500m".to_owned());
    let cause = Cause::NotIdleYet { silent_seconds: 9, needed_seconds: 60 };
    step_to(rung, cause, wanted, past, &[Arc::new(object)])
}

#[test]
fn cpu_is_given_back_by_the_autoscaler_only_where_no_activator_would() {
    let (throttle, restore) = (Some(StepKind::Throttle), Some(StepKind::Restore));
    assert_eq!(done(Rung::Throttled, true, false, "500m", false), throttle);
    assert_eq!(done(Rung::Throttled, true, false, "500m", true), throttle, "somebody died at it");
    assert_eq!(done(Rung::Throttled, true, false, "10m", true), None, "it is throttled");
    assert_eq!(done(Rung::Active, true, false, "10m", true), None, "samples may be missing; an activator does it");
    assert_eq!(done(Rung::Active, true, false, "10m", false), restore, "an activator died at it");
    assert_eq!(done(Rung::Active, true, true, "10m", true), restore, "requests reach it past the activators");
    assert_eq!(done(Rung::Active, false, false, "10m", true), restore, "its author does not want it any more");
    assert_eq!(done(Rung::Active, false, false, "500m", false), None);
}
