//! The operator's own metrics.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Why a reconcile failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabels {
    /// A CamelCase reason.
    pub reason: &'static str,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabels {
    /// Kind of the object.
    pub kind: &'static str,
    /// What was done to it: `create`, `apply`, `restore`, `delete` or `status`.
    pub operation: &'static str,
}

/// The reconciler's metrics. Clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Seconds that one reconcile took.
    pub reconcile_duration: Histogram,
    /// Reconciles that failed.
    pub reconcile_errors: Family<ErrorLabels, Counter>,
    /// Writes to the API server.
    pub writes: Family<WriteLabels, Counter>,
    /// Functions that exist.
    pub functions: Gauge,
    /// Whether this process is the leader.
    pub leader: Gauge,
}

impl Metrics {
    /// Registers the metrics. Call it once for each process.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconcile_duration: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            reconcile_errors: Family::default(),
            writes: Family::default(),
            functions: Gauge::default(),
            leader: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("pilotlight_operator");
        registry.register(
            "reconcile_duration_seconds",
            "Time that one reconcile of a Function took",
            metrics.reconcile_duration.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Reconciles that failed and are tried again",
            metrics.reconcile_errors.clone(),
        );
        registry.register("writes", "Writes to the API server, scaling aside", metrics.writes.clone());
        registry.register("functions", "Functions that exist", metrics.functions.clone());
        registry.register(
            "leader",
            "1 in the process that reconciles, 0 in one that stands by",
            metrics.leader.clone(),
        );
        metrics
    }

    /// Counts one write.
    pub fn wrote(&self, kind: &'static str, operation: &'static str) {
        self.writes.get_or_create(&WriteLabels { kind, operation }).inc();
    }
}
