//! Metrics in Prometheus' text format. Labels are function and namespace and small closed sets, never a path or host. Each Function
//! holds its own series, so that a request touches atomics only.

pub mod histogram;
mod series;

use std::sync::{Arc, Mutex};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::beacon::metrics::BeaconMetrics;
use crate::function::telemetry::BalanceMetrics;
use crate::index::FunctionKey;
use crate::telemetry::Telemetry;
use crate::tls::metrics::TlsMetrics;
use histogram::Durations;

pub use series::{FunctionMetrics, Series};

use series::LazyDurations;

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const PHASES: [&str; 5] = ["patched", "pod-seen", "beacon", "ip-seen", "reachable"];
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
    /// A Function's own series, once it has something to tell.
    pub fn function(self: &Arc<Self>, key: &FunctionKey) -> FunctionMetrics {
        FunctionMetrics::new(self.clone(), key.clone())
    }

    fn series(&self, key: &FunctionKey) -> Series {
        Series {
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
        // Whoever still has hold of the Function must not make them anew.
        function.make();
        let key = function.key();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::series::MAX_REASONS;
    use super::*;

    fn text(metrics: &Metrics) -> String {
        metrics.text([], 0).unwrap()
    }

    #[test]
    fn reasons_of_one_function_are_bounded_and_go_with_it() {
        let metrics = Arc::new(Metrics::new(&Telemetry::default()));
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
    fn a_function_that_nothing_is_told_of_has_no_series_and_one_without_traffic_no_histograms_of_requests() {
        let metrics = Arc::new(Metrics::new(&Telemetry::default()));
        let function = metrics.function(&FunctionKey::new("shop", "hello"));
        assert!(!function.exist() && !text(&metrics).contains("hello"));
        function.wakes.inc();
        assert!(function.exist() && text(&metrics).contains("hello"));
        let gone = metrics.function(&FunctionKey::new("shop", "gone"));
        metrics.forget(&gone);
        gone.wakes.inc();
        assert!(!text(&metrics).contains("gone"), "a deleted Function leaves nothing");
        let histograms = |text: &str| text.lines().filter(|line| line.contains("duration_seconds_count{")).count();
        assert_eq!(histograms(&text(&metrics)), 0);
        function.finished(StatusCode::OK, Duration::from_millis(1));
        function.upstream.observe(Duration::from_millis(1));
        assert_eq!(histograms(&text(&metrics)), 2);
    }
}
