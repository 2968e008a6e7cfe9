//! Knative's concurrency autoscaler (KPA) by the letter, with its defaults: the peer that ours is measured against. Source: the published
//! semantics of Knative Serving's autoscaler and of its scale-to-zero; windows of one-second buckets, a tick of two seconds, stable and panic window, rates, grace.
//!
//! What always holds: it knows nothing that the KPA does not know. Its one advantage here is that samples are never late.

use std::collections::VecDeque;

use crate::scaler::{Observation, Scaler, Second, Verdict};
use crate::world::SECOND;

const STABLE_SECONDS: u64 = 60;
const PANIC_SECONDS: u64 = 6;
const PANIC_THRESHOLD: f64 = 2.0;
const UTILIZATION: f64 = 0.7;
const MAX_SCALE_UP_RATE: f64 = 1000.0;
const MAX_SCALE_DOWN_RATE: f64 = 2.0;
const GRACE: u64 = 30 * SECOND;
const TICK: u64 = 2 * SECOND;

/// See the module.
pub(crate) struct Kpa {
    target: f64,
    max_replicas: u32,
    buckets: VecDeque<(u64, f64)>,
    /// The first second of this stretch of data.
    first: Option<u64>,
    panic_since: Option<u64>,
    max_panic_pods: f64,
    inactive_since: Option<u64>,
    active_since: Option<u64>,
}

impl Kpa {
    /// For pods that can have `slots` requests at once.
    pub(crate) fn new(slots: u32, max_replicas: u32) -> Self {
        Self {
            target: f64::from(slots) * UTILIZATION,
            max_replicas,
            buckets: VecDeque::new(),
            first: None,
            panic_since: None,
            max_panic_pods: 0.0,
            inactive_since: None,
            active_since: None,
        }
    }

    /// The average over a window that ends now; seconds before the first sample are not counted.
    fn average(&self, now: u64, window: u64) -> Option<f64> {
        let first = self.first?;
        let until = now / SECOND;
        let from = until.saturating_sub(window).max(first);
        let seconds = until.saturating_sub(from).max(1);
        let sum: f64 = self.buckets.iter().filter(|(second, _)| *second >= from).map(|(_, value)| value).sum();
        Some(sum / seconds as f64)
    }

    /// What load asks for, after rates and panic.
    fn desired(&mut self, now: &Observation, stable: f64, panic: f64) -> f64 {
        let ready = f64::from(now.ready.max(1));
        let up = (MAX_SCALE_UP_RATE * ready).ceil();
        let down = (ready / MAX_SCALE_DOWN_RATE).floor();
        let for_stable = (stable / self.target).ceil();
        let for_panic = (panic / self.target).ceil();
        let over = for_panic / ready >= PANIC_THRESHOLD;
        if over {
            self.panic_since = Some(now.now);
        } else if self.panic_since.is_some_and(|since| since + STABLE_SECONDS * SECOND < now.now) {
            self.panic_since = None;
            self.max_panic_pods = 0.0;
        }
        let mut desired = for_stable.max(down).min(up);
        if self.panic_since.is_some() {
            desired = desired.max(for_panic.max(down).min(up));
            self.max_panic_pods = self.max_panic_pods.max(desired);
            desired = self.max_panic_pods;
        }
        desired
    }

    /// Zero only after a stable window of activity and the grace, with one replica meanwhile.
    fn idle_replicas(&mut self, now: &Observation) -> u32 {
        let active_for = self.active_since.map_or(u64::MAX, |since| now.now - since);
        if active_for < STABLE_SECONDS * SECOND {
            return 1;
        }
        let since = *self.inactive_since.get_or_insert(now.now);
        u32::from(now.now - since < GRACE)
    }
}

impl Scaler for Kpa {
    fn second_over(&mut self, second: Second, now: &Observation) {
        let Second { number: second, concurrency_milli, .. } = second;
        // At zero nobody reports; and a stretch without any report for a window begins the windows anew.
        if now.current == 0 && concurrency_milli == 0 {
            return;
        }
        let silent = self.buckets.back().is_none_or(|(last, _)| last + STABLE_SECONDS < second);
        if silent {
            self.buckets.clear();
            self.first = Some(second);
        }
        self.buckets.push_back((second, concurrency_milli as f64 / 1000.0));
        while self.buckets.front().is_some_and(|(oldest, _)| oldest + STABLE_SECONDS < second) {
            self.buckets.pop_front();
        }
    }

    fn decide(&mut self, now: &Observation) -> Verdict {
        let next_look = Some((now.now / TICK + 1) * TICK);
        let keep = Verdict { replicas: now.current, next_look };
        if now.current == 0 {
            self.active_since = None;
        } else if self.active_since.is_none() {
            self.active_since = Some(now.now);
        }
        let (Some(stable), Some(panic)) = (self.average(now.now, STABLE_SECONDS), self.average(now.now, PANIC_SECONDS))
        else {
            return keep;
        };
        let desired = self.desired(now, stable, panic);
        if now.current == 0 {
            return Verdict { replicas: 0, next_look };
        }
        let replicas = if desired < 1.0 {
            self.idle_replicas(now).min(now.current)
        } else {
            self.inactive_since = None;
            (desired as u32).min(self.max_replicas)
        };
        Verdict { replicas, next_look }
    }
}
