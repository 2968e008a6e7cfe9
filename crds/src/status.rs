//! Status of a Function: what the operator observed, for people and tools.

mod idle;

pub use idle::{CostStatus, IdlePlan, IdleStatus, ReservedSeconds, RungSeconds};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
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

/// How requests reach a Function.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// The TCP port on every activator that is this Function's alone.
    pub port: u16,
    /// The revision that gets the traffic, or the largest part of it. Its Deployment has the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// How the traffic is shared where several revisions get some, `revision` among them, the largest part first; else absent. The percentages make 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub split: Vec<RouteShare>,
    /// Port of the pods, by number or name, where the Function took over a Deployment (`spec.targetRef`); else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<IntOrString>,
    /// Who may send requests to the pods. Absent while the Function never had a hard concurrency limit: every activator may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<RouteOwner>,
}

/// A revision's part of the traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteShare {
    /// The revision. Its Deployment has the same name.
    pub revision: String,
    /// Of a hundred requests.
    pub percent: u32,
}

/// Who may send requests to the pods of a Function with a hard concurrency limit (`spec.concurrency.limit`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteOwner {
    /// Grows with every change of who may send, and never goes back.
    pub epoch: i64,
    /// The one activator that may send; the others hand their requests to it. Absent: see `everyone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activator: Option<ActivatorRef>,
    /// Without `activator`: whether every activator may send (the limit was taken away), or none yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub everyone: bool,
    /// The other activators that ran when the epoch began and still run. Before it sends, the owner asks each of them what it
    /// still has at the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<ActivatorRef>,
}

/// An activator.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActivatorRef {
    /// Name of its pod.
    pub pod: String,
    /// Uid of its pod.
    pub uid: String,
    /// IP address of its pod.
    pub address: String,
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
