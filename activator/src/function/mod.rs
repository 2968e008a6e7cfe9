//! One Function at run time, or where several revisions share its traffic one of these: its state behind one short lock, and what watches,
//! probers, the wake and the operator do with it.

pub mod admission;
pub mod assign;
pub mod balance;
mod common;
pub mod drain;
pub mod endpoints;
pub mod group;
pub mod handshake;
pub mod held;
mod leaving;
pub mod outlier;
pub mod owning;
pub mod queue;
pub mod ramp;
mod restoring;
pub mod retry;
pub mod samples;
mod sampling;
pub mod slot;
mod split;
pub mod state;
pub mod telemetry;
pub mod trace;
mod unparking;
pub mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::endpoint::{ProbeTarget, Upstream, probing};
use crate::error::Refusal;
use crate::index::{Cause, FunctionConfig, FunctionKey, PodView};
use crate::metrics::FunctionMetrics;
use crate::relay::line::Line;
use crate::runtime::Shared;
use crate::scale::{ScaleError, ScalePort};
use crate::wake::{self, Need};

pub use admission::Admitted;
pub use slot::Slot;
pub use split::Chosen;

use admission::{Waiter, breathe};
use common::Common;
use leaving::Leaving;
use restoring::Restoring;
use split::Split;
use state::{PROBE_TROUBLE, State};

/// One Function at run time, or one of its revisions with traffic, where several share it ([`group`]).
pub struct FunctionCell {
    /// Which Function.
    pub key: FunctionKey,
    common: Arc<Common>,
    shared: Arc<Shared>,
    state: Mutex<State<Waiter>>,
    /// The next second's end may have something to do.
    stirs: AtomicBool,
    /// The way to the owner.
    line: Mutex<Option<Arc<Line>>>,
    /// Who gets the requests that come to this one; a further cell gets none but from the door.
    split: Split,
    wake_changed: Notify,
    /// A slot was given back.
    slot_freed: Notify,
    restoring: Restoring,
    leaving: Leaving,
}

impl FunctionCell {
    /// A Function without pods.
    pub fn new(config: Arc<FunctionConfig>, shared: Arc<Shared>) -> Self {
        let common = Common::new(&config.key, &shared);
        let state = State::new(config, shared.epoch, shared.peers.uid.clone());
        Self::of(state, Arc::new(common), shared)
    }

    /// A cell for another revision of the Function.
    fn beside(&self, config: Arc<FunctionConfig>) -> Self {
        let mut state = State::new(config, self.shared.epoch, self.shared.peers.uid.clone());
        state.inherit(&self.look());
        Self::of(state, self.common.clone(), self.shared.clone())
    }

    fn of(state: State<Waiter>, common: Arc<Common>, shared: Arc<Shared>) -> Self {
        Self {
            key: state.config().key.clone(),
            common,
            shared,
            state: Mutex::new(state),
            stirs: AtomicBool::new(true),
            line: Mutex::default(),
            split: Split::default(),
            wake_changed: Notify::new(),
            slot_freed: Notify::new(),
            restoring: Restoring::default(),
            leaving: Leaving::default(),
        }
    }

    /// Whether the Function has names outside the cluster.
    pub fn is_external(&self) -> bool {
        self.common.external.load(Ordering::Relaxed)
    }

    /// Says so.
    pub fn set_external(&self, external: bool) {
        self.common.external.store(external, Ordering::Relaxed);
    }

    /// The Function's metrics.
    pub fn metrics(&self) -> &FunctionMetrics {
        &self.common.metrics
    }

    fn lock(&self) -> MutexGuard<'_, State<Waiter>> {
        let state = self.look();
        // With the lock in hand: who lets it rest has it, too.
        self.stirs.store(true, Ordering::Release);
        state
    }

    /// For those who change nothing that a second's end has to see to.
    fn look(&self) -> MutexGuard<'_, State<Waiter>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a second's end may have anything to do with it. Most Functions are at zero, and cost no more than this question.
    pub fn stirs(&self) -> bool {
        self.stirs.load(Ordering::Acquire)
    }

    /// At a second's end, when all was done: lets it rest where the next end has nothing to do until somebody touches it.
    pub fn rest(&self) {
        let state = self.look();
        self.stirs.store(!state.is_still(), Ordering::Release);
    }

    /// The Function's settings.
    pub fn config(&self) -> Arc<FunctionConfig> {
        self.lock().config().clone()
    }

    /// Resolves when the next step of one of its requests, or connections, may be taken; the step became possible at `now`.
    pub async fn take_turn(&self, now: Instant) {
        let turns = self.shared.turns();
        turns.take(self.common.turns.here(|| turns.share()), now).await;
    }

    /// Whether the Function's EndpointSlice leads here, as the watch tells.
    pub fn led(&self, here: bool) {
        self.leaving.led(here);
    }

    /// Cancelled once the client of a connection that begins now has to be asked to connect anew.
    pub fn leaving(&self) -> CancellationToken {
        self.leaving.token(&self.shared.draining)
    }

    /// What all Functions share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes in what the watches show.
    pub fn update(self: &Arc<Self>, config: Arc<FunctionConfig>, pods: Vec<Arc<PodView>>, cause: Option<Cause>) {
        let now = Instant::now();
        let limits = &self.shared.limits;
        let connect = |pod: &PodView| Arc::new(Upstream::new(pod, limits).through(self.shared.dial.clone()));
        let targets = self.lock().update(now, config, pods, cause, connect);
        self.probe(targets);
        self.claim();
        self.restore_starved();
        self.hand_out(now);
        self.wake_changed.notify_one();
    }

    /// The Function is gone: tells whoever waits.
    async fn dismiss(&self) {
        let mut told = 0usize;
        while let Some(waiter) = self.next_evicted() {
            waiter.refuse(Refusal::FunctionDeleted);
            told += 1;
            breathe(told).await;
        }
    }

    fn next_evicted(&self) -> Option<Waiter> {
        self.lock().evict(Instant::now())
    }

    fn probe(self: &Arc<Self>, targets: Vec<ProbeTarget>) {
        for target in targets {
            tokio::spawn(probing::run(Arc::downgrade(self), target));
        }
    }

    fn ensure_wake(self: &Arc<Self>) {
        let start = {
            let mut state = self.lock();
            let start = !state.wake_running && state.need(Instant::now()) != Need::Nothing;
            state.wake_running |= start;
            start
        };
        if start {
            tokio::spawn(wake::run(self.clone()));
        }
    }

    /// The wake task's next step; `None` where it must end.
    pub async fn wake_step(self: &Arc<Self>) -> Option<Need> {
        let mut told = 0usize;
        while let Some((waiter, cause)) = self.next_hopeless(Instant::now()) {
            let refusal = Refusal::CannotStart { reason: cause.reason, message: cause.message };
            waiter.refuse(refusal);
            told += 1;
            breathe(told).await;
        }
        let now = Instant::now();
        let (need, targets) = {
            let mut state = self.lock();
            let targets = state.reprieve(now);
            let need = state.need(now);
            state.wake_running = need != Need::Nothing;
            (need, targets)
        };
        self.probe(targets);
        (need != Need::Nothing).then_some(need)
    }

    fn next_hopeless(&self, now: Instant) -> Option<(Waiter, Cause)> {
        self.lock().fail_next(now)
    }

    /// Resolves when the wake task should look again.
    pub async fn wake_changed(&self) {
        self.wake_changed.notified().await;
    }

    /// `/scale`.
    pub fn scale(&self) -> &dyn ScalePort {
        self.shared.scale.as_ref()
    }

    /// Remembers trouble with `/scale`, to name it to those who wait in vain.
    pub fn note_trouble(&self, error: &ScaleError) {
        if !matches!(error, ScaleError::Conflict) {
            self.lock().trouble = Some((error.reason().to_owned(), error.to_string()));
        }
    }

    /// Remembers why a probe failed.
    pub fn note_probe_trouble(&self, trouble: String) {
        self.lock().trouble = Some((PROBE_TROUBLE.to_owned(), trouble));
    }

    /// `/scale` says one replica or more.
    pub fn note_patched(&self) {
        self.lock().note_patched(Instant::now());
    }

    /// Counts a wake that wrote `/scale`.
    pub fn count_wake(&self) {
        self.metrics().wakes.inc();
    }

    /// Counts a throttled pod that got its CPU back.
    pub fn count_restore(&self) {
        self.metrics().balance.restores.inc();
    }

    /// A fence succeeded.
    pub fn fenced(self: &Arc<Self>, asked: Instant, gone: bool) {
        let now = Instant::now();
        self.lock().fenced(now, asked, gone);
        self.hand_out(now);
    }

    /// An endpoint passed its checks. `false` where it is not wanted any more.
    pub fn probe_passed(self: &Arc<Self>, index: usize, id: u64) -> bool {
        let now = Instant::now();
        let (passed, trace) = {
            let mut state = self.lock();
            (state.probe_passed(now, index, id), state.trace())
        };
        if passed {
            debug!(function = %self.key.name, namespace = %self.key.namespace, "endpoint ready");
            if let Some(trace) = trace.filter(|t| t.reachable == Some(now)) {
                self.metrics().observe_wake(&trace);
            }
            self.hand_out(now);
            self.wake_changed.notify_one();
            self.regrow(index, id);
        }
        passed
    }

    /// Whether an endpoint's prober should go on.
    pub fn keep_probing(&self, index: usize, id: u64) -> bool {
        self.lock().keep_probing(index, id)
    }

    /// Once a second: pods that outlived a step down or an ejection are probed anew; silent new pods get more.
    pub fn tick(self: &Arc<Self>) {
        let now = Instant::now();
        let targets = {
            let mut state = self.lock();
            state.advance(now);
            state.reprieve(now)
        };
        self.probe(targets);
        self.restore_starved();
        self.hand_out(now);
    }

    /// Takes one retry of a request that may have reached a pod out of the Function's budget; `false` where it is used up.
    pub fn may_replay(&self) -> bool {
        let may = self.lock().may_replay(Instant::now());
        let balance = &self.metrics().balance;
        if may {
            balance.replayed.inc()
        } else {
            balance.exhausted.inc()
        };
        may
    }

    /// Endpoints that may get requests now.
    pub fn usable(&self) -> usize {
        self.lock().usable()
    }

    /// Requests at pods, and requests that wait.
    pub fn load(&self) -> (u32, u32) {
        let state = self.lock();
        (state.in_flight(), state.queued())
    }
}

#[cfg(test)]
mod tests;
