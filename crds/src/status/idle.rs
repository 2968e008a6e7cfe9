//! The idle ladder in a Function's status: the plan, what was learnt, and the account.
//!
//! What always holds: bounded in size; written with other changes of the status, or five minutes apart where only what was learnt changed. So
//! it tells of the moment in `cost.countedUntil`; the operator's metrics and decision log tell of now.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rung;

/// What becomes of a Function while nobody asks anything of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdleStatus {
    /// Since when no activator has had a request, to the second. Absent under load, and where nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When the first request of the activity before that arrived, to the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_since: Option<Time>,
    /// What is to become of it. Absent under load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<IdlePlan>,
    /// What was learnt of its idle times and wakes, for the policy Adaptive. Written and read by the operator alone, at most 1,198 characters;
    /// without it everything is learnt anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learnt: Option<String>,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostStatus>,
}

/// What is to become of an idle Function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdlePlan {
    /// The rung that was decided on.
    pub rung: Rung,
    /// Why, in words and numbers.
    pub reason: String,
    /// When another one is next, if no request comes before, to the second. Absent: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_move: Option<Time>,
}

/// What a Function cost since it was created, and what it would have cost as a Deployment that always runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CostStatus {
    /// The moment up to which all is counted.
    pub counted_until: Time,
    /// Time spent on each rung.
    pub rung_seconds: RungSeconds,
    /// What was reserved: by the requests of the function's container, where it has some.
    pub reserved: ReservedSeconds,
    /// What a Deployment would have reserved with one replica while the Function was idle, and as many as the Function while it was not.
    pub always_on: ReservedSeconds,
    /// The percentage of it that was saved: of memory where the container requests some, else of CPU, else of replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_percent: Option<i64>,
}

/// Seconds on each rung.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RungSeconds {
    /// Pods ran, or were starting.
    pub active: i64,
    /// Pods had next to no CPU.
    pub throttled: i64,
    /// Pods had no process of the function's.
    pub parked: i64,
    /// There was no pod.
    pub zero: i64,
}

/// What was reserved over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReservedSeconds {
    /// Pods, each for a second.
    pub replica_seconds: i64,
    /// CPU cores, each for a second.
    pub core_seconds: i64,
    /// MiB of memory, each for a second.
    #[serde(rename = "memoryMiBSeconds")]
    pub memory_mib_seconds: i64,
}
