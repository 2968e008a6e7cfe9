//! The windows that decisions are made on: the same samples give the same windows, and those of a naive oracle.

use std::collections::BTreeMap;

use pilotlight_scaling::{ActivatorId, Average, Coverage, Metric, Millis, Origin, Sample, Second, Windows};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::simulation::{A, cases, steady};

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn order_and_repetition_of_samples_change_nothing(
        events in vec((0_u64..3, 0_u64..90, 0_u32..20, 0_u32..20), 1..200),
        seed in any::<prop::sample::Index>(), doubled in vec(any::<prop::sample::Index>(), 0..50),
        born in any::<bool>(),
    ) {
        let load = |events: &[(u64, u64, u32, u32)]| {
            let (coverage, windows) = feed(events, born);
            (windows.load(&coverage, 60, 6, None), coverage.span())
        };
        let mut other = events.clone();
        other.rotate_left(seed.index(events.len()));
        other.reverse();
        other.extend(doubled.iter().map(|index| *index.get(&events)));
        prop_assert_eq!(load(&events), load(&other));
    }

    #[test]
    fn the_windows_agree_with_a_naive_oracle(
        events in vec((0_u64..3, 0_u64..90, 0_u32..20, 0_u32..20), 1..200),
        stable in 1_u64..90, panic in 1_u64..20,
    ) {
        let (coverage, windows) = feed(&events, false);
        let load = windows.load(&coverage, stable, panic, None);
        prop_assert_eq!(load.stable.map(|window| window.offered(None)), oracle(&events, stable, stable));
        prop_assert_eq!(load.panic.map(|window| window.offered(None)), oracle(&events, panic, stable));
    }
}

/// Feeds whole seconds of three activators: who, which second, requests at once, of which waiting.
fn feed(events: &[(u64, u64, u32, u32)], born: bool) -> (Coverage, Windows) {
    let mut coverage = Coverage::default();
    let mut windows = Windows::default();
    for id in 0..3 {
        let origin = if born { Origin::Born } else { Origin::Unknown };
        coverage.join(ActivatorId(id), Millis(5_000), origin);
    }
    for (id, second, requests, queued) in events {
        let id = ActivatorId(*id);
        coverage.cover(id, Second(*second));
        windows.record(id, Second(*second), steady(requests + queued, *queued));
    }
    (coverage, windows)
}

/// The average by the letter: every second of the window that anyone told about, each activator's share in it, or else its last one
/// before, if that is not older than `hold`.
fn oracle(events: &[(u64, u64, u32, u32)], window: u64, hold: u64) -> Option<Average> {
    let mut told: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for (id, second, requests, queued) in events {
        let milli = u64::from(requests + queued) * 1000;
        let share = told.entry((*id, *second)).or_default();
        *share = (*share).max(milli);
    }
    let until = told.keys().map(|(_, second)| second + 1).max()?;
    let (mut sum_milli, mut seconds) = (0, 0);
    for second in until.saturating_sub(window)..until {
        if !(0..3).any(|id| told.contains_key(&(id, second))) {
            continue;
        }
        seconds += 1;
        for id in 0..3 {
            let held = (second.saturating_sub(hold)..=second).rev().find_map(|earlier| told.get(&(id, earlier)));
            sum_milli += held.copied().unwrap_or(0);
        }
    }
    (seconds > 0).then_some(Average { metric: Metric::Concurrency, sum_milli, seconds })
}

#[test]
fn an_empty_sample_leaves_no_trace() {
    let mut windows = Windows::default();
    windows.record(A, Second(5), Sample::default());
    assert!(windows.is_empty());
}
