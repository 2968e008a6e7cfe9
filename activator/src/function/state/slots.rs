//! What becomes of a slot once it is reserved: the pod answers, fails, cannot be reached, or the request ends.

use std::time::Instant;

use crate::endpoint::ProbeTarget;
use crate::function::endpoints::SlotRef;
use crate::function::watch::Ended;

use super::State;

impl<W> State<W> {
    /// A pod in its slow start began to answer. The caller must hand out [`State::grant`]s.
    pub fn answered(&mut self, slot: &mut SlotRef) {
        let waiting = !self.queue.is_empty();
        self.endpoints.answered(slot, waiting);
    }

    /// A request ended of which there is nothing to say: its slot is free.
    pub fn release(&mut self, now: Instant, slot: &SlotRef) {
        self.complete(now, slot, Ended::default());
    }

    /// A request ended in this way: its slot is free.
    pub fn complete(&mut self, now: Instant, slot: &SlotRef, ended: Ended) {
        self.endpoints.release(slot);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.sampler.completed(self.micros(now), ended);
        self.count(now);
    }

    /// A request was told that no pod starts.
    pub fn unanswered(&mut self, now: Instant) {
        self.sampler.unanswered(self.micros(now));
    }

    /// A request gives its slot back because its pod could not be connected to. The endpoint is probed anew.
    pub fn give_up(&mut self, now: Instant, slot: &SlotRef) -> Vec<ProbeTarget> {
        self.endpoints.unreachable(slot);
        self.endpoints.release(slot);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.count(now);
        self.refresh(now);
        self.endpoints.to_probe(&self.pods)
    }

    /// A pod failed too often in a row. `true` where it gets no more requests for a while.
    pub fn eject(&mut self, now: Instant, slot: &SlotRef) -> bool {
        let ejected = self.endpoints.eject(now, slot);
        if ejected {
            self.refresh(now);
        }
        ejected
    }

    /// Lets time pass for pods in their slow start. The caller must hand out [`State::grant`]s.
    pub fn advance(&mut self, now: Instant) {
        let waiting = !self.queue.is_empty();
        self.endpoints.advance(now, waiting);
    }
}
