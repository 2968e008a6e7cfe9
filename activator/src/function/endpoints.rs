//! The endpoints of one Function and how each goes from Starting to Ready to Draining to gone. Pure.
//!
//! What always holds: an entry with requests in flight keeps its place, so that a slot's index stays valid; only a Ready entry
//! that no hand-shake blocks is used; while a revision has an endpoint that could be used, not all of them are ejected.

mod handing;
mod parked;
mod slots;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::endpoint::{ProbeTarget, Upstream};
use crate::index::{FunctionConfig, PodView};

use super::handshake::{Handshakes, covers};
use super::outlier;
use super::ramp::Ramp;
use pilotlight_crds::control::DrainScope;

pub use parked::Asleep;
pub use slots::SlotRef;

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
    /// It failed too often: it gets no requests until this moment, and is probed then.
    Ejected(Instant),
    /// A step down was committed: it gets no requests, and is probed anew if its pod is still there at this moment.
    Condemned(Instant),
    /// A placeholder is in the function's place: it gets no requests before its function was asked for and probed.
    Parked,
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
    /// Requests that other activators still have at it.
    pub occupied: u32,
    /// Its CPU has to be given back once a request is at it.
    throttled: bool,
    /// Where its pod stands between function and placeholder.
    turns: parked::Turns,
    blocked: bool,
    probing: bool,
    refused: bool,
    was_ready: bool,
    /// Of the revision that gets the traffic.
    active: bool,
    /// Its slow start, while that lasts.
    ramp: Option<Ramp>,
    /// How often it was ejected since it last did well.
    ejections: u32,
    /// Its position among those with room.
    open_at: Option<usize>,
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
            occupied: 0,
            throttled: pod.throttled,
            turns: parked::Turns::default(),
            blocked: false,
            probing: false,
            refused: false,
            was_ready: pod.ready,
            active: false,
            ramp: None,
            ejections: 0,
            open_at: None,
        }
    }

    /// Whether it may get requests.
    pub fn usable(&self) -> bool {
        self.phase == Phase::Ready && !self.blocked
    }

    /// It gets requests from now on: few at first, and after an ejection not one more failure.
    fn begin(&mut self, now: Instant, target: u32) {
        self.phase = Phase::Ready;
        self.ramp = Some(Ramp::new(now, target));
        self.upstream.put_on_trial(if self.ejections > 0 { outlier::CONSECUTIVE - 1 } else { 0 });
    }
}

/// All endpoints of a Function.
#[derive(Debug, Default)]
pub struct Endpoints {
    entries: Vec<Option<Endpoint>>,
    /// Places of those with room for a request.
    open: Vec<usize>,
    limit: u32,
    target: u32,
    usable: usize,
    usable_active: usize,
}

impl Endpoints {
    /// Whether there are none, those that finish their last requests included.
    pub fn is_empty(&self) -> bool {
        self.entries.iter().all(Option::is_none)
    }

    /// Follows the pods as the watch shows them.
    pub fn set_pods(&mut self, pods: &[Arc<PodView>], connect: impl Fn(&PodView) -> Arc<Upstream>) {
        let live: HashMap<&str, &Arc<PodView>> =
            pods.iter().filter(|pod| pod.is_live()).map(|pod| (&*pod.uid, pod)).collect();
        for entry in &mut self.entries {
            let Some(endpoint) = entry else { continue };
            match live.get(&*endpoint.uid) {
                Some(pod) if pod.address == Some(endpoint.upstream.address) => {
                    let ready = endpoint.follow_turns(pod);
                    if endpoint.was_ready && !ready && endpoint.phase == Phase::Ready {
                        endpoint.phase = Phase::Starting;
                    }
                    endpoint.was_ready = ready;
                    endpoint.throttled = pod.throttled;
                    // It had left the watch and came back: one entry for each pod, or its limit would count twice.
                    if endpoint.phase == Phase::Draining {
                        endpoint.phase = endpoint.next_phase();
                    }
                }
                _ => {
                    endpoint.phase = Phase::Draining;
                    endpoint.upstream.close_idle();
                }
            }
        }
        let known: HashSet<Arc<str>> =
            self.iter().filter(|e| e.phase != Phase::Draining).map(|e| e.uid.clone()).collect();
        for pod in pods.iter().filter(|pod| pod.is_live() && pod.address.is_some() && !known.contains(&pod.uid)) {
            let upstream = connect(pod);
            let mut endpoint = Endpoint::new(pod, upstream);
            endpoint.follow_turns(pod);
            self.insert(endpoint);
        }
        for at in 0..self.entries.len() {
            self.settle(at);
            self.remove_if_gone(at);
        }
        while self.entries.last().is_some_and(Option::is_none) {
            self.entries.pop();
        }
    }

    fn insert(&mut self, endpoint: Endpoint) {
        match self.entries.iter_mut().find(|entry| entry.is_none()) {
            Some(free) => *free = Some(endpoint),
            None => self.entries.push(Some(endpoint)),
        }
    }

    fn remove_if_gone(&mut self, at: usize) {
        if let Some(entry) = self.entries.get_mut(at)
            && entry.as_ref().is_some_and(|e| e.phase == Phase::Draining && e.in_flight == 0)
        {
            *entry = None;
        }
    }

    /// Works out anew which endpoints may be used; to be called after every change.
    pub fn refresh(&mut self, now: Instant, handshakes: &Handshakes, config: &FunctionConfig) {
        (self.limit, self.target) = (config.limit, config.target);
        self.reinstate(now);
        (self.usable, self.usable_active) = (0, 0);
        for endpoint in self.entries.iter_mut().flatten() {
            endpoint.blocked = handshakes.blocks(&endpoint.revision, &endpoint.uid);
            endpoint.active = Some(&endpoint.revision) == config.revision.as_ref();
            if endpoint.usable() {
                self.usable += 1;
                self.usable_active += usize::from(endpoint.active);
            }
        }
        for at in 0..self.entries.len() {
            self.settle(at);
        }
    }

    /// Where only ejected endpoints are left of a revision, they are better than none.
    fn reinstate(&mut self, now: Instant) {
        let ready: HashSet<Arc<str>> =
            self.iter().filter(|e| e.phase == Phase::Ready).map(|e| e.revision.clone()).collect();
        let target = self.target;
        for endpoint in self.entries.iter_mut().flatten() {
            if matches!(endpoint.phase, Phase::Ejected(_)) && !ready.contains(&endpoint.revision) {
                endpoint.begin(now, target);
            }
        }
    }

    /// Notes what other activators still have at each pod, by uid.
    pub fn occupy(&mut self, occupied: impl Fn(&str) -> u32) {
        for endpoint in self.entries.iter_mut().flatten() {
            endpoint.occupied = occupied(&endpoint.uid);
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
                ejected: endpoint.refused,
                upstream: endpoint.upstream.clone(),
                checks: pod.checks.clone(),
            });
        }
        targets
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

    /// The prober of an endpoint saw its checks pass. `false` where it is not wanted any more.
    pub fn passed(&mut self, now: Instant, at: usize, id: u64) -> bool {
        let target = self.target;
        let Some(endpoint) = self.get_mut(at, id) else { return false };
        if endpoint.phase != Phase::Starting {
            return false;
        }
        endpoint.probing = false;
        endpoint.woke();
        endpoint.begin(now, target);
        true
    }

    /// Whether the prober of an endpoint should go on. Where not, the prober must end.
    pub fn keep_probing(&mut self, at: usize, id: u64) -> bool {
        let Some(endpoint) = self.get_mut(at, id) else { return false };
        match endpoint.phase {
            Phase::Starting | Phase::Condemned(_) => true,
            Phase::Ready | Phase::Ejected(_) | Phase::Parked | Phase::Draining => {
                endpoint.probing = false;
                false
            }
        }
    }

    /// Connecting failed: back to probing.
    pub fn unreachable(&mut self, slot: &SlotRef) {
        if let Some(endpoint) = self.get_mut(slot.index, slot.id)
            && endpoint.phase == Phase::Ready
        {
            endpoint.phase = Phase::Starting;
            endpoint.refused = true;
            endpoint.upstream.close_idle();
        }
    }

    /// It failed too often. `false` where it is used nevertheless, because too few others are left.
    pub fn eject(&mut self, now: Instant, slot: &SlotRef) -> bool {
        let Some(failing) = self.get_mut(slot.index, slot.id).filter(|e| e.phase == Phase::Ready) else { return false };
        let revision = failing.revision.clone();
        let of_revision = || self.iter().filter(|e| e.revision == revision);
        let in_use = of_revision().filter(|e| e.usable()).count();
        let ejected = of_revision().filter(|e| matches!(e.phase, Phase::Ejected(_))).count();
        if !outlier::may_eject(in_use, ejected) {
            return false;
        }
        let Some(endpoint) = self.get_mut(slot.index, slot.id) else { return false };
        endpoint.phase = Phase::Ejected(now + outlier::ejected_for(endpoint.ejections));
        endpoint.ejections += 1;
        endpoint.upstream.close_idle();
        true
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

    /// Pods that outlived a committed step down, and those that were ejected for long enough, are probed anew.
    pub fn reprieve(&mut self, now: Instant) -> bool {
        let mut any = false;
        for endpoint in self.entries.iter_mut().flatten() {
            if matches!(endpoint.phase, Phase::Condemned(until) | Phase::Ejected(until) if until <= now) {
                endpoint.phase = endpoint.next_phase();
                endpoint.refused = false;
                any = true;
            }
        }
        any
    }

    /// When the next pod that is condemned or ejected is probed again.
    pub fn next_reprieve(&self) -> Option<Instant> {
        self.iter()
            .filter_map(|e| match e.phase {
                Phase::Condemned(until) | Phase::Ejected(until) => Some(until),
                _ => None,
            })
            .min()
    }

    /// Uids of throttled pods that requests are at.
    pub fn starved(&self) -> Vec<Arc<str>> {
        self.iter().filter(|e| e.throttled && e.in_flight > 0).map(|e| e.uid.clone()).collect()
    }

    /// Requests at the pods in scope.
    pub fn in_flight_of(&self, scope: &DrainScope) -> u32 {
        self.iter().filter(|e| covers(scope, &e.revision, &e.uid)).map(|e| e.in_flight).sum()
    }
}

#[cfg(test)]
mod tests;
