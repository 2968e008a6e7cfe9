//! Endpoints that go from one cell of a Function to another, because the revision of their pods does.
//!
//! What always holds: what is known of a pod goes along; requests that are at it stay with the cell that counts them.

use std::sync::atomic::Ordering;

use super::{Endpoint, Endpoints, NEXT_ID, Phase};

impl Endpoints {
    /// Gives up the endpoints of pods that do not stay, by uid: they get nothing more here.
    pub fn part(&mut self, stays: impl Fn(&str) -> bool) -> Vec<Endpoint> {
        let mut handed = Vec::new();
        for at in 0..self.entries.len() {
            let Some(Some(endpoint)) = self.entries.get_mut(at) else { continue };
            if endpoint.phase == Phase::Draining || stays(&endpoint.uid) {
                continue;
            }
            handed.push(endpoint.hand_over());
            self.settle(at);
            self.remove_if_gone(at);
        }
        handed
    }

    /// Takes endpoints over. Those of pods that requests from before are still at go on in their old place.
    pub fn receive(&mut self, handed: Vec<Endpoint>) {
        for endpoint in handed {
            match self.entries.iter_mut().flatten().find(|known| known.uid == endpoint.uid) {
                Some(known) => {
                    (known.phase, known.turns) = (endpoint.phase, endpoint.turns);
                    (known.was_ready, known.probing) = (endpoint.was_ready, false);
                }
                None => self.insert(endpoint),
            }
        }
    }
}

impl Endpoint {
    /// What another cell goes on with. Nobody probes it, nor asks for its function: both were done for this cell.
    fn hand_over(&mut self) -> Self {
        let ramp = self.ramp.take().filter(|_| self.in_flight == 0);
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            uid: self.uid.clone(),
            revision: self.revision.clone(),
            upstream: self.upstream.clone(),
            phase: std::mem::replace(&mut self.phase, Phase::Draining),
            in_flight: 0,
            occupied: 0,
            throttled: self.throttled,
            turns: self.turns.hand_over(),
            blocked: self.blocked,
            probing: false,
            refused: self.refused,
            was_ready: self.was_ready,
            active: false,
            ramp,
            ejections: self.ejections,
            open_at: None,
        }
    }
}

#[cfg(test)]
mod tests;
