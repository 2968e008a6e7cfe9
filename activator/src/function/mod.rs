//! One Function at run time: its state behind one short lock, and what watches, probers, the wake and the operator do with it.

pub mod admission;
pub mod balance;
pub mod endpoints;
pub mod handshake;
mod leaving;
pub mod outlier;
pub mod owning;
pub mod queue;
pub mod ramp;
mod restoring;
pub mod retry;
pub mod samples;
pub mod state;
pub mod telemetry;
pub mod trace;
mod unparking;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pilotlight_crds::control::{DrainOutcome, DrainRequest, DrainResponse, DrainScope, FunctionSample, ReleaseRequest};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::endpoint::{ProbeTarget, Upstream, probing};
use crate::error::Refusal;
use crate::index::{Cause, FunctionConfig, FunctionKey, PodView};
use crate::lanes::PerLane;
use crate::metrics::FunctionMetrics;
use crate::relay::line::Line;
use crate::runtime::Shared;
use crate::scale::{ScaleError, ScalePort};
use crate::turns::Share;
use crate::wake::{self, Need};

pub use admission::{Admitted, Slot};

use admission::{Waiter, breathe};
use leaving::Leaving;
use restoring::Restoring;
use samples::Bucket;
use state::{PROBE_TROUBLE, State};

/// One Function at run time.
pub struct FunctionCell {
    /// Which Function.
    pub key: FunctionKey,
    /// Its metrics.
    pub metrics: FunctionMetrics,
    shared: Arc<Shared>,
    state: Mutex<State<Waiter>>,
    /// The next second's end may have something to do.
    stirs: AtomicBool,
    /// The way to the owner.
    line: Mutex<Option<Arc<Line>>>,
    turns: PerLane<Arc<Share>>,
    wake_changed: Notify,
    /// A slot was given back.
    slot_freed: Notify,
    restoring: Restoring,
    leaving: Leaving,
}

impl FunctionCell {
    /// A Function without pods.
    pub fn new(config: Arc<FunctionConfig>, shared: Arc<Shared>) -> Self {
        Self {
            key: config.key.clone(),
            metrics: shared.metrics.function(&config.key),
            state: Mutex::new(State::new(config, shared.epoch, shared.peers.uid.clone())),
            stirs: AtomicBool::new(true),
            line: Mutex::default(),
            turns: PerLane::new(shared.limits.threads),
            shared,
            wake_changed: Notify::new(),
            slot_freed: Notify::new(),
            restoring: Restoring::default(),
            leaving: Leaving::default(),
        }
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
        turns.take(self.turns.here(|| turns.share()), now).await;
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

    /// The Function is gone: whoever waits is told, and nobody can begin to wait.
    pub fn close(self: &Arc<Self>) {
        self.lock().closed = true;
        let cell = self.clone();
        tokio::spawn(async move {
            let mut told = 0usize;
            while let Some(waiter) = cell.next_evicted() {
                waiter.refuse(Refusal::FunctionDeleted);
                told += 1;
                breathe(told).await;
            }
            cell.shared.metrics.forget(&cell.metrics);
        });
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
        self.metrics.wakes.inc();
    }

    /// Counts a throttled pod that got its CPU back.
    pub fn count_restore(&self) {
        self.metrics.balance.restores.inc();
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
                self.metrics.observe_wake(&trace);
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

    /// Answers a drain request of the operator: at once, or for single pods when their requests have ended, if they do so in the time
    /// that the operator gives.
    pub async fn drain(self: &Arc<Self>, request: &DrainRequest) -> DrainResponse {
        let answer = self.lock().drain(Instant::now(), request);
        let wait = Duration::from_millis(request.wait_millis.min(request.ttl_millis / 2));
        // Requests at the pods may end; those that wait for one do not by waiting.
        let busy = matches!(answer, DrainResponse::Busy { queued: 0, .. });
        let lingers = matches!(request.scope, DrainScope::Pods { .. }) && !wait.is_zero();
        if !(busy && lingers) {
            return answer;
        }
        self.lock().begin_drain(Instant::now(), request);
        if tokio::time::timeout(wait, self.emptied(&request.scope)).await.is_ok() {
            return DrainResponse::Drained;
        }
        let (now, in_flight, queued) = {
            let mut state = self.lock();
            let now = Instant::now();
            state.release_handshake(now, &request.handshake, DrainOutcome::Aborted);
            (now, state.in_flight_at(&request.scope), state.queued())
        };
        self.hand_out(now);
        DrainResponse::Busy { in_flight, queued }
    }

    /// Resolves when no request is in flight at the pods in scope.
    async fn emptied(&self, scope: &DrainScope) {
        loop {
            let mut freed = pin!(self.slot_freed.notified());
            freed.as_mut().enable();
            if self.lock().in_flight_at(scope) == 0 {
                return;
            }
            freed.await;
        }
    }

    /// Ends a hand-shake.
    pub fn release(self: &Arc<Self>, request: &ReleaseRequest) {
        let now = Instant::now();
        self.lock().release_handshake(now, &request.handshake, request.outcome);
        info!(function = %self.key.name, namespace = %self.key.namespace, outcome = ?request.outcome, "hand-shake released");
        self.hand_out(now);
        self.wake_changed.notify_one();
        self.ensure_wake();
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

    fn poke(&self) {
        let now = Instant::now();
        let bucket = {
            let mut state = self.lock();
            state.should_poke(now).then(|| state.sample_running(now))
        };
        if let Some(bucket) = bucket {
            self.shared.publisher.poke(self.sample_of(bucket));
        }
    }

    /// The Function's traffic in a second that is over, where it had some.
    pub fn sample(&self, now: Instant, second: u64) -> Option<FunctionSample> {
        let bucket = self.look().sample(now, second)?;
        Some(self.sample_of(bucket))
    }

    fn sample_of(&self, bucket: Bucket) -> FunctionSample {
        FunctionSample {
            namespace: self.key.namespace.to_string(),
            name: self.key.name.to_string(),
            concurrency_milli: bucket.concurrency_milli,
            busy_milli: bucket.busy_milli,
            peak: bucket.peak,
            arrivals: bucket.arrivals,
            completed: bucket.completed,
            queued: bucket.queued,
            in_flight: bucket.in_flight,
            start_millis: bucket.start_millis,
        }
    }

    /// Takes one retry of a request that may have reached a pod out of the Function's budget; `false` where it is used up.
    pub fn may_replay(&self) -> bool {
        let may = self.lock().may_replay(Instant::now());
        let balance = &self.metrics.balance;
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
