//! More CPU for a pod while it starts, as it stands on the pod: the CPU that it has as a rule, what it gets until it is ready, and what to ask
//! for. Pure.
//!
//! What always holds: a pod carries with it all that it takes to end the boost, from before it begins; so whoever finds it, after whatever
//! crash, can do so. A pod is boosted once, before it was ever ready, and its class of service stays.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::diagnosis::serves;
use crate::names::{ANNOTATION_BOOST, ANNOTATION_CPU};
use crate::throttle::{Cpu, milli};

/// What `limit` thousandths of a CPU make of the CPU that a container has as a rule. `None` where it has as much already.
fn more(normal: &Cpu, limit: u64) -> Option<Cpu> {
    if milli(&normal.limit)? >= limit {
        return None;
    }
    let limit = quantity(limit);
    // Where they are the same, the pod may be of class Guaranteed, and must stay so.
    let request = if normal.request == normal.limit { limit.clone() } else { normal.request.clone() };
    Some(Cpu { request, limit })
}

/// Thousandths of a CPU as the API server writes them.
fn quantity(milli: u64) -> String {
    if milli.is_multiple_of(1000) { (milli / 1000).to_string() } else { format!("{milli}m") }
}

/// The CPU that a pod is to get to start with, `limit` being that of `coldStart.cpuBoost`. `None`: it has it, had it, or is ready.
pub fn to_begin(pod: &Pod, limit: &str) -> Option<Cpu> {
    let annotations = pod.metadata.annotations.iter().flatten();
    let begun = annotations.into_iter().any(|(key, _)| key == ANNOTATION_BOOST || key == ANNOTATION_CPU);
    let restarted = || {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        statuses.into_iter().any(|status| status.restart_count > 0)
    };
    if begun || pod.metadata.deletion_timestamp.is_some() || serves(pod) || restarted() {
        return None;
    }
    more(&Cpu::of(pod)?, milli(limit)?)
}

/// The CPU that a boosted pod has as a rule. `None`: it is not boosted.
pub fn to_end(pod: &Pod) -> Option<Cpu> {
    let boosted = Cpu::noted(pod, ANNOTATION_BOOST)?;
    (Cpu::of(pod)? == boosted).then(|| Cpu::recorded(pod)).flatten()
}

/// The patch of a pod that says what CPU it has as a rule and what it is to get: always written before it gets that.
pub fn mark(uid: &str, normal: &Cpu, boosted: &Cpu) -> Value {
    json!({ "metadata": {
        "uid": uid,
        "annotations": { ANNOTATION_CPU: normal.record(), ANNOTATION_BOOST: boosted.record() },
    } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(request: &str, limit: &str) -> Cpu {
        Cpu { request: request.to_owned(), limit: limit.to_owned() }
    }

    fn pod((request, limit): (&str, &str), ready: bool, annotations: Value) -> Pod {
        let ready = if ready { "True" } else { "False" };
        serde_json::from_value(json!({
            "metadata": {"name": "hello-1-x", "uid": "u", "annotations": annotations},
            "spec": {"containers": [
                {"name": "function", "resources": {"requests": {"cpu": request}, "limits": {"cpu": limit}}},
            ]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .expect("a pod")
    }

    #[test]
    fn the_class_of_service_stays() {
        assert_eq!(more(&cpu("50m", "500m"), 2_000), Some(cpu("50m", "2")));
        assert_eq!(more(&cpu("500m", "500m"), 1_500), Some(cpu("1500m", "1500m")));
        assert_eq!(more(&cpu("1", "2"), 2_000), None, "no more than always");
    }

    #[test]
    fn a_starting_pod_is_boosted_once() {
        let starting = pod(("50m", "500m"), false, json!({}));
        assert_eq!(to_begin(&starting, "2"), Some(cpu("50m", "2")));
        assert_eq!(to_begin(&starting, "2000m"), Some(cpu("50m", "2")), "as the API server writes it");
        assert_eq!(to_begin(&pod(("50m", "500m"), true, json!({})), "2"), None, "it is ready");
        let before = json!({ANNOTATION_CPU: "50m/500m", ANNOTATION_BOOST: "50m/2"});
        assert_eq!(to_begin(&pod(("50m", "500m"), false, before), "2"), None, "it was ready, or a crash came between");
        let mut restarted = starting.clone();
        restarted.status = serde_json::from_value(json!({"containerStatuses": [
            {"name": "function", "image": "", "imageID": "", "ready": false, "restartCount": 1},
        ]}))
        .expect("a status");
        assert_eq!(to_begin(&restarted, "2"), None);
    }

    #[test]
    fn each_state_that_a_crash_can_leave_tells_how_it_ends() {
        let notes = json!({ANNOTATION_CPU: "50m/500m", ANNOTATION_BOOST: "50m/2"});
        assert_eq!(to_end(&pod(("50m", "2"), false, notes.clone())), Some(cpu("50m", "500m")), "boosted");
        assert_eq!(to_end(&pod(("50m", "500m"), false, notes.clone())), None, "marked alone, or over");
        assert_eq!(to_end(&pod(("1m", "10m"), true, notes)), None, "throttled since");
        assert_eq!(to_end(&pod(("50m", "2"), true, json!({}))), None, "as its author made it");
    }
}
