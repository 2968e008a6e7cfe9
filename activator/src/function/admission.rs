//! How a request gets its slot: at once, or after waiting in the queue; and the guards that make sure that whatever was taken to wait is
//! given back exactly once, wherever a request's future is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::FunctionCell;
use super::common::Common;
use super::endpoints::SlotRef;
use super::queue::{QueueError, Seq};
use super::slot::Slot;
use super::state::State;
use super::trace::WakeTrace;
use super::watch::Ended;
use crate::error::Refusal;
use crate::index::FunctionConfig;
use crate::limits::NoRoom;
use crate::ownership::Role;
use crate::relay::line::Line;
use crate::runtime::Shared;

/// Requests that get or lose their place at once; then other tasks have a turn.
const BATCH: usize = 64;

/// Lets other tasks have a turn after each [`BATCH`].
pub(super) async fn breathe(done: usize) {
    if done.is_multiple_of(BATCH) {
        tokio::task::yield_now().await;
    }
}

/// A request that waits for a slot. Its room in the bounds of the process and of the Function is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Waiter {
    answer: oneshot::Sender<Result<Granted, Refusal>>,
    cold: bool,
    _room: Room,
}

#[derive(Debug)]
struct Granted {
    slot: Slot,
    trace: Option<WakeTrace>,
}

impl Waiter {
    /// Tells it that there is no slot, and why.
    pub(super) fn refuse(self, refusal: Refusal) {
        let _ = self.answer.send(Err(refusal));
    }
}

struct Room {
    shared: Arc<Shared>,
    common: Arc<Common>,
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
        self.common.waiting.give_back(self.bytes);
    }
}

/// A request that has its slot.
#[derive(Debug)]
pub struct Admitted {
    /// The in-flight guard.
    pub slot: Slot,
    /// Its number, to keep its place if it has to go back.
    pub seq: Seq,
    /// It had no slot at once.
    pub waited: bool,
    /// Where no pod was ready when it came: the wake that it waited for.
    pub cold: Option<WakeTrace>,
    /// The Function's settings at this moment.
    pub config: Arc<FunctionConfig>,
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
    Slot(SlotRef, Arc<FunctionConfig>),
    Relay(Arc<Line>, Arc<FunctionConfig>),
    Wait(oneshot::Receiver<Result<Granted, Refusal>>),
}

impl FunctionCell {
    /// Admits a request: a slot at once, or after waiting for one.
    ///
    /// # Errors
    /// Why it cannot wait, or why it waited in vain.
    pub async fn admit(self: &Arc<Self>, bytes: u64, arrived: Instant) -> Result<Admitted, Refusal> {
        let (seq, entry) = {
            let mut state = self.lock();
            // What is relayed is counted by the owner.
            let seq = if state.ownership().role() == Role::Relay { state.number() } else { state.arrive(arrived) };
            (seq, self.enter(&mut state, arrived, seq, bytes)?)
        };
        self.settle(seq, entry, arrived).await
    }

    /// Gives a slot back whose pod, or owner, refused the connection, and admits the request again, in its old place.
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
        if let Some(line) = slot.line() {
            self.lost_owner(line);
        }
        let (targets, entry) = {
            let mut state = self.lock();
            let targets = slot.disarm().map(|slot| state.give_up(now, slot)).unwrap_or_default();
            (targets, self.enter(&mut state, now, seq, bytes))
        };
        self.slot_freed.notify_waiters();
        self.probe(targets);
        self.hand_out(now);
        self.settle(seq, entry?, arrived).await
    }

    fn enter(&self, state: &mut State<Waiter>, now: Instant, seq: Seq, bytes: u64) -> Result<Entry, Refusal> {
        if let Some(line) = self.line(state) {
            return Ok(Entry::Relay(line, state.config().clone()));
        }
        if let Some(slot) = state.take_slot(now, seq) {
            return Ok(Entry::Slot(slot, state.config().clone()));
        }
        if let Some(cause) = state.hopeless(now) {
            return Err(Refusal::CannotStart { reason: cause.reason, message: cause.message });
        }
        if state.closed {
            return Err(Refusal::FunctionDeleted);
        }
        let own = state.held();
        let held = if state.is_alone() { own } else { self.common.waiting.taken() };
        let others = held.without(own);
        self.shared.pending.take(held, bytes, &self.shared.limits).map_err(|error| match error {
            NoRoom::Full => Refusal::ActivatorFull,
            NoRoom::ShareTaken => Refusal::FairShareTaken { waiting: held.requests },
        })?;
        self.common.waiting.add(bytes);
        let room = Room { shared: self.shared.clone(), common: self.common.clone(), bytes };
        let (answer, receiver) = oneshot::channel();
        let waiter = Waiter { answer, cold: state.usable() == 0, _room: room };
        state.wait(now, seq, waiter, bytes, others).map_err(|error| match error {
            QueueError::Count(waiting) => Refusal::QueueFull {
                waiting: waiting.saturating_add(usize::try_from(others.requests).unwrap_or(usize::MAX)),
            },
            QueueError::Bytes(bytes) => Refusal::QueueBytesFull { bytes: bytes.saturating_add(others.bytes) },
        })?;
        Ok(Entry::Wait(receiver))
    }

    async fn settle(self: &Arc<Self>, seq: Seq, entry: Entry, arrived: Instant) -> Result<Admitted, Refusal> {
        let receiver = match entry {
            Entry::Slot(slot, config) => {
                if slot.starved {
                    self.restore_starved();
                }
                let slot = self.guard(slot);
                return Ok(Admitted { slot, seq, waited: false, cold: None, config });
            }
            Entry::Relay(line, config) => {
                return Ok(Admitted { slot: self.relay(line), seq, waited: false, cold: None, config });
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
        Ok(Admitted { slot: granted.slot, seq, waited: true, cold: granted.trace, config: self.config() })
    }

    fn waited_too_long(&self, allowed: Duration) -> Refusal {
        let state = self.lock();
        let seconds = allowed.as_secs();
        if state.usable() > 0 {
            let may_send = state.ownership().may_send(state.config().limit);
            return if may_send { Refusal::NoFreeSlot { seconds } } else { Refusal::NoOwner { seconds } };
        }
        let (reason, message) = state.best_cause();
        Refusal::ColdStartTimeout { reason, message, seconds }
    }

    fn guard(self: &Arc<Self>, slot: SlotRef) -> Slot {
        Slot::at_pod(self.clone(), slot)
    }

    fn relay(self: &Arc<Self>, line: Arc<Line>) -> Slot {
        Slot::at_owner(self.clone(), line)
    }

    /// Gives a slot back, and to the next one that waits.
    pub(super) fn end(self: &Arc<Self>, now: Instant, slot: &SlotRef, ended: Ended) {
        let waiting = {
            let mut state = self.lock();
            state.complete(now, slot, ended);
            state.queued() > 0
        };
        self.slot_freed.notify_waiters();
        if waiting {
            self.hand_out(now);
        }
    }

    /// Gives free slots to those who wait: a batch now, the rest by and by, so that a crowd keeps no other Function waiting.
    pub(super) fn hand_out(self: &Arc<Self>, now: Instant) {
        if self.hand_out_batch(now, false) || std::mem::replace(&mut self.lock().handing_out, true) {
            return;
        }
        let cell = self.clone();
        let rest = async move {
            loop {
                tokio::task::yield_now().await;
                if cell.hand_out_batch(Instant::now(), true) {
                    return;
                }
            }
        };
        // Without a runtime nobody is left who could wait.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(rest);
        }
    }

    /// `true` where nobody is left who could get a slot, or has to be handed to the owner. A client that went away in this very moment passes its slot on.
    fn hand_out_batch(self: &Arc<Self>, now: Instant, rest: bool) -> bool {
        for _ in 0..BATCH {
            let (waiter, granted) = {
                let mut state = self.lock();
                if let Some(line) = self.line(&state)
                    && let Some(waiter) = state.divert(now)
                {
                    (waiter, Granted { slot: self.relay(line), trace: None })
                } else if let Some((waiter, slot)) = state.grant(now) {
                    let trace = state.trace().filter(|_| waiter.cold);
                    (waiter, Granted { slot: self.guard(slot), trace })
                } else {
                    state.handing_out &= !rest;
                    return true;
                }
            };
            if granted.slot.is_starved() {
                self.restore_starved();
            }
            if let Err(Ok(unclaimed)) = waiter.answer.send(Ok(granted)) {
                self.take_back(unclaimed.slot, now);
            }
        }
        false
    }

    fn take_back(&self, mut slot: Slot, now: Instant) {
        if let Some(slot) = slot.disarm() {
            self.lock().release(now, slot);
            self.slot_freed.notify_waiters();
        }
    }
}
