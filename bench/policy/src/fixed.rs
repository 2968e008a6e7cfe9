//! Keep-alive for a fixed time: what public clouds and Knative do.

use pilotlight_scaling::idle::Rung;

use crate::world::{Idle, Policy, Verdict};

/// The pod stays for so long after the last answer, in ms.
pub(crate) struct Fixed(pub(crate) u64);

impl Policy for Fixed {
    fn look(&mut self, idle: Idle, now: u64, _: Rung) -> Verdict {
        let until = idle.ended + self.0;
        if now < until {
            Verdict { rung: Rung::Active, next: Some(until) }
        } else {
            Verdict { rung: Rung::Zero, next: None }
        }
    }

    fn learn(&mut self, _: Idle, _: u64) {}
}
