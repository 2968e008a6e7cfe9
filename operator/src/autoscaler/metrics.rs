//! The autoscaler's metrics. Labels are Function, namespace and reasons of closed sets.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::accounts::Accounts;
use super::ledger::FunctionKey;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    direction: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FunctionLabels {
    namespace: String,
    function: String,
}

impl From<&FunctionKey> for FunctionLabels {
    fn from(key: &FunctionKey) -> Self {
        Self { namespace: key.namespace.clone(), function: key.name.clone() }
    }
}

/// The autoscaler's metrics. Clones share their values.
#[derive(Clone, Debug)]
pub struct AutoscalerMetrics {
    decisions: Family<ReasonLabel, Counter>,
    scale_writes: Family<WriteLabels, Counter>,
    handshake_duration: Histogram,
    tick_duration: Histogram,
    desired: Family<FunctionLabels, Gauge>,
    actual: Family<FunctionLabels, Gauge>,
    activators: Gauge,
    batches: Counter,
    streams_ended: Family<ReasonLabel, Counter>,
    /// What each Function cost.
    pub(super) accounts: Arc<Accounts>,
}

impl AutoscalerMetrics {
    /// Registers the metrics in the root registry, with the prefix `pilotlight_operator_`. Call it once for each process.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(Arc::clone(&metrics.accounts)));
        let registry = registry.sub_registry_with_prefix("pilotlight_operator");
        registry.register(
            "scale_decisions",
            "Decisions about a Function's replicas, by reason",
            metrics.decisions.clone(),
        );
        registry.register(
            "scale_writes",
            "Attempts to write /scale, by direction and outcome",
            metrics.scale_writes.clone(),
        );
        registry.register(
            "step_down_duration_seconds",
            "Time that one step down with its hand-shake took",
            metrics.handshake_duration.clone(),
        );
        registry.register(
            "tick_duration_seconds",
            "Time that the autoscaler took to compare what changed with what it knows, every ten seconds",
            metrics.tick_duration.clone(),
        );
        registry.register(
            "function_desired_replicas",
            "Replicas that the last decision asks for",
            metrics.desired.clone(),
        );
        registry.register(
            "function_replicas",
            "Replicas of the Deployment that gets the traffic",
            metrics.actual.clone(),
        );
        registry.register("activators", "Activators whose samples are listened to", metrics.activators.clone());
        registry.register("sample_batches", "Batches of samples that arrived", metrics.batches.clone());
        registry.register(
            "sample_streams_ended",
            "Streams of samples that ended, by reason",
            metrics.streams_ended.clone(),
        );
        metrics
    }

    pub(super) fn decided(&self, key: &FunctionKey, reason: &'static str, desired: u32, actual: u32) {
        self.decisions.get_or_create(&ReasonLabel { reason }).inc();
        let labels = FunctionLabels::from(key);
        self.desired.get_or_create(&labels).set(i64::from(desired));
        self.actual.get_or_create(&labels).set(i64::from(actual));
    }

    pub(super) fn wrote(&self, direction: &'static str, outcome: &'static str, took: Duration) {
        let labels = WriteLabels { direction, outcome };
        self.scale_writes.get_or_create(&labels).inc();
        if direction == "down" {
            self.handshake_duration.observe(took.as_secs_f64());
        }
    }

    pub(super) fn ticked(&self, took: Duration) {
        self.tick_duration.observe(took.as_secs_f64());
    }

    pub(super) fn listening(&self, activators: usize) {
        self.activators.set(i64::try_from(activators).unwrap_or(i64::MAX));
    }

    pub(super) fn heard(&self) {
        self.batches.inc();
    }

    pub(super) fn stream_ended(&self, reason: &'static str) {
        self.streams_ended.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(super) fn forget(&self, key: &FunctionKey) {
        let labels = FunctionLabels::from(key);
        self.desired.remove(&labels);
        self.actual.remove(&labels);
    }
}

impl Default for AutoscalerMetrics {
    /// Metrics that nobody sees, for tests.
    fn default() -> Self {
        Self {
            decisions: Family::default(),
            scale_writes: Family::default(),
            handshake_duration: Histogram::new(exponential_buckets(0.002, 2.0, 14)),
            tick_duration: Histogram::new(exponential_buckets(0.0001, 2.0, 14)),
            desired: Family::default(),
            actual: Family::default(),
            activators: Gauge::default(),
            batches: Counter::default(),
            streams_ended: Family::default(),
            accounts: Arc::default(),
        }
    }
}
