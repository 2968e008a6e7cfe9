//! What the status says of the rung, and of one that cannot be had.

use super::*;
use pilotlight_crds::names::{ANNOTATION_CPU, LABEL_RUNG};
use serde_json::json;

#[test]
fn a_function_at_zero_is_ready_and_stays_so_while_it_wakes() {
    let mut s = Situation::new();
    s.set_pod("hello-1", ready_pod());
    s.look();
    s.remove_pods("hello-1");
    let zero = s.look();
    assert_eq!(condition(&zero, condition::READY).status, "True");
    assert_eq!(condition(&zero, condition::ACTIVE).reason, condition::SCALED_TO_ZERO);
    assert_eq!(zero.rung, Some(Rung::Zero));
    s.set_pod("hello-1", starting_pod());
    let waking = s.look();
    assert_eq!(condition(&waking, condition::READY).status, "True");
    assert_eq!(waking.rung, Some(Rung::Active));
}

/// Gives the one pod, which had 500m before it was marked, this CPU limit.
fn set_limit(situation: &mut Situation, limit: &str) {
    situation.remove_pods("hello-1");
    situation.set_pod("hello-1", ready_pod());
    let mut pod = serde_json::to_value(&*situation.observed.pods[0]).unwrap();
    pod["metadata"]["annotations"] = json!({ANNOTATION_CPU: "20m/500m"});
    pod["metadata"]["labels"][LABEL_RUNG] = json!("Throttled");
    let request = if limit == "10m" { "1m" } else { "20m" };
    pod["spec"] = json!({"containers": [{
        "name": "function", "resources": {"requests": {"cpu": request}, "limits": {"cpu": limit}},
    }]});
    situation.observed.pods = vec![Arc::new(serde_json::from_value(pod).unwrap())];
}

#[test]
fn the_rung_is_throttled_once_the_cpu_was_taken_and_not_when_it_is_about_to_be() {
    let mut s = Situation::new();
    set_limit(&mut s, "500m");
    assert_eq!(s.look().rung, Some(Rung::Active));
    set_limit(&mut s, "10m");
    let throttled = s.look();
    assert_eq!(throttled.rung, Some(Rung::Throttled));
    let active = condition(&throttled, condition::ACTIVE);
    assert_eq!((active.status.as_str(), active.reason.as_str()), ("True", condition::THROTTLED));
    assert_eq!(condition(&throttled, condition::READY).status, "True");
}

#[test]
fn a_rung_that_the_api_server_refuses_is_said_where_the_author_asked_for_it() {
    let mut s = Situation::new();
    s.set_pod("hello-1", ready_pod());
    s.refused.insert(ScalingRung::Throttled, "this cluster cannot resize running pods".to_owned());
    assert!(get(&s.look().conditions, condition::RUNG_UNAVAILABLE).is_none(), "nobody asked for it");
    s.function.spec.scaling.idle =
        serde_json::from_value(json!({"steps": [{"afterSeconds": 5, "rung": "Throttled"}]})).unwrap();
    let refused = s.look();
    let said = condition(&refused, condition::RUNG_UNAVAILABLE);
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("True", condition::RESIZE_REFUSED));
    assert!(said.message.contains("cannot resize"), "{}", said.message);
    s.function.spec.scaling.idle =
        serde_json::from_value(json!({"steps": [{"afterSeconds": 5, "rung": "Parked"}]})).unwrap();
    assert!(get(&s.look().conditions, condition::RUNG_UNAVAILABLE).is_none(), "the other one was not refused");
    s.refused.insert(ScalingRung::Parked, "a policy forbids it".to_owned());
    let refused = s.look();
    let said = condition(&refused, condition::RUNG_UNAVAILABLE);
    assert_eq!((said.reason.as_str(), said.message.contains("a policy forbids it")), (condition::PARK_REFUSED, true));
    s.refused.clear();
    assert!(get(&s.look().conditions, condition::RUNG_UNAVAILABLE).is_none());
}
