//! Whether this activator may send to the Function's pods ([`Ownership`]), where the requests that wait are concerned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::State;
use crate::ownership::{Ownership, Peer, Role};

impl<W> State<W> {
    /// What is known of who may send.
    pub fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// Changes what is known of who may send. The caller must hand out what that frees, and start the claims that it calls for.
    pub fn own<T>(&mut self, now: Instant, change: impl FnOnce(&mut Ownership) -> T) -> T {
        let result = change(&mut self.ownership);
        self.refresh(now);
        result
    }

    /// A waiting request that another activator has to be handed, where that is so for all; to be called until `None` after any
    /// change of who may send.
    pub fn divert(&mut self, now: Instant) -> Option<W> {
        if self.ownership.role() != Role::Relay {
            return None;
        }
        self.evict(now)
    }

    /// Yields to the owner that `epoch` names: from now on no older epoch lets this activator send. `false` where it knows better.
    pub fn yield_to(&mut self, now: Instant, epoch: i64, owner: &Peer) -> bool {
        self.own(now, |ownership| ownership.hear(now, epoch, owner))
    }

    /// Requests at each pod, by its uid.
    pub fn at_pods(&self) -> BTreeMap<String, u32> {
        let mut held = BTreeMap::new();
        for endpoint in self.endpoints.iter().filter(|endpoint| endpoint.in_flight > 0) {
            *held.entry(endpoint.uid.to_string()).or_default() += endpoint.in_flight;
        }
        held
    }

    /// Activators that have to be asked in the present epoch, and are not being asked yet.
    pub fn to_ask(&mut self) -> (i64, Vec<Arc<str>>) {
        (self.ownership.epoch(), self.ownership.to_ask())
    }
}
