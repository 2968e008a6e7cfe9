//! When each phase of a Function's present wake was reached, for `Server-Timing` and the cold start histogram. Pure.

use std::time::{Duration, Instant};

/// The phases of one wake.
#[derive(Clone, Copy, Debug)]
pub struct WakeTrace {
    /// A request found no ready pod.
    pub began: Instant,
    /// `/scale` says one replica or more.
    pub patched: Option<Instant>,
    /// A pod showed up in the watch.
    pub pod_seen: Option<Instant>,
    /// Its IP showed up.
    pub ip_seen: Option<Instant>,
    /// It passed its probe.
    pub reachable: Option<Instant>,
}

impl WakeTrace {
    /// A wake that begins now.
    pub fn new(began: Instant) -> Self {
        Self { began, patched: None, pod_seen: None, ip_seen: None, reachable: None }
    }

    /// The phases that were reached, in order, with their names.
    pub fn phases(&self) -> impl Iterator<Item = (&'static str, Instant)> {
        [
            ("patched", self.patched),
            ("pod-seen", self.pod_seen),
            ("ip-seen", self.ip_seen),
            ("reachable", self.reachable),
        ]
        .into_iter()
        .filter_map(|(name, at)| Some((name, at?)))
    }

    /// The value of `Server-Timing` for a request that arrived at `arrived` and waited for `queued`: milliseconds from its
    /// arrival to each phase; 0 for phases that were over before it came.
    pub fn server_timing(&self, arrived: Instant, queued: Duration) -> String {
        let mut value = format!("queue;dur={}", millis(queued));
        for (name, at) in self.phases() {
            value.push_str(&format!(", {name};dur={}", millis(at.saturating_duration_since(arrived))));
        }
        value
    }
}

fn millis(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_told_from_the_requests_arrival() {
        let began = Instant::now();
        let mut trace = WakeTrace::new(began);
        trace.patched = Some(began + Duration::from_millis(4));
        trace.reachable = Some(began + Duration::from_millis(250));
        let arrived = began + Duration::from_millis(10);
        assert_eq!(
            trace.server_timing(arrived, Duration::from_millis(240)),
            "queue;dur=240.0, patched;dur=0.0, reachable;dur=240.0"
        );
    }
}
