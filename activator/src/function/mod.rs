//! One Function at run time: its state behind one short lock, and the guards that make sure that whatever was taken is given back
//! exactly once, wherever a request's future is dropped.

pub mod balance;
pub mod endpoints;
pub mod handshake;
pub mod queue;
pub mod samples;
pub mod state;
pub mod trace;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pilotlight_crds::control::{DrainRequest, DrainResponse, FunctionSample, ReleaseRequest};
use tokio::sync::{Notify, oneshot};
use tracing::{debug, info};

use crate::endpoint::{ProbeTarget, Upstream, probing};
use crate::error::Refusal;
use crate::index::{Cause, FunctionConfig, FunctionKey, PodView};
use crate::metrics::FunctionMetrics;
use crate::runtime::Shared;
use crate::scale::{ScaleError, ScalePort};
use crate::wake::{self, Need};

use queue::{QueueError, Seq};
use samples::Bucket;
use state::{SlotRef, State};
use trace::WakeTrace;

/// One Function at run time.
pub struct FunctionCell {
    /// Which Function.
    pub key: FunctionKey,
    /// Its metrics.
    pub metrics: FunctionMetrics,
    shared: Arc<Shared>,
    state: Mutex<State<Waiter>>,
    wake_changed: Notify,
}

/// A request that waits for a slot. Its room in the process-wide bound is given back when it is dropped.
#[derive(Debug)]
struct Waiter {
    answer: oneshot::Sender<Result<Granted, Refusal>>,
    cold: bool,
    _room: Room,
}

#[derive(Debug)]
struct Granted {
    slot: Slot,
    trace: Option<WakeTrace>,
}

struct Room {
    shared: Arc<Shared>,
    bytes: u64,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Room({})", self.bytes)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.pending.give_back(self.bytes);
    }
}

/// The in-flight guard: a reserved place at an endpoint, given back when dropped.
pub struct Slot {
    cell: Arc<FunctionCell>,
    slot: SlotRef,
    armed: bool,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({:?} at {})", self.cell.key, self.slot.upstream.address)
    }
}

impl Slot {
    /// The endpoint's connections.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.slot.upstream
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.armed {
            let now = Instant::now();
            self.cell.lock().release(now, self.slot.index, self.slot.id);
            self.cell.hand_out(now);
        }
    }
}

/// A request that has its slot.
#[derive(Debug)]
pub struct Admitted {
    /// The in-flight guard.
    pub slot: Slot,
    /// Its number, to keep its place if it has to go back.
    pub seq: Seq,
    /// Where no pod was ready when it came: the wake that it waited for.
    pub cold: Option<WakeTrace>,
}

/// Leaves the queue when the client goes away.
struct Ticket<'a> {
    cell: &'a Arc<FunctionCell>,
    seq: Seq,
    waits: bool,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.waits {
            let left = self.cell.lock().leave(Instant::now(), self.seq);
            drop(left);
        }
    }
}

enum Entry {
    Slot(SlotRef),
    Wait(oneshot::Receiver<Result<Granted, Refusal>>),
}

impl FunctionCell {
    /// A Function without pods.
    pub fn new(config: Arc<FunctionConfig>, shared: Arc<Shared>) -> Self {
        Self {
            key: config.key.clone(),
            metrics: shared.metrics.function(&config.key),
            state: Mutex::new(State::new(config, shared.epoch)),
            shared,
            wake_changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<Waiter>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Function's settings.
    pub fn config(&self) -> Arc<FunctionConfig> {
        self.lock().config().clone()
    }

    /// What all Functions share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes in what the watches show.
    pub fn update(self: &Arc<Self>, config: Arc<FunctionConfig>, pods: Vec<Arc<PodView>>, cause: Option<Cause>) {
        let now = Instant::now();
        let limits = &self.shared.limits;
        let connect = |pod: &PodView| Arc::new(Upstream::new(pod, limits));
        let targets = self.lock().update(now, config, pods, cause, connect);
        self.probe(targets);
        self.hand_out(now);
        self.wake_changed.notify_one();
    }

    /// The Function is gone: whoever waits is told.
    pub fn close(&self) {
        while let Some(waiter) = self.next_evicted() {
            let _ = waiter.answer.send(Err(Refusal::FunctionDeleted));
        }
        self.shared.metrics.forget(&self.metrics);
    }

    fn next_evicted(&self) -> Option<Waiter> {
        self.lock().evict(Instant::now())
    }

    fn probe(self: &Arc<Self>, targets: Vec<ProbeTarget>) {
        for target in targets {
            tokio::spawn(probing::run(Arc::downgrade(self), target));
        }
    }

    /// Admits a request: a slot at once, or after waiting for one.
    ///
    /// # Errors
    /// Why it cannot wait, or why it waited in vain.
    pub async fn admit(self: &Arc<Self>, bytes: u64, arrived: Instant) -> Result<Admitted, Refusal> {
        let (seq, entry) = {
            let mut state = self.lock();
            let seq = state.arrive(arrived);
            (seq, self.enter(&mut state, arrived, seq, bytes)?)
        };
        self.settle(seq, entry, arrived).await
    }

    /// Gives a slot back whose pod refused the connection, and admits the request again, in its old place.
    ///
    /// # Errors
    /// As [`FunctionCell::admit`].
    pub async fn readmit(
        self: &Arc<Self>,
        mut slot: Slot,
        seq: Seq,
        bytes: u64,
        arrived: Instant,
    ) -> Result<Admitted, Refusal> {
        let now = Instant::now();
        slot.armed = false;
        let (targets, entry) = {
            let mut state = self.lock();
            let targets = state.give_up(now, slot.slot.index, slot.slot.id);
            (targets, self.enter(&mut state, now, seq, bytes))
        };
        self.probe(targets);
        self.hand_out(now);
        self.settle(seq, entry?, arrived).await
    }

    fn enter(&self, state: &mut State<Waiter>, now: Instant, seq: Seq, bytes: u64) -> Result<Entry, Refusal> {
        if let Some(slot) = state.take_slot(now, seq) {
            return Ok(Entry::Slot(slot));
        }
        if let Some(cause) = state.hopeless(now) {
            return Err(Refusal::CannotStart { reason: cause.reason, message: cause.message });
        }
        if !self.shared.pending.take(bytes, &self.shared.limits) {
            return Err(Refusal::ActivatorFull);
        }
        let room = Room { shared: self.shared.clone(), bytes };
        let (answer, receiver) = oneshot::channel();
        let waiter = Waiter { answer, cold: state.usable() == 0, _room: room };
        state.wait(now, seq, waiter, bytes).map_err(|error| match error {
            QueueError::Count(waiting) => Refusal::QueueFull { waiting },
            QueueError::Bytes(bytes) => Refusal::QueueBytesFull { bytes },
        })?;
        Ok(Entry::Wait(receiver))
    }

    async fn settle(self: &Arc<Self>, seq: Seq, entry: Entry, arrived: Instant) -> Result<Admitted, Refusal> {
        let receiver = match entry {
            Entry::Slot(slot) => {
                return Ok(Admitted { slot: self.guard(slot), seq, cold: None });
            }
            Entry::Wait(receiver) => receiver,
        };
        let mut ticket = Ticket { cell: self, seq, waits: true };
        self.ensure_wake();
        self.poke();
        let allowed = self.config().cold_start_timeout;
        let left = allowed.saturating_sub(arrived.elapsed());
        let answer = tokio::time::timeout(left, receiver).await;
        let granted = match answer {
            Ok(Ok(granted)) => granted,
            Ok(Err(_)) => Err(Refusal::FunctionDeleted),
            Err(_) => return Err(self.waited_too_long(allowed)),
        };
        ticket.waits = false;
        let granted = granted?;
        Ok(Admitted { slot: granted.slot, seq, cold: granted.trace })
    }

    fn waited_too_long(&self, allowed: Duration) -> Refusal {
        let state = self.lock();
        let seconds = allowed.as_secs();
        if state.usable() > 0 {
            return Refusal::NoFreeSlot { seconds };
        }
        let (reason, message) = state.best_cause();
        Refusal::ColdStartTimeout { reason, message, seconds }
    }

    fn guard(self: &Arc<Self>, slot: SlotRef) -> Slot {
        Slot { cell: self.clone(), slot, armed: true }
    }

    /// Gives free slots to those who wait. A client that went away in this very moment passes its slot on.
    fn hand_out(self: &Arc<Self>, now: Instant) {
        loop {
            let (waiter, slot, trace) = {
                let mut state = self.lock();
                let Some((waiter, slot)) = state.grant(now) else { return };
                (waiter, slot, state.trace())
            };
            let trace = trace.filter(|_| waiter.cold);
            let granted = Granted { slot: self.guard(slot), trace };
            if let Err(Ok(unclaimed)) = waiter.answer.send(Ok(granted)) {
                self.take_back(unclaimed.slot, now);
            }
        }
    }

    fn take_back(&self, mut slot: Slot, now: Instant) {
        slot.armed = false;
        self.lock().release(now, slot.slot.index, slot.slot.id);
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
    pub fn wake_step(self: &Arc<Self>) -> Option<Need> {
        let now = Instant::now();
        while let Some((waiter, cause)) = self.next_hopeless(now) {
            let refusal = Refusal::CannotStart { reason: cause.reason, message: cause.message };
            let _ = waiter.answer.send(Err(refusal));
        }
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
        self.lock().trouble = Some(("PodNotAnswering".to_owned(), trouble));
    }

    /// `/scale` says one replica or more.
    pub fn note_patched(&self) {
        self.lock().note_patched(Instant::now());
    }

    /// Counts a wake that wrote `/scale`.
    pub fn count_wake(&self) {
        self.metrics.wakes.inc();
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
        }
        passed
    }

    /// Whether an endpoint's prober should go on.
    pub fn keep_probing(&self, index: usize, id: u64) -> bool {
        self.lock().keep_probing(index, id)
    }

    /// Answers a drain request of the operator.
    pub fn drain(&self, request: &DrainRequest) -> DrainResponse {
        self.lock().drain(Instant::now(), request)
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

    /// Once a second: pods that outlived a step down are probed anew.
    pub fn tick(self: &Arc<Self>) {
        let targets = self.lock().reprieve(Instant::now());
        self.probe(targets);
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
        let bucket = self.lock().sample(now, second)?;
        Some(self.sample_of(bucket))
    }

    fn sample_of(&self, bucket: Bucket) -> FunctionSample {
        FunctionSample {
            namespace: self.key.namespace.to_string(),
            name: self.key.name.to_string(),
            concurrency_milli: bucket.concurrency_milli,
            peak: bucket.peak,
            arrivals: bucket.arrivals,
            queued: bucket.queued,
            in_flight: bucket.in_flight,
        }
    }

    /// Requests at pods, and requests that wait.
    pub fn load(&self) -> (u32, u32) {
        let state = self.lock();
        (state.in_flight(), state.queued())
    }
}
