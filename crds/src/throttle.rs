//! The rung Throttled as it stands on a pod: the CPU that the function's container has, the CPU that it had, and what to ask for. Pure.
//!
//! What always holds: a pod carries with it all that it takes to give its CPU back, from before the CPU is taken until after it was given
//! back; so whoever finds it, after whatever crash, can do so. Only CPU changes, never memory, and never the pod's class of service.

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use crate::boost;
use crate::names::{ANNOTATION_CPU, CONTAINER, LABEL_RUNG, RUNG_THROTTLED};

/// CPU limit of a throttled container: enough to answer a probe.
pub const LIMIT: &str = "10m";
/// CPU request of one whose request was less than its limit.
const REQUEST: &str = "1m";
/// Condition of a pod for which kubelet carries a resize out.
const RESIZE_IN_PROGRESS: &str = "PodResizeInProgress";
/// Thousandths of a CPU in [`LIMIT`].
const LIMIT_MILLI: u64 = 10;

/// The CPU of a container, as Kubernetes writes quantities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// What is reserved for it.
    pub request: String,
    /// What it may use at most.
    pub limit: String,
}

impl Cpu {
    /// What the function's container of a pod asks for. `None` without a limit: one that was given to a running pod could not be taken away
    /// again.
    pub fn of(pod: &Pod) -> Option<Self> {
        let resources = function_of(pod)?.resources.as_ref()?;
        let limit = resources.limits.as_ref()?.get("cpu")?.0.clone();
        let request = resources.requests.as_ref().and_then(|requests| requests.get("cpu"));
        Some(Self { request: request.map_or_else(|| limit.clone(), |request| request.0.clone()), limit })
    }

    /// What a pod had before it was throttled or boosted, from its annotation.
    pub fn recorded(pod: &Pod) -> Option<Self> {
        Self::noted(pod, ANNOTATION_CPU)
    }

    /// What an annotation of the pod says.
    pub(crate) fn noted(pod: &Pod, annotation: &str) -> Option<Self> {
        let (request, limit) = pod.metadata.annotations.as_ref()?.get(annotation)?.split_once('/')?;
        Some(Self { request: request.to_owned(), limit: limit.to_owned() })
    }

    /// For the annotation.
    pub fn record(&self) -> String {
        format!("{}/{}", self.request, self.limit)
    }

    /// What is left of it. `None` where it is no more than that already.
    pub fn throttled(&self) -> Option<Self> {
        if milli(&self.limit).is_some_and(|limit| limit <= LIMIT_MILLI) {
            return None;
        }
        // Where they are the same, the pod may be of class Guaranteed, and must stay so.
        let request = if self.request == self.limit { LIMIT } else { REQUEST };
        Some(Self { request: request.to_owned(), limit: LIMIT.to_owned() })
    }

    /// The patch of a pod's `resize` subresource that gives the function's container this much. The uid keeps it from a pod of the same
    /// name that came after; `resource_version` makes it fail where the pod was written since.
    pub fn resize(&self, uid: &str, resource_version: Option<&str>) -> Value {
        let cpu = |quantity: &str| json!({ "cpu": quantity });
        let mut patch = json!({
            "metadata": { "uid": uid },
            "spec": { "containers": [{
                "name": CONTAINER,
                "resources": { "requests": cpu(&self.request), "limits": cpu(&self.limit) },
            }] },
        });
        if let Some(version) = resource_version {
            patch["metadata"]["resourceVersion"] = json!(version);
        }
        patch
    }
}

/// The patch of a pod that says it is to be throttled, and what CPU it has: always written before the CPU is taken.
pub fn mark(uid: &str, cpu: &Cpu) -> Value {
    json!({ "metadata": {
        "uid": uid,
        "labels": { LABEL_RUNG: RUNG_THROTTLED },
        "annotations": { ANNOTATION_CPU: cpu.record() },
    } })
}

/// The patch of a pod that says it is not to be throttled. It changes the pod's version, so that a resize which was sent for the mark and is
/// still on its way fails.
pub fn unmark(uid: &str) -> Value {
    json!({ "metadata": { "uid": uid, "labels": { LABEL_RUNG: null } } })
}

/// Whether a pod says that it is, or is about to be, throttled.
pub fn is_marked(pod: &Pod) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_RUNG)).is_some_and(|rung| rung == RUNG_THROTTLED)
}

/// The CPU that a pod has to get back before it serves as ever. `None` where it has what it should.
pub fn to_give_back(pod: &Pod) -> Option<Cpu> {
    let recorded = Cpu::recorded(pod)?;
    let taken = || recorded.throttled().is_some_and(|throttled| Cpu::of(pod) == Some(throttled));
    (is_marked(pod) || taken()).then_some(recorded)
}

/// The CPU that can be taken from a pod. `None`: it has none to give, it is taken already, the pod is about to get it back, or has more than
/// as a rule.
pub fn to_take(pod: &Pod) -> Option<Cpu> {
    let owed = to_give_back(pod).is_some_and(|_| Cpu::recorded(pod) != Cpu::of(pod));
    if owed || boost::to_end(pod).is_some() {
        return None;
    }
    Cpu::of(pod).filter(|cpu| cpu.throttled().is_some())
}

/// Whether a pod has lost its CPU, rather than being about to.
pub fn is_throttled(pod: &Pod) -> bool {
    to_take(pod).is_none() && to_give_back(pod).is_some()
}

/// Whether the function's container has the CPU limit that the pod says, and kubelet has nothing more to do for that, as far as it tells. A container that
/// is begun anew before has the new limit within a pod that still has the old, and does not start where cgroups cannot be that (version 1).
///
/// What kubelet tells may be from before the last change, or from before the one before it: only the generation says so.
pub fn is_carried_out(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return true };
    let behind = status.observed_generation.zip(pod.metadata.generation).is_some_and(|(seen, is)| seen < is);
    let mut conditions = status.conditions.iter().flatten();
    let under_way = conditions.any(|condition| condition.type_ == RESIZE_IN_PROGRESS && condition.status == "True");
    let status = status.container_statuses.iter().flatten().find(|status| status.name == CONTAINER);
    let has = status.and_then(|status| status.resources.as_ref()?.limits.as_ref()?.get("cpu"));
    let same = Cpu::of(pod).zip(has).is_none_or(|(wanted, has)| milli(&wanted.limit) == milli(&has.0));
    same && !behind && !under_way
}

fn function_of(pod: &Pod) -> Option<&Container> {
    pod.spec.as_ref()?.containers.iter().find(|container| container.name == CONTAINER)
}

/// A quantity of CPU as the API server writes it, in thousandths.
pub(crate) fn milli(quantity: &str) -> Option<u64> {
    match quantity.strip_suffix('m') {
        Some(milli) => milli.parse().ok(),
        None => quantity.parse::<u64>().ok()?.checked_mul(1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resize_is_carried_out_when_kubelet_has_seen_it_and_ended_it() {
        let told = |status: Value| {
            let mut pod = pod(Some(("100m", "2")), false, None);
            pod.metadata.generation = Some(3);
            pod.status = serde_json::from_value(status).expect("a status");
            is_carried_out(&pod)
        };
        let has = |limit: &str| {
            json!([{
                "name": CONTAINER, "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "resources": {"limits": {"cpu": limit}},
            }])
        };
        assert!(told(json!({})), "a cluster that tells nothing");
        assert!(told(json!({"containerStatuses": has("2000m")})));
        assert!(!told(json!({"containerStatuses": has("10m")})));
        assert!(told(json!({"observedGeneration": 3, "containerStatuses": has("2")})));
        let stale = json!({"observedGeneration": 2, "containerStatuses": has("2")});
        assert!(!told(stale), "from before it was throttled, and its limit is to be what it was then");
        let under_way = json!([{"type": RESIZE_IN_PROGRESS, "status": "True"}]);
        let begun = json!({"observedGeneration": 3, "conditions": under_way, "containerStatuses": has("2")});
        assert!(!told(begun));
        assert!(is_carried_out(&pod(None, false, None)), "without a limit there is nothing to carry out");
    }

    fn pod(cpu: Option<(&str, &str)>, marked: bool, recorded: Option<&str>) -> Pod {
        let resources = cpu.map(|(request, limit)| {
            json!({"requests": {"cpu": request, "memory": "64Mi"}, "limits": {"cpu": limit, "memory": "64Mi"}})
        });
        let mut pod = json!({
            "metadata": {"name": "hello-1-x", "uid": "u", "labels": {}, "annotations": {}},
            "spec": {"containers": [
                {"name": "beacon", "resources": {"limits": {"cpu": "100m"}}},
                {"name": "function", "resources": resources},
            ]},
        });
        if marked {
            pod["metadata"]["labels"][LABEL_RUNG] = json!(RUNG_THROTTLED);
        }
        if let Some(recorded) = recorded {
            pod["metadata"]["annotations"][ANNOTATION_CPU] = json!(recorded);
        }
        serde_json::from_value(pod).expect("a pod")
    }

    fn cpu(request: &str, limit: &str) -> Cpu {
        Cpu { request: request.to_owned(), limit: limit.to_owned() }
    }

    #[test]
    fn the_class_of_service_stays() {
        assert_eq!(cpu("50m", "500m").throttled(), Some(cpu("1m", "10m")));
        assert_eq!(cpu("2", "2").throttled(), Some(cpu("10m", "10m")));
        assert_eq!(cpu("1k", "1k").throttled(), Some(cpu("10m", "10m")));
        assert_eq!(cpu("10m", "10m").throttled(), None);
    }

    #[test]
    fn each_state_that_a_crash_can_leave_tells_what_to_give_back() {
        let back = Some(cpu("50m", "500m"));
        let record = Some("50m/500m");
        let full = Some(("50m", "500m"));
        let low = Some(("1m", "10m"));
        assert_eq!(to_give_back(&pod(full, false, None)), None, "never throttled");
        assert_eq!(to_give_back(&pod(full, true, record)), back, "marked, and not yet throttled or given back already");
        assert_eq!(to_give_back(&pod(low, true, record)), back, "throttled");
        assert_eq!(to_give_back(&pod(low, false, record)), back, "throttled as the mark was taken away");
        assert_eq!(to_give_back(&pod(full, false, record)), None, "as it was before");
        assert_eq!(to_give_back(&pod(Some(("1", "2")), false, record)), None, "resized by somebody else since");
    }

    #[test]
    fn cpu_is_taken_from_pods_that_have_some() {
        assert_eq!(to_take(&pod(Some(("50m", "500m")), false, None)), Some(cpu("50m", "500m")));
        assert_eq!(to_take(&pod(Some(("1", "2")), false, Some("50m/500m"))), Some(cpu("1", "2")), "what it has now");
        assert_eq!(
            to_take(&pod(Some(("50m", "500m")), true, Some("50m/500m"))),
            Some(cpu("50m", "500m")),
            "a mark alone"
        );
        assert_eq!(to_take(&pod(Some(("1m", "10m")), true, Some("50m/500m"))), None);
        assert_eq!(to_take(&pod(Some(("1m", "10m")), false, Some("50m/500m"))), None);
        assert_eq!(to_take(&pod(None, false, None)), None);
    }

    #[test]
    fn only_the_function_s_cpu_is_patched() {
        let patch = cpu("1m", "10m").resize("u", Some("7"));
        assert_eq!(
            patch,
            json!({
                "metadata": {"uid": "u", "resourceVersion": "7"},
                "spec": {"containers": [{"name": "function", "resources": {
                    "requests": {"cpu": "1m"}, "limits": {"cpu": "10m"},
                }}]},
            })
        );
    }
}
