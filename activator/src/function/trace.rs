//! When each phase of a Function's present wake was reached, for `Server-Timing` and the cold start histogram. Pure.

use std::time::Instant;

/// The phases of one wake.
#[derive(Clone, Copy, Debug)]
pub struct WakeTrace {
    /// A request found no ready pod.
    pub began: Instant,
    /// `/scale` says one replica or more.
    pub patched: Option<Instant>,
    /// A pod showed up in the watch.
    pub pod_seen: Option<Instant>,
    /// Its beacon told its address.
    pub beacon: Option<Instant>,
    /// Its IP showed up in the watch.
    pub ip_seen: Option<Instant>,
    /// It passed its probe.
    pub reachable: Option<Instant>,
}

impl WakeTrace {
    /// A wake that begins now.
    pub fn new(began: Instant) -> Self {
        Self { began, patched: None, pod_seen: None, beacon: None, ip_seen: None, reachable: None }
    }

    /// The phases that were reached, in order, with their names.
    pub fn phases(&self) -> impl Iterator<Item = (&'static str, Instant)> {
        [
            ("patched", self.patched),
            ("pod-seen", self.pod_seen),
            ("beacon", self.beacon),
            ("ip-seen", self.ip_seen),
            ("reachable", self.reachable),
        ]
        .into_iter()
        .filter_map(|(name, at)| Some((name, at?)))
    }
}
