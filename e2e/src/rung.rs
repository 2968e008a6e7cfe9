//! What benchmarks ask of pods that rest on a rung of the idle ladder other than zero.

use k8s_openapi::api::core::v1::Pod;

/// CPU limit of a throttled pod's function.
const THROTTLED_LIMIT: &str = "10m";

/// Whether kubelet has taken the pod's CPU.
pub fn is_throttled(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut limits = statuses.filter_map(|status| status.resources.as_ref()?.limits.as_ref()?.get("cpu"));
    limits.any(|limit| limit.0 == THROTTLED_LIMIT)
}
