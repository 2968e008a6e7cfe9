//! Metrics in Prometheus' text format. Labels are function and namespace and small closed sets, never a path or host. Each Function
//! holds its own series, so that a request touches atomics only.

pub mod histogram;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::beacon::metrics::BeaconMetrics;
use crate::function::telemetry::{BalanceMetrics, FunctionBalance};
use crate::function::trace::WakeTrace;
use crate::index::FunctionKey;
use crate::telemetry::Telemetry;
use crate::tls::metrics::TlsMetrics;
use histogram::Durations;

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const PHASES: [&str; 5] = ["patched", "pod-seen", "beacon", "ip-seen", "reachable"];
/// Reasons that one Function can have; more are counted as `Other`. They are a small closed set, unless somebody writes statuses by hand.
const MAX_REASONS: usize = 40;
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
    duration: Family<ClassLabels, Durations>,
    queue: Family<FunctionLabels, Durations>,
    upstream: Family<FunctionLabels, Durations>,
    abandoned: Family<FunctionLabels, Counter>,
    cold_start: Family<PhaseLabels, Histogram, fn() -> Histogram>,
    cold_starts: Family<FunctionLabels, Counter>,
    wakes: Family<FunctionLabels, Counter>,
    active: Family<FunctionLabels, Gauge>,
    relayed: Family<FunctionLabels, Counter>,
    in_flight: Family<FunctionLabels, Gauge>,
    queued: Family<FunctionLabels, Gauge>,
    connections: Gauge,
    balance: BalanceMetrics,
    /// Of beacons.
    pub beacons: BeaconMetrics,
    /// Of TLS towards clients.
    pub tls: TlsMetrics,
    /// Requests for host names that no Function answers to.
    pub unrouted: Counter,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Metrics {
    /// Registers every metric, those of the telemetry too.
    pub fn new(telemetry: &Telemetry) -> Self {
        let mut metrics = Self::registered();
        if let Some(log) = &telemetry.access_log {
            let help = "Lines of the access log that did not fit into its queue";
            metrics.registry.register("access_log_dropped", help, log.dropped.clone());
        }
        if let Some(tracer) = &telemetry.tracer {
            let help = "Spans that the collector took";
            metrics.registry.register("spans_exported", help, tracer.exported.clone());
            let help = "Spans that the collector did not take, and traces that did not fit into the queue to it";
            metrics.registry.register("spans_dropped", help, tracer.dropped.clone());
        }
        metrics
    }

    fn registered() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("pilotlight_activator"),
            requests: Family::default(),
            refused: Family::default(),
            duration: Family::default(),
            queue: Family::default(),
            upstream: Family::default(),
            abandoned: Family::default(),
            cold_start: Family::new_with_constructor(histogram),
            cold_starts: Family::default(),
            wakes: Family::default(),
            active: Family::default(),
            relayed: Family::default(),
            in_flight: Family::default(),
            queued: Family::default(),
            connections: Gauge::default(),
            balance: BalanceMetrics::default(),
            beacons: BeaconMetrics::default(),
            tls: TlsMetrics::default(),
            unrouted: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("requests", "Requests answered, by class of status", metrics.requests.clone());
        registry.register("refused", "Requests that the activator answered itself, by reason", metrics.refused.clone());
        registry.register(
            "http_server_request_duration_seconds",
            "From a request's arrival to the end of its response, by class of status",
            metrics.duration.clone(),
        );
        registry.register(
            "queue_duration_seconds",
            "Waiting for a slot, of the requests that had none at once",
            metrics.queue.clone(),
        );
        registry.register(
            "upstream_duration_seconds",
            "From sending a request to a pod to the head of its response",
            metrics.upstream.clone(),
        );
        registry.register(
            "abandoned",
            "Requests whose client went away before the answer began",
            metrics.abandoned.clone(),
        );
        registry.register(
            "cold_start_seconds",
            "From the first waiting request to each phase of a wake",
            metrics.cold_start.clone(),
        );
        registry.register("faas_coldstarts", "Requests that no pod was ready for", metrics.cold_starts.clone());
        registry.register("wakes", "Wakes that set a Deployment's replicas", metrics.wakes.clone());
        registry.register(
            "http_server_active_requests",
            "Requests that are at pods or wait for one",
            metrics.active.clone(),
        );
        registry.register(
            "relayed_requests",
            "Requests handed to the activator that owns the Function, which counts them",
            metrics.relayed.clone(),
        );
        registry.register("in_flight_requests", "Requests at pods", metrics.in_flight.clone());
        registry.register("queued_requests", "Requests that wait for a pod", metrics.queued.clone());
        registry.register("client_connections", "Client connections", metrics.connections.clone());
        metrics.balance.register(registry);
        metrics.beacons.register(registry);
        metrics.tls.register(registry);
        registry.register(
            "unrouted_requests",
            "Requests for host names that no Function answers to",
            metrics.unrouted.clone(),
        );
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
            duration: self.duration.clone(),
            durations: Default::default(),
            queue: LazyDurations::new(&self.queue, key),
            upstream: LazyDurations::new(&self.upstream, key),
            abandoned: self.abandoned.get_or_create_owned(&labels(key)),
            cold_starts: self.cold_starts.get_or_create_owned(&labels(key)),
            cold_start: PHASES.map(|phase| self.cold_start.get_or_create_owned(&phase_labels(key, phase))),
            wakes: self.wakes.get_or_create_owned(&labels(key)),
            balance: self.balance.function(key),
            relayed: self.relayed.get_or_create_owned(&labels(key)),
        }
    }

    /// Drops the series of a Function that is gone.
    pub fn forget(&self, function: &FunctionMetrics) {
        let key = &function.key;
        for class in CLASSES {
            self.requests.remove(&class_labels(key, class));
            self.duration.remove(&class_labels(key, class));
        }
        for phase in PHASES {
            self.cold_start.remove(&phase_labels(key, phase));
        }
        self.wakes.remove(&labels(key));
        self.balance.forget(key);
        for family in [&self.abandoned, &self.cold_starts] {
            family.remove(&labels(key));
        }
        for family in [&self.queue, &self.upstream] {
            family.remove(&labels(key));
        }
        self.active.remove(&labels(key));
        self.relayed.remove(&labels(key));
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
            self.active.get_or_create(&labels(&key)).set(i64::from(in_flight) + i64::from(queued));
            self.in_flight.get_or_create(&labels(&key)).set(i64::from(in_flight));
            self.queued.get_or_create(&labels(&key)).set(i64::from(queued));
        }
        self.connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn class_of(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1
}

/// Durations of one Function. Each is some twenty series, so a Function without traffic has none.
pub struct LazyDurations {
    family: Family<FunctionLabels, Durations>,
    key: FunctionKey,
    series: OnceLock<Durations>,
}

impl LazyDurations {
    fn new(family: &Family<FunctionLabels, Durations>, key: &FunctionKey) -> Self {
        Self { family: family.clone(), key: key.clone(), series: OnceLock::new() }
    }

    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        self.series.get_or_init(|| self.family.get_or_create_owned(&labels(&self.key))).observe(duration);
    }
}

/// One Function's series.
pub struct FunctionMetrics {
    key: FunctionKey,
    requests: [Counter; 5],
    refused: Family<ReasonLabels, Counter>,
    reasons: Mutex<Vec<(Box<str>, Counter)>>,
    duration: Family<ClassLabels, Durations>,
    durations: [OnceLock<Durations>; 5],
    /// How long requests waited for a slot.
    pub queue: LazyDurations,
    /// How long pods took for the head of a response.
    pub upstream: LazyDurations,
    /// Requests whose client went away before the answer began.
    pub abandoned: Counter,
    /// Requests that no pod was ready for.
    pub cold_starts: Counter,
    cold_start: [Histogram; PHASES.len()],
    /// Wakes that wrote `/scale`.
    pub wakes: Counter,
    /// Retries and ejections.
    pub balance: FunctionBalance,
    relayed: Counter,
}

impl FunctionMetrics {
    /// A request was answered.
    pub fn answered(&self, status: StatusCode) {
        self.requests[class_of(status)].inc();
    }

    /// A request's response has ended. A class of status that a Function never answered with has no series.
    pub fn finished(&self, status: StatusCode, took: Duration) {
        let class = class_of(status);
        let create = || self.duration.get_or_create_owned(&class_labels(&self.key, CLASSES[class]));
        self.durations[class].get_or_init(create).observe(took);
    }

    /// The owner answered, and counts it.
    pub fn relayed(&self) {
        self.relayed.inc();
    }

    /// The activator answered itself.
    pub fn refused(&self, reason: &str) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let find =
            |reasons: &[(Box<str>, Counter)], reason: &str| reasons.iter().position(|(known, _)| **known == *reason);
        let known = find(&reasons, reason);
        let reason = if known.is_none() && reasons.len() >= MAX_REASONS { "Other" } else { reason };
        let at = known.or_else(|| find(&reasons, reason)).unwrap_or_else(|| {
            let counter = self.refused.get_or_create_owned(&reason_labels(&self.key, reason));
            reasons.push((reason.into(), counter));
            reasons.len() - 1
        });
        reasons[at].1.inc();
    }

    fn reasons(&self) -> Vec<Box<str>> {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.iter().map(|(reason, _)| reason.clone()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        metrics.text([], 0).unwrap()
    }

    #[test]
    fn reasons_of_one_function_are_bounded_and_go_with_it() {
        let metrics = Metrics::new(&Telemetry::default());
        let function = metrics.function(&FunctionKey::new("shop", "hello"));
        for number in 0..100 {
            function.refused(&format!("Reason{number}"));
        }
        function.refused("Reason0");
        let told = text(&metrics);
        let series = told.lines().filter(|line| line.starts_with("pilotlight_activator_refused_total{"));
        assert_eq!(series.count(), MAX_REASONS + 1);
        assert!(told.lines().any(|line| line.contains("reason=\"Reason0\"") && line.ends_with(" 2")), "{told}");
        assert!(told.lines().any(|line| line.contains("reason=\"Other\"") && line.ends_with(" 60")), "{told}");
        metrics.forget(&function);
        assert!(!text(&metrics).contains("hello"));
    }

    #[test]
    fn a_function_without_traffic_has_no_histograms_of_requests() {
        let metrics = Metrics::new(&Telemetry::default());
        let function = metrics.function(&FunctionKey::new("shop", "hello"));
        let histograms = |text: &str| text.lines().filter(|line| line.contains("duration_seconds_count{")).count();
        assert_eq!(histograms(&text(&metrics)), 0);
        function.finished(StatusCode::OK, Duration::from_millis(1));
        function.upstream.observe(Duration::from_millis(1));
        assert_eq!(histograms(&text(&metrics)), 2);
    }
}
