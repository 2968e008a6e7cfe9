//! Pods, events and expectations, shortly said.

use k8s_openapi::api::core::v1::Pod;
use pilotlight_crds::diagnosis::{PodEvent, Reason, WillItHealAlone};
use serde_json::{Value, json};

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) status: Value,
    pub(crate) events: &'static [(&'static str, &'static str)],
    pub(crate) reason: Reason,
    pub(crate) healing: WillItHealAlone,
    /// Words that the message must have.
    pub(crate) says: &'static [&'static str],
}

pub(crate) fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "hello-1-6c9f7d-x2x4z", "namespace": "shop"},
        "spec": {"containers": [{
            "name": "function",
            "image": "registry.example.com/hello:v1",
            "resources": {"limits": {"memory": "64Mi"}},
        }]},
        "status": status,
    }))
    .expect("a pod")
}

pub(crate) fn events(all: &[(&str, &str)]) -> Vec<PodEvent> {
    let event =
        |(reason, message): &(&str, &str)| PodEvent { reason: (*reason).to_owned(), message: (*message).to_owned() };
    all.iter().map(event).collect()
}

/// A pending pod whose container waits.
pub(crate) fn waiting(reason: &str, message: &str) -> Value {
    json!({
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
        ],
        "containerStatuses": [{
            "name": "function", "image": "registry.example.com/hello:v1", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": message}},
        }],
    })
}

/// A container that ended and waits for its next start.
pub(crate) fn crashing(terminated: Value) -> Value {
    json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
        "containerStatuses": [{
            "name": "function", "image": "registry.example.com/hello:v1", "imageID": "sha256:1", "ready": false, "restartCount": 2,
            "state": {"waiting": {
                "reason": "CrashLoopBackOff",
                "message": "back-off 20s restarting failed container=function pod=hello-1-6c9f7d-x2x4z_shop(0b7f)",
            }},
            "lastState": {"terminated": terminated},
        }],
    })
}

pub(crate) fn running(ready: bool, last_state: Value) -> Value {
    json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        "containerStatuses": [{
            "name": "function", "image": "registry.example.com/hello:v1", "imageID": "sha256:1", "ready": ready, "restartCount": 3,
            "started": true, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "lastState": last_state,
        }],
    })
}

pub(crate) fn case(
    name: &'static str,
    status: Value,
    (reason, healing): (Reason, WillItHealAlone),
    says: &'static [&'static str],
) -> Case {
    Case { name, status, events: &[], reason, healing, says }
}

pub(crate) const NO: WillItHealAlone = WillItHealAlone::No;
pub(crate) const POSSIBLY: WillItHealAlone = WillItHealAlone::Possibly;
