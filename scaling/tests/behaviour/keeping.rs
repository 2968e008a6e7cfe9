//! Steps of the idle ladder that say how many replicas stay: what load left is kept until then, and the rest goes when the step is due.

use pilotlight_scaling::idle::{Rungs, Step};
use pilotlight_scaling::{
    Bound, Decision, Floor, FloorReason, Input, Load, Memory, Millis, Policy, Rung, Second, Span, decide,
};
use proptest::prelude::*;

use crate::simulation::{Simulation, cases};

const NOW: Millis = Millis(1_000_000_000);

fn step(after_seconds: u64, rung: Rung, replicas: Option<u32>) -> Step {
    Step { after_seconds, rung, replicas }
}

/// Four replicas that were busy for a while, and then idle for so many seconds.
fn rested(policy: Policy, seconds: u64) -> Decision {
    let mut simulation = Simulation::new(Policy { target_concurrency: 10, ..policy }, 4);
    for _ in 0..90 {
        simulation.pass(Some(28));
    }
    assert_eq!(simulation.current, 4);
    for _ in 0..seconds {
        simulation.pass(Some(0));
    }
    simulation.last.expect("it decided")
}

#[test]
fn a_step_that_keeps_fewer_takes_the_others_away_when_it_is_due() {
    let policy = |replicas| Policy { steps: vec![step(10, Rung::Throttled, replicas)], ..Policy::default() };
    assert_eq!(rested(policy(Some(2)), 8).replicas, 4);
    let due = rested(policy(Some(2)), 15);
    assert_eq!((due.replicas, due.rung), (2, Rung::Throttled), "{}", due.reason);
    assert!(
        due.reason.to_string().contains("scaling.idle says Throttled with 2 replicas after 10 s"),
        "{}",
        due.reason
    );
    assert_eq!(rested(policy(None), 15).replicas, 4, "without a number load counts, as ever");
}

#[test]
fn a_step_that_keeps_more_keeps_them_from_the_beginning_of_silence() {
    let steps = |replicas| vec![step(60, Rung::Throttled, replicas), step(120, Rung::Zero, None)];
    let policy = |replicas| Policy { steps: steps(replicas), stable_window_seconds: 10, ..Policy::default() };
    assert_eq!(rested(policy(None), 50).replicas, 1);
    let before = rested(policy(Some(3)), 50);
    assert_eq!((before.replicas, before.rung), (3, Rung::Active), "{}", before.reason);
    assert!(
        before.next_check.is_some_and(|at| at >= Millis(149_000)),
        "only time has to pass: {:?}",
        before.next_check
    );
    let due = rested(policy(Some(3)), 65);
    assert_eq!((due.replicas, due.rung), (3, Rung::Throttled), "{}", due.reason);
    assert_eq!(rested(policy(Some(3)), 125).replicas, 0);
}

#[test]
fn each_step_keeps_its_own_number_and_one_without_keeps_what_the_next_needs() {
    let steps =
        vec![step(70, Rung::Throttled, None), step(100, Rung::Parked, Some(3)), step(130, Rung::Parked, Some(2))];
    let policy = Policy { steps, stable_window_seconds: 10, ..Policy::default() };
    assert_eq!([80, 105, 135].map(|seconds| rested(policy.clone(), seconds).replicas), [3, 3, 2]);
}

#[test]
fn floors_and_the_delay_win_over_a_step() {
    let steps = vec![step(10, Rung::Throttled, Some(1))];
    let policy = Policy { steps, ..Policy::default() };
    let active = rested(Policy { min_active_replicas: 3, ..policy.clone() }, 15);
    assert_eq!((active.replicas, active.reason.bound), (3, Some(Bound::MinActive(3))));
    assert_eq!(rested(Policy { min_replicas: 2, ..policy.clone() }, 15).replicas, 2);
    let scheduled = Floor { replicas: 3, reason: FloorReason::Schedule("day".into()) };
    let kept = silent(&policy, 4, 20_000, true, Some(scheduled.clone()));
    assert_eq!((kept.replicas, kept.reason.bound), (3, Some(Bound::Floor(3, scheduled.reason))));
    let delayed = Policy { scale_down_delay_seconds: 30, ..policy };
    assert_eq!(rested(delayed.clone(), 25).replicas, 4);
    assert_eq!(rested(delayed, 35).replicas, 1);
}

/// A decision about `current` replicas that nobody has asked anything for `silent` ms.
fn silent(policy: &Policy, current: u32, silent: u64, told: bool, floor: Option<Floor>) -> Decision {
    let now = Second::containing(NOW);
    decide(&Input {
        now: NOW,
        policy,
        load: &Load { last_active: Some(Millis(NOW.0 - silent)), ..Load::default() },
        span: told.then_some(Span { from: now.minus(3_600), until: now }),
        settles_at: None,
        current,
        ready: current,
        start_millis: None,
        floor,
        floor_until: None,
        available: Rungs::ALL,
        adaptive: None,
        memory: &Memory::default(),
    })
}

#[test]
fn without_proof_of_silence_and_past_the_activators_no_step_counts() {
    let policy = Policy { steps: vec![step(10, Rung::Throttled, Some(2))], ..Policy::default() };
    assert_eq!(silent(&policy, 8, 20_000, true, None).replicas, 2);
    assert_eq!(silent(&policy, 8, 20_000, false, None).replicas, 8);
    let open = Some(Floor { replicas: 1, reason: FloorReason::FailOpen });
    assert_eq!(silent(&policy, 8, 20_000, true, open).replicas, 4, "as fast as without a step");
}

#[test]
fn where_a_floor_forbids_zero_the_step_before_it_goes_on() {
    let steps = vec![step(10, Rung::Parked, Some(3)), step(60, Rung::Zero, None)];
    let policy = Policy { steps, min_replicas: 1, ..Policy::default() };
    let kept = silent(&policy, 4, 90_000, true, None);
    assert_eq!(kept.replicas, 3, "{}", kept.reason);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = (1_u64..120, 1_usize..4, proptest::option::of(1_u32..20))
        .prop_map(|(after, rung, replicas)| step(after, Rung::ALL[rung], replicas));
    proptest::collection::vec(one, 0..5)
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn no_pod_is_started_for_a_step_and_no_floor_gives_way(
        steps in steps(), current in 1_u32..20, min_replicas in 0_u32..4, min_active_replicas in 0_u32..6,
        seconds in 0_u64..200, told in any::<bool>(),
    ) {
        let policy = Policy { steps: steps.clone(), min_replicas, min_active_replicas, ..Policy::default() };
        let decision = silent(&policy, current, seconds * 1000, told, None);
        let floor = min_replicas.max(min_active_replicas);
        prop_assert!(decision.replicas <= current.max(floor), "{}", decision.reason);
        prop_assert!(decision.replicas >= min_replicas);
        prop_assert!(decision.replicas == 0 || decision.replicas >= floor);
        prop_assert!(told || decision.replicas >= current, "{}", decision.reason);
        let steps = steps.iter().filter(|step| min_replicas == 0 || step.rung != Rung::Zero);
        let due = steps.filter(|step| step.after_seconds <= seconds).max_by_key(|step| step.after_seconds);
        if let Some(Step { rung: Rung::Throttled | Rung::Parked, replicas: Some(stated), .. }) = due
            && told
        {
            prop_assert_eq!(decision.replicas, current.min(*stated).max(floor), "{}", decision.reason);
        }
    }
}
