//! The plan with the least expected cost: for each interval ahead, on which rung to be.
//!
//! To keep or to let go is the ski-rental problem (Karlin et al., "Competitive randomized algorithms for nonuniform problems", Algorithmica
//! 1994), here with several states of rest (Irani, Shukla, Gupta, "Online strategies for dynamic power management in systems with multiple
//! power-saving states", TECS 2003) and a learnt distribution instead of an adversary. With moves upwards allowed as well, starting ahead of
//! an expected request is no rule of its own but what the same minimisation finds (the pre-warming window of Shahrad et al., ATC'20). The
//! minimum is exact for the given intervals, by dynamic programming backwards from the last (Bellman).
//!
//! What always holds: only available rungs are in a plan, and none with a process from when on that is not kept; upwards it goes only ahead of a request that is expected; its cost is not more than
//! that of any other plan over the same intervals.

use super::cost::{Footprint, Prices, Wakes};
use super::forecast::Interval;
use super::rung::{Rung, Rungs};

/// For how long the end of the intervals is taken to go on, in ms, if no request came: as long as all of them.
const TAIL_MILLIS: u64 = 262_144_000;

/// What a plan is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) prices: &'a Prices,
    pub(crate) footprint: Footprint,
    pub(crate) wakes: Wakes,
    pub(crate) available: Rungs,
    /// From when on no process is kept running, in ms since the gap began. `None`: it may run for ever. A rung that is cheaper without one must be available.
    pub(crate) let_go: Option<u64>,
}

/// What it comes to from some interval on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outlook {
    /// The rung to be on in this interval.
    pub(crate) rung: Rung,
    /// Expected cost from its beginning to the next request, in MiB·s.
    pub(crate) cost: f64,
    /// Expected wait of the next request, in ms.
    pub(crate) wait_millis: f64,
}

/// The best plan, from whichever rung one comes.
#[derive(Clone, Debug)]
pub(crate) struct Plan(Vec<[Outlook; 4]>);

impl Plan {
    /// Makes it.
    pub(crate) fn new(terms: &Terms<'_>, intervals: &[Interval]) -> Self {
        let mut plan = vec![Rung::ALL.map(|from| terms.tail(from))];
        for interval in intervals.iter().rev() {
            let next = plan[plan.len() - 1];
            // What an interval on a rung comes to is the same from wherever one comes.
            let stay = Rung::ALL.map(|rung| terms.pass(interval, rung, &next[rung.place()]));
            plan.push(Rung::ALL.map(|from| terms.best(interval, from, &stay)));
        }
        plan.reverse();
        Self(plan)
    }

    /// What to do in the interval of this index, coming from this rung. One past the last is what comes after them.
    pub(crate) fn at(&self, interval: usize, from: Rung) -> Outlook {
        self.0[interval][from.place()]
    }
}

impl Terms<'_> {
    /// The same for a pod that stays as it is.
    pub(crate) fn only_active(&self) -> Self {
        let available = Rung::ALL.into_iter().fold(self.available, Rungs::without);
        Self { available, let_go: None, ..*self }
    }

    /// Whether a rung can be had at a moment of the gap.
    fn offers(&self, rung: Rung, at: u64) -> bool {
        let runs = rung <= Rung::Throttled;
        self.available.contains(rung) && !(runs && self.let_go.is_some_and(|from| at >= from))
    }

    /// What a request costs that arrives on a rung.
    fn arrival(&self, rung: Rung) -> f64 {
        self.prices.wait_second as f64 * self.wakes.of(rung) as f64 / 1000.0 + self.prices.up(rung)
    }

    /// After the last interval: nothing is known, and nobody came for three days.
    fn tail(&self, from: Rung) -> Outlook {
        let options = Rung::ALL.into_iter().filter(|rung| self.offers(*rung, u64::MAX) && *rung >= from);
        let outlook = |rung: Rung| Outlook {
            rung,
            cost: self.prices.down(from, rung)
                + self.prices.rate(self.footprint, rung) * TAIL_MILLIS as f64 / 1000.0
                + self.arrival(rung),
            wait_millis: self.wakes.of(rung) as f64,
        };
        least(options.map(outlook)).unwrap_or_else(|| outlook(from))
    }

    /// An interval on a rung and what comes after it.
    fn pass(&self, interval: &Interval, rung: Rung, next: &Outlook) -> Outlook {
        let seconds = (interval.until - interval.from) as f64 / 1000.0;
        let (hit, missed) = (interval.chance, 1.0 - interval.chance);
        let rate = self.prices.rate(self.footprint, rung);
        Outlook {
            rung,
            cost: rate * seconds * (1.0 - hit / 2.0) + hit * self.arrival(rung) + missed * next.cost,
            wait_millis: hit * self.wakes.of(rung) as f64 + missed * next.wait_millis,
        }
    }

    /// The best rung for an interval, coming from a rung.
    fn best(&self, interval: &Interval, from: Rung, stay: &[Outlook; 4]) -> Outlook {
        let options = Rung::ALL.into_iter().filter(|to| {
            let upwards = *to == Rung::Active && interval.prewarm;
            (*to >= from || upwards) && self.offers(*to, interval.from)
        });
        let outlook = |to: Rung| {
            let passed = stay[to.place()];
            if to >= from {
                return Outlook { cost: passed.cost + self.prices.down(from, to), ..passed };
            }
            let wait = interval.chance * unready(self.wakes.of(from), interval);
            let cost = passed.cost + self.prices.up(from) + self.prices.wait_second as f64 * wait / 1000.0;
            Outlook { cost, wait_millis: passed.wait_millis + wait, ..passed }
        };
        least(options.map(outlook)).unwrap_or_else(|| outlook(from))
    }
}

/// How long a request waits on average, in ms, that comes at any moment of an interval at whose beginning a wake was begun.
fn unready(wake: u64, interval: &Interval) -> f64 {
    let (wake, length) = (wake as f64, (interval.until - interval.from) as f64);
    if wake < length { wake * wake / (2.0 * length) } else { wake - length / 2.0 }
}

/// The first of the cheapest.
fn least(options: impl Iterator<Item = Outlook>) -> Option<Outlook> {
    options.reduce(|best, other| if other.cost < best.cost { other } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The expected cost of being on these rungs, one for each interval and one for the time after them, and the expected wait, summed
    /// forwards.
    fn cost(terms: &Terms<'_>, intervals: &[Interval], from: Rung, rungs: &[Rung]) -> Option<(f64, f64)> {
        let (mut alive, mut sum, mut waits, mut at) = (1.0, 0.0, 0.0, from);
        for (interval, rung) in intervals.iter().zip(rungs) {
            let upwards = *rung < at;
            if !terms.offers(*rung, interval.from) || (upwards && !(interval.prewarm && *rung == Rung::Active)) {
                return None;
            }
            let seconds = (interval.until - interval.from) as f64 / 1000.0;
            let chance = interval.chance;
            let mut wait = terms.wakes.of(*rung) as f64;
            if upwards {
                sum += alive * terms.prices.up(at);
                wait += unready(terms.wakes.of(at), interval);
            } else {
                sum += alive * terms.prices.down(at, *rung);
            }
            let arrival = wait / 1000.0 * terms.prices.wait_second as f64 + terms.prices.up(*rung);
            // A request that comes within comes on average half way.
            sum += alive
                * (chance * (seconds / 2.0) + (1.0 - chance) * seconds)
                * terms.prices.rate(terms.footprint, *rung);
            sum += alive * chance * arrival;
            waits += alive * chance * wait;
            alive *= 1.0 - chance;
            at = *rung;
        }
        let last = rungs[intervals.len()];
        (terms.offers(last, u64::MAX) && last >= at).then(|| {
            let tail =
                terms.prices.down(at, last) + terms.prices.rate(terms.footprint, last) * TAIL_MILLIS as f64 / 1000.0;
            (sum + alive * (tail + terms.arrival(last)), waits + alive * terms.wakes.of(last) as f64)
        })
    }

    fn intervals() -> impl Strategy<Value = Vec<Interval>> {
        proptest::collection::vec((1_u64..2_000_000, 0.0..=1.0_f64, any::<bool>()), 0..5).prop_map(|cuts| {
            let mut from = 2_000;
            let mut next = |(length, chance, prewarm)| {
                let interval = Interval { from, until: from + length, chance, prewarm };
                from += length;
                interval
            };
            cuts.into_iter().map(&mut next).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_other_plan_costs_less(
            intervals in intervals(), from in 0_usize..4, missing in 0_usize..4, wait_second in 0_u64..1_000_000,
            memory_mib in 0_u32..4096, cpu_milli in 0_u32..2000, let_go in proptest::option::of(2_000_u64..4_000_000),
        ) {
            let prices = Prices { wait_second, ..Prices::default() };
            let available = Rungs::ALL.without(Rung::ALL[missing]);
            let footprint = Footprint { memory_mib, cpu_milli, parked_mib: Some(2) };
            let terms = Terms { prices: &prices, footprint, wakes: Wakes::default(), available, let_go };
            let from = available.substitute(Rung::ALL[from]);
            let plan = Plan::new(&terms, &intervals);
            let count = intervals.len() + 1;
            let all = (0..4_usize.pow(u32::try_from(count).unwrap())).map(|mut code| {
                let mut rung = || {
                    let rung = Rung::ALL[code % 4];
                    code /= 4;
                    rung
                };
                (0..count).map(|_| rung()).collect::<Vec<_>>()
            });
            let least = all.filter_map(|rungs| cost(&terms, &intervals, from, &rungs)).map(|(cost, _)| cost).fold(f64::MAX, f64::min);
            let found = plan.at(0, from);
            let may_be_kept = let_go.is_none_or(|at| at > 2_000 && !intervals.is_empty());
            prop_assert!(may_be_kept || found.rung >= Rung::Parked);
            prop_assert!((found.cost - least).abs() <= 1e-6 * least.max(1.0), "{} {least}", found.cost);
            // And following it costs what it says.
            let mut at = from;
            let rungs: Vec<Rung> = (0..count).map(|index| { at = plan.at(index, at).rung; at }).collect();
            let (followed, waited) = cost(&terms, &intervals, from, &rungs).unwrap();
            prop_assert!((found.cost - followed).abs() <= 1e-6 * followed.max(1.0));
            prop_assert!((found.wait_millis - waited).abs() <= 1e-6 * waited.max(1.0));
        }
    }

    #[test]
    fn who_comes_while_a_wake_is_under_way_waits_for_the_rest_of_it() {
        let interval = Interval { from: 2_000, until: 3_000, chance: 0.5, prewarm: true };
        for (wake, wait) in [(0, 0.0), (200, 20.0), (1_000, 500.0), (2_000, 1_500.0)] {
            assert_eq!(unready(wake, &interval), wait, "{wake} ms");
        }
    }

    #[test]
    fn who_is_started_ahead_costs_a_pod_and_the_rest_of_the_wait_for_it() {
        let prices = Prices::default();
        let footprint = Footprint { memory_mib: 100, cpu_milli: 100, parked_mib: None };
        let terms =
            Terms { prices: &prices, footprint, wakes: Wakes::default(), available: Rungs::PLAIN, let_go: None };
        let soon = [Interval { from: 2_000, until: 3_000, chance: 0.5, prewarm: true }];
        let started = Plan::new(&terms, &soon).at(0, Rung::Zero);
        let (expected, waits) = cost(&terms, &soon, Rung::Zero, &[Rung::Active, Rung::Zero]).unwrap();
        assert_eq!(started.rung, Rung::Active);
        assert!((started.cost - expected).abs() < 1e-6, "{} {expected}", started.cost);
        // Half of those who come do so within the second, of which a start takes 324 ms; the others later, at zero.
        assert!((started.wait_millis - waits).abs() < 1e-9 && (waits - 188.244).abs() < 1e-9, "{waits}");
    }

    #[test]
    fn of_what_costs_the_same_the_dearer_rung_is_taken() {
        let outlook = |rung, cost| Outlook { rung, cost, wait_millis: 0.0 };
        let options = [outlook(Rung::Active, 2.0), outlook(Rung::Throttled, 1.0), outlook(Rung::Zero, 1.0)];
        assert_eq!(least(options.into_iter()), Some(options[1]));
        assert_eq!(least([].into_iter()), None);
    }

    #[test]
    fn a_floor_keeps_the_cheapest_that_is_left() {
        let prices = Prices::default();
        let footprint = Footprint { memory_mib: 100, cpu_milli: 100, parked_mib: Some(2) };
        let terms = |available| Terms { prices: &prices, footprint, wakes: Wakes::default(), available, let_go: None };
        assert_eq!(Plan::new(&terms(Rungs::ALL), &[]).at(0, Rung::Active).rung, Rung::Zero);
        let floor = Rungs::ALL.without(Rung::Zero);
        assert_eq!(Plan::new(&terms(floor), &[]).at(0, Rung::Active).rung, Rung::Parked);
        // From a rung that has gone nothing leads upwards but an expected request.
        assert_eq!(Plan::new(&terms(floor), &[]).at(0, Rung::Zero).rung, Rung::Zero);
        let quiet = Interval { from: 2_000, until: 3_000, chance: 0.5, prewarm: false };
        assert_eq!(Plan::new(&terms(floor), &[quiet]).at(0, Rung::Zero).rung, Rung::Zero);
    }
}
