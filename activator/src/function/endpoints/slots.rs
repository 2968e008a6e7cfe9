//! Reserving and giving back places at endpoints. Endpoints that have room for one more request are kept in a list of their own, so
//! that neither a choice nor the answer that all are full takes longer beside more endpoints.
//!
//! What always holds: an endpoint is in that list exactly while it may get a request ([`Endpoints::settle`] after every change).

use std::sync::Arc;
use std::time::Instant;

use crate::endpoint::Upstream;
use crate::function::balance::{self, Load};
use crate::function::ramp::FULL_WEIGHT;

use super::{Endpoint, Endpoints};

/// A reserved place at an endpoint. Exactly one release must follow.
#[derive(Clone, Debug)]
pub struct SlotRef {
    /// Place in the list of endpoints.
    pub index: usize,
    /// Which endpoint.
    pub id: u64,
    /// Its connections.
    pub upstream: Arc<Upstream>,
    /// It counts in the endpoint's slow start until the pod begins to answer.
    pub unanswered: bool,
    /// Its pod is throttled: its CPU has to be given back.
    pub starved: bool,
}

impl Endpoints {
    /// Reserves a place at an endpoint with room; `None` where there is none.
    pub fn reserve(&mut self, random: u64) -> Option<SlotRef> {
        let load = |at: usize| match self.entries.get(self.open[at]) {
            Some(Some(endpoint)) => {
                let weight = endpoint.ramp.as_ref().map_or(FULL_WEIGHT, |ramp| ramp.weight());
                Load { in_flight: endpoint.in_flight, weight }
            }
            _ => Load { in_flight: u32::MAX, weight: FULL_WEIGHT },
        };
        let index = self.open[balance::pick(self.open.len(), load, random)?];
        let endpoint = self.entries.get_mut(index)?.as_mut()?;
        endpoint.in_flight += 1;
        if let Some(ramp) = &mut endpoint.ramp {
            ramp.sent();
        }
        let unanswered = endpoint.ramp.is_some();
        let (upstream, starved) = (endpoint.upstream.clone(), endpoint.throttled);
        let slot = SlotRef { index, id: endpoint.id, upstream, unanswered, starved };
        self.settle(index);
        Some(slot)
    }

    /// The pod began to answer. `waiting`: other requests wait.
    pub fn answered(&mut self, slot: &mut SlotRef, waiting: bool) {
        slot.unanswered = false;
        let Some(endpoint) = self.get_mut(slot.index, slot.id) else { return };
        if let Some(ramp) = &mut endpoint.ramp {
            ramp.answered();
        }
        endpoint.end_ramp(waiting);
        self.settle(slot.index);
    }

    /// A request at it ended.
    pub fn release(&mut self, slot: &SlotRef) {
        let Some(endpoint) = self.get_mut(slot.index, slot.id) else { return };
        endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        if let Some(ramp) = endpoint.ramp.as_mut().filter(|_| slot.unanswered) {
            ramp.ended();
        }
        self.settle(slot.index);
        self.remove_if_gone(slot.index);
    }

    /// Lets time pass for those that have just become ready.
    pub fn advance(&mut self, now: Instant, waiting: bool) {
        for at in 0..self.entries.len() {
            let Some(Some(endpoint)) = self.entries.get_mut(at) else { continue };
            let Some(ramp) = &mut endpoint.ramp else { continue };
            ramp.advance(now);
            endpoint.end_ramp(waiting);
            self.settle(at);
        }
    }

    /// Puts an endpoint into the list of those with room, or takes it out.
    pub(super) fn settle(&mut self, at: usize) {
        let limit = self.limit;
        let only_active = self.usable_active > 0;
        let Some(Some(endpoint)) = self.entries.get_mut(at) else { return };
        let wanted = endpoint.usable() && (endpoint.active || !only_active);
        match (wanted && endpoint.has_room(limit), endpoint.open_at) {
            (true, None) => {
                endpoint.open_at = Some(self.open.len());
                self.open.push(at);
            }
            (false, Some(position)) => {
                endpoint.open_at = None;
                self.open.swap_remove(position);
                if let Some(moved) = self.open.get(position).copied()
                    && let Some(Some(endpoint)) = self.entries.get_mut(moved)
                {
                    endpoint.open_at = Some(position);
                }
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
}

impl Endpoint {
    /// Whether it can take one more request: by its limit, or else by its slow start.
    fn has_room(&self, limit: u32) -> bool {
        if limit == 0 {
            return self.ramp.as_ref().is_none_or(|ramp| ramp.has_room());
        }
        self.in_flight < limit.saturating_sub(self.occupied)
    }

    fn end_ramp(&mut self, waiting: bool) {
        if self.ramp.as_ref().is_some_and(|ramp| ramp.is_over(waiting)) {
            self.ramp = None;
            self.ejections = 0;
        }
    }
}
