//! The idle ladder within the whole decision: what silence, floors and missing samples make of what the adaptive policy wants.

use pilotlight_scaling::idle::{Footprint, Gap, Learnt, Prices, Rungs};
use pilotlight_scaling::{
    Adaptive, Cause, Decision, Floor, FloorReason, Input, Load, Memory, Millis, Policy, Rung, Second, Span, decide,
};
use proptest::prelude::*;

use crate::simulation::cases;

const NOW: Millis = Millis(1_000_000_000);
const FOOTPRINT: Footprint = Footprint { memory_mib: 128, cpu_milli: 100, parked_mib: Some(2) };

/// A Function that is called every ten minutes, and answers at once.
fn timer() -> Learnt {
    let mut learnt = Learnt::default();
    for call in 0..20 {
        let at = |call: u64| Millis(call * 600_000);
        learnt.observe_gap(Gap { began: at(call), ended: at(call), next: at(call + 1) });
    }
    learnt
}

#[derive(Clone)]
struct Resting {
    policy: Policy,
    current: u32,
    rung: Rung,
    available: Rungs,
    footprint: Footprint,
    /// Milliseconds since the last request was answered.
    idle: u64,
    /// Seconds of silence that all activators have told of, up to now; `None`: one tells nothing.
    told: Option<u64>,
    floor: Option<Floor>,
}

impl Default for Resting {
    fn default() -> Self {
        let (policy, available) = (Policy { steps: Vec::new(), ..Policy::default() }, Rungs::ALL);
        let (rung, footprint, told) = (Rung::Active, FOOTPRINT, Some(3_600));
        Self { policy, current: 1, rung, available, footprint, idle: 100_000, told, floor: None }
    }
}

impl Resting {
    fn decide(&self, learnt: &Learnt) -> Decision {
        let since = Millis(NOW.0 - self.idle);
        let now = Second::containing(NOW);
        decide(&Input {
            now: NOW,
            policy: &self.policy,
            load: &Load { last_active: Some(since), ..Load::default() },
            span: self.told.map(|told| Span { from: now.minus(told), until: now }),
            settles_at: None,
            current: self.current,
            ready: self.current,
            start_millis: None,
            floor: self.floor.clone(),
            floor_until: None,
            available: self.available,
            adaptive: Some(Adaptive {
                since,
                began: since,
                rung: self.rung,
                footprint: self.footprint,
                prices: &Prices::default(),
                learnt,
            }),
            memory: &Memory::default(),
        })
    }
}

#[test]
fn between_two_calls_of_a_timer_pods_go_and_are_back_for_the_next() {
    let learnt = timer();
    let plain = Resting { available: Rungs::PLAIN, ..Resting::default() };
    let between = plain.decide(&learnt);
    assert_eq!((between.replicas, between.reason.code()), (0, "LeastExpectedCost"), "{}", between.reason);
    let at_zero = Resting { current: 0, rung: Rung::Zero, ..plain };
    let waits = at_zero.decide(&learnt);
    assert_eq!((waits.replicas, waits.reason.code()), (0, "AtZero"));
    let next = waits.next_check.expect("it is started again").0 - (NOW.0 - 100_000);
    assert!((580_000..600_000).contains(&next), "{next}");
    let ahead = Resting { idle: 599_500, ..at_zero }.decide(&learnt);
    assert_eq!((ahead.replicas, ahead.rung, ahead.reason.code()), (1, Rung::Active, "Prewarm"), "{}", ahead.reason);
    let parked = Resting::default().decide(&learnt);
    assert_eq!((parked.replicas, parked.rung), (1, Rung::Parked), "{}", parked.reason);
    assert!(matches!(parked.reason.cause, Cause::Ladder(_)));
}

#[test]
fn nothing_goes_down_without_two_seconds_that_all_have_told_of() {
    let learnt = timer();
    for told in [None, Some(0), Some(1)] {
        let decision = Resting { told, ..Resting::default() }.decide(&learnt);
        assert_eq!((decision.replicas, decision.rung), (1, Rung::Active), "{told:?}: {}", decision.reason);
        assert!(decision.next_check.is_some_and(|at| at.0 <= NOW.0 + 2_000), "{told:?}");
    }
    assert_eq!(Resting { told: Some(2), ..Resting::default() }.decide(&learnt).rung, Rung::Parked);
    // Where it is already, there is nothing to prove.
    let kept = Resting { told: Some(1), rung: Rung::Throttled, ..Resting::default() }.decide(&learnt);
    assert_eq!(kept.rung, Rung::Throttled, "{}", kept.reason);
}

#[test]
fn floors_and_the_delay_leave_no_zero_and_failing_open_no_ladder() {
    let (learnt, plain) = (timer(), Resting { available: Rungs::PLAIN, ..Resting::default() });
    let floored = |reason| Some(Floor { replicas: 1, reason });
    let kept = Resting { floor: floored(FloorReason::Schedule("day".into())), ..plain.clone() }.decide(&learnt);
    assert_eq!((kept.replicas, kept.rung), (1, Rung::Active), "{}", kept.reason);
    let least = Policy { min_replicas: 1, ..plain.policy.clone() };
    assert_eq!(Resting { policy: least.clone(), ..plain.clone() }.decide(&learnt).replicas, 1);
    let down = Resting { policy: least, ..Resting::default() }.decide(&learnt);
    assert_eq!((down.replicas, down.rung), (1, Rung::Parked));
    let open = Resting { floor: floored(FloorReason::FailOpen), ..Resting::default() }.decide(&learnt);
    assert_eq!((open.replicas, open.rung), (1, Rung::Active));
    let delay = Policy { scale_down_delay_seconds: 150, ..plain.policy.clone() };
    let delayed = Resting { policy: delay.clone(), ..plain.clone() }.decide(&learnt);
    assert_eq!(delayed.replicas, 1, "{}", delayed.reason);
    assert!(delayed.next_check.is_some_and(|at| at.0 <= NOW.0 + 50_000));
    assert_eq!(Resting { policy: delay, idle: 150_000, ..plain }.decide(&learnt).replicas, 0);
}

#[test]
fn the_ladder_is_looked_at_again_when_it_says_so_or_when_the_delay_is_over() {
    let learnt = timer();
    let looks = |scale_down_delay_seconds| {
        let policy = Policy { scale_down_delay_seconds, ..Resting::default().policy };
        let parked = Resting { policy, rung: Rung::Parked, ..Resting::default() };
        let idle = parked.decide(&learnt).idle.expect("nobody asks anything");
        idle.next_look.expect("it is a timer").0 - (NOW.0 - parked.idle)
    };
    assert_eq!(looks(150), 150_000);
    let called = looks(2_000);
    assert!((580_000..600_000).contains(&called), "{called}");
}

#[test]
fn parked_pods_whose_requests_did_not_shrink_go_where_others_stay() {
    let unknown = Learnt::default();
    let parked = Resting { rung: Rung::Parked, idle: 1_800_000, ..Resting::default() };
    let slim = parked.decide(&unknown);
    assert_eq!((slim.replicas, slim.rung), (1, Rung::Parked), "{}", slim.reason);
    let rigid = Resting { footprint: Footprint { parked_mib: None, ..FOOTPRINT }, ..parked };
    let gone = rigid.decide(&unknown);
    assert_eq!((gone.replicas, gone.reason.code()), (0, "LittleKnown"), "{}", gone.reason);
    let floored = Policy { min_replicas: 1, ..rigid.policy.clone() };
    let kept = Resting { policy: floored, rung: Rung::Throttled, ..rigid }.decide(&unknown);
    assert_eq!((kept.replicas, kept.rung), (1, Rung::Throttled), "{}", kept.reason);
}

fn rungs() -> impl Strategy<Value = Rungs> {
    proptest::collection::vec(0_usize..4, 0..4)
        .prop_map(|gone| gone.into_iter().fold(Rungs::ALL, |rungs, rung| rungs.without(Rung::ALL[rung])))
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn whatever_is_learnt_bounds_hold_and_it_is_looked_at_again_while_something_may_change(
        gaps in proptest::collection::vec(2_000_u64..10_000_000, 0..30), current in 0_u32..5, rung in 0_usize..3,
        available in rungs(), idle in 0_u64..20_000_000, told in proptest::option::of(0_u64..10_000), min_replicas in 0_u32..3,
    ) {
        let mut learnt = Learnt::default();
        let mut at = 0;
        for gap in gaps {
            learnt.observe_gap(Gap { began: Millis(at), ended: Millis(at), next: Millis(at + gap) });
            at += gap;
        }
        let policy = Policy { steps: Vec::new(), min_replicas, ..Policy::default() };
        let rung = if current == 0 { Rung::Zero } else { Rung::ALL[rung] };
        let resting = Resting { policy, current, rung, available, footprint: FOOTPRINT, idle, told, floor: None };
        let decision = resting.decide(&learnt);
        prop_assert!(decision.replicas >= min_replicas);
        prop_assert_eq!(decision.rung == Rung::Zero, decision.replicas == 0);
        prop_assert!(decision.replicas != 0 || current == 0 || available.contains(Rung::Zero));
        if current > 0 && told.is_none_or(|told| told < 2) {
            prop_assert!(decision.replicas >= current.min(1) && decision.rung <= rung, "{}", decision.reason);
        }
        prop_assert!(decision.next_check.is_none_or(|at| at > NOW));
        if decision.replicas != current || (current > 0 && told.is_none()) {
            prop_assert!(decision.next_check.is_some());
        }
    }
}

#[test]
fn at_zero_neither_the_delay_nor_missing_samples_start_a_pod() {
    let (learnt, policy) = (timer(), Policy { steps: Vec::new(), scale_down_delay_seconds: 200, ..Policy::default() });
    let at_zero = Resting { current: 0, rung: Rung::Zero, available: Rungs::PLAIN, ..Resting::default() };
    for resting in [Resting { policy, ..at_zero.clone() }, Resting { told: None, ..at_zero }] {
        let decision = resting.decide(&learnt);
        assert_eq!((decision.replicas, decision.reason.code()), (0, "AtZero"), "{}", decision.reason);
        let next = decision.next_check.expect("it is started ahead of the next call").0 - (NOW.0 - 100_000);
        assert!((580_000..600_000).contains(&next), "{next}");
    }
}

#[test]
fn without_silence_pods_have_what_they_need() {
    for rung in [Rung::Throttled, Rung::Parked] {
        let decision = Resting { told: Some(0), rung, ..Resting::default() }.decide(&timer());
        assert_eq!((decision.replicas, decision.rung), (1, Rung::Active), "{}", decision.reason);
    }
}

#[test]
fn who_is_about_to_go_down_is_looked_at_once_that_is_proven_and_who_is_down_is_not() {
    let learnt = timer();
    let settling = Resting { told: Some(1), ..Resting::default() }.decide(&learnt);
    assert_eq!(settling.next_check, Some(Millis(NOW.0 + 1_000)), "{}", settling.reason);
    for told in [1, 3_600] {
        let down = Resting { told: Some(told), rung: Rung::Parked, ..Resting::default() }.decide(&learnt);
        assert_eq!((down.rung, down.reason.code()), (Rung::Parked, "LeastExpectedCost"), "{}", down.reason);
        assert!(down.next_check.is_some_and(|at| at > NOW.plus_seconds(60)), "{:?}", down.next_check);
    }
}

#[test]
fn the_ladder_is_told_of_at_zero_whatever_is_heard_and_else_where_silence_is_known() {
    let learnt = timer();
    let told = |current, told| {
        let rung = if current == 0 { Rung::Zero } else { Rung::Active };
        Resting { current, told, rung, ..Resting::default() }.decide(&learnt).idle.map(|idle| idle.rung)
    };
    assert_eq!([told(0, None), told(0, Some(3_600))], [Some(Rung::Zero); 2]);
    assert_eq!([told(1, None), told(1, Some(0)), told(1, Some(3_600))], [None, None, Some(Rung::Parked)]);
}
