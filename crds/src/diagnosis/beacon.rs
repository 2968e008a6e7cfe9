//! The beacon beside a function. A pod serves without it, so what keeps it from running is told apart from the rest, and is never why a
//! pod counts as not ready.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::{MAX_MESSAGE_BYTES, is_true, words};
use crate::names::{BEACON_CONTAINER, CONTAINER};

/// How the beacon of a pod fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeaconState {
    /// It runs.
    Runs,
    /// It cannot be started, or does not stay: Kubernetes' reason, and cause and remedy for a person.
    Fails {
        /// One CamelCase word, as in the container's status.
        reason: String,
        /// One line.
        message: String,
    },
}

/// Whether the pod can serve: Kubernetes calls it ready, or would but for its beacon.
pub fn serves(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let conditions = status.conditions.as_deref().unwrap_or_default();
    if is_true(conditions, "Ready") {
        return true;
    }
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let beacon_is_missing = containers.iter().any(|c| c.name == BEACON_CONTAINER && !c.ready);
    let function_is_ready = containers.iter().any(|c| c.name == CONTAINER && c.ready);
    let others_are_ready = containers.iter().all(|c| c.ready || c.name == BEACON_CONTAINER);
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    beacon_is_missing
        && function_is_ready
        && others_are_ready
        && gates.into_iter().all(|gate| is_true(conditions, &gate.condition_type))
}

/// How the pod's beacon fares; `None` where it has none, or it is yet to start.
pub fn beacon_state(pod: &Pod) -> Option<BeaconState> {
    let containers = pod.status.as_ref()?.container_statuses.as_deref()?;
    let status = containers.iter().find(|c| c.name == BEACON_CONTAINER)?;
    let state = status.state.as_ref()?;
    if state.running.is_some() {
        return Some(BeaconState::Runs);
    }
    let waiting = state.waiting.as_ref().filter(|w| !is_start(w.reason.as_deref()));
    let (reason, said) = match waiting {
        Some(waiting) => (waiting.reason.clone()?, waiting.message.clone()),
        None => {
            let ended = state.terminated.as_ref()?;
            (ended.reason.clone().unwrap_or_else(|| "Error".to_owned()), ended.message.clone())
        }
    };
    Some(BeaconState::Fails { message: message(pod, status, &reason, said.as_deref()), reason })
}

/// What every container goes through.
fn is_start(reason: Option<&str>) -> bool {
    matches!(reason, None | Some("ContainerCreating" | "PodInitializing"))
}

fn message(pod: &Pod, status: &ContainerStatus, reason: &str, said: Option<&str>) -> String {
    let spec = pod.spec.iter().flat_map(|spec| &spec.containers).find(|c| c.name == BEACON_CONTAINER);
    let image = spec.and_then(|c| c.image.clone()).unwrap_or_else(|| status.image.clone());
    let said = match words::sentence(said.unwrap_or_default()) {
        said if said.is_empty() => String::new(),
        said => format!(", {said}"),
    };
    let message = format!(
        "The beacon beside the function does not run ({reason}{said}). The Function answers without it, but a wake takes up to a second longer. Let nodes pull {image:?} \
         (the chart's pilot.image), or set spec.coldStart.beacon to Disabled"
    );
    words::head(&message, MAX_MESSAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn container(name: &str, ready: bool, state: Value) -> Value {
        json!({"name": name, "ready": ready, "restartCount": 0, "image": "i", "imageID": "", "state": state})
    }

    fn pod(containers: &[Value], ready: bool) -> Pod {
        let ready = if ready { "True" } else { "False" };
        serde_json::from_value(json!({
            "metadata": {"name": "hello"},
            "spec": {"containers": [{"name": "function", "image": "a"}, {"name": "beacon", "image": "example.com/pilot:1"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}], "containerStatuses": containers},
        }))
        .unwrap()
    }

    fn running() -> Value {
        json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})
    }

    fn waiting(reason: &str) -> Value {
        json!({"waiting": {"reason": reason, "message": "no such image"}})
    }

    #[test]
    fn a_pod_that_only_lacks_its_beacon_serves_and_has_no_diagnosis() {
        for reason in ["ImagePullBackOff", "ErrImagePull", "CrashLoopBackOff", "ContainerCreating", "RunContainerError"]
        {
            let beacon = container("beacon", false, waiting(reason));
            let pod = pod(&[container("function", true, running()), beacon], false);
            assert!(serves(&pod), "{reason}");
            assert_eq!(super::super::diagnose(&pod, &[]), None, "{reason}");
        }
    }

    #[test]
    fn a_pod_that_lacks_more_does_not_serve() {
        let beacon = || container("beacon", false, waiting("ErrImagePull"));
        let all = [
            pod(&[container("function", false, running()), beacon()], false),
            pod(&[container("function", true, running()), container("mesh", false, running()), beacon()], false),
            pod(&[container("function", true, running()), container("beacon", true, running())], false),
            pod(&[container("function", true, running())], false),
            pod(&[beacon()], false),
            Pod::default(),
        ];
        for pod in all {
            assert!(!serves(&pod), "{pod:?}");
        }
        let mut gated = pod(&[container("function", true, running()), beacon()], false);
        let gate = json!([{"conditionType": "example.com/gate"}]);
        gated.spec.as_mut().unwrap().readiness_gates = Some(serde_json::from_value(gate).unwrap());
        assert!(!serves(&gated));
    }

    #[test]
    fn what_keeps_it_from_running_is_told_with_its_image_and_the_remedy() {
        let state = |state| {
            beacon_state(&pod(&[container("function", true, running()), container("beacon", false, state)], false))
        };
        let Some(BeaconState::Fails { reason, message }) = state(waiting("ImagePullBackOff")) else {
            panic!("it fails")
        };
        assert_eq!(reason, "ImagePullBackOff");
        for part in ["example.com/pilot:1", "no such image", "pilot.image", "spec.coldStart.beacon"] {
            assert!(message.contains(part), "{message}");
        }
        let ended = json!({"terminated": {"exitCode": 2, "reason": "Error"}});
        assert!(matches!(state(ended), Some(BeaconState::Fails { reason, .. }) if reason == "Error"));
        assert_eq!(state(running()), Some(BeaconState::Runs));
        assert_eq!(state(waiting("ContainerCreating")), None, "it is yet to start");
        assert_eq!(beacon_state(&pod(&[container("function", true, running())], true)), None);
    }
}
