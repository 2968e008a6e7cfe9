//! What the tests of steps between rungs need: a cluster with whole pods, such a step, and what a decision makes of pods.

use k8s_openapi::api::core::v1::Pod;
use pilotlight_crds::FunctionSpec;
use pilotlight_scaling::idle::Rungs;
use pilotlight_scaling::{Cause, Decision, Memory, Reason, Rung};
use serde_json::{Value, json};
use std::sync::Arc;

use super::fakes::{FakeActivator, FakeCluster};
use crate::autoscaler::situation::{RevisionRead, StepKind, available, rung_step, wanted};
use crate::autoscaler::stepdown::StepDown;

impl FakeCluster {
    /// One replica, these activators and these pods.
    pub(super) fn of_pods(activators: &[&FakeActivator], pods: Vec<Pod>) -> Self {
        let peers = activators.iter().enumerate().map(|(n, activator)| activator.peer(&n.to_string())).collect();
        let cluster = Self::new(1, peers);
        cluster.with(|model| model.whole = pods);
        cluster
    }
}

/// Between rungs, of the Function's one revision.
pub(super) fn move_of_hello() -> StepDown {
    let (namespace, name, revision) = ("shop".to_owned(), "hello".to_owned(), "hello-1".to_owned());
    StepDown { namespace, name, revision, from: 1, to: 1 }
}

/// What is done about these pods where the decision is for `rung`. `wanted`: the spec may ask for every rung, or for none but the plain ones.
pub(super) fn step_to(rung: Rung, cause: Cause, wanted: bool, past: bool, pods: &[Arc<Pod>]) -> Option<StepKind> {
    let reason = Reason { cause, bound: None };
    let decision = Decision { replicas: 1, rung, reason, idle: None, next_check: None, memory: Memory::default() };
    let active = RevisionRead { name: "hello-1".to_owned(), replicas: 1, ready: 1, resource_version: None };
    let wanted = if wanted { Rungs::ALL } else { Rungs::PLAIN };
    rung_step(&active, &decision, wanted, past, pods).map(|step| step.kind)
}

#[test]
fn pods_of_a_deployment_that_was_taken_over_are_on_no_rung_between() {
    for scaling in [json!({}), json!({"idle": {"policy": "Adaptive"}})] {
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"});
        let spec: FunctionSpec = serde_json::from_value(json!({"targetRef": target, "scaling": scaling})).unwrap();
        assert_eq!((available(&spec, false, |_| false), wanted(&spec, false)), (Rungs::PLAIN, Rungs::PLAIN));
    }
}

#[test]
fn who_says_nothing_gets_the_ladder_and_pods_that_run_where_a_floor_keeps_them() {
    let rungs = |scaling: Value, floored| {
        let resources = json!({"limits": {"cpu": "500m"}});
        let spec = json!({"image": "hello:v1", "resources": resources, "scaling": scaling});
        let spec: FunctionSpec = serde_json::from_value(spec).unwrap();
        (available(&spec, floored, |_| false), wanted(&spec, floored))
    };
    assert_eq!(rungs(json!({}), false), (Rungs::ALL, Rungs::ALL));
    assert_eq!(rungs(json!({}), true), (Rungs::PLAIN, Rungs::PLAIN));
    assert_eq!(rungs(json!({"idle": {"policy": "Adaptive"}}), true), (Rungs::ALL, Rungs::ALL), "that is asked for");
    let steps = json!({"idle": {"steps": [{"afterSeconds": 9, "rung": "Parked"}]}});
    assert_eq!(rungs(steps, true), (Rungs::ALL, Rungs::ALL.without(Rung::Throttled)));
}
