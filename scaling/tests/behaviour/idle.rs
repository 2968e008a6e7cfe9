//! The adaptive ladder over time, seen from outside: what it does with Functions of different habits, and what holds for all.

use pilotlight_scaling::idle::{
    Footprint, Gap, HOLD_MILLIS, Idle, IdleDecision, IdleReason, Learnt, Prices, Rung, Rungs, adapt,
};
use pilotlight_scaling::{Millis, USUAL_IDLE_SECONDS};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::simulation::cases;

const FOOTPRINT: Footprint = Footprint { memory_mib: 128, cpu_milli: 100, parked_mib: Some(2) };
/// The same where the cluster cannot shrink the requests of a parked pod.
const RIGID: Footprint = Footprint { parked_mib: None, ..FOOTPRINT };
/// Milliseconds of silence for which the process of a little known Function is kept running.
const KEPT: u64 = USUAL_IDLE_SECONDS as u64 * 1000;

/// A Function that has been called with these gaps, in ms, each call answered at once.
fn called(gaps: &[u64]) -> Learnt {
    let mut learnt = Learnt::default();
    let mut now = 0;
    for gap in gaps {
        learnt.observe_gap(Gap { began: Millis(now), ended: Millis(now), next: Millis(now + gap) });
        now += gap;
    }
    learnt
}

fn look(learnt: &Learnt, available: Rungs, rung: Rung, idle: u64) -> IdleDecision {
    look_at(FOOTPRINT, learnt, available, rung, idle)
}

fn look_at(footprint: Footprint, learnt: &Learnt, available: Rungs, rung: Rung, idle: u64) -> IdleDecision {
    let prices = Prices::default();
    let (now, since) = (Millis(1_000_000 + idle), Millis(1_000_000));
    adapt(&Idle { now, since, began: since, rung, available, footprint, prices: &prices, learnt })
}

/// All decisions of a gap that no request ends: when, in ms, and what.
fn gap(learnt: &Learnt, available: Rungs) -> Vec<(u64, IdleDecision)> {
    gap_of(FOOTPRINT, learnt, available)
}

fn gap_of(footprint: Footprint, learnt: &Learnt, available: Rungs) -> Vec<(u64, IdleDecision)> {
    let (mut found, mut rung, mut idle) = (Vec::new(), Rung::Active, 0);
    loop {
        let decision = look_at(footprint, learnt, available, rung, idle);
        let next = decision.next_look;
        rung = decision.rung;
        found.push((idle, decision));
        match next {
            Some(at) => idle = at.0 - 1_000_000,
            None => return found,
        }
    }
}

/// The rung at a moment of such a gap.
fn at(decisions: &[(u64, IdleDecision)], idle: u64) -> Rung {
    decisions.iter().rev().find(|(at, _)| *at <= idle).map_or(Rung::Active, |(_, decision)| decision.rung)
}

#[test]
fn an_unknown_function_goes_down_the_ladder_rung_by_rung_and_never_up() {
    let decisions = gap(&Learnt::default(), Rungs::ALL);
    assert!(matches!(decisions[0].1.reason, IdleReason::Settling { .. }));
    assert_eq!(decisions[0].1.next_look, Some(Millis(1_000_000 + HOLD_MILLIS)));
    let mut rungs: Vec<Rung> = decisions.iter().map(|(_, decision)| decision.rung).collect();
    rungs.dedup();
    assert_eq!(rungs, Rung::ALL);
    assert_eq!(
        [30_000, KEPT - 1, KEPT, 3_600_000, 28_800_000, u64::MAX].map(|idle| at(&decisions, idle)),
        [Rung::Throttled, Rung::Throttled, Rung::Parked, Rung::Parked, Rung::Zero, Rung::Zero]
    );
    let last = &decisions[decisions.len() - 1].1;
    assert_eq!((last.replicas, last.next_look), (0, None));
}

#[test]
fn a_process_is_kept_for_a_minute_until_five_gaps_are_known_and_the_reason_says_so() {
    let after_a_minute = |gaps: usize, available| look(&called(&[1_800_000; 5][..gaps]), available, Rung::Active, KEPT);
    for (available, rung, then) in [
        (Rungs::ALL, Rung::Parked, "Parked until it has been idle for "),
        (Rungs::PLAIN, Rung::Zero, "Zero until a request comes"),
    ] {
        let decision = after_a_minute(2, available);
        assert_eq!((decision.rung, decision.reason.code()), (rung, "LittleKnown"));
        let words = decision.reason.to_string();
        let expected = "idle for 60 s: with 2 of 5 gaps known it is not kept running for longer than 60 s; ";
        assert!(words.starts_with(&format!("{expected}{then}")), "{words}");
    }
    assert_eq!([4, 5].map(|gaps| after_a_minute(gaps, Rungs::ALL).reason.code()), ["LittleKnown", "LeastExpectedCost"]);
}

#[test]
fn a_function_whose_parked_pods_reserve_as_much_as_before_is_not_parked_for_hours() {
    let irregular: Vec<u64> = (1..=12).map(|gap| gap * 900_000).collect();
    for (learnt, slim) in [
        (Learnt::default(), Rung::Parked),
        (called(&[900_000, 5_000_000]), Rung::Parked),
        (called(&irregular), Rung::Zero),
    ] {
        assert_eq!(at(&gap(&learnt, Rungs::ALL), 3_600_000), slim);
        let rigid = gap_of(RIGID, &learnt, Rungs::ALL);
        assert_eq!(at(&rigid, 600_000), Rung::Zero, "{rigid:?}");
        let known = learnt != Learnt::default();
        assert!(!known || rigid.iter().all(|(_, decision)| decision.rung != Rung::Parked), "{rigid:?}");
    }
    let kept = gap_of(RIGID, &called(&[900_000]), Rungs::ALL.without(Rung::Zero));
    assert_eq!(at(&kept, u64::MAX), Rung::Throttled, "where there must be a pod it gains nothing by being parked");
}

#[test]
fn where_no_rung_without_a_process_can_be_had_little_knowledge_changes_nothing() {
    let floored = Rungs::ALL.without(Rung::Parked).without(Rung::Zero);
    let decisions = gap(&Learnt::default(), floored);
    assert_eq!(at(&decisions, u64::MAX), Rung::Throttled);
    assert!(decisions.iter().all(|(_, decision)| decision.reason.code() != "LittleKnown"));
}

#[test]
fn a_little_known_function_whose_activity_lasts_is_kept_for_a_minute_of_silence_all_the_same() {
    let mut learnt = Learnt::default();
    for call in 0..4 {
        let begin = call * 600_000;
        let work = [500_000, 100_000, 300_000, 200_000][call as usize];
        learnt.observe_gap(Gap { began: Millis(begin), ended: Millis(begin + work), next: Millis(begin + 600_000) });
    }
    let prices = Prices::default();
    let decide = |work: u64, idle: u64| {
        let (now, since, began) = (Millis(work + idle), Millis(work), Millis(0));
        let (rung, available) = (Rung::Active, Rungs::PLAIN);
        adapt(&Idle { now, since, began, rung, available, footprint: FOOTPRINT, prices: &prices, learnt: &learnt })
    };
    for work in [1_000, 400_000, 500_000_000] {
        assert_eq!(decide(work, KEPT).reason.code(), "LittleKnown", "{work}");
        assert_ne!(decide(work, KEPT - 1_000).reason.code(), "LittleKnown", "{work}");
    }
}

#[test]
fn a_timer_is_parked_between_and_started_just_before() {
    let decisions = gap(&called(&[600_000; 20]), Rungs::ALL);
    assert_eq!([5_000, 300_000, 595_000].map(|idle| at(&decisions, idle)), [Rung::Parked; 3]);
    assert!(at(&decisions, 600_000) <= Rung::Throttled);
    let (when, prewarm) =
        decisions.iter().find(|(_, decision)| matches!(decision.reason, IdleReason::Prewarm { .. })).unwrap();
    // Nothing comes before 599,740 ms, and of a wake of 134 ms is known that it can take 250 longer.
    assert!((599_300..599_500).contains(when), "{when}");
    let IdleReason::Prewarm { idle_millis, stay_millis, percent, gaps } = prewarm.reason else { unreachable!() };
    assert!((80..100).contains(&percent) && (15..=20).contains(&gaps), "{}", prewarm.reason);
    assert_eq!(idle_millis, *when);
    // Once it runs it is cheaper to keep it to the end of the stretch that calls end in.
    assert_eq!(when + stay_millis, 645_079, "{}", prewarm.reason);
    // It does not come: the pod goes again.
    assert!(at(&decisions, 900_000) >= Rung::Parked);
}

#[test]
fn waiting_weighs_four_times_as_much_until_five_gaps_are_known() {
    for (gaps, cost) in [(0, 430_899), (4, 430_899), (5, 132_301), (6, 132_301)] {
        let known: Vec<u64> = (1..=gaps).map(|gap| gap * 700_000).collect();
        let decision = look(&called(&known), Rungs::PLAIN, Rung::Zero, 2_000);
        // At zero nothing is reserved: 324 ms of waiting at 300 GiB·s for each second, and a pod.
        let IdleReason::Cheapest { cost: expected, wait_micros, .. } = decision.reason else {
            panic!("{}", decision.reason)
        };
        assert_eq!((expected, wait_micros), (cost, 324_000), "{gaps} gaps");
    }
}

#[test]
fn what_staying_active_would_cost_is_told_whatever_is_done_instead() {
    let learnt = called(&[86_400_000; 12]);
    let told = |available: Rungs, rung: Rung, idle: u64| match look(&learnt, available, rung, idle).reason {
        IdleReason::Cheapest { cost, active_cost, .. } => (cost, active_cost),
        reason => panic!("{reason}"),
    };
    for idle in [30_000, 7_200_000, 43_200_000] {
        let (parked, active) = told(Rungs::ALL, Rung::Parked, idle);
        let (zero, also) = told(Rungs::PLAIN, Rung::Zero, idle);
        assert_eq!(active, also, "{idle} ms");
        assert!(active > 4 * parked && active > 4 * zero, "{idle} ms: {active}, {parked}, {zero}");
    }
}

#[test]
fn where_there_are_only_pods_or_none_a_timer_is_started_from_zero() {
    let mut learnt = called(&[3_600_000; 20]);
    learnt.observe_wake(Rung::Zero, 5_000);
    let decisions = gap(&learnt, Rungs::PLAIN);
    assert_eq!(at(&decisions, 1_800_000), Rung::Zero);
    assert_eq!(at(&decisions, 3_600_000), Rung::Active);
    let started = decisions.iter().find(|(_, decision)| decision.reason.code() == "Prewarm").unwrap().0;
    assert!((3_570_000..3_595_000).contains(&started), "a start of five seconds is begun earlier: {started}");
}

#[test]
fn a_function_that_is_called_every_few_seconds_stays() {
    let decisions = gap(&called(&[4_000, 3_000, 6_000, 5_000].repeat(20)), Rungs::ALL);
    assert_eq!(at(&decisions, 6_000), Rung::Active);
    assert!(decisions.iter().any(|(_, decision)| decision.reason.to_string().contains("no other rung costs less")));
}

#[test]
fn a_daily_function_is_gone_by_night_and_there_in_the_morning() {
    let decisions = gap(&called(&[86_400_000; 12]), Rungs::ALL);
    assert_eq!(at(&decisions, 43_200_000), Rung::Zero);
    assert!(at(&decisions, 86_400_000) <= Rung::Throttled);
}

#[test]
fn a_slower_or_smaller_function_is_kept_for_longer() {
    let kept = |learnt: &Learnt, memory_mib: u32| {
        let prices = Prices::default();
        let warm = |idle: u64| {
            let (now, since) = (Millis(idle), Millis(0));
            let footprint = Footprint { memory_mib, ..FOOTPRINT };
            let rung = Rung::Throttled;
            adapt(&Idle { now, since, began: since, rung, available: Rungs::ALL, footprint, prices: &prices, learnt })
                .rung
        };
        (2..40_000).step_by(50).take_while(|second| warm(second * 1000) <= Rung::Throttled).count()
    };
    let usual = called(&[30_000, 200_000, 2_000_000, 9_000, 400_000, 70_000]);
    let mut slow = usual.clone();
    slow.observe_wake(Rung::Parked, 3_000);
    assert!(kept(&slow, 128) > kept(&usual, 128));
    assert!(kept(&usual, 16) > kept(&usual, 1_024));
}

#[test]
fn a_timer_whose_work_varies_is_met_by_its_beginnings() {
    let mut learnt = Learnt::default();
    let mut begin = 0;
    for work in [1_000, 90_000, 30_000, 150_000, 60_000].repeat(8) {
        learnt.observe_gap(Gap { began: Millis(begin), ended: Millis(begin + work), next: Millis(begin + 600_000) });
        begin += 600_000;
    }
    let prices = Prices::default();
    let rung = |work: u64, since_begin: u64| {
        let decide = |rung| {
            adapt(&Idle {
                now: Millis(since_begin),
                since: Millis(work),
                began: Millis(0),
                rung,
                available: Rungs::ALL,
                footprint: FOOTPRINT,
                prices: &prices,
                learnt: &learnt,
            })
        };
        decide(Rung::Parked).rung
    };
    for work in [2_000, 100_000, 300_000] {
        assert_eq!(rung(work, 400_000), Rung::Parked);
        assert_eq!(rung(work, 599_500), Rung::Active);
    }
}

fn learnt() -> impl Strategy<Value = Learnt> {
    let habit = prop_oneof![
        vec(0_u64..400_000_000, 0..60),
        (2_000_u64..10_000_000, 0_usize..60).prop_map(|(period, times)| vec![period; times]),
        vec(2_000_u64..60_000, 0..60),
    ];
    (habit, vec((0_usize..4, 0_u64..20_000), 0..4)).prop_map(|(gaps, wakes)| {
        let mut learnt = called(&gaps);
        for (rung, millis) in wakes {
            learnt.observe_wake(Rung::ALL[rung], millis);
        }
        learnt
    })
}

fn available() -> impl Strategy<Value = Rungs> {
    vec(0_usize..4, 0..4)
        .prop_map(|gone| gone.into_iter().fold(Rungs::ALL, |rungs, rung| rungs.without(Rung::ALL[rung])))
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_decision_is_available_and_later_than_now(
        learnt in learnt(), available in available(), rung in 0_usize..4, idle in 0_u64..400_000_000,
    ) {
        let decision = look(&learnt, available, Rung::ALL[rung], idle);
        prop_assert!(available.contains(decision.rung));
        prop_assert_eq!(decision.replicas, u32::from(decision.rung != Rung::Zero));
        prop_assert!(decision.next_look.is_none_or(|at| at.0 > 1_000_000 + idle));
        prop_assert!(!decision.reason.to_string().is_empty());
        prop_assert_eq!(&decision, &look(&learnt, available, Rung::ALL[rung], idle));
        let restored = Learnt::from_text(&learnt.to_text()).unwrap();
        prop_assert_eq!(&decision, &look(&restored, available, Rung::ALL[rung], idle));
    }

    #[test]
    fn a_gap_without_end_comes_to_rest_where_next_to_nothing_is_reserved(learnt in learnt(), available in available()) {
        let decisions = gap(&learnt, available);
        prop_assert!(decisions.len() <= 4 * 54, "{} looks", decisions.len());
        let last = decisions[decisions.len() - 1].1.rung;
        // A start that takes very long is worth a place for ever.
        prop_assert!(last == available.substitute(Rung::Zero) || last == Rung::Parked, "{last}");
        let mut rung = Rung::Active;
        for (_, decision) in &decisions {
            prop_assert_eq!(decision.rung < rung, decision.reason.code() == "Prewarm");
            rung = decision.rung;
        }
    }

    #[test]
    fn no_process_of_a_little_known_function_outlasts_a_minute_of_silence(
        gaps in vec(2_000_u64..100_000_000, 0..5), available in available(), rung in 0_usize..4, idle in 0_u64..400_000_000,
    ) {
        let rests = available.contains(Rung::Parked) || available.contains(Rung::Zero);
        let decision = look(&called(&gaps), available, Rung::ALL[rung], idle);
        let bound = rests && idle >= KEPT;
        prop_assert_eq!(decision.reason.code() == "LittleKnown", bound);
        prop_assert!(!bound || decision.rung >= Rung::Parked);
        if rests && idle < KEPT && decision.rung <= Rung::Throttled {
            prop_assert!(decision.next_look.is_some_and(|at| at.0 <= 1_000_000 + KEPT));
        }
    }

    #[test]
    fn nothing_is_started_ahead_of_time_by_one_gap(gaps in vec(2_000_u64..1_000_000, 0..2)) {
        // Up to one gap is no habit.
        let decisions = gap(&called(&gaps), Rungs::ALL);
        prop_assert!(decisions.iter().all(|(_, decision)| decision.reason.code() != "Prewarm"));
    }
}
