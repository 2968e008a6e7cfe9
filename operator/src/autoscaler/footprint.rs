//! What a replica of a Function reserves: the requests of its container, as the spec says them, or of all containers of the Deployment that it took
//! over. Pure.
//!
//! What always holds: a quantity that cannot be read counts as none; nothing is larger than its type.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pilotlight_crds::{FunctionSpec, park};
use pilotlight_scaling::idle::Footprint;
use std::sync::Arc;

/// Memory that a replica is taken to hold where nothing is said of it, in MiB, for decisions only.
const USUAL_MEMORY_MIB: u32 = 64;
/// Memory of a Parked replica, in MiB.
const PARKED_MIB: u32 = 2;

/// What the containers of a replica ask for. `deployment`: the one that the Function took over, if it did.
pub(super) fn asked<'a>(spec: &'a FunctionSpec, deployment: Option<&'a Deployment>) -> Vec<&'a ResourceRequirements> {
    let template = deployment.and_then(|deployment| deployment.spec.as_ref()?.template.spec.as_ref());
    let theirs =
        template.into_iter().flat_map(|pod| &pod.containers).filter_map(|container| container.resources.as_ref());
    spec.resources.iter().chain(theirs).collect()
}

/// What a replica reserves: its requests, and where there are none its limits, as Kubernetes takes them; nothing where there are neither.
pub(super) fn reserved(asked: &[&ResourceRequirements]) -> Footprint {
    let of = |all: Option<&BTreeMap<String, Quantity>>, name: &str| all.and_then(|all| all.get(name)).and_then(value);
    let asked = |name: &str| -> f64 {
        asked.iter().filter_map(|one| of(one.requests.as_ref(), name).or_else(|| of(one.limits.as_ref(), name))).sum()
    };
    let memory_mib = (asked("memory") / 1_048_576.0).ceil() as u32;
    Footprint { memory_mib, cpu_milli: (asked("cpu") * 1000.0).ceil() as u32, parked_mib: Some(PARKED_MIB) }
}

/// The same, where these pods stand: parked ones whose requests did not shrink reserve what they did.
pub(super) fn standing(asked: &[&ResourceRequirements], pods: &[Arc<Pod>]) -> Footprint {
    let reserved = reserved(asked);
    let rigid = pods.iter().any(|pod| is_rigid(pod));
    Footprint { parked_mib: reserved.parked_mib.filter(|_| !rigid), ..reserved }
}

/// Whether a pod is parked and reserves what it did; in a moment it may have shrunk.
fn is_rigid(pod: &Pod) -> bool {
    park::is_swapped(pod) && park::reserves(pod)
}

/// The same of a pod that nobody will shrink: its class of service forbids it, or somebody else resized it.
pub(super) fn stays_rigid(pod: &Pod) -> bool {
    is_rigid(pod) && park::to_shrink(pod).is_none()
}

/// What a replica is taken to reserve for decisions: a process without a request holds memory all the same. `rigid`: its requests do not shrink when it is
/// parked, as was seen.
pub(super) fn expected(asked: &[&ResourceRequirements], rigid: bool) -> Footprint {
    let reserved = reserved(asked);
    let memory_mib = if reserved.memory_mib == 0 { USUAL_MEMORY_MIB } else { reserved.memory_mib };
    Footprint { memory_mib, parked_mib: reserved.parked_mib.filter(|_| !rigid), ..reserved }
}

/// A quantity in its base unit: cores, bytes.
fn value(quantity: &Quantity) -> Option<f64> {
    let text = quantity.0.trim();
    if let Ok(plain) = text.parse::<f64>() {
        return (plain.is_finite() && plain >= 0.0).then_some(plain);
    }
    let end = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024_f64,
        "Mi" => 1024_f64.powi(2),
        "Gi" => 1024_f64.powi(3),
        "Ti" => 1024_f64.powi(4),
        "Pi" => 1024_f64.powi(5),
        "Ei" => 1024_f64.powi(6),
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    (number >= 0.0).then_some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(resources: serde_json::Value) -> FunctionSpec {
        serde_json::from_value(json!({"image": "a", "resources": resources})).unwrap()
    }

    #[test]
    fn requests_count_and_limits_where_there_are_none() {
        let table = [
            (json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}}), (64, 50)),
            (json!({"requests": {"cpu": "0.25"}, "limits": {"memory": "0.5Gi"}}), (512, 250)),
            (json!({"limits": {"cpu": "1.5", "memory": "100M"}}), (96, 1500)),
            (json!({"requests": {"memory": "1e6", "cpu": 2}}), (1, 2000)),
            (json!({"requests": {"memory": "lots", "cpu": "-1"}}), (0, 0)),
            (json!({"requests": {"memory": "9Ei", "cpu": "1Ti"}}), (u32::MAX, u32::MAX)),
        ];
        for (resources, expected) in table {
            let footprint = reserved(&asked(&spec(resources.clone()), None));
            assert_eq!((footprint.memory_mib, footprint.cpu_milli), expected, "{resources}");
        }
    }

    #[test]
    fn a_parked_pod_that_could_not_shrink_counts_as_much_as_before() {
        let spec = spec(json!({"requests": {"memory": "64Mi"}}));
        let parked = |memory: &str| {
            let resources = json!({"requests": {"memory": memory}});
            let pod = json!({
                "metadata": {"annotations": {"pilotlight.dev/image": "hello@sha256:aa"}},
                "spec": {"containers": [{"name": "function", "image": "pilot:w1@sha256:bb", "resources": resources}]},
            });
            vec![Arc::new(serde_json::from_value::<Pod>(pod).unwrap())]
        };
        assert_eq!(standing(&asked(&spec, None), &parked("64Mi")).parked_mib, None);
        assert_eq!(standing(&asked(&spec, None), &parked("2Mi")).parked_mib, Some(PARKED_MIB));
        assert_eq!(standing(&asked(&spec, None), &[]), reserved(&asked(&spec, None)));
    }

    #[test]
    fn only_a_parked_pod_that_nobody_will_shrink_stays_as_it_is() {
        let stays = |class: &str, image: &str, memory: &str| {
            let pod = json!({
                "metadata": {"annotations": {
                    "pilotlight.dev/image": "hello@sha256:aa", "pilotlight.dev/requests": "-/64Mi",
                }},
                "spec": {"containers": [
                    {"name": "function", "image": image, "resources": {"requests": {"memory": memory}}},
                ]},
                "status": {"qosClass": class},
            });
            stays_rigid(&serde_json::from_value(pod).unwrap())
        };
        let (function, pilot) = ("hello:w2@sha256:aa", "pilot:w1@sha256:bb");
        assert!(!stays("Burstable", pilot, "64Mi"), "it is about to shrink");
        assert!(!stays("Burstable", pilot, "2Mi"));
        assert!(stays("Burstable", pilot, "48Mi"), "somebody else has resized it");
        assert!(stays("Guaranteed", pilot, "64Mi"));
        assert!(!stays("Guaranteed", function, "64Mi"), "it is not parked");
    }

    #[test]
    fn all_containers_of_a_deployment_that_was_taken_over_count() {
        let container = |memory: &str| json!({"name": "c", "resources": {"requests": {"memory": memory}}});
        let deployment = json!({"spec": {"selector": {}, "template": {"spec": {
            "containers": [container("64Mi"), container("16Mi"), {"name": "bare"}],
        }}}});
        let deployment: Deployment = serde_json::from_value(deployment).unwrap();
        assert_eq!(reserved(&asked(&FunctionSpec::default(), Some(&deployment))).memory_mib, 80);
    }

    #[test]
    fn what_requests_nothing_reserves_nothing_but_holds_something() {
        let spec = FunctionSpec::default();
        assert_eq!((reserved(&asked(&spec, None)).memory_mib, reserved(&asked(&spec, None)).cpu_milli), (0, 0));
        assert_eq!(
            expected(&asked(&spec, None), false),
            Footprint { memory_mib: USUAL_MEMORY_MIB, cpu_milli: 0, parked_mib: Some(PARKED_MIB) }
        );
        assert_eq!(expected(&asked(&spec, None), true).parked_mib, None, "its parked pods did not shrink");
    }
}
