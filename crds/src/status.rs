//! Status of a Function: what the operator observed, for people and tools.

mod idle;
mod rollout;
mod route;

pub use idle::{CostStatus, IdlePlan, IdleStatus, ReservedSeconds, RungSeconds};
pub use rollout::RolloutStatus;
pub use route::{ActivatorRef, RouteMatch, RouteOwner, RouteShare, RouteStatus, RouteTag};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator observed of a Function. Written by the operator alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunctionStatus {
    /// The `metadata.generation` that this status speaks of; -1 until the operator has looked at the Function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions: Ready, WorkloadReady, RouteReady, Active; HostnamesReady where there are `spec.hostnames`; TrafficReady where `spec.traffic` names a revision; Reconciling, Stalled, ReplicasContested and SelectorContested while abnormal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Where the Function answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The entries of `spec.hostnames` that lead to the Function.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub hostnames: Vec<String>,
    /// The rung of the idle ladder that the Function stands on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rung: Option<Rung>,
    /// What becomes of the Function while nobody asks anything of it, what was learnt of that, and what it saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleStatus>,
    /// Pods that exist, over all revisions.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that are ready, over all revisions.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of the Function's pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// How requests reach the Function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteStatus>,
    /// The rollout under way, while traffic moves to a new revision in steps (`spec.rollout`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// The newest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_created_revision: Option<String>,
    /// The newest revision that proved itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_ready_revision: Option<String>,
    /// The revisions that are kept, newest first, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<RevisionStatus>,
}

/// One revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// `<function>-<number>`; also the Deployment's name.
    pub name: String,
    /// 1 for the first, counting up.
    pub number: i64,
    /// The image as the author wrote it.
    pub image: String,
    /// Whether it has proved that it starts.
    pub state: RevisionState,
    /// Why, where `state` is Failed: a CamelCase reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Pods of this revision.
    #[serde(default)]
    pub replicas: i32,
}

/// Whether a revision has proved that it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RevisionState {
    /// No pod of it was ready yet, and none failed.
    Pending,
    /// A pod of it was ready once.
    Ready,
    /// Its pods cannot start; the conditions say why.
    Failed,
}

/// A rung of the idle ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Rung {
    /// Pods run, or are starting.
    Active,
    /// Pods run with next to no CPU.
    Throttled,
    /// Pods hold their place for a function that does not run.
    Parked,
    /// No pods.
    Zero,
}
