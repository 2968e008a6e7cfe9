//! Metrics in Prometheus' text format. Labels are function and namespace and small closed sets, never a path or host. Each Function
//! holds its own series, so that a request touches atomics only.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::function::telemetry::{BalanceMetrics, FunctionBalance};
use crate::function::trace::WakeTrace;
use crate::index::FunctionKey;
use crate::tls::metrics::TlsMetrics;

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const PHASES: [&str; 4] = ["patched", "pod-seen", "ip-seen", "reachable"];
const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 15.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FunctionLabels {
    namespace: String,
    function: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    namespace: String,
    function: String,
    code_class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    namespace: String,
    function: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    namespace: String,
    function: String,
    phase: &'static str,
}

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    requests: Family<ClassLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
    cold_start: Family<PhaseLabels, Histogram, fn() -> Histogram>,
    wakes: Family<FunctionLabels, Counter>,
    in_flight: Family<FunctionLabels, Gauge>,
    queued: Family<FunctionLabels, Gauge>,
    connections: Gauge,
    balance: BalanceMetrics,
    /// Of TLS towards clients.
    pub tls: TlsMetrics,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("pilotlight_activator"),
            requests: Family::default(),
            refused: Family::default(),
            cold_start: Family::new_with_constructor(histogram),
            wakes: Family::default(),
            in_flight: Family::default(),
            queued: Family::default(),
            connections: Gauge::default(),
            balance: BalanceMetrics::default(),
            tls: TlsMetrics::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("requests", "Requests answered, by class of status", metrics.requests.clone());
        registry.register("refused", "Requests that the activator answered itself, by reason", metrics.refused.clone());
        registry.register(
            "cold_start_seconds",
            "From the first waiting request to each phase of a wake",
            metrics.cold_start.clone(),
        );
        registry.register("wakes", "Wakes that set a Deployment's replicas", metrics.wakes.clone());
        registry.register("in_flight_requests", "Requests at pods", metrics.in_flight.clone());
        registry.register("queued_requests", "Requests that wait for a pod", metrics.queued.clone());
        registry.register("client_connections", "Client connections", metrics.connections.clone());
        metrics.balance.register(registry);
        metrics.tls.register(registry);
        metrics
    }
}

fn labels(key: &FunctionKey) -> FunctionLabels {
    FunctionLabels { namespace: key.namespace.to_string(), function: key.name.to_string() }
}

fn class_labels(key: &FunctionKey, code_class: &'static str) -> ClassLabels {
    ClassLabels { namespace: key.namespace.to_string(), function: key.name.to_string(), code_class }
}

fn phase_labels(key: &FunctionKey, phase: &'static str) -> PhaseLabels {
    PhaseLabels { namespace: key.namespace.to_string(), function: key.name.to_string(), phase }
}

fn reason_labels(key: &FunctionKey, reason: &str) -> ReasonLabels {
    ReasonLabels { namespace: key.namespace.to_string(), function: key.name.to_string(), reason: reason.to_owned() }
}

impl Metrics {
    /// A Function's own series.
    pub fn function(&self, key: &FunctionKey) -> FunctionMetrics {
        FunctionMetrics {
            key: key.clone(),
            requests: CLASSES.map(|class| self.requests.get_or_create_owned(&class_labels(key, class))),
            refused: self.refused.clone(),
            reasons: Mutex::default(),
            cold_start: PHASES.map(|phase| self.cold_start.get_or_create_owned(&phase_labels(key, phase))),
            wakes: self.wakes.get_or_create_owned(&labels(key)),
            balance: self.balance.function(key),
        }
    }

    /// Drops the series of a Function that is gone.
    pub fn forget(&self, function: &FunctionMetrics) {
        let key = &function.key;
        for class in CLASSES {
            self.requests.remove(&class_labels(key, class));
        }
        for phase in PHASES {
            self.cold_start.remove(&phase_labels(key, phase));
        }
        self.wakes.remove(&labels(key));
        self.balance.forget(key);
        self.in_flight.remove(&labels(key));
        self.queued.remove(&labels(key));
        for reason in function.reasons() {
            self.refused.remove(&reason_labels(key, &reason));
        }
    }

    /// The text that Prometheus reads, with `loads` as (Function, in flight, queued) at this moment.
    ///
    /// # Errors
    /// Formatting fails only where memory does.
    pub fn text(
        &self,
        loads: impl IntoIterator<Item = (FunctionKey, u32, u32)>,
        connections: usize,
    ) -> Result<String, std::fmt::Error> {
        for (key, in_flight, queued) in loads {
            self.in_flight.get_or_create(&labels(&key)).set(i64::from(in_flight));
            self.queued.get_or_create(&labels(&key)).set(i64::from(queued));
        }
        self.connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// One Function's series.
pub struct FunctionMetrics {
    key: FunctionKey,
    requests: [Counter; 5],
    refused: Family<ReasonLabels, Counter>,
    reasons: Mutex<BTreeSet<String>>,
    cold_start: [Histogram; 4],
    /// Wakes that wrote `/scale`.
    pub wakes: Counter,
    /// Retries and ejections.
    pub balance: FunctionBalance,
}

impl FunctionMetrics {
    /// A request was answered.
    pub fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.requests[class].inc();
    }

    /// The activator answered itself. Reasons are a small closed set.
    pub fn refused(&self, reason: &str) {
        self.refused.get_or_create(&reason_labels(&self.key, reason)).inc();
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if !reasons.contains(reason) {
            reasons.insert(reason.to_owned());
        }
    }

    fn reasons(&self) -> BTreeSet<String> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A wake reached its end.
    pub fn observe_wake(&self, trace: &WakeTrace) {
        for (name, at) in trace.phases() {
            if let Some(index) = PHASES.iter().position(|phase| *phase == name) {
                self.cold_start[index].observe(at.saturating_duration_since(trace.began).as_secs_f64());
            }
        }
    }
}
