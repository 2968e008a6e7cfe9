//! Pilotlight's own decision core, as the operator uses it: it sees nothing but gaps that are over and wakes that happened.

use pilotlight_scaling::Millis;
use pilotlight_scaling::idle::{self, Footprint, Gap, Learnt, Prices, Rung, Rungs, adapt};

use crate::world::{Idle, Policy, Verdict};

/// The adaptive ladder for one Function.
pub(crate) struct Adaptive<'a> {
    learnt: Learnt,
    footprint: Footprint,
    available: Rungs,
    prices: &'a Prices,
    /// Decisions with their reasons, where somebody asks for them.
    pub(crate) why: Option<Vec<(u64, Rung, String)>>,
}

impl<'a> Adaptive<'a> {
    pub(crate) fn new(footprint: Footprint, available: Rungs, prices: &'a Prices) -> Self {
        Self { learnt: Learnt::default(), footprint, available, prices, why: None }
    }
}

impl Policy for Adaptive<'_> {
    fn look(&mut self, gap: Idle, now: u64, rung: Rung) -> Verdict {
        let decision = adapt(&idle::Idle {
            now: Millis(now),
            since: Millis(gap.ended),
            began: Millis(gap.began),
            rung,
            available: self.available,
            footprint: self.footprint,
            prices: self.prices,
            learnt: &self.learnt,
        });
        if let Some(why) = &mut self.why {
            why.push((now, decision.rung, decision.reason.to_string()));
        }
        Verdict { rung: decision.rung, next: decision.next_look.map(|at| at.0) }
    }

    fn learn(&mut self, gap: Idle, next: u64) {
        self.learnt.observe_gap(Gap { began: Millis(gap.began), ended: Millis(gap.ended), next: Millis(next) });
    }

    fn woke(&mut self, rung: Rung, millis: u64) {
        self.learnt.observe_wake(rung, millis);
    }
}
