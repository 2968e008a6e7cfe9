//! How traffic moves to a new revision, as an author says it (`spec.rollout`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How traffic moves to a new revision that has proved itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// `Immediate` (the default): all at once. `Gradual`: in steps.
    pub strategy: RolloutStrategy,
    /// With `Gradual`: what each step adds to the new revision's part, of a hundred requests. Default 10.
    #[schemars(range(min = 1, max = 100))]
    pub step_percent: u32,
    /// With `Gradual`: seconds that each step lasts. Default 60.
    #[schemars(range(min = 1, max = 86_400))]
    pub interval_seconds: u32,
    /// With `Gradual`: what makes all traffic go back to the old revision. The new one counts as failed then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort_on: Option<AbortOn>,
}

/// What a new revision may do no more often than this, by what the activators see of its requests since the step began. A rollout is aborted
/// once that is sure (Chernoff's bound, 99.9 %): a single bad answer among the first is no verdict. While it is not, no step is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AbortOn {
    /// Failed requests of a hundred: those answered with 5xx, a gRPC status that blames the server, or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 99))]
    pub error_percent: Option<u32>,
    /// Seconds that 99 of a hundred requests may take at a pod, until the head of the answer.
    #[serde(default, rename = "latencyP99Seconds", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001, max = 3600.0))]
    pub latency_p99_seconds: Option<f64>,
}

/// How traffic moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutStrategy {
    /// All at once.
    #[default]
    Immediate,
    /// In steps.
    Gradual,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { strategy: RolloutStrategy::Immediate, step_percent: 10, interval_seconds: 60, abort_on: None }
    }
}
