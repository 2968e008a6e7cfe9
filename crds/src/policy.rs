//! Parts of a Function's spec that are read live and make no new revision: scaling, limits, timeouts, cold start.
//!
//! Each default is both here and, generated from here, in the schema; so `kubectl get -o yaml` shows what is in force.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the number of pods follows load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Scaling {
    /// Pods that always run. 0 (the default) lets the Function scale to zero. `kubectl scale` writes this field: it sets the
    /// floor, load may still ask for more.
    #[schemars(range(min = 0, max = 1000))]
    pub min_replicas: u32,
    /// Pods at least while there are any: load that falls takes no more away, silence takes them all at once. Default 1. (`minReplicas`
    /// keeps pods without load, too.)
    #[schemars(range(min = 1, max = 1000))]
    pub min_active_replicas: u32,
    /// Pods that the first request after zero starts, at least; it counts until so many have been ready once. Default 1. (Knative's
    /// `activation-scale`.)
    #[schemars(range(min = 1, max = 1000))]
    pub activation_replicas: u32,
    /// Pods at most. Default 100.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: u32,
    /// Pods that a new revision starts with, once, to prove that it can. Default 1. 0: it is not tried until the first request.
    #[schemars(range(min = 0, max = 1000))]
    pub initial_replicas: u32,
    /// What load is measured by: `Concurrency` (the default), requests at once, with the target `targetConcurrency`; or `RPS`, requests that
    /// arrive in a second, with the target `targetRPS`, for short requests of even cost. `concurrency.limit` holds with either.
    pub metric: ScalingMetric,
    /// Requests at once that one pod should have, with the metric `Concurrency`. 0 (the default): `concurrency.limit`, or 100 where that
    /// is 0 too.
    #[schemars(range(min = 0, max = 10_000))]
    pub target_concurrency: u32,
    /// Requests a second that one pod should have, with the metric `RPS`. 0 (the default): 200.
    #[serde(rename = "targetRPS")]
    #[schemars(range(min = 0, max = 100_000))]
    pub target_rps: u32,
    /// Percentage of the target that is aimed at, to leave room for growth. Default 70.
    #[schemars(range(min = 1, max = 100))]
    pub target_utilization_percent: u32,
    /// Seconds over which load is averaged. Default 60.
    #[schemars(range(min = 2, max = 3600))]
    pub stable_window_seconds: u32,
    /// Length of the panic window, in percent of the stable window; it must last a second at least. Default 10.
    #[schemars(range(min = 1, max = 100))]
    pub panic_window_percent: u32,
    /// Load in the panic window, in percent of what the ready pods are meant to bear, from which on scaling panics: it adds pods
    /// at once and removes none. Default 200.
    #[schemars(range(min = 110, max = 1000))]
    pub panic_threshold_percent: u32,
    /// Seconds without a request until the Function goes to zero. Absent: `idle` says what becomes of idle pods, or where that is absent, too, the
    /// policy `Adaptive` decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub idle_seconds: Option<u32>,
    /// Seconds that load must stay lower before pods are removed. Default 0.
    #[schemars(range(min = 0, max = 3600))]
    pub scale_down_delay_seconds: u32,
    /// What becomes of pods that nobody asks anything of: steps at stated times, or a policy that learns when requests come. Absent: they stay
    /// as they are until `idleSeconds`, and without that the policy is `Adaptive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Idle>,
    /// Floors by the time of day: so many pods at least from each `start` to the next `end`, load or not. Where several are in force the
    /// highest counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub schedules: Vec<ScalingSchedule>,
}

/// What becomes of pods that nobody asks anything of: either `policy` or `steps`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Idle {
    /// `Adaptive`: Pilotlight learns when this Function's requests come, and chooses rung and moment by what waiting and pods cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<IdlePolicy>,
    /// Rungs of the idle ladder, each from so many seconds without a request on. Where neither a step nor `idleSeconds` leads to zero, pods stay
    /// on the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["rung"]))]
    pub steps: Vec<IdleStep>,
}

/// Who decides about idle pods where no times are stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IdlePolicy {
    /// What was learnt of the Function.
    Adaptive,
}

/// One step down the idle ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdleStep {
    /// Seconds without a request until it is taken; less than `idleSeconds`, and less than that of the rungs below.
    #[schemars(range(min = 1, max = 604_800))]
    pub after_seconds: u32,
    /// Where to. `Throttled`: pods keep their process and memory and lose nearly all of their CPU, until the next request; needs
    /// `resources.limits.cpu`. `Parked`: pods keep their sandbox, address and node, and a placeholder of 1 MB runs in them, until the next
    /// request brings the function back; needs an image whose entry point is the function (no `command`), and probes by `httpGet`, `tcpSocket`
    /// or `grpc`. `Zero`: no pods; the same as `idleSeconds`.
    pub rung: IdleRung,
    /// Pods that stay on it; the others go. Pods that a step keeps are kept until it is taken, too, and none is started for it: where load left
    /// fewer, those stay. Floors (`minReplicas`, `minActiveReplicas`, `schedules`) win. Absent: as many as load lately asked for, in the end one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: Option<u32>,
}

/// A rung that pods can be put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IdleRung {
    /// Process and memory stay; CPU at 10m.
    Throttled,
    /// Sandbox, address and node stay; a placeholder of 1 MB takes the process's place.
    Parked,
    /// No pods.
    Zero,
}

impl Scaling {
    /// Whether the adaptive policy decides about idle pods, because it is asked for or no times are stated.
    pub fn is_adaptive(&self) -> bool {
        match &self.idle {
            Some(idle) => idle.policy.is_some(),
            None => self.idle_seconds.is_none(),
        }
    }

    /// The steps down that are stated, zero after `idleSeconds` among them. Empty where the adaptive policy decides.
    pub fn idle_steps(&self) -> Vec<IdleStep> {
        let stated = self.idle.as_ref().map(|idle| idle.steps.as_slice()).unwrap_or_default();
        let zero =
            self.idle_seconds.map(|after_seconds| IdleStep { after_seconds, rung: IdleRung::Zero, replicas: None });
        stated.iter().cloned().chain(zero).collect()
    }

    /// Whether idle pods may ever be put on this rung, as far as the spec says.
    pub fn may_use(&self, rung: IdleRung) -> bool {
        self.is_adaptive() || self.states(rung)
    }

    /// Whether the author asks for this rung, by a step or by the policy's name. Who says nothing misses none.
    pub fn asks_for(&self, rung: IdleRung) -> bool {
        self.idle.is_some() && self.may_use(rung)
    }

    /// Whether the author states a step to this rung.
    pub fn states(&self, rung: IdleRung) -> bool {
        self.idle_steps().iter().any(|step| step.rung == rung)
    }
}

/// What load is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingMetric {
    /// Requests at once.
    #[default]
    Concurrency,
    /// Requests that arrive in a second.
    #[serde(rename = "RPS")]
    Rps,
}

/// A floor by the time of day. Its fields are those of KEDA's cron scaler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingSchedule {
    /// What decisions call it, for example `office-hours`.
    #[schemars(length(max = 63))]
    pub name: String,
    /// When the floor begins: a cron expression of five fields (minute, hour, day of month, month, day of week), for example
    /// `0 8 * * 1-5`.
    #[schemars(length(max = 100))]
    pub start: String,
    /// When it ends: a cron expression, for example `0 18 * * 1-5`.
    #[schemars(length(max = 100))]
    pub end: String,
    /// Time zone of both, by its IANA name, for example `Europe/Berlin`. Default `Etc/UTC`.
    #[serde(default = "default_time_zone")]
    #[schemars(length(max = 64))]
    pub time_zone: String,
    /// Pods at least while it is in force.
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: u32,
}

fn default_time_zone() -> String {
    "Etc/UTC".to_owned()
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            min_replicas: 0,
            min_active_replicas: 1,
            activation_replicas: 1,
            max_replicas: 100,
            initial_replicas: 1,
            metric: ScalingMetric::Concurrency,
            target_concurrency: 0,
            target_rps: 0,
            target_utilization_percent: 70,
            stable_window_seconds: 60,
            panic_window_percent: 10,
            panic_threshold_percent: 200,
            idle_seconds: None,
            scale_down_delay_seconds: 0,
            idle: None,
            schedules: Vec::new(),
        }
    }
}

/// How many requests a pod may have at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Concurrency {
    /// Hard limit of requests at one pod at one moment: further ones wait or get another pod. 0 (the default): no limit.
    #[schemars(range(min = 0, max = 10_000))]
    pub limit: u32,
}

/// How long a request may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// Seconds from the request's arrival at a pod to the end of its response. Default 300. 0: no limit.
    #[schemars(range(min = 0, max = 86_400))]
    pub request_seconds: u32,
    /// Seconds until the response's first byte, cold start not counted. 0 (the default): no limit besides `requestSeconds`.
    #[schemars(range(min = 0, max = 86_400))]
    pub response_start_seconds: u32,
    /// Seconds that a body or an upgraded connection may stand still. Default 300. 0: no limit.
    #[schemars(range(min = 0, max = 86_400))]
    pub idle_stream_seconds: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request_seconds: 300,
            // Not 300: an author who sets requestSeconds alone must not run into the rule that this one is not longer.
            response_start_seconds: 0,
            idle_stream_seconds: 300,
        }
    }
}

/// What happens while no pod is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ColdStart {
    /// Seconds that a request is held at most while no pod is ready; then it is answered with an error that names the best known
    /// cause. Default 60.
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: u32,
    /// Requests held at most, on each activator; further ones are refused at once. Default 10000.
    #[schemars(range(min = 1, max = 100_000))]
    pub pending_requests: u32,
    /// Bytes of requests held at most, on each activator; further ones are refused at once. Default 67108864 (64 MiB).
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub pending_bytes: u64,
    /// Whether pods announce their address themselves, by a second container of about 1 MB. Without it a wake waits until Kubernetes
    /// reports the address, up to a second longer. A change takes effect when the Function is next at zero pods. Default Enabled.
    pub beacon: Beacon,
    /// CPU limit of the function's container from its creation until it is first ready, in whole CPUs or thousandths: `2` or `1500m`. Then it
    /// is `resources.limits.cpu` again, without a restart. The CPU request goes with it only where both are the same. Absent: no more than
    /// always.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 7))]
    pub cpu_boost: Option<String>,
}

/// Whether pods announce their address themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Beacon {
    /// By a container named `beacon` beside the function's.
    #[default]
    Enabled,
    /// Pods have the function's container only.
    Disabled,
}

impl Default for ColdStart {
    fn default() -> Self {
        Self {
            timeout_seconds: 60,
            pending_requests: 10_000,
            pending_bytes: 64 * 1024 * 1024,
            beacon: Beacon::Enabled,
            cpu_boost: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn steps(scaling: serde_json::Value) -> Vec<(u32, IdleRung)> {
        let scaling: Scaling = serde_json::from_value(scaling).expect("a spec");
        scaling.idle_steps().into_iter().map(|step| (step.after_seconds, step.rung)).collect()
    }

    #[test]
    fn what_is_stated_counts_and_nothing_is_a_step_where_nothing_is() {
        let (throttled, zero) = (IdleRung::Throttled, IdleRung::Zero);
        assert_eq!(steps(json!({})), []);
        assert_eq!(steps(json!({"idleSeconds": 5})), [(5, zero)]);
        let throttle = json!({"steps": [{"afterSeconds": 9, "rung": "Throttled"}]});
        assert_eq!(steps(json!({"idle": throttle})), [(9, throttled)], "it stays there");
        assert_eq!(steps(json!({"idleSeconds": 30, "idle": throttle})), [(9, throttled), (30, zero)]);
        let both = json!({"steps": [{"afterSeconds": 9, "rung": "Throttled"}, {"afterSeconds": 90, "rung": "Zero"}]});
        assert_eq!(steps(json!({"idle": both})), [(9, throttled), (90, zero)]);
        assert_eq!(steps(json!({"idle": {"policy": "Adaptive"}})), []);
    }

    #[test]
    fn the_adaptive_policy_decides_where_no_times_are_stated_and_may_use_every_rung() {
        let scaling = |scaling: serde_json::Value| serde_json::from_value::<Scaling>(scaling).expect("a spec");
        for adaptive in [json!({}), json!({"minReplicas": 2}), json!({"idle": {"policy": "Adaptive"}})] {
            let scaling = scaling(adaptive);
            assert!(scaling.is_adaptive(), "{scaling:?}");
            for rung in [IdleRung::Throttled, IdleRung::Parked, IdleRung::Zero] {
                assert!(scaling.may_use(rung) && !scaling.states(rung));
            }
        }
        let step = json!({"steps": [{"afterSeconds": 9, "rung": "Throttled"}]});
        for stated in [json!({"idleSeconds": 5}), json!({"idle": step}), json!({"idleSeconds": 60, "idle": step})] {
            let scaling = scaling(stated);
            assert!(!scaling.is_adaptive() && !scaling.may_use(IdleRung::Parked), "{scaling:?}");
        }
    }

    #[test]
    fn a_rung_is_asked_for_by_a_step_or_by_the_policys_name() {
        let asks = |scaling: serde_json::Value| {
            serde_json::from_value::<Scaling>(scaling).expect("a spec").asks_for(IdleRung::Parked)
        };
        assert!(asks(json!({"idle": {"policy": "Adaptive"}})));
        assert!(asks(json!({"idle": {"steps": [{"afterSeconds": 9, "rung": "Parked"}]}})));
        assert!(!asks(json!({})) && !asks(json!({"idleSeconds": 5})));
    }
}
