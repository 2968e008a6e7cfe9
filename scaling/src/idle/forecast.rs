//! When the next request may come: the gaps that were learnt, cut into intervals within which nothing is decided.
//!
//! What always holds: intervals follow each other without holes, from the moment of the decision to the end of what is learnt; each chance
//! is one between 0 and 1, of a request within the interval if none came before it.

use super::gaps::{BINS, Expected, Gaps, bin_of, edge};

/// A stretch of time and the chance that the gap ends within it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    /// Its beginning, in ms since the gap began.
    pub(crate) from: u64,
    /// Its end.
    pub(crate) until: u64,
    /// The chance that a request comes within, if none came before.
    pub(crate) chance: f64,
    /// Whether a pod may be started ahead of what is expected here.
    pub(crate) prewarm: bool,
}

/// The intervals from `elapsed` ms on. `leads` are how long before an expected request something can be begun; at `cut` other rungs are to be had.
pub(crate) fn intervals(gaps: &Gaps, elapsed: u64, leads: &[u64], cut: Option<u64>) -> Vec<Interval> {
    let first = bin_of(elapsed).unwrap_or(0);
    let expected: Vec<Expected> = (first..BINS).map(|bin| gaps.expected(bin)).collect();
    let mut edges = vec![elapsed, edge(BINS)];
    edges.extend((first..BINS).map(edge));
    edges.extend(cut.filter(|at| *at < edge(BINS)));
    // Spans in which a start ahead of time is allowed.
    let mut ahead: Vec<(u64, u64)> = Vec::new();
    let longest = leads.iter().copied().max().unwrap_or(0);
    for (offset, one) in expected.iter().enumerate() {
        let bin = first + offset;
        let (from, until) = one.around.map_or((edge(bin), edge(bin + 1)), |(from, until, _)| (from, until));
        if one.trusted {
            ahead.push((from.saturating_sub(longest), until));
            edges.extend(leads.iter().map(|lead| from.saturating_sub(*lead)));
            edges.extend([from, until]);
        }
    }
    edges.retain(|at| *at >= elapsed);
    edges.sort_unstable();
    edges.dedup();
    let mut ahead = ahead.into_iter().peekable();
    let mut found = Vec::with_capacity(edges.len());
    // What is left of the chance in the stretch under way.
    let mut left =
        expected.first().map_or(1.0, |one| 1.0 - mass(one, (edge(first), edge(first + 1)), (edge(first), elapsed)));
    let mut offset = 0;
    for (from, until) in edges.iter().copied().zip(edges.iter().copied().skip(1)) {
        while from >= edge(first + offset + 1) {
            (offset, left) = (offset + 1, 1.0);
        }
        let mass = mass(&expected[offset], (edge(first + offset), edge(first + offset + 1)), (from, until));
        let chance = if left > mass { mass / left } else { 1.0 };
        left -= mass;
        while ahead.next_if(|(_, end)| *end <= from).is_some() {}
        let prewarm = ahead.peek().is_some_and(|(begin, _)| *begin <= from);
        found.push(Interval { from, until, chance, prewarm });
    }
    found
}

/// The chance that a gap that reached the bin ends between two moments of it.
fn mass(expected: &Expected, bin: (u64, u64), part: (u64, u64)) -> f64 {
    let share = |whole: (u64, u64)| {
        let common = part.1.min(whole.1).saturating_sub(part.0.max(whole.0));
        common as f64 / (whole.1 - whole.0) as f64
    };
    let placed = match expected.around {
        None => share(bin),
        Some((from, until, around)) => around * share((from, until)) + (1.0 - around) * share(bin),
    };
    expected.chance * placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn intervals_are_without_holes_and_their_chances_add_up(
            observed in vec(2_000_u64..4_000_000, 0..40), steady in 0_usize..20, elapsed in 2_000_u64..300_000_000,
            cut in proptest::option::of(2_000_u64..300_000_000),
        ) {
            let mut gaps = Gaps::default();
            for gap in observed.iter().copied().chain(std::iter::repeat_n(600_000, steady)) {
                gaps.observe(2_000, gap);
            }
            let found = intervals(&gaps, elapsed, &[400, 600], cut);
            if elapsed >= edge(BINS) {
                prop_assert!(found.is_empty());
                return Ok(());
            }
            prop_assert_eq!(found[0].from, elapsed);
            prop_assert_eq!(found[found.len() - 1].until, edge(BINS));
            prop_assert!(found.windows(2).all(|pair| pair[0].until == pair[1].from));
            prop_assert!(cut.is_none_or(|at| at <= elapsed || at >= edge(BINS) || found.iter().any(|one| one.from == at)));
            prop_assert!(found.iter().all(|one| one.from < one.until && one.chance >= 0.0 && one.chance <= 1.0));
            // Of the stretch under way only what is left of it is expected, by those that have got so far.
            let first = bin_of(elapsed).unwrap();
            let (stretch, expected) = ((edge(first), edge(first + 1)), gaps.expected(first));
            let past = mass(&expected, stretch, (edge(first), elapsed));
            let none: f64 =
                found.iter().take_while(|one| one.until <= stretch.1).map(|one| 1.0 - one.chance).product();
            prop_assert!((none - (1.0 - expected.chance) / (1.0 - past)).abs() < 1e-9);
            // Over each whole stretch, whatever it was cut into, the chance is what was learnt of it.
            for bin in bin_of(elapsed).unwrap() + 1..BINS {
                let within = found.iter().filter(|one| one.from >= edge(bin) && one.until <= edge(bin + 1));
                let none: f64 = within.map(|one| 1.0 - one.chance).product();
                prop_assert!((1.0 - none - gaps.expected(bin).chance).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn only_what_is_expected_may_be_prepared_for() {
        assert!(intervals(&Gaps::default(), 2_000, &[400], None).iter().all(|one| !one.prewarm));
        let mut gaps = Gaps::default();
        for _ in 0..10 {
            gaps.observe(2_000, 600_000);
        }
        let found = intervals(&gaps, 2_000, &[400, 600], None);
        let ahead: Vec<_> = found.iter().filter(|one| one.prewarm).collect();
        let (first, last) = (ahead[0].from, ahead[ahead.len() - 1].until);
        assert!((590_000..600_000).contains(&first) && (600_000..601_500).contains(&last), "{first} {last}");
        let chance = 1.0 - ahead.iter().map(|one| 1.0 - one.chance).product::<f64>();
        assert!(chance > 0.8, "{chance}");
    }

    #[test]
    fn what_scatters_may_be_prepared_for_in_all_of_its_stretch() {
        let mut gaps = Gaps::default();
        for gap in [260_000, 320_000] {
            gaps.observe(2_000, gap);
        }
        let bin = bin_of(260_000).unwrap();
        let expected = gaps.expected(bin);
        assert_eq!((expected.trusted, expected.around), (true, None));
        let found = intervals(&gaps, 2_000, &[400], None);
        let ahead: Vec<_> = found.iter().filter(|one| one.prewarm).collect();
        assert_eq!((ahead[0].from, ahead[ahead.len() - 1].until), (edge(bin) - 400, edge(bin + 1)));
    }

    #[test]
    fn what_is_past_of_a_stretch_is_not_expected_again() {
        let mut gaps = Gaps::default();
        for _ in 0..10 {
            gaps.observe(2_000, 600_000);
        }
        let before = intervals(&gaps, 590_000, &[], None);
        let after = intervals(&gaps, 603_000, &[], None);
        let soon =
            |found: &[Interval]| found.iter().filter(|one| one.until <= 640_000).map(|one| one.chance).sum::<f64>();
        assert!(soon(&before) > 0.8 && soon(&after) < 0.5, "{} {}", soon(&before), soon(&after));
    }
}
