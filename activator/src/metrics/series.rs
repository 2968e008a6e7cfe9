//! One Function's series: of a Function that nothing was ever told of there are none.

use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::histogram::Durations;
use super::{CLASSES, ClassLabels, FunctionLabels, Metrics, PHASES, ReasonLabels, class_labels, labels, reason_labels};
use crate::function::telemetry::FunctionBalance;
use crate::function::trace::WakeTrace;
use crate::index::FunctionKey;

/// Reasons that one Function can have; more are counted as `Other`. They are a small closed set, unless somebody writes statuses by hand.
pub(super) const MAX_REASONS: usize = 40;

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
    pub(super) fn new(family: &Family<FunctionLabels, Durations>, key: &FunctionKey) -> Self {
        Self { family: family.clone(), key: key.clone(), series: OnceLock::new() }
    }

    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        self.series.get_or_init(|| self.family.get_or_create_owned(&labels(&self.key))).observe(duration);
    }
}

/// One Function's series, made when the first is needed: they are some forty, and most Functions are at zero.
pub struct FunctionMetrics {
    all: Arc<Metrics>,
    key: FunctionKey,
    series: OnceLock<Box<Series>>,
}

impl FunctionMetrics {
    pub(super) fn new(all: Arc<Metrics>, key: FunctionKey) -> Self {
        Self { all, key, series: OnceLock::new() }
    }

    pub(super) fn key(&self) -> &FunctionKey {
        &self.key
    }

    /// Makes the series, where there are none yet.
    pub(super) fn make(&self) -> &Series {
        self.series.get_or_init(|| Box::new(self.all.series(&self.key)))
    }

    /// Whether anything was told of it.
    pub fn exist(&self) -> bool {
        self.series.get().is_some()
    }

    pub(super) fn reasons(&self) -> Vec<Box<str>> {
        self.series.get().map(|series| series.reasons()).unwrap_or_default()
    }
}

impl Deref for FunctionMetrics {
    type Target = Series;

    fn deref(&self) -> &Series {
        self.make()
    }
}

/// The series of a Function of which something is told.
pub struct Series {
    pub(super) key: FunctionKey,
    pub(super) requests: [Counter; 5],
    pub(super) refused: Family<ReasonLabels, Counter>,
    pub(super) reasons: Mutex<Vec<(Box<str>, Counter)>>,
    pub(super) duration: Family<ClassLabels, Durations>,
    pub(super) durations: [OnceLock<Durations>; 5],
    /// How long requests waited for a slot.
    pub queue: LazyDurations,
    /// How long pods took for the head of a response.
    pub upstream: LazyDurations,
    /// Requests whose client went away before the answer began.
    pub abandoned: Counter,
    /// Requests that no pod was ready for.
    pub cold_starts: Counter,
    pub(super) cold_start: [Histogram; PHASES.len()],
    /// Wakes that wrote `/scale`.
    pub wakes: Counter,
    /// Retries and ejections.
    pub balance: FunctionBalance,
    pub(super) relayed: Counter,
}

impl Series {
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
