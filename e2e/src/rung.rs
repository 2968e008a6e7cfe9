//! What tests and benchmarks ask of pods that rest on a rung of the idle ladder other than zero, or are on their way from one.

use k8s_openapi::api::core::v1::Pod;
use pilotlight_crds::names::CONTAINER;
use pilotlight_crds::park::Parking;
use pilotlight_crds::throttle::LIMIT;

use crate::reach::is_ready;

/// The CPU limit that kubelet has given the function's container.
pub fn cpu_limit(pod: &Pod) -> Option<&str> {
    let mut statuses = pod.status.as_ref()?.container_statuses.as_ref()?.iter();
    let function = statuses.find(|status| status.name == CONTAINER)?;
    Some(function.resources.as_ref()?.limits.as_ref()?.get("cpu")?.0.as_str())
}

/// Whether kubelet has taken the pod's CPU.
pub fn is_throttled(pod: &Pod) -> bool {
    cpu_limit(pod) == Some(LIMIT)
}

/// Whether kubelet says that the placeholder runs in the function's place, and Kubernetes calls the pod ready.
pub fn is_parked(pod: &Pod) -> bool {
    is_ready(pod) && Parking::of(pod).is_some_and(|parking| parking.placeholder_runs)
}
