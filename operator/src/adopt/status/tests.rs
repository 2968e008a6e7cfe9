//! What others write of what was taken over, as the caches tell of it.

use super::*;
use crate::contention::Field;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The annotation by which the cache tells of a write at this second.
fn written(field: Field, manager: &str, scale: bool, at: i64) -> serde_json::Value {
    let write = json!({"manager": manager, "scale": scale, "at": second(at), "stands": false});
    json!({field.cached(): write.to_string()})
}

/// Taken over in second 1,000; the autoscaler of Kubernetes wrote the replicas at this second.
fn observed(route_ready: &str, replicas_at: i64) -> Observed {
    let annotations = written(Field::Replicas, "kube-controller-manager", true, replicas_at);
    let deployment: Deployment =
        serde_json::from_value(json!({"metadata": {"name": "api", "annotations": annotations}})).unwrap();
    let conditions = json!([{
        "type": "RouteReady", "status": route_ready, "reason": "Routed", "message": "",
        "lastTransitionTime": second(1_000),
    }]);
    let mut observed = Observed { deployments: vec![Arc::new(deployment)], ..Observed::default() };
    observed.status.conditions = serde_json::from_value(conditions).unwrap();
    observed
}

fn service(at: i64) -> Service {
    let annotations = written(Field::Selector, "argocd-controller", false, at);
    serde_json::from_value(json!({"metadata": {"name": "web", "annotations": annotations}})).unwrap()
}

fn fields(observed: &Observed, service: Option<&Service>, now: i64) -> Vec<Field> {
    contested(observed, service, second(now)).iter().map(Contention::field).collect()
}

#[test]
fn who_writes_what_was_taken_over_is_told_until_it_has_been_quiet_for_a_while() {
    let both = [Field::Replicas, Field::Selector];
    assert_eq!(fields(&observed("True", 1_100), Some(&service(1_200)), 1_300), both);
    assert_eq!(fields(&observed("True", 1_100), Some(&service(1_200)), 1_750), [Field::Selector]);
    assert_eq!(fields(&observed("True", 1_100), Some(&service(1_200)), 1_800), []);
    assert_eq!(fields(&observed("True", 1_100), None, 1_300), [Field::Replicas], "there is no such Service");
}

#[test]
fn what_the_owner_wrote_before_is_the_owner_s_business() {
    assert_eq!(fields(&observed("True", 1_001), Some(&service(990)), 1_010), []);
    assert_eq!(fields(&observed("False", 1_100), Some(&service(1_100)), 1_110), [], "nothing is taken over");
}
