//! The simulated Function and what a policy does with it while it is idle. The only randomness is drawn before a simulation begins, so that every
//! policy meets exactly the same requests.
//!
//! What always holds: time never goes back; a request waits only for a process that does not run yet, or for a Throttled one's CPU; what exists
//! is counted from when it is asked for until it is let go.

use pilotlight_scaling::idle::{Footprint, Reserved, Rung, Wakes};

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// When it arrives, in ms.
    pub(crate) at: u64,
    /// How long the Function works on it, in ms.
    pub(crate) service: u64,
}

/// One Function: requests ascending in time, and what a replica reserves.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) requests: Vec<Request>,
    pub(crate) footprint: Footprint,
}

/// All that a policy cannot choose.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) functions: Vec<Function>,
    /// When it ends, in ms.
    pub(crate) end: u64,
    /// How long each rung takes to wake.
    pub(crate) wakes: Wakes,
}

/// What came of one Function.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    /// In ms, of the requests that waited.
    pub(crate) waits: Vec<u64>,
    /// Requests that found no running process.
    pub(crate) cold_starts: u64,
    pub(crate) pod_creations: u64,
    /// Pods un-parked, for a request or ahead of one.
    pub(crate) unparked: u64,
    /// In MiB · ms.
    pub(crate) memory: u128,
    /// In thousandths of a core · ms.
    pub(crate) cpu: u128,
    /// In ms.
    pub(crate) pods: u128,
}

impl Outcome {
    /// Counts `millis` of a rung.
    pub(crate) fn pass(&mut self, footprint: Footprint, rung: Rung, millis: u64) {
        let Reserved { memory_mib, cpu_milli, pods } = footprint.reserved(rung);
        let count = |sum: &mut u128, reserved: u32| *sum += u128::from(reserved) * u128::from(millis);
        count(&mut self.memory, memory_mib);
        count(&mut self.cpu, cpu_milli);
        count(&mut self.pods, pods);
    }

    /// Counts a wake from this rung.
    pub(crate) fn wake(&mut self, from: Rung) {
        self.pod_creations += u64::from(from == Rung::Zero);
        self.unparked += u64::from(from == Rung::Parked);
    }

    /// Counts a request that waited so long, and for what.
    pub(crate) fn wait(&mut self, millis: u64, cold: bool) {
        self.requests += 1;
        self.cold_starts += u64::from(cold);
        if millis > 0 {
            self.waits.push(millis);
        }
    }
}

/// A gap under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Idle {
    /// When the first request of the activity before it arrived.
    pub(crate) began: u64,
    /// When the last was answered.
    pub(crate) ended: u64,
}

/// What should be, and until when nothing else is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) rung: Rung,
    pub(crate) next: Option<u64>,
}

/// A policy for one Function.
pub(crate) trait Policy {
    /// What should be at `now`, within a gap.
    fn look(&mut self, idle: Idle, now: u64, rung: Rung) -> Verdict;
    /// The gap was ended by a request at `next`.
    fn learn(&mut self, idle: Idle, next: u64);
    /// A request waited so long for this rung to wake.
    fn woke(&mut self, _rung: Rung, _millis: u64) {}
}

struct World<'a> {
    function: &'a Function,
    wakes: Wakes,
    rung: Rung,
    /// Since when the rung is counted.
    since: u64,
    /// When the process runs, if it is starting.
    ready: u64,
    outcome: Outcome,
}

/// Lets a policy meet one Function. It begins at Zero.
pub(crate) fn simulate(function: &Function, wakes: Wakes, end: u64, policy: &mut dyn Policy) -> Outcome {
    let mut world = World { function, wakes, rung: Rung::Zero, since: 0, ready: 0, outcome: Outcome::default() };
    let mut activity: Option<Idle> = None;
    for request in &function.requests {
        let until = match activity {
            Some(gap) if request.at <= gap.ended => world.join(request).max(gap.ended),
            Some(gap) => {
                world.idle(gap, request.at, policy);
                policy.learn(gap, request.at);
                world.first(request, policy)
            }
            None => world.first(request, policy),
        };
        let began = activity.filter(|gap| request.at <= gap.ended).map_or(request.at, |gap| gap.began);
        activity = Some(Idle { began, ended: until });
    }
    if let Some(gap) = activity.filter(|gap| gap.ended < end) {
        world.idle(gap, end, policy);
    }
    world.switch(world.rung, end);
    world.outcome
}

impl World<'_> {
    /// A request that finds others under way; when it is answered.
    fn join(&mut self, request: &Request) -> u64 {
        let wait = self.ready.saturating_sub(request.at);
        self.outcome.wait(wait, wait > 0);
        request.at + wait + request.service
    }

    /// A request that ends a gap; when it is answered.
    fn first(&mut self, request: &Request, policy: &mut dyn Policy) -> u64 {
        let from = self.rung;
        if from == Rung::Active {
            return self.join(request);
        }
        let wait = self.wakes.of(from);
        self.outcome.wait(wait, from != Rung::Throttled);
        policy.woke(from, wait);
        self.switch(Rung::Active, request.at);
        request.at + wait + request.service
    }

    /// Lets a policy do what it does in a gap.
    fn idle(&mut self, gap: Idle, until: u64, policy: &mut dyn Policy) {
        let mut now = gap.ended;
        while now < until {
            let verdict = policy.look(gap, now, self.rung);
            self.switch(verdict.rung, now);
            let Some(next) = verdict.next else { return };
            now = next.max(now + 1);
        }
    }

    fn switch(&mut self, to: Rung, now: u64) {
        self.outcome.pass(self.function.footprint, self.rung, now.saturating_sub(self.since));
        self.since = self.since.max(now);
        if to < self.rung {
            self.outcome.wake(self.rung);
            self.ready = now + self.wakes.of(self.rung);
        }
        self.rung = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rungs by how long it is idle, in s.
    struct Steps(Vec<(u64, Rung)>);

    impl Policy for Steps {
        fn look(&mut self, idle: Idle, now: u64, _: Rung) -> Verdict {
            let due = |after: u64| idle.ended + after * 1000;
            let rung =
                self.0.iter().rev().find(|(after, _)| due(*after) <= now).map_or(Rung::Active, |(_, rung)| *rung);
            Verdict { rung, next: self.0.iter().map(|(after, _)| due(*after)).find(|at| *at > now) }
        }
        fn learn(&mut self, _: Idle, _: u64) {}
    }

    fn run(requests: &[(u64, u64)], steps: &[(u64, Rung)]) -> Outcome {
        let requests =
            requests.iter().map(|(at, service)| Request { at: at * 1000, service: service * 1000 }).collect();
        let footprint = Footprint { memory_mib: 100, cpu_milli: 100, parked_mib: Some(2) };
        let wakes = Wakes { throttled_millis: 10, parked_millis: 100, zero_millis: 1_000 };
        simulate(&Function { requests, footprint }, wakes, 100_000, &mut Steps(steps.to_vec()))
    }

    #[test]
    fn a_request_waits_for_the_rung_that_it_finds() {
        let steps = [(5, Rung::Throttled), (10, Rung::Parked), (20, Rung::Zero)];
        // Answered at 12, 15, 22.01, 35.1 and 60 s.
        let outcome = run(&[(10, 1), (14, 1), (21, 1), (33, 2), (56, 3)], &steps);
        assert_eq!(outcome.waits, [1_000, 10, 100, 1_000]);
        assert_eq!((outcome.requests, outcome.cold_starts, outcome.pod_creations, outcome.unparked), (5, 3, 2, 1));
        // Active or Throttled from 10 until 10 s after 22.01, from 33 until 45.1, from 56 until 70 s, but 100 ms more of the last; Parked three times.
        let full = 22_010 + 12_100 + 14_000;
        assert_eq!(outcome.memory, 100 * full + 2 * (990 + 10_000 + 10_000));
    }

    #[test]
    fn requests_that_come_while_it_starts_wait_for_the_rest() {
        let outcome = run(&[(10, 5), (10, 5), (12, 1)], &[]);
        assert_eq!(outcome.waits, [1_000, 1_000]);
        assert_eq!((outcome.cold_starts, outcome.pod_creations), (2, 1));
        assert_eq!(outcome.pods, 90_000);
    }

    #[test]
    fn a_start_ahead_of_time_is_waited_for_as_far_as_it_is_not_over() {
        let steps = [(1, Rung::Zero), (20, Rung::Active), (30, Rung::Zero)];
        // Answered at 11 s; the pod is asked for again at 31 s and goes at 41 s, and so once more after the second request.
        for (second, waits, pod_creations) in [(32, 1, 3), (39, 1, 3), (45, 2, 4)] {
            let outcome = run(&[(10, 0), (second, 1)], &steps);
            assert_eq!((outcome.waits.len(), outcome.pod_creations), (waits, pod_creations), "{second} s");
        }
    }
}
