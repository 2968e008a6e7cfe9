//! One Function's load, second by second and activator by activator, and its averages over the stable and the panic window.
//!
//! What always holds: the same samples give the same windows, in whatever order and however often they come; where an
//! activator's second is missing its last share stands in; memory grows with traffic only, so an idle Function keeps nothing.

use std::collections::BTreeMap;

use crate::coverage::{ActivatorId, Coverage};
use crate::load::{Load, Window};
use crate::policy::Policy;
use crate::time::{Millis, Second};

/// One Function's traffic at one activator in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Time-weighted average of requests in flight and waiting, in thousandths.
    pub concurrency_milli: u64,
    /// Time-weighted average of requests in flight alone, in thousandths.
    pub busy_milli: u64,
    /// Requests that arrived.
    pub arrivals: u32,
    /// Requests that a pod has answered to the end.
    pub completed: u32,
    /// Requests that wait for a slot at the end of the second.
    pub queued: u32,
    /// Requests at a pod at the end of the second.
    pub in_flight: u32,
}

impl Sample {
    fn is_silent(self) -> bool {
        self == Self::default()
    }

    /// The higher of each value.
    fn higher(self, other: Self) -> Self {
        Self {
            concurrency_milli: self.concurrency_milli.max(other.concurrency_milli),
            busy_milli: self.busy_milli.max(other.busy_milli),
            arrivals: self.arrivals.max(other.arrivals),
            completed: self.completed.max(other.completed),
            queued: self.queued.max(other.queued),
            in_flight: self.in_flight.max(other.in_flight),
        }
    }
}

/// What is under way at one activator at one moment.
#[derive(Clone, Copy, Debug)]
struct Gauge {
    at: Millis,
    queued: u32,
    in_flight: u32,
}

#[derive(Clone, Debug, Default)]
struct Share {
    seconds: BTreeMap<Second, Sample>,
    gauge: Option<Gauge>,
}

/// One Function's load in the recent past.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    shares: BTreeMap<ActivatorId, Share>,
    last_active: Option<Second>,
}

impl Windows {
    /// Adds a sample of a whole second. Where two differ for the same second, the higher values count.
    pub fn record(&mut self, id: ActivatorId, second: Second, sample: Sample) {
        if sample.is_silent() {
            return;
        }
        let share = self.shares.entry(id).or_default();
        let kept = share.seconds.entry(second).or_default();
        *kept = kept.higher(sample);
        self.last_active = self.last_active.max(Some(second));
        self.observe(id, second.end(), sample.queued, sample.in_flight);
    }

    /// Adds what is under way at one activator at a moment, as a poke tells it. It counts until that activator's next second.
    pub fn observe(&mut self, id: ActivatorId, at: Millis, queued: u32, in_flight: u32) {
        let gauge = &mut self.shares.entry(id).or_default().gauge;
        let new = Gauge { at, queued, in_flight };
        *gauge = Some(match *gauge {
            Some(old) if old.at > at => old,
            Some(old) if old.at == at => {
                Gauge { at, queued: old.queued.max(queued), in_flight: old.in_flight.max(in_flight) }
            }
            _ => new,
        });
        if queued > 0 || in_flight > 0 {
            let second = Second::containing(Millis(at.0.saturating_sub(1)));
            self.last_active = self.last_active.max(Some(second));
        }
    }

    /// Forgets every second before `first`. The time of the last request is kept.
    pub fn forget_before(&mut self, first: Second) {
        self.shares.retain(|_, share| {
            share.seconds = share.seconds.split_off(&first);
            let gauge_is_old = share.gauge.is_none_or(|gauge| gauge.at <= first.start());
            !(share.seconds.is_empty() && gauge_is_old)
        });
    }

    /// Whether no second with traffic is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    /// The load at the end of the last second told about: windows of `stable` and `panic` seconds, not reaching back before
    /// `since`, and what is under way.
    #[must_use]
    pub fn load(&self, coverage: &Coverage, stable: u64, panic: u64, since: Option<Millis>) -> Load {
        let until = coverage.latest().unwrap_or_default();
        let begin = since.map_or(Second(0), Second::containing);
        let window = |seconds| self.window(coverage, until, begin, seconds, stable);
        let (queued, in_flight) = self.under_way(coverage);
        Load {
            stable: window(stable),
            panic: window(panic),
            queued,
            in_flight,
            last_active: self.last_active.map(Second::end),
        }
    }

    /// The load as it was at the end of the second before `until`, by what is known of it now.
    pub(crate) fn load_until(
        &self,
        coverage: &Coverage,
        until: Second,
        policy: &Policy,
        since: Option<Millis>,
    ) -> Load {
        let (stable, begin) = (policy.stable_seconds(), since.map_or(Second(0), Second::containing));
        let window = |seconds| self.window(coverage, until, begin, seconds, stable);
        let last = until.minus(1);
        let at_its_end = self.shares.iter().filter_map(|(id, share)| {
            let told = coverage.stand_in(*id, last, stable)?;
            share.seconds.get(&told)
        });
        let (queued, in_flight) = at_its_end.fold((0, 0), |(queued, in_flight), sample| {
            (queued + u64::from(sample.queued), in_flight + u64::from(sample.in_flight))
        });
        let last_active = self.last_active.map(|second| second.end().min(until.start()));
        Load { stable: window(stable), panic: window(policy.panic_seconds()), queued, in_flight, last_active }
    }

    fn window(&self, coverage: &Coverage, until: Second, begin: Second, length: u64, hold: u64) -> Option<Window> {
        let mut window = Window::default();
        for second in until.minus(length).max(begin).0..until.0 {
            let second = Second(second);
            if !coverage.anyone_told(second) {
                continue;
            }
            window.seconds += 1;
            for (id, share) in &self.shares {
                let told = coverage.stand_in(*id, second, hold);
                if let Some(sample) = told.and_then(|told| share.seconds.get(&told)) {
                    window.add(*sample);
                }
            }
        }
        (window.seconds > 0).then_some(window)
    }

    /// Requests that wait and requests at pods, at the activators that run.
    fn under_way(&self, coverage: &Coverage) -> (u64, u64) {
        let mut sum = (0, 0);
        for (id, share) in &self.shares {
            let Some(gauge) = share.gauge.filter(|_| coverage.runs(*id)) else {
                continue;
            };
            let told_until = coverage.told_until(*id).unwrap_or_default().start();
            if gauge.at >= told_until {
                sum.0 += u64::from(gauge.queued);
                sum.1 += u64::from(gauge.in_flight);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::Origin;
    use crate::load::Average;
    use crate::policy::Metric;

    const A: ActivatorId = ActivatorId(1);
    const B: ActivatorId = ActivatorId(2);

    fn busy(requests: u32) -> Sample {
        let busy = u64::from(requests) * 1000;
        Sample {
            concurrency_milli: busy,
            busy_milli: busy,
            arrivals: requests,
            completed: requests,
            queued: 0,
            in_flight: requests,
        }
    }

    fn two(seconds_a: u64, seconds_b: u64) -> (Coverage, Windows) {
        let mut coverage = Coverage::default();
        let mut windows = Windows::default();
        for (id, seconds) in [(A, seconds_a), (B, seconds_b)] {
            coverage.join(id, Millis(0), Origin::Unknown);
            for second in 0..seconds {
                coverage.cover(id, Second(second));
                windows.record(id, Second(second), busy(10));
            }
        }
        (coverage, windows)
    }

    #[test]
    fn the_load_of_two_activators_adds_up() {
        let (coverage, windows) = two(60, 60);
        let load = windows.load(&coverage, 60, 6, None);
        assert_eq!(load.stable.unwrap().offered(None).milli(), 20_000);
        assert_eq!(load.panic.unwrap().offered(None).milli(), 20_000);
        assert_eq!(load.in_flight, 20);
    }

    #[test]
    fn a_missing_activators_share_is_held_and_then_gone() {
        let (coverage, windows) = two(60, 20);
        let load = windows.load(&coverage, 60, 6, None);
        assert_eq!(load.stable.unwrap().offered(None).milli(), 20_000);
        let (coverage, windows) = two(200, 20);
        let load = windows.load(&coverage, 60, 6, None);
        assert_eq!(load.stable.unwrap().offered(None).milli(), 10_000);
        assert_eq!(coverage.span().unwrap().until, Second(20), "incomplete");
    }

    #[test]
    fn a_departed_activators_share_ends_with_it() {
        let (mut coverage, windows) = two(60, 58);
        coverage.depart(B, Millis(58_000));
        let load = windows.load(&coverage, 60, 2, None);
        assert_eq!(load.panic.unwrap().offered(None).milli(), 10_000);
        assert_eq!(load.in_flight, 10);
    }

    #[test]
    fn seconds_that_nobody_told_about_count_for_nothing() {
        let mut coverage = Coverage::default();
        let mut windows = Windows::default();
        coverage.join(A, Millis(0), Origin::Unknown);
        for second in [50, 51, 59] {
            coverage.cover(A, Second(second));
            windows.record(A, Second(second), busy(3));
        }
        let load = windows.load(&coverage, 60, 6, None);
        assert_eq!(
            load.stable.unwrap().offered(None),
            Average { metric: Metric::Concurrency, sum_milli: 9_000, seconds: 3 }
        );
    }

    #[test]
    fn a_second_left_out_of_a_batch_is_zero() {
        let (mut coverage, windows) = two(30, 30);
        for second in 30..60 {
            coverage.cover(A, Second(second));
            coverage.cover(B, Second(second));
        }
        let load = windows.load(&coverage, 60, 6, None);
        assert_eq!(load.stable.unwrap().offered(None).milli(), 10_000);
        assert_eq!(load.panic.unwrap().offered(None).milli(), 0);
        assert_eq!(load.in_flight, 0, "the batches after it left it out");
        assert_eq!(load.last_active, Some(Millis(30_000)));
    }

    #[test]
    fn a_poke_counts_until_the_next_second_is_told() {
        let (mut coverage, mut windows) = two(60, 60);
        windows.observe(A, Millis(60_400), 7, 10);
        let load = windows.load(&coverage, 60, 6, None);
        assert_eq!((load.queued, load.in_flight), (7, 20));
        coverage.cover(A, Second(60));
        let load = windows.load(&coverage, 60, 6, None);
        assert_eq!((load.queued, load.in_flight), (0, 10));
        assert_eq!(load.last_active, Some(Millis(61_000)));
    }

    #[test]
    fn where_nobody_told_anything_there_is_no_window() {
        assert_eq!(Windows::default().load(&Coverage::default(), 60, 6, None), Load::default());
    }

    #[test]
    fn a_poke_is_a_request_only_if_it_tells_of_one() {
        for (queued, in_flight, last_active) in
            [(0, 0, None), (1, 0, Some(Millis(61_000))), (0, 1, Some(Millis(61_000)))]
        {
            let mut coverage = Coverage::default();
            let mut windows = Windows::default();
            coverage.join(A, Millis(0), Origin::Unknown);
            assert!(windows.is_empty());
            windows.observe(A, Millis(60_400), queued, in_flight);
            assert!(!windows.is_empty());
            let load = windows.load(&coverage, 60, 6, None);
            assert_eq!(load.last_active, last_active, "{queued} waiting, {in_flight} in flight");
        }
    }

    #[test]
    fn the_time_before_a_wake_is_not_averaged() {
        let mut coverage = Coverage::default();
        let mut windows = Windows::default();
        coverage.join(A, Millis(0), Origin::Unknown);
        for second in 0..60 {
            coverage.cover(A, Second(second));
        }
        for second in 55..60 {
            windows.record(A, Second(second), busy(50));
        }
        let all = windows.load(&coverage, 60, 6, None);
        assert_eq!(all.stable.unwrap().offered(None).milli(), 4_166);
        let woken = windows.load(&coverage, 60, 6, Some(Millis(55_200)));
        assert_eq!(woken.stable.unwrap().offered(None).milli(), 50_000);
    }

    #[test]
    fn what_was_under_way_in_the_past_is_that_of_all_at_the_end_of_its_last_second() {
        let (coverage, mut windows) = two(60, 60);
        windows.record(A, Second(29), Sample { queued: 3, ..busy(10) });
        windows.record(B, Second(29), Sample { queued: 4, ..busy(20) });
        for (until, under_way) in [(29, (0, 20)), (30, (7, 30)), (31, (0, 20))] {
            let load = windows.load_until(&coverage, Second(until), &Policy::default(), None);
            assert_eq!((load.queued, load.in_flight), under_way, "until {until} s");
            assert_eq!(load.last_active, Some(Second(until).start()));
        }
    }

    #[test]
    fn forgetting_empties_but_keeps_the_time_of_the_last_request() {
        let (coverage, mut windows) = two(60, 60);
        windows.forget_before(Second(61));
        assert!(windows.is_empty());
        let load = windows.load(&coverage, 60, 6, None);
        assert_eq!(load.last_active, Some(Millis(60_000)));
        assert_eq!(load.stable.unwrap().offered(None).milli(), 0);
    }

    #[test]
    fn what_was_told_later_than_what_is_forgotten_stays() {
        for (at, first, empty) in [(60_000, 60, true), (60_001, 60, false), (60_000, 59, false), (59_999, 60, true)] {
            let mut poked = Windows::default();
            poked.observe(A, Millis(at), 1, 0);
            poked.forget_before(Second(first));
            assert_eq!(poked.is_empty(), empty, "a poke at {at} ms and all before {first} s forgotten");
        }
        let mut told = Windows::default();
        told.record(A, Second(59), busy(1));
        told.forget_before(Second(59));
        assert!(!told.is_empty());
        told.forget_before(Second(60));
        assert!(told.is_empty());
    }
}
