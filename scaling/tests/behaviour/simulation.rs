//! A simulated Function: load comes in, one activator tells about it, decisions are applied and pods take time to start.

use pilotlight_scaling::idle::Rungs;
use pilotlight_scaling::{
    ActivatorId, Coverage, Decision, Floor, Input, Memory, Metric, Millis, Origin, Policy, Sample, Second, Windows,
    decide,
};
use proptest::prelude::ProptestConfig;

/// The one activator of a simulation.
pub(crate) const A: ActivatorId = ActivatorId(1);

/// So many cases; `PROPTEST_CASES`, whose default is 256, makes them more or fewer in proportion.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { failure_persistence: None, cases: (cases * default.cases / 256).max(1), ..default }
}

/// What one activator says of a second with `requests` under way throughout, of which `queued` wait.
pub(crate) fn steady(requests: u32, queued: u32) -> Sample {
    let in_flight = requests - queued;
    Sample {
        concurrency_milli: u64::from(requests) * 1000,
        busy_milli: u64::from(in_flight) * 1000,
        arrivals: requests,
        completed: 0,
        queued,
        in_flight,
    }
}

/// A Function whose pods become ready `start_seconds` after they are asked for.
pub(crate) struct Simulation {
    pub(crate) policy: Policy,
    pub(crate) start_seconds: u64,
    pub(crate) coverage: Coverage,
    pub(crate) windows: Windows,
    pub(crate) memory: Memory,
    pub(crate) current: u32,
    pub(crate) floor: Option<Floor>,
    pub(crate) second: u64,
    /// For each pod the second at which it is ready.
    pods: Vec<u64>,
    pub(crate) last: Option<Decision>,
    /// How often replicas changed.
    pub(crate) writes: u32,
}

impl Simulation {
    pub(crate) fn new(policy: Policy, replicas: u32) -> Self {
        let mut coverage = Coverage::default();
        coverage.join(A, Millis(0), Origin::Unknown);
        Self {
            policy,
            start_seconds: 1,
            coverage,
            windows: Windows::default(),
            memory: Memory::default(),
            current: replicas,
            floor: None,
            second: 0,
            pods: vec![0; replicas as usize],
            last: None,
            writes: 0,
        }
    }

    pub(crate) fn ready(&self) -> u32 {
        self.ready_at(self.second)
    }

    /// Pods that are ready at a second, if nothing changes until then.
    pub(crate) fn ready_at(&self, second: u64) -> u32 {
        let ready = self.pods.iter().filter(|at| **at <= second).count();
        u32::try_from(ready).expect("few pods")
    }

    /// How many of so many requests wait: those beyond the slots of the ready pods, or none where a rate is the metric and nothing is limited.
    pub(crate) fn waiting(&self, requests: u32) -> u32 {
        let unlimited = self.policy.metric == Metric::Rps && self.policy.concurrency_limit == 0;
        let slots = if unlimited && self.ready() > 0 { u32::MAX } else { self.policy.slots() };
        requests.saturating_sub(slots.saturating_mul(self.ready()))
    }

    /// One second of `requests` at once passes; then a decision is made and applied. With `None` the activator says nothing.
    pub(crate) fn pass(&mut self, requests: Option<u32>) -> Decision {
        if let Some(requests) = requests {
            let queued = self.waiting(requests);
            let second = Second(self.second);
            self.coverage.cover(A, second);
            self.windows.record(A, second, steady(requests, queued));
            if self.current == 0 && requests > 0 {
                self.set(1);
            }
        }
        self.second += 1;
        self.decide()
    }

    fn decide(&mut self) -> Decision {
        let load = self.windows.load(
            &self.coverage,
            self.policy.stable_seconds(),
            self.policy.panic_seconds(),
            self.memory.awake_since(),
        );
        let decision = decide(&Input {
            now: Second(self.second).start(),
            policy: &self.policy,
            load: &load,
            span: self.coverage.span(),
            settles_at: None,
            current: self.current,
            ready: self.ready(),
            start_millis: Some(self.start_seconds * 1000),
            floor: self.floor.clone(),
            floor_until: None,
            available: Rungs::ALL,
            adaptive: None,
            memory: &self.memory,
        });
        self.memory = decision.memory.clone();
        self.set(decision.replicas);
        self.last = Some(decision.clone());
        decision
    }

    fn set(&mut self, replicas: u32) {
        if replicas != self.current {
            self.writes += 1;
        }
        self.current = replicas;
        self.pods.resize(replicas as usize, self.second + self.start_seconds);
    }
}
