//! What becomes of idle pods where the cluster refuses what a rung is worth having for.

use kube::ResourceExt;
use pilotlight_crds::Function;
use pilotlight_scaling::idle::Learnt;
use serde_json::json;

use super::evaluating::{event, function, lead_cluster, silence};
use super::fakes::{FakeActivator, FakeCluster, Mood};
use super::parking::{parked, requesting};
use crate::autoscaler::ScalingEventKind;
use crate::autoscaler::cluster::ClusterError;

/// A Function that says nothing of idle pods, and that nobody has called for an hour.
fn unknown() -> Function {
    let mut function = function(1);
    function.spec.image = "hello:v1".to_owned();
    function.spec.scaling.idle_seconds = None;
    function.spec.resources =
        serde_json::from_value(json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}))
            .unwrap();
    let called = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - 3_600).unwrap();
    let idle = json!({"since": called, "activeSince": called, "learnt": Learnt::default().to_text()});
    function.status.as_mut().unwrap().idle = serde_json::from_value(idle).unwrap();
    function
}

/// Its one pod, parked, which reserves what it did.
fn reserving(activator: &FakeActivator) -> FakeCluster {
    let mut pod = requesting(parked("a"), "50m", "64Mi");
    pod.labels_mut().insert("pilotlight.dev/function".to_owned(), "hello".to_owned());
    let cluster = FakeCluster::new(1, vec![activator.peer("a")]);
    cluster.with(|model| model.whole = vec![pod]);
    cluster
}

#[tokio::test]
async fn pods_that_reserve_as_much_once_they_are_parked_go_where_others_stay() {
    let activator = FakeActivator::start(Mood::Drained).await;
    silence(&activator);
    let cluster = reserving(&activator);
    let refuse = |_: &mut _| ClusterError::Refused { code: 404, message: "no such subresource".to_owned() };
    cluster.with(|model| model.on_resize.push(Box::new(refuse)));
    let mut bench = lead_cluster(&activator, unknown(), cluster).await;
    let refused = event(&mut bench).await;
    assert_eq!(refused.kind, ScalingEventKind::ResizeRefused, "{}", refused.message);
    assert_eq!(bench.cluster.replicas(), 1, "it was worth keeping until then");
    let gone = event(&mut bench).await;
    assert_eq!(gone.kind, ScalingEventKind::ScaledToZero, "{}", gone.message);
}
