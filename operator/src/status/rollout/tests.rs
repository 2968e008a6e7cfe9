//! Rollouts step by step, and what ends them early.

use super::*;
use pilotlight_crds::diagnosis::{Diagnosis, Reason};
use pilotlight_crds::rollout::AbortOn;
use pilotlight_crds::status::RevisionState;
use proptest::prelude::*;

use crate::status::evidence::Evidence;
use crate::status::tests::NOTHING;

fn verdict(number: u64, ready: i32) -> Verdict {
    Verdict {
        name: format!("hello-{number}"),
        state: RevisionState::Ready,
        evidence: Evidence { replicas: ready, ready, ..Evidence::default() },
        reason: None,
        number,
        image: String::new(),
    }
}

fn gradual(step_percent: u32, abort_on: Option<AbortOn>) -> FunctionSpec {
    let strategy = RolloutStrategy::Gradual;
    let rollout = Rollout { strategy, step_percent, interval_seconds: 60, abort_on };
    FunctionSpec { rollout: Some(rollout), ..FunctionSpec::default() }
}

fn at(revision: u64, percent: u32) -> RolloutStatus {
    let since = Time(jiff::Timestamp::UNIX_EPOCH);
    RolloutStatus { revision: format!("hello-{revision}"), from: "hello-1".to_owned(), percent, since }
}

fn seen(completed: u64, errors: u64, seconds: u64) -> Seen {
    Seen { completed, errors, slow: 0, lasted: Duration::from_secs(seconds) }
}

/// The revisions' parts, the largest first.
fn parts(traffic: &Traffic) -> Vec<(&str, u32)> {
    match traffic.split.as_slice() {
        [] => traffic.revision.iter().map(|revision| (revision.as_str(), 100)).collect(),
        split => split.iter().map(|share| (share.revision.as_str(), share.percent)).collect(),
    }
}

#[test]
fn it_goes_step_by_step_each_after_its_interval() {
    let (spec, verdicts) = (gradual(40, None), [verdict(2, 5), verdict(1, 5)]);
    let decide = |rollout: Option<&RolloutStatus>, seconds| {
        let current = rollout.filter(|state| state.percent > 50).map_or("hello-1", |_| "hello-2");
        let input = TrafficInput {
            verdicts: &verdicts,
            current: Some(current),
            rollout,
            seen: seen(0, 0, seconds),
            promoting: Some(("hello-2", PROMOTION_PATIENCE)),
            ..NOTHING
        };
        Traffic::decide(&spec, &input)
    };
    let first = decide(None, 0);
    assert_eq!(parts(&first), [("hello-1", 60), ("hello-2", 40)]);
    assert_eq!((first.percent("hello-1"), first.percent("hello-2")), (60, 40));
    let state = first.rollout.unwrap();
    assert_eq!((state.percent, state.from.as_str()), (40, "hello-1"));
    let early = decide(Some(&state), 59);
    assert_eq!((parts(&early), early.rollout.as_ref()), (vec![("hello-1", 60), ("hello-2", 40)], Some(&state)));
    let second = decide(Some(&state), 60);
    assert_eq!(parts(&second), [("hello-2", 80), ("hello-1", 20)]);
    let state = second.rollout.unwrap();
    assert_eq!(parts(&decide(Some(&state), 59)), [("hello-2", 80), ("hello-1", 20)]);
    let last = decide(Some(&state), 60);
    assert_eq!((parts(&last), last.rollout.as_ref()), (vec![("hello-2", 100)], None));
}

#[test]
fn a_step_waits_for_as_many_pods_as_its_share_takes_but_not_for_ever() {
    let spec = gradual(50, None);
    let decide = |ready, waited, rollout: Option<&RolloutStatus>| {
        let verdicts = [verdict(2, ready), verdict(1, 9)];
        let promoting = Some(("hello-2", Duration::from_secs(waited)));
        Traffic::decide(
            &spec,
            &TrafficInput { verdicts: &verdicts, rollout, promoting, seen: seen(0, 0, 60), ..NOTHING },
        )
    };
    let waits = decide(1, 29, None);
    assert_eq!((parts(&waits), waits.rollout.as_ref()), (vec![("hello-1", 100)], None));
    assert_eq!(waits.promotion.unwrap().replicas, 5);
    assert_eq!(parts(&decide(9, 0, None)), [("hello-1", 50), ("hello-2", 50)]);
    assert_eq!(parts(&decide(1, 30, None)), [("hello-1", 50), ("hello-2", 50)]);
    let half = at(2, 50);
    let waits = decide(5, 0, Some(&half));
    assert_eq!(
        (parts(&waits), waits.promotion.as_ref().unwrap().replicas),
        (vec![("hello-1", 50), ("hello-2", 50)], 14)
    );
    assert_eq!(waits.rollout, Some(half));
}

#[test]
fn it_is_aborted_at_once_when_it_is_sure_and_not_before() {
    let errors = gradual(10, Some(AbortOn { error_percent: Some(5), latency_p99_seconds: None }));
    let verdicts = [verdict(2, 2), verdict(1, 8)];
    let state = at(2, 10);
    let decide = |spec: &FunctionSpec, seen| {
        Traffic::decide(spec, &TrafficInput { verdicts: &verdicts, rollout: Some(&state), seen, ..NOTHING })
    };
    for (completed, failed, seconds, percent) in [
        (1, 1, 60, Some(10)), // One bad answer says nothing of either: it stays.
        (20, 2, 60, Some(10)),
        (100, 5, 10, Some(10)),
        (100, 5, 60, Some(20)), // As much as is allowed.
        (0, 0, 60, Some(20)),   // Nobody asked.
        (100, 20, 3, None),
        (10_000, 600, 3, None),
        (10_000, 500, 60, Some(20)),
        (10_000, 520, 60, Some(10)),
    ] {
        let traffic = decide(&errors, seen(completed, failed, seconds));
        let case = (completed, failed, seconds);
        assert_eq!(traffic.rollout.as_ref().map(|state| state.percent), percent, "{case:?}");
        assert_eq!(traffic.aborted.is_none(), percent.is_some(), "{case:?}");
        if let Some(aborted) = &traffic.aborted {
            assert_eq!((parts(&traffic), aborted.revision.as_str()), (vec![("hello-1", 100)], "hello-2"));
            assert!(
                aborted.message.contains(&format!("{failed} of {completed} requests failed")),
                "{}",
                aborted.message
            );
            assert_eq!(traffic.promotion.unwrap(), Promotion { revision: "hello-1".to_owned(), replicas: 10 });
        }
    }
    let slow = gradual(10, Some(AbortOn { error_percent: None, latency_p99_seconds: Some(0.5) }));
    let aborted = decide(&slow, Seen { slow: 60, ..seen(1_000, 0, 3) }).aborted.unwrap();
    assert!(aborted.message.contains("60 of 1000 requests took longer than the 0.5 s"), "{}", aborted.message);
    assert!(decide(&slow, Seen { slow: 10, ..seen(1_000, 900, 3) }).aborted.is_none());
    let never = gradual(10, None);
    assert!(decide(&never, seen(1_000, 1_000, 3)).aborted.is_none());
    let zero = gradual(10, Some(AbortOn { error_percent: Some(0), latency_p99_seconds: None }));
    assert!(decide(&zero, seen(1_000, 1, 3)).aborted.is_some(), "none is allowed");
}

#[test]
fn a_revision_whose_pods_do_not_start_any_more_goes_no_further_and_is_taken_back_where_nothing_heals_it() {
    let (spec, state) = (gradual(10, None), at(2, 10));
    let decide = |healing, rollout| {
        let mut new = verdict(2, 0);
        new.evidence.diagnosis = Some(Diagnosis::new(Reason::ImagePullFailed, healing, "the words"));
        let verdicts = [new, verdict(1, 3)];
        Traffic::decide(&spec, &TrafficInput { verdicts: &verdicts, rollout, seen: seen(0, 0, 600), ..NOTHING })
    };
    let waits = decide(WillItHealAlone::Possibly, Some(&state));
    assert_eq!((waits.rollout.as_ref(), waits.aborted.is_none()), (Some(&state), true));
    let aborted = decide(WillItHealAlone::No, Some(&state));
    assert_eq!(parts(&aborted), [("hello-1", 100)]);
    let message = aborted.aborted.unwrap().message;
    assert!(message.contains("its pods do not start: the words"), "{message}");
    let never_began = decide(WillItHealAlone::No, None);
    assert_eq!((parts(&never_began), never_began.aborted.is_none()), (vec![("hello-1", 100)], true));
}

#[test]
fn an_aborted_revision_gets_no_traffic_again_unless_it_is_named() {
    let mut bad = verdict(2, 3);
    bad.state = RevisionState::Failed;
    bad.reason = Some(condition::ROLLOUT_ABORTED.to_owned());
    let verdicts = [bad, verdict(1, 8)];
    let input = TrafficInput { verdicts: &verdicts, ..NOTHING };
    let mut spec = gradual(10, None);
    assert_eq!(parts(&Traffic::decide(&spec, &input)), [("hello-1", 100)]);
    let named = serde_json::json!([{"revisionName": "hello-2"}]);
    spec.traffic = serde_json::from_value(named).unwrap();
    assert_eq!(parts(&Traffic::decide(&spec, &input)), [("hello-2", 100)]);
}

#[test]
fn a_newer_revision_takes_the_place_of_the_one_that_is_being_rolled_out() {
    let (spec, state) = (gradual(10, None), at(2, 60));
    let verdicts = [verdict(3, 1), verdict(2, 6), verdict(1, 4)];
    let split = [
        RouteShare { revision: "hello-2".to_owned(), percent: 60 },
        RouteShare { revision: "hello-1".to_owned(), percent: 40 },
    ];
    let input = TrafficInput {
        verdicts: &verdicts,
        current: Some("hello-2"),
        split: &split,
        rollout: Some(&state),
        seen: seen(0, 0, 60),
        ..NOTHING
    };
    let traffic = Traffic::decide(&spec, &input);
    assert_eq!(parts(&traffic), [("hello-1", 90), ("hello-3", 10)]);
    let gone = [verdict(1, 4)];
    let back = Traffic::decide(&spec, &TrafficInput { verdicts: &gone, ..input });
    assert_eq!(
        (parts(&back), back.rollout.as_ref()),
        (vec![("hello-1", 100)], None),
        "what it came from is the newest"
    );
}

#[test]
fn without_an_old_revision_or_another_strategy_there_are_no_steps() {
    let first = [verdict(1, 0)];
    let input = TrafficInput { verdicts: &first, current: None, ..NOTHING };
    assert_eq!(parts(&Traffic::decide(&gradual(10, None), &input)), [("hello-1", 100)]);
    let both = [verdict(2, 3), verdict(1, 3)];
    let input = TrafficInput { verdicts: &both, ..NOTHING };
    assert_eq!(parts(&Traffic::decide(&FunctionSpec::default(), &input)), [("hello-2", 100)]);
}

#[test]
fn one_bad_answer_is_enough_only_where_none_is_allowed() {
    for (some, all, allowed, sure) in [
        (1, 1, 0.0, true),
        (1, 1_000_000, 0.0, true),
        (1, 1, 0.05, false),
        (2, 2, 0.05, false),
        (3, 3, 0.05, true),
        (20, 100, 0.05, true),
        (12, 100, 0.05, false),
    ] {
        assert_eq!(is_surely_more(some, all, allowed), sure, "{some} of {all}, {allowed}");
    }
}

/// The exact chance of seeing so many or more, with `p` each.
fn tail(some: u64, all: u64, p: f64) -> f64 {
    let mut term = (1..=all).fold(1.0, |term, _| term * (1.0 - p));
    let mut below = 0.0;
    for seen in 0..some {
        below += term;
        term *= (all - seen) as f64 / (seen + 1) as f64 * p / (1.0 - p);
    }
    1.0 - below
}

proptest! {
    /// Against the binomial distribution itself.
    #[test]
    fn who_is_sure_is_right_but_once_in_a_thousand_times(all in 1u64..400, part in 0.0f64..=1.0, allowed in 0.01f64..0.5) {
        let some = (all as f64 * part) as u64;
        if some as f64 > allowed * all as f64 && is_surely_more(some, all, allowed) {
            prop_assert!(tail(some, all, allowed) <= DOUBT + 1e-9);
        }
        if some as f64 > allowed * all as f64 && tail(some, all, allowed) < DOUBT / 100.0 {
            prop_assert!(is_surely_more(some, all, allowed), "it does not hesitate for ever");
        }
    }
}
