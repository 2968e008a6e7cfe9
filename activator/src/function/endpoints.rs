//! The endpoints of one Function and how each goes from Starting to Ready to Draining to gone. Pure.
//!
//! What always holds: an entry with requests in flight keeps its place, so that a slot's index stays valid; only a Ready entry
//! that no hand-shake blocks is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::endpoint::{ProbeTarget, Upstream};
use crate::index::PodView;

use super::balance::Load;
use super::handshake::{Handshakes, covers};
use pilotlight_crds::control::DrainScope;

/// How long a pod stays out of use after a committed step down without a deletion timestamp. The pod's own controller may have seen
/// only the replicas after a quick wake and kept the pod; then it is used again.
pub const CONDEMNED_FOR: Duration = Duration::from_secs(2);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is probed, and gets no requests.
    Starting,
    /// It gets requests.
    Ready,
    /// A step down was committed: it gets no requests, and is probed anew if its pod is still there at this moment.
    Condemned(Instant),
    /// Its pod ends: it gets no more requests, and finishes those it has.
    Draining,
}

/// A pod's address and its share of the Function's requests.
#[derive(Debug)]
pub struct Endpoint {
    /// Tells this entry from an earlier one in the same place.
    pub id: u64,
    /// The pod's uid.
    pub uid: Arc<str>,
    /// The pod's revision.
    pub revision: Arc<str>,
    /// Its connections.
    pub upstream: Arc<Upstream>,
    /// Where it stands.
    pub phase: Phase,
    /// Requests at it, reserved slots included.
    pub in_flight: u32,
    /// Slots that this activator may use, where the Function's limit is divided among several; otherwise the limit itself.
    pub lease: Option<u32>,
    blocked: bool,
    probing: bool,
    ejected: bool,
    was_ready: bool,
}

impl Endpoint {
    fn new(pod: &PodView, upstream: Arc<Upstream>) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            uid: pod.uid.clone(),
            revision: pod.revision.clone(),
            upstream,
            phase: Phase::Starting,
            in_flight: 0,
            lease: None,
            blocked: false,
            probing: false,
            ejected: false,
            was_ready: pod.ready,
        }
    }

    /// Whether it may get requests.
    pub fn usable(&self) -> bool {
        self.phase == Phase::Ready && !self.blocked
    }
}

/// All endpoints of a Function.
#[derive(Debug, Default)]
pub struct Endpoints {
    entries: Vec<Option<Endpoint>>,
    usable: usize,
    usable_active: usize,
}

impl Endpoints {
    /// Follows the pods as the watch shows them.
    pub fn set_pods(&mut self, pods: &[Arc<PodView>], connect: impl Fn(&PodView) -> Arc<Upstream>) {
        for entry in &mut self.entries {
            let Some(endpoint) = entry else { continue };
            let pod = pods.iter().find(|pod| pod.uid == endpoint.uid && pod.is_live());
            match pod {
                Some(pod) if pod.address == Some(endpoint.upstream.address) => {
                    endpoint.upstream.set_kubernetes_ready(pod.ready);
                    if endpoint.was_ready && !pod.ready && endpoint.phase == Phase::Ready {
                        endpoint.phase = Phase::Starting;
                    }
                    endpoint.was_ready = pod.ready;
                    // It had left the watch and came back: one entry for each pod, or its limit would count twice.
                    if endpoint.phase == Phase::Draining {
                        endpoint.phase = Phase::Starting;
                    }
                }
                _ => {
                    endpoint.phase = Phase::Draining;
                    endpoint.upstream.close_idle();
                }
            }
        }
        for pod in pods.iter().filter(|pod| pod.is_live() && pod.address.is_some()) {
            let known = self.iter().any(|e| e.uid == pod.uid && e.phase != Phase::Draining);
            if !known {
                let upstream = connect(pod);
                upstream.set_kubernetes_ready(pod.ready);
                self.insert(Endpoint::new(pod, upstream));
            }
        }
        self.remove_gone();
    }

    fn insert(&mut self, endpoint: Endpoint) {
        match self.entries.iter_mut().find(|entry| entry.is_none()) {
            Some(free) => *free = Some(endpoint),
            None => self.entries.push(Some(endpoint)),
        }
    }

    fn remove_gone(&mut self) {
        for entry in &mut self.entries {
            if entry.as_ref().is_some_and(|e| e.phase == Phase::Draining && e.in_flight == 0) {
                *entry = None;
            }
        }
        while self.entries.last().is_some_and(Option::is_none) {
            self.entries.pop();
        }
    }

    /// Works out anew which endpoints may be used; to be called after every change.
    pub fn refresh(&mut self, handshakes: &Handshakes, active: Option<&str>) {
        (self.usable, self.usable_active) = (0, 0);
        for endpoint in self.entries.iter_mut().flatten() {
            endpoint.blocked = handshakes.blocks(&endpoint.revision, &endpoint.uid);
            if endpoint.usable() {
                self.usable += 1;
                self.usable_active += usize::from(Some(&*endpoint.revision) == active);
            }
        }
    }

    /// Starting endpoints that nobody probes yet. The caller must probe them.
    pub fn to_probe(&mut self, pods: &[Arc<PodView>]) -> Vec<ProbeTarget> {
        let mut targets = Vec::new();
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let Some(endpoint) = entry else { continue };
            if endpoint.phase != Phase::Starting || endpoint.probing {
                continue;
            }
            let Some(pod) = pods.iter().find(|pod| pod.uid == endpoint.uid) else { continue };
            endpoint.probing = true;
            targets.push(ProbeTarget {
                index,
                id: endpoint.id,
                ejected: endpoint.ejected,
                upstream: endpoint.upstream.clone(),
                checks: pod.checks.clone(),
            });
        }
        targets
    }

    /// How loaded each place is for a new request; capacity 0 where it must not be used. Endpoints of other revisions than the
    /// active one only count while that one has none.
    pub fn load(&self, at: usize, limit: u32, active: Option<&str>) -> Load {
        let full = Load { in_flight: 0, capacity: 0 };
        let Some(endpoint) = self.entries.get(at).and_then(Option::as_ref) else { return full };
        let wanted = self.usable_active == 0 || Some(&*endpoint.revision) == active;
        if !endpoint.usable() || !wanted {
            return full;
        }
        let capacity = if limit == 0 { u32::MAX } else { endpoint.lease.unwrap_or(limit).min(limit) };
        Load { in_flight: endpoint.in_flight, capacity }
    }

    /// Places, empty ones included.
    pub fn places(&self) -> usize {
        self.entries.len()
    }

    /// Endpoints that may be used now.
    pub fn usable(&self) -> usize {
        self.usable
    }

    /// Every endpoint.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.entries.iter().flatten()
    }

    /// The endpoint in a place, if it is still the one with this id.
    pub fn get_mut(&mut self, at: usize, id: u64) -> Option<&mut Endpoint> {
        self.entries.get_mut(at)?.as_mut().filter(|e| e.id == id)
    }

    /// The endpoint in a place.
    pub fn at_mut(&mut self, at: usize) -> Option<&mut Endpoint> {
        self.entries.get_mut(at)?.as_mut()
    }

    /// A request at it ended.
    pub fn release(&mut self, at: usize, id: u64) {
        let Some(endpoint) = self.get_mut(at, id) else { return };
        endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        if endpoint.in_flight == 0 && endpoint.phase == Phase::Draining {
            self.remove_gone();
        }
    }

    /// The prober of an endpoint saw its checks pass. `false` where it is not wanted any more.
    pub fn passed(&mut self, at: usize, id: u64) -> bool {
        let Some(endpoint) = self.get_mut(at, id) else { return false };
        if endpoint.phase != Phase::Starting {
            return false;
        }
        endpoint.probing = false;
        endpoint.phase = Phase::Ready;
        true
    }

    /// Whether the prober of an endpoint should go on. Where not, the prober must end.
    pub fn keep_probing(&mut self, at: usize, id: u64) -> bool {
        let Some(endpoint) = self.get_mut(at, id) else { return false };
        match endpoint.phase {
            Phase::Starting | Phase::Condemned(_) => true,
            Phase::Ready | Phase::Draining => {
                endpoint.probing = false;
                false
            }
        }
    }

    /// Connecting failed: back to probing.
    pub fn eject(&mut self, at: usize, id: u64) {
        if let Some(endpoint) = self.get_mut(at, id)
            && endpoint.phase == Phase::Ready
        {
            endpoint.phase = Phase::Starting;
            endpoint.ejected = true;
            endpoint.upstream.close_idle();
        }
    }

    /// A step down was committed for these pods.
    pub fn condemn(&mut self, scope: &DrainScope, until: Instant) {
        for endpoint in self.entries.iter_mut().flatten() {
            if covers(scope, &endpoint.revision, &endpoint.uid) && endpoint.phase != Phase::Draining {
                endpoint.phase = Phase::Condemned(until);
                endpoint.upstream.close_idle();
            }
        }
    }

    /// Pods that outlived a committed step down are probed anew.
    pub fn reprieve(&mut self, now: Instant) -> bool {
        let mut any = false;
        for endpoint in self.entries.iter_mut().flatten() {
            if matches!(endpoint.phase, Phase::Condemned(until) if until <= now) {
                endpoint.phase = Phase::Starting;
                any = true;
            }
        }
        any
    }

    /// When the next condemned pod may be used again.
    pub fn next_reprieve(&self) -> Option<Instant> {
        self.iter()
            .filter_map(|e| match e.phase {
                Phase::Condemned(until) => Some(until),
                _ => None,
            })
            .min()
    }

    /// Requests at the pods in scope.
    pub fn in_flight_of(&self, scope: &DrainScope) -> u32 {
        self.iter().filter(|e| covers(scope, &e.revision, &e.uid)).map(|e| e.in_flight).sum()
    }
}
