//! Parts of a Function's spec that are read live and make no new revision: scaling, limits, timeouts, cold start.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the number of pods follows load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Scaling {
    /// Pods that always run. 0 lets the Function scale to zero. `kubectl scale` writes this field.
    pub min_replicas: u32,
    /// Pods at most.
    pub max_replicas: u32,
    /// Pods that a new revision starts with, once, to prove that it can. 0: not until the first request.
    pub initial_replicas: u32,
    /// Requests at once that one pod should have. 0: `concurrency.limit`, or 100 where that is 0 too.
    pub target_concurrency: u32,
    /// Percentage of the target that is aimed at, to leave room for growth.
    pub target_utilization_percent: u32,
    /// Seconds over which load is averaged.
    pub stable_window_seconds: u32,
    /// Length of the panic window, in percent of the stable window.
    pub panic_window_percent: u32,
    /// Load in the panic window, in percent of what the ready pods are meant to bear, from which on scaling panics.
    pub panic_threshold_percent: u32,
    /// Seconds without a request until the Function goes to zero.
    pub idle_seconds: u32,
    /// Seconds that load must stay lower before pods are removed.
    pub scale_down_delay_seconds: u32,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            min_replicas: 0,
            max_replicas: 100,
            initial_replicas: 1,
            target_concurrency: 0,
            target_utilization_percent: 70,
            stable_window_seconds: 60,
            panic_window_percent: 10,
            panic_threshold_percent: 200,
            idle_seconds: 60,
            scale_down_delay_seconds: 0,
        }
    }
}

/// How many requests a pod may have at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Concurrency {
    /// Hard limit of requests at one pod at one moment. 0: none.
    pub limit: u32,
}

/// How long a request may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// Seconds from the request's arrival at a pod to the end of its response. 0: no limit.
    pub request_seconds: u32,
    /// Seconds until the response's first byte, cold start not counted. 0: no limit.
    pub response_start_seconds: u32,
    /// Seconds that a body or an upgraded connection may stand still. 0: no limit.
    pub idle_stream_seconds: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request_seconds: 300,
            response_start_seconds: 300,
            idle_stream_seconds: 300,
        }
    }
}

/// What happens while no pod is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ColdStart {
    /// Seconds that a request is held at most while no pod is ready.
    pub timeout_seconds: u32,
    /// Requests held at most, on each activator.
    pub pending_requests: u32,
    /// Bytes of requests held at most, on each activator.
    pub pending_bytes: u64,
}

impl Default for ColdStart {
    fn default() -> Self {
        Self {
            timeout_seconds: 60,
            pending_requests: 10_000,
            pending_bytes: 64 * 1024 * 1024,
        }
    }
}
