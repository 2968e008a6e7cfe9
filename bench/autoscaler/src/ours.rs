//! Pilotlight's own decision core, fed as the operator feeds it: one activator's samples, pokes included.

use pilotlight_scaling::idle::Rungs;
use pilotlight_scaling::{
    ActivatorId, Coverage, Input, Memory, Millis, Origin, Policy, Sample, Second, Windows, decide,
};

use crate::scaler::{self, Observation, Scaler, Verdict};

const ACTIVATOR: ActivatorId = ActivatorId(1);

/// See the module.
pub(crate) struct Ours {
    policy: Policy,
    coverage: Coverage,
    windows: Windows,
    memory: Memory,
    /// For each change of replicas, when and why.
    pub(crate) decisions: Vec<(u64, u32, String)>,
}

impl Ours {
    /// With the defaults of a Function whose `concurrency.limit` is `slots`.
    pub(crate) fn new(slots: u32, max_replicas: u32) -> Self {
        let mut coverage = Coverage::default();
        coverage.join(ACTIVATOR, Millis(0), Origin::Unknown);
        Self {
            policy: Policy { concurrency_limit: slots, max_replicas, ..Policy::default() },
            coverage,
            windows: Windows::default(),
            memory: Memory::default(),
            decisions: Vec::new(),
        }
    }
}

impl Scaler for Ours {
    fn second_over(&mut self, second: scaler::Second, now: &Observation) {
        let scaler::Second { number, concurrency_milli, busy_milli, arrivals, completed } = second;
        let Observation { queued, in_flight, .. } = *now;
        let sample = Sample { concurrency_milli, busy_milli, arrivals, completed, queued, in_flight };
        self.coverage.cover(ACTIVATOR, Second(number));
        self.windows.record(ACTIVATOR, Second(number), sample);
    }

    fn decide(&mut self, now: &Observation) -> Verdict {
        let moment = Millis(now.now / 1000);
        if now.queued > 0 {
            self.windows.observe(ACTIVATOR, moment, now.queued, now.in_flight);
        }
        let stable = self.policy.stable_seconds();
        self.windows.forget_before(Second::containing(moment).minus(stable * 2));
        let since = self.memory.awake_since();
        let load = self.windows.load(&self.coverage, stable, self.policy.panic_seconds(), since);
        let decision = decide(&Input {
            now: moment,
            policy: &self.policy,
            load: &load,
            span: self.coverage.span(),
            settles_at: None,
            current: now.current,
            ready: now.ready,
            start_millis: now.started_in.map(|micros| micros / 1000),
            floor: None,
            floor_until: None,
            available: Rungs::ALL,
            adaptive: None,
            memory: &self.memory,
        });
        self.memory = decision.memory;
        if decision.replicas != now.current {
            self.decisions.push((now.now, decision.replicas, decision.reason.to_string()));
        }
        Verdict { replicas: decision.replicas, next_look: decision.next_check.map(|at| at.0 * 1000) }
    }

    fn hears_pokes(&self) -> bool {
        true
    }
}
