//! What a parked pod reserves: next to nothing, where its requests can shrink. Pure.
//!
//! What always holds: the pod carries with it what its function requests, from before that shrinks and for good; so whoever finds it, after
//! whatever crash, can give it back. Limits never change, so a function that comes back before its requests do may use all that it ever may.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Value, json};

use super::{function_of, is_swapped};
use crate::names::{ANNOTATION_REQUESTS, CONTAINER};
use crate::throttle::milli;

/// CPU that is left of a request.
const CPU: &str = "1m";
/// Memory that is left of a request: the placeholder takes half a MiB.
const MEMORY: &str = "2Mi";
const MEMORY_BYTES: u64 = 2 * 1024 * 1024;
/// In the annotation, in the place of what is not requested.
const NOTHING: &str = "-";
/// The class of service whose requests are its limits, so that they cannot shrink alone; and the class of a pod never changes.
const GUARANTEED: &str = "Guaranteed";

/// What the function's container of a pod requests, as Kubernetes writes quantities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requests {
    cpu: Option<String>,
    memory: Option<String>,
}

impl Requests {
    /// What it requests at the moment. `None`: neither CPU nor memory.
    pub fn of(pod: &Pod) -> Option<Self> {
        let requests = function_of(pod)?.resources.as_ref()?.requests.as_ref()?;
        let of =
            |requests: &BTreeMap<String, Quantity>, name: &str| requests.get(name).map(|quantity| quantity.0.clone());
        Self { cpu: of(requests, "cpu"), memory: of(requests, "memory") }.if_any()
    }

    fn recorded(pod: &Pod) -> Option<Self> {
        let (cpu, memory) = pod.metadata.annotations.as_ref()?.get(ANNOTATION_REQUESTS)?.split_once('/')?;
        let noted = |text: &str| (text != NOTHING).then(|| text.to_owned());
        Self { cpu: noted(cpu), memory: noted(memory) }.if_any()
    }

    fn if_any(self) -> Option<Self> {
        (self.cpu.is_some() || self.memory.is_some()).then_some(self)
    }

    /// For the annotation.
    pub fn record(&self) -> String {
        let text = |quantity: &Option<String>| quantity.clone().unwrap_or_else(|| NOTHING.to_owned());
        format!("{}/{}", text(&self.cpu), text(&self.memory))
    }

    /// What is left of it while it is parked. What is no more than that already, or cannot be read, stays.
    fn shrunk(&self) -> Self {
        let cpu = self
            .cpu
            .as_ref()
            .map(|cpu| if milli(cpu).is_some_and(|milli| milli > 1) { CPU.to_owned() } else { cpu.clone() });
        let more = |memory: &String| bytes(memory).is_some_and(|bytes| bytes > MEMORY_BYTES);
        let memory = self.memory.as_ref().map(|memory| if more(memory) { MEMORY.to_owned() } else { memory.clone() });
        Self { cpu, memory }
    }

    /// The patch of a pod's `resize` subresource that makes the function's container request this. The uid keeps it from a pod of the same name
    /// that came after; `resource_version` makes it fail where the pod was written since.
    pub fn resize(&self, uid: &str, resource_version: Option<&str>) -> Value {
        let named = [("cpu", &self.cpu), ("memory", &self.memory)];
        let requests: Map<String, Value> = named
            .into_iter()
            .filter_map(|(name, quantity)| Some((name.to_owned(), json!(quantity.as_ref()?))))
            .collect();
        let mut patch = json!({
            "metadata": { "uid": uid },
            "spec": { "containers": [{ "name": CONTAINER, "resources": { "requests": requests } }] },
        });
        if let Some(version) = resource_version {
            patch["metadata"]["resourceVersion"] = json!(version);
        }
        patch
    }
}

/// What a pod's function requests as a rule, to be noted before it is parked. `None`: nothing.
pub fn requests_to_note(pod: &Pod) -> Option<Requests> {
    let now = Requests::of(pod)?;
    Some(Requests::recorded(pod).filter(|recorded| recorded.shrunk() == now).unwrap_or(now))
}

/// What a parked pod should request. `None`: it does so, it is not parked, or its class of service does not let it.
pub fn to_shrink(pod: &Pod) -> Option<Requests> {
    let class = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
    if !is_swapped(pod) || class == Some(GUARANTEED) {
        return None;
    }
    let (recorded, now) = (Requests::recorded(pod)?, Requests::of(pod)?);
    let shrunk = recorded.shrunk();
    // Whoever resized it meanwhile has had his reasons.
    (now == recorded && now != shrunk).then_some(shrunk)
}

/// What a pod that has its function has to request again. `None`: it does.
pub fn to_regrow(pod: &Pod) -> Option<Requests> {
    let (recorded, now) = (Requests::recorded(pod)?, Requests::of(pod)?);
    (!is_swapped(pod) && now == recorded.shrunk() && now != recorded).then_some(recorded)
}

/// Whether a pod, parked or not, reserves more than a parked one has to.
pub fn reserves(pod: &Pod) -> bool {
    Requests::of(pod).is_some_and(|requests| requests.shrunk() != requests)
}

/// A quantity of memory as the API server writes it, in bytes.
fn bytes(quantity: &str) -> Option<u64> {
    let digits = quantity.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at(digits);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod whose function requests this, with what was noted; parked or not.
    fn pod(requests: Value, noted: Option<&str>, parked: bool, class: &str) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "hello-1-x", "uid": "u", "annotations": {"pilotlight.dev/image": "hello@sha256:aa"}},
            "spec": {"containers": [
                {"name": "beacon", "resources": {"requests": {"memory": "4Mi"}}},
                {
                    "name": "function", "image": if parked { "pilot:w1@sha256:bb" } else { "hello:w2@sha256:aa" },
                    "resources": {"requests": requests, "limits": {"cpu": "1", "memory": "1Gi"}},
                },
            ]},
            "status": {"qosClass": class},
        });
        if let Some(noted) = noted {
            pod["metadata"]["annotations"][ANNOTATION_REQUESTS] = json!(noted);
        }
        serde_json::from_value(pod).expect("a pod")
    }

    fn record(requests: Option<Requests>) -> Option<String> {
        requests.map(|requests| requests.record())
    }

    #[test]
    fn each_state_that_a_crash_can_leave_tells_what_to_do() {
        let (full, low) = (json!({"cpu": "50m", "memory": "64Mi"}), json!({"cpu": "1m", "memory": "2Mi"}));
        let noted = Some("50m/64Mi");
        let whole = Some("50m/64Mi".to_owned());
        let left = Some("1m/2Mi".to_owned());
        let state = |requests: &Value, noted, parked| {
            let pod = pod(requests.clone(), noted, parked, "Burstable");
            (record(requests_to_note(&pod)), record(to_shrink(&pod)), record(to_regrow(&pod)))
        };
        assert_eq!(state(&full, None, false), (whole.clone(), None, None), "never parked");
        assert_eq!(state(&full, None, true), (whole.clone(), None, None), "nobody noted what to give back");
        assert_eq!(state(&full, noted, true), (whole.clone(), left, None), "parked a moment ago");
        assert_eq!(state(&low, noted, true), (whole.clone(), None, None), "parked");
        assert_eq!(state(&low, noted, false), (whole.clone(), None, whole.clone()), "its function is back");
        assert_eq!(state(&full, noted, false), (whole.clone(), None, None), "as ever");
        let other = json!({"cpu": "70m", "memory": "64Mi"});
        let now = Some("70m/64Mi".to_owned());
        assert_eq!(state(&other, noted, true), (now.clone(), None, None), "resized by somebody else since");
        assert_eq!(state(&other, noted, false), (now, None, None));
    }

    #[test]
    fn only_what_is_requested_shrinks_and_never_grows() {
        let left = |requests: Value, noted| record(to_shrink(&pod(requests, Some(noted), true, "Burstable")));
        assert_eq!(left(json!({"memory": "1Gi"}), "-/1Gi").as_deref(), Some("-/2Mi"));
        assert_eq!(left(json!({"cpu": "2", "memory": "1Mi"}), "2/1Mi").as_deref(), Some("1m/1Mi"));
        assert_eq!(left(json!({"cpu": "1m", "memory": "2Mi"}), "1m/2Mi"), None);
        assert_eq!(left(json!({"memory": "lots"}), "-/lots"), None);
        assert_eq!(to_shrink(&pod(json!({"cpu": "1", "memory": "1Gi"}), Some("1/1Gi"), true, "Guaranteed")), None);
        assert_eq!(requests_to_note(&pod(json!({}), None, true, "BestEffort")), None);
    }

    #[test]
    fn only_requests_are_patched() {
        let requests = Requests { cpu: None, memory: Some("2Mi".to_owned()) };
        assert_eq!(
            requests.resize("u", Some("7")),
            json!({
                "metadata": {"uid": "u", "resourceVersion": "7"},
                "spec": {"containers": [{"name": "function", "resources": {"requests": {"memory": "2Mi"}}}]},
            })
        );
    }

    #[test]
    fn quantities_are_read_as_the_api_server_writes_them() {
        let read = ["64Mi", "100M", "1Gi", "2097152", "1500k", "0.5Gi", "1e6", "Mi"].map(bytes);
        let mib = |mib: u64| Some(mib << 20);
        assert_eq!(read, [mib(64), Some(100_000_000), mib(1024), mib(2), Some(1_500_000), None, None, None]);
    }
}
