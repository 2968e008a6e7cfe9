//! How far a rollout in steps has come.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A rollout under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The revision that traffic moves to.
    pub revision: String,
    /// The one that it comes from, and goes back to if the new one is no good.
    pub from: String,
    /// The new revision's part, of a hundred requests.
    pub percent: u32,
    /// Since when it has this part.
    pub since: Time,
}
