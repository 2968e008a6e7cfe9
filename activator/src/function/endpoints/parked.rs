//! Endpoints whose pods are parked: a placeholder is in the function's place, or is about to be. They get no requests and are not probed until
//! the function was asked for again.
//!
//! What always holds: an endpoint of a parked pod becomes Ready only by a probe that began after its function was asked for. News of the watch
//! that are older than what is known are told by the pod's turn, which grows with each swap; nothing is concluded from them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotlight_crds::control::DrainScope;

use crate::function::handshake::covers;
use crate::index::PodView;

use super::{Endpoint, Endpoints, Phase};

/// How long a function that was asked for may take to come back, where Kubernetes shows neither that it runs nor why it cannot, before another
/// pod is asked for: longer than a node takes that starts many at once, for which one more would only be more of the same.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a pod stands between its function and a placeholder.
#[derive(Debug, Default)]
pub(super) struct Turns {
    parked: bool,
    /// The turn in which it was parked.
    parked_at: u64,
    /// The turn in which its function was known to be there, or to come.
    back_at: Option<u64>,
    /// `back_at` when a hand-shake about parking began.
    agreed_at: Option<u64>,
    /// When its function was asked for.
    asked: Option<Instant>,
    /// It requests less than its function needs, since this activator asked for it.
    shrunk: bool,
    /// It cannot be had.
    failed: bool,
    /// Kubernetes says why it cannot be had.
    stuck: bool,
}

impl Turns {
    /// What another cell goes on with. Whoever asked for the function did so for the cell that the pod was in.
    pub(super) fn hand_over(&mut self) -> Self {
        Self { asked: None, ..std::mem::take(self) }
    }
}

/// The parked pods of the active revision.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asleep {
    /// Uids of those whose function nobody has asked for.
    pub resting: Vec<Arc<str>>,
    /// Those whose function was asked for a moment ago.
    pub waking: usize,
    /// Until when the first of these may take.
    pub look_at: Option<Instant>,
    /// Those whose function does not come back.
    pub lost: usize,
}

impl Endpoint {
    /// Follows what the watch shows of it. Whether Kubernetes calls it ready, as far as that is news.
    pub(super) fn follow_turns(&mut self, pod: &PodView) -> bool {
        let turns = &mut self.turns;
        let known = if turns.parked { turns.parked_at } else { turns.back_at.unwrap_or(0) };
        let is_news = pod.turn >= known;
        let ready = pod.ready && is_news;
        self.upstream.set_kubernetes_ready(ready);
        self.upstream.set_function_runs(pod.function_runs && is_news);
        turns.stuck = pod.stuck && is_news;
        if pod.turn > 0 && self.upstream.turned() == 0 {
            self.upstream.turn();
        }
        let Some(parking) = &pod.parking else {
            if !turns.parked {
                turns.back_at = turns.back_at.max(Some(pod.turn));
            } else if pod.turn >= turns.parked_at {
                self.come_back(pod.turn);
            }
            return ready;
        };
        let known = turns.back_at.is_some_and(|back| parking.turn < back || (parking.turn == back && !parking.swapped));
        let lies = turns.parked && turns.parked_at == parking.turn;
        if !known && !lies {
            self.lie_down(parking.turn);
        }
        ready
    }

    fn lie_down(&mut self, turn: u64) {
        self.turns = Turns { parked: true, parked_at: turn, back_at: self.turns.back_at, ..Turns::default() };
        self.upstream.set_function_runs(false);
        self.upstream.turn();
        self.upstream.close_idle();
        self.ramp = None;
        if !matches!(self.phase, Phase::Draining | Phase::Condemned(_)) {
            self.phase = Phase::Parked;
        }
    }

    fn come_back(&mut self, turn: u64) {
        (self.turns.parked, self.turns.back_at) = (false, Some(turn));
        self.upstream.turn();
        (self.was_ready, self.refused) = (false, false);
        if self.phase == Phase::Parked {
            self.phase = Phase::Starting;
        }
    }

    /// Where it goes when it was out of use for another reason.
    pub(super) fn next_phase(&self) -> Phase {
        if self.turns.parked { Phase::Parked } else { Phase::Starting }
    }

    /// It answers.
    pub(super) fn woke(&mut self) {
        (self.turns.asked, self.turns.failed) = (None, false);
    }

    fn is_lost(&self, now: Instant) -> bool {
        let late = |asked| asked + PATIENCE <= now && !self.upstream.function_runs();
        self.turns.failed || self.turns.asked.is_some_and(|asked| self.turns.stuck || late(asked))
    }
}

impl Endpoints {
    /// Notes how these pods stand while a hand-shake about parking them begins.
    pub fn agree(&mut self, scope: &DrainScope) {
        for endpoint in self.entries.iter_mut().flatten().filter(|e| covers(scope, &e.revision, &e.uid)) {
            endpoint.turns.agreed_at = endpoint.turns.back_at;
        }
    }

    /// These pods were parked, unless somebody has woken them since.
    pub fn park(&mut self, scope: &DrainScope) {
        for endpoint in self.entries.iter_mut().flatten().filter(|e| covers(scope, &e.revision, &e.uid)) {
            let turns = &endpoint.turns;
            if !turns.parked && turns.agreed_at == turns.back_at {
                endpoint.lie_down(turns.back_at.unwrap_or(0) + 1);
            }
        }
    }

    /// A pod was found parked in this turn.
    pub fn found_parked(&mut self, uid: &str, turn: u64) {
        if let Some(endpoint) = self.entries.iter_mut().flatten().find(|e| *e.uid == *uid) {
            endpoint.lie_down(turn);
        }
    }

    /// The parked pods of the active revision.
    pub fn asleep(&self, now: Instant) -> Asleep {
        let mut asleep = Asleep::default();
        for endpoint in self.iter().filter(|e| e.active && !e.blocked) {
            let parked = endpoint.phase == Phase::Parked;
            if !parked && (endpoint.turns.asked.is_none() || endpoint.phase != Phase::Starting) {
                continue;
            }
            match endpoint.turns.asked {
                _ if endpoint.is_lost(now) => asleep.lost += 1,
                None => asleep.resting.push(endpoint.uid.clone()),
                Some(asked) => {
                    asleep.waking += 1;
                    let patience = Some(asked + PATIENCE).filter(|at| *at > now);
                    asleep.look_at = [asleep.look_at, patience].into_iter().flatten().min();
                }
            }
        }
        asleep
    }

    /// Whether a pod is known to be parked, and this turn is from before.
    pub fn is_behind(&self, uid: &str, turn: u64) -> bool {
        let endpoint = self.iter().find(|e| *e.uid == *uid);
        endpoint.is_some_and(|endpoint| endpoint.turns.parked && turn < endpoint.turns.parked_at)
    }

    /// Notes that a pod's function is asked for. `false` where it is not parked, or was asked for before.
    pub fn ask(&mut self, now: Instant, uid: &str) -> bool {
        let endpoint = self.entries.iter_mut().flatten().find(|e| *e.uid == *uid);
        let Some(endpoint) = endpoint.filter(|e| e.phase == Phase::Parked && e.turns.asked.is_none()) else {
            return false;
        };
        endpoint.turns.asked = Some(now);
        true
    }

    /// A pod has its function from this turn on: it may be probed.
    pub fn unparked(&mut self, uid: &str, turn: u64) {
        if let Some(endpoint) = self.entries.iter_mut().flatten().find(|e| *e.uid == *uid) {
            endpoint.come_back(turn);
            endpoint.turns.shrunk = true;
        }
    }

    /// A pod that answers again, and whose function this activator asked for: its uid, once.
    pub fn to_regrow(&mut self, at: usize, id: u64) -> Option<Arc<str>> {
        let endpoint = self.get_mut(at, id).filter(|endpoint| endpoint.phase == Phase::Ready)?;
        std::mem::take(&mut endpoint.turns.shrunk).then(|| endpoint.uid.clone())
    }

    /// Nothing came of asking for a pod's function: it may be asked for again.
    pub fn ask_again(&mut self, uid: &str) {
        if let Some(endpoint) = self.entries.iter_mut().flatten().find(|e| *e.uid == *uid) {
            endpoint.turns.asked = None;
        }
    }

    /// A pod's function cannot be had.
    pub fn lose(&mut self, uid: &str) {
        if let Some(endpoint) = self.entries.iter_mut().flatten().find(|e| *e.uid == *uid) {
            endpoint.turns.failed = true;
        }
    }
}

#[cfg(test)]
mod tests;
