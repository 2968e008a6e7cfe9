//! All that one Function's requests share, as a synchronous state machine: endpoints, waiting requests, hand-shakes, samples. It
//! lives behind one short lock; no I/O happens inside and time comes in as an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotlight_crds::control::DrainPurpose;

use crate::endpoint::{ProbeTarget, Upstream};
use crate::index::function::Certainty;
use crate::index::{Cause, FunctionConfig, PodView};
use crate::limits::Share;
use crate::ownership::Ownership;
use crate::wake::Need;

use super::balance::Spread;
use super::endpoints::{Endpoints, SlotRef};
use super::handshake::{Handshakes, covers, fence_target};
use super::queue::{Queue, QueueError, Seq};
use super::retry::RetryBudget;
use super::samples::{Bucket, Sampler};
use super::trace::WakeTrace;

/// For how long a wake is tried before callers are told what the Function's condition reports: it may be about pods of the past.
const REPORTED_GRACE: Duration = Duration::from_secs(3);
/// Reason of trouble that a probe found.
pub const PROBE_TROUBLE: &str = "PodNotAnswering";
/// At most one poke of a Function in so long.
const POKE_EVERY: Duration = Duration::from_millis(100);

/// The state of one Function. `W` is whatever it takes to answer a waiting request.
#[derive(Debug)]
pub struct State<W> {
    config: Arc<FunctionConfig>,
    pods: Vec<Arc<PodView>>,
    cause: Option<Cause>,
    endpoints: Endpoints,
    queue: Queue<W>,
    handshakes: Handshakes,
    ownership: Ownership,
    /// Requests that other cells of the Function have at pods of this one, by uid.
    elsewhere: BTreeMap<String, u32>,
    /// The Function has no other cells.
    alone: bool,
    sampler: Sampler,
    retries: RetryBudget,
    trace: Option<WakeTrace>,
    epoch: Instant,
    in_flight: u32,
    next_seq: Seq,
    spread: Spread,
    last_poke: Option<Instant>,
    /// The wake task runs; only the one who sets it may start one.
    pub wake_running: bool,
    /// A task hands out slots; only the one who sets it may start one.
    pub handing_out: bool,
    /// The Function is gone.
    pub closed: bool,
    /// The last trouble on the way to a ready pod: reason and message.
    pub trouble: Option<(String, String)>,
}

impl<W> State<W> {
    /// A Function without pods. `epoch` is when the activator started: seconds of samples are counted from it. `me`: uid of this
    /// activator's pod.
    pub fn new(config: Arc<FunctionConfig>, epoch: Instant, me: Option<Arc<str>>) -> Self {
        Self {
            config,
            pods: Vec::new(),
            cause: None,
            endpoints: Endpoints::default(),
            queue: Queue::default(),
            handshakes: Handshakes::default(),
            ownership: Ownership::new(me),
            elsewhere: BTreeMap::new(),
            alone: true,
            sampler: Sampler::default(),
            retries: RetryBudget::default(),
            trace: None,
            epoch,
            in_flight: 0,
            next_seq: 1,
            spread: Spread::new(0x9E37_79B9_7F4A_7C15),
            last_poke: None,
            wake_running: false,
            handing_out: false,
            closed: false,
            trouble: None,
        }
    }

    /// The Function's settings, as last seen.
    pub fn config(&self) -> &Arc<FunctionConfig> {
        &self.config
    }

    /// Takes in what the watches show. The caller must probe the endpoints it gets, then hand out [`State::grant`]s.
    pub fn update(
        &mut self,
        now: Instant,
        config: Arc<FunctionConfig>,
        pods: Vec<Arc<PodView>>,
        cause: Option<Cause>,
        connect: impl Fn(&PodView) -> Arc<Upstream>,
    ) -> Vec<ProbeTarget> {
        self.ownership.watch(now, config.owner.as_ref());
        self.config = config;
        self.endpoints.set_pods(&pods, connect);
        self.pods = pods;
        self.cause = cause;
        self.refresh(now);
        self.note_phases(now);
        self.endpoints.to_probe(&self.pods)
    }

    fn refresh(&mut self, now: Instant) {
        let elsewhere = |pod: &str| self.elsewhere.get(pod).copied().unwrap_or(0);
        self.endpoints.occupy(|pod| self.ownership.occupied(pod).saturating_add(elsewhere(pod)));
        self.endpoints.refresh(now, &self.handshakes, &self.config);
    }

    fn note_phases(&mut self, now: Instant) {
        let Some(trace) = &mut self.trace else { return };
        let revision = self.config.revision.as_ref();
        for pod in self.pods.iter().filter(|p| p.is_live() && Some(&p.revision) == revision) {
            trace.pod_seen.get_or_insert(now);
            if pod.address.is_some() {
                let told = if pod.beacon.announced { &mut trace.beacon } else { &mut trace.ip_seen };
                told.get_or_insert(now);
            }
        }
    }

    /// A request arrived; gives its number.
    pub fn arrive(&mut self, now: Instant) -> Seq {
        let micros = self.micros(now);
        self.sampler.arrived(micros);
        self.retries.deposit(micros / 1_000_000);
        self.number()
    }

    /// The number of a request that is not counted here, because another activator counts it.
    pub fn number(&mut self) -> Seq {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// Reserves a slot for a request, unless an earlier one waits or all are taken.
    pub fn take_slot(&mut self, now: Instant, seq: Seq) -> Option<SlotRef> {
        if self.queue.first().is_some_and(|first| first < seq) {
            return None;
        }
        let slot = self.pick()?;
        self.count(now);
        Some(slot)
    }

    fn pick(&mut self) -> Option<SlotRef> {
        if !self.ownership.may_send(self.config.limit) {
            return None;
        }
        let slot = self.endpoints.reserve(self.spread.draw())?;
        self.in_flight += 1;
        Some(slot)
    }

    /// Takes one retry of a request that may have reached a pod out of the budget; `false` where it is used up.
    pub fn may_replay(&mut self, now: Instant) -> bool {
        let micros = self.micros(now);
        self.retries.withdraw(micros / 1_000_000)
    }

    /// Lets a request wait. `others`: what waits in other cells of the Function, whose bounds are for all together.
    ///
    /// # Errors
    /// The Function's bounds on waiting requests would be passed.
    pub fn wait(&mut self, now: Instant, seq: Seq, waiter: W, bytes: u64, others: Share) -> Result<(), QueueError> {
        let count = self.config.pending_requests.saturating_sub(usize::try_from(others.requests).unwrap_or(usize::MAX));
        let max_bytes = self.config.pending_bytes.saturating_sub(others.bytes);
        self.queue.push(seq, waiter, bytes, count, max_bytes)?;
        if self.endpoints.usable() == 0 && self.trace.is_none_or(|t| t.reachable.is_some()) {
            self.trace = Some(WakeTrace::new(now));
            self.trouble = None;
            self.note_phases(now);
        }
        self.count(now);
        Ok(())
    }

    /// The next waiting request that gets a slot; to be called until `None` after anything that may free one.
    pub fn grant(&mut self, now: Instant) -> Option<(W, SlotRef)> {
        if self.queue.is_empty() {
            return None;
        }
        let slot = self.pick()?;
        let granted = self.queue.pop().map(|(_, waiter)| (waiter, slot));
        self.count(now);
        granted
    }

    /// A request's client has gone while it waited.
    pub fn leave(&mut self, now: Instant, seq: Seq) -> Option<W> {
        let waiter = self.queue.remove(seq);
        self.count(now);
        waiter
    }

    /// A waiting request that has to be told that there is no hope, and why.
    pub fn fail_next(&mut self, now: Instant) -> Option<(W, Cause)> {
        let cause = self.hopeless(now)?;
        let (_, waiter) = self.queue.pop()?;
        self.count(now);
        Some((waiter, cause))
    }

    /// Why waiting is in vain, if it is.
    pub fn hopeless(&self, now: Instant) -> Option<Cause> {
        let cause = self.cause.as_ref().filter(|_| self.endpoints.usable() == 0)?;
        let tried = self.trace.is_some_and(|t| t.reachable.is_none() && t.began + REPORTED_GRACE <= now);
        match cause.certainty {
            Certainty::Certain => Some(cause.clone()),
            Certainty::Reported if tried => Some(cause.clone()),
            Certainty::Reported | Certainty::Healing => None,
        }
    }

    /// Takes any waiting request, for when the Function is gone.
    pub fn evict(&mut self, now: Instant) -> Option<W> {
        let waiter = self.queue.pop().map(|(_, waiter)| waiter);
        self.count(now);
        waiter
    }

    /// An endpoint passed its checks. `false` where it is not wanted any more.
    pub fn probe_passed(&mut self, now: Instant, index: usize, id: u64) -> bool {
        let passed = self.endpoints.passed(now, index, id);
        self.refresh(now);
        if passed
            && let Some(trace) = &mut self.trace
            && trace.reachable.is_none()
        {
            trace.reachable = Some(now);
            self.sampler.woken(u64::try_from((now - trace.began).as_millis()).unwrap_or(u64::MAX));
        }
        passed
    }

    /// Whether an endpoint's prober should go on.
    pub fn keep_probing(&mut self, index: usize, id: u64) -> bool {
        self.endpoints.keep_probing(index, id)
    }

    /// `/scale` says one replica or more.
    pub fn note_patched(&mut self, now: Instant) {
        // Trouble with the API server is over; trouble with the pod may not be.
        self.trouble.take_if(|(reason, _)| reason != PROBE_TROUBLE);
        if let Some(trace) = &mut self.trace {
            trace.patched.get_or_insert(now);
        }
    }

    /// What has to be done about `/scale` now.
    pub fn need(&self, now: Instant) -> Need {
        if self.queue.is_empty() {
            return Need::Nothing;
        }
        let revision_of = |uid: &str| self.pods.iter().find(|p| &*p.uid == uid).map(|p| p.revision.clone());
        if let Some((scope, purpose)) = self.handshakes.expired(now, |scope| self.is_about(scope)) {
            let pods = || self.pods.iter().filter(|pod| covers(scope, &pod.revision, &pod.uid)).cloned().collect();
            match purpose {
                DrainPurpose::Throttle => return Need::Restore { pods: pods() },
                DrainPurpose::Park => return Need::Recall { pods: pods() },
                DrainPurpose::Remove => {}
            }
            let target = fence_target(scope, revision_of).or_else(|| self.config.revision.clone());
            return target.map_or(Need::Look { at: None }, |deployment| Need::Fence { deployment });
        }
        if self.endpoints.usable() > 0 {
            return match self.handshakes.next_expiry(now) {
                Some(at) => Need::Look { at: Some(at) },
                None => Need::Nothing,
            };
        }
        let asleep = self.endpoints.asleep(now);
        if let Some(unpark) = self.unpark_need(&asleep) {
            return unpark;
        }
        match &self.config.revision {
            Some(deployment) => Need::Wake {
                deployment: deployment.clone(),
                replicas: self.config.wake_replicas,
                beside: i32::try_from(asleep.lost).unwrap_or(i32::MAX),
                look_at: self.next_look(now),
            },
            None => Need::Look { at: self.next_look(now) },
        }
    }

    fn next_look(&self, now: Instant) -> Option<Instant> {
        let reported = self
            .trace
            .filter(|_| self.cause.as_ref().is_some_and(|c| c.certainty == Certainty::Reported))
            .map(|t| t.began + REPORTED_GRACE)
            .filter(|at| *at > now);
        [self.handshakes.next_expiry(now), self.endpoints.next_reprieve(), reported].into_iter().flatten().min()
    }

    /// Whether the operator should hear at once that a request found no slot.
    pub fn should_poke(&mut self, now: Instant) -> bool {
        if self.last_poke.is_some_and(|last| now.saturating_duration_since(last) < POKE_EVERY) {
            return false;
        }
        self.last_poke = Some(now);
        true
    }

    /// The trace of the present wake.
    pub fn trace(&self) -> Option<WakeTrace> {
        self.trace
    }

    /// Endpoints that may be used now.
    pub fn usable(&self) -> usize {
        self.endpoints.usable()
    }

    /// Requests at pods.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Requests that wait.
    pub fn queued(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }

    /// What waits here: requests and their bytes.
    pub fn held(&self) -> Share {
        Share { requests: self.queue.len() as u64, bytes: self.queue.bytes() }
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }

    fn count(&mut self, now: Instant) {
        let micros = self.micros(now);
        let queued = self.queued();
        self.sampler.set(micros, self.in_flight, queued);
    }

    /// The second `second` since the epoch, where it had traffic.
    pub fn sample(&mut self, now: Instant, second: u64) -> Option<Bucket> {
        let micros = self.micros(now);
        self.sampler.advance(micros);
        self.sampler.closed(second)
    }

    /// Whether time alone changes nothing: no pods, no requests, nothing under way.
    pub fn is_still(&self) -> bool {
        let busy = self.wake_running || self.handing_out;
        self.pods.is_empty() && self.endpoints.is_empty() && self.queue.is_empty() && !busy && self.sampler.is_still()
    }

    /// Whether there were requests in the second that runs, or in the one before.
    fn was_asked_lately(&mut self, now: Instant) -> bool {
        let running = self.sample_running(now);
        !running.is_quiet() || running.second.checked_sub(1).is_some_and(|last| self.sampler.closed(last).is_some())
    }

    /// The second that runs.
    pub fn sample_running(&mut self, now: Instant) -> Bucket {
        let micros = self.micros(now);
        self.sampler.advance(micros);
        self.sampler.running()
    }
}

mod cause;
mod neighbours;
mod owning;
mod parked;
mod slots;
mod stepdown;

pub use neighbours::Neighbours;
pub use parked::Shown;

#[cfg(test)]
mod tests;
