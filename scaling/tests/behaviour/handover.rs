//! A change of leaders: whoever begins late decides as one would who had looked on all along, and removes nothing while it cannot know.

use pilotlight_scaling::idle::{Footprint, Gap, Learnt, Prices, Rungs, Step};
use pilotlight_scaling::{
    Adaptive, Cause, Coverage, Decision, Input, Memory, Millis, Origin, Policy, Rung, Second, Windows, decide,
    look_back,
};
use proptest::prelude::*;

use super::simulation::{A, cases, steady};

/// One Function with a number of pods that nobody changes, so that decisions differ by memory alone.
struct Watched {
    policy: Policy,
    coverage: Coverage,
    windows: Windows,
    pods: u32,
    /// What the adaptive policy goes by; `None`: the steps decide.
    learnt: Option<Learnt>,
}

impl Watched {
    fn new(policy: Policy, pods: u32) -> Self {
        let mut coverage = Coverage::default();
        coverage.join(A, Millis(0), Origin::Unknown);
        Self { policy, coverage, windows: Windows::default(), pods, learnt: None }
    }

    fn tell(&mut self, second: u64, requests: u32) {
        self.coverage.cover(A, Second(second));
        let queued = requests.saturating_sub(self.policy.slots() * self.pods);
        self.windows.record(A, Second(second), steady(requests, queued));
    }

    /// What somebody with this memory decides once `seconds` were told about.
    fn decide(&self, seconds: u64, memory: &Memory) -> Decision {
        let (stable, panic) = (self.policy.stable_seconds(), self.policy.panic_seconds());
        let load = self.windows.load(&self.coverage, stable, panic, memory.awake_since());
        let prices = Prices::default();
        let adaptive = self.learnt.as_ref().map(|learnt| Adaptive {
            since: Millis(0),
            began: Millis(0),
            rung: Rung::Active,
            footprint: Footprint { memory_mib: 128, cpu_milli: 100, parked_mib: None },
            prices: &prices,
            learnt,
        });
        let mut input = Input {
            now: Second(seconds).start(),
            policy: &self.policy,
            load: &load,
            span: self.coverage.span(),
            settles_at: None,
            current: self.pods,
            ready: self.pods,
            start_millis: Some(1_000),
            floor: None,
            floor_until: None,
            available: Rungs::PLAIN,
            adaptive,
            memory,
        };
        let hindsight = look_back(&input, &self.windows, &self.coverage);
        input.memory = hindsight.as_ref().unwrap_or(memory);
        decide(&input)
    }
}

fn policy(scale_down_delay_seconds: u32) -> Policy {
    Policy { concurrency_limit: 4, stable_window_seconds: 20, scale_down_delay_seconds, ..Policy::default() }
}

proptest! {
    #![proptest_config(cases(256))]
    /// The oracle is a leader that was never replaced.
    #[test]
    fn a_new_leader_decides_like_the_one_that_was_there(
        loads in prop::collection::vec(0_u32..40, 20..40),
        pods in 1_u32..12,
        delay in 0_u32..20,
    ) {
        let mut watched = Watched::new(policy(delay), pods);
        let mut memory = Memory::default();
        let mut old = None;
        for (second, requests) in loads.iter().enumerate() {
            let second = u64::try_from(second).unwrap();
            watched.tell(second, *requests);
            let decision = watched.decide(second + 1, &memory);
            memory = decision.memory.clone();
            old = Some(decision);
        }
        let seconds = u64::try_from(loads.len()).unwrap();
        let new = watched.decide(seconds, &Memory::beginning(Second(seconds).start()));
        let old = old.expect("twenty decisions at least");
        prop_assert_eq!((new.replicas, new.reason), (old.replicas, old.reason));
    }

    /// However long the history is that it was told of: nothing goes before it reaches back over window and delay.
    #[test]
    fn nothing_is_removed_before_enough_is_known(known in 0_u64..40, delay in 0_u32..60, then in 0_u64..80) {
        let mut watched = Watched::new(policy(delay), 2);
        let begin = 100;
        for second in begin - known..begin {
            watched.tell(second, 1);
        }
        let mut memory = Memory::beginning(Second(begin).start());
        for second in begin..begin + then {
            watched.tell(second, 1);
            let decision = watched.decide(second + 1, &memory);
            let since_known = second + 1 - (begin - known);
            if since_known < 20.max(u64::from(delay)) {
                prop_assert_eq!(decision.replicas, 2, "after {} s: {}", since_known, decision.reason);
            }
            memory = decision.memory;
        }
        // And no longer than that.
        if known.min(40) + then >= 2 + 20.max(u64::from(delay)) && then > 0 {
            let decision = watched.decide(begin + then, &memory);
            prop_assert_eq!(decision.replicas, 1, "{}", decision.reason);
        }
    }
}

#[test]
fn peaks_from_before_it_began_keep_pods_and_those_who_know_nothing_keep_all() {
    // Ten seconds of load for four pods, ten for one, over and over: on average less than four.
    let mut watched = Watched::new(Policy { stable_window_seconds: 60, ..policy(0) }, 4);
    for second in 0..77 {
        watched.tell(second, if second % 20 < 10 { 12 } else { 3 });
    }
    let beginning = Memory::beginning(Second(77).start());
    let told = watched.decide(77, &beginning);
    assert_eq!(told.replicas, 4, "{}", told.reason);
    // Who takes "nothing came before" for granted lets one go.
    let forgetful = watched.decide(77, &Memory::default());
    assert_eq!(forgetful.replicas, 3, "{}", forgetful.reason);

    let mut delayed = Watched::new(Policy { stable_window_seconds: 60, ..policy(300) }, 2);
    for second in 1_000..1_077 {
        delayed.tell(second, 1);
    }
    let decision = delayed.decide(1_077, &Memory::beginning(Second(1_077).start()));
    assert_eq!(decision.replicas, 2);
    assert_eq!(decision.reason.cause, Cause::HistoryMissing { wanted: 1, seconds: 300 });
}

#[test]
fn there_is_nothing_to_look_back_at_without_pods_or_without_a_past() {
    let mut watched = Watched::new(policy(0), 0);
    for second in 0..40 {
        watched.tell(second, 0);
    }
    let memory = Memory::beginning(Second(40).start());
    let at_zero = watched.decide(40, &memory).memory;
    watched.pods = 3;
    watched.tell(40, 1);
    let decision = watched.decide(41, &at_zero);
    assert!(decision.memory.awake_since().is_some(), "zero was seen, so the wake was, too");
    assert_ne!(decision.reason.code(), "HistoryMissing", "{}", decision.reason);

    let unknown = Watched::new(policy(0), 3);
    assert_eq!(unknown.decide(41, &memory).reason.code(), "DataMissing");
}

#[test]
fn who_looks_back_knows_of_silence_only_as_far_as_of_load() {
    // At rest for four hundred seconds, of which it looks back at forty; a hundred of them would have to be known. A Function that is called
    // every hour would have gone long ago.
    let mut hourly = Learnt::default();
    for call in 0..20 {
        let at = |call: u64| Millis(call * 3_600_000);
        hourly.observe_gap(Gap { began: at(call), ended: at(call), next: at(call + 1) });
    }
    for learnt in [None, Some(hourly)] {
        let mut watched =
            Watched { learnt, ..Watched::new(Policy { steps: vec![Step::to_zero(300)], ..policy(100) }, 2) };
        for second in 0..400 {
            watched.tell(second, 0);
        }
        let unheard = watched.decide(410, &Memory::beginning(Second(410).start()));
        assert_eq!((unheard.replicas, unheard.reason.code()), (2, "DataMissing"));
        for second in 400..411 {
            watched.tell(second, 0);
        }
        watched.tell(411, 1);
        let heard = watched.decide(412, &unheard.memory);
        assert_eq!(heard.reason.cause, Cause::HistoryMissing { wanted: 1, seconds: 100 });
    }
}
