//! How the requests of one Function are shared out among the revisions that get any. Pure.
//!
//! What always holds: a number's place in the row of shares decides, and the row is in the order of the revisions' numbers, whoever has most;
//! so where two share, a change of the shares moves only those clients that it has to move.

use std::sync::Arc;

use pilotlight_crds::names::HEADER_TAG;

use super::sticky::{Given, Number};
use super::{Asked, Directions};
use crate::index::Portion;

/// Who gets which requests. Revisions are named by their place in the list that it was made of.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    revisions: Vec<Arc<str>>,
    /// Those that share what no tag and no rule leads elsewhere: place and weight, the lowest revision first.
    row: Vec<(usize, u32)>,
    total: u64,
    directions: Arc<Directions>,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The revision's place.
    pub at: usize,
    /// What its client is to bring along from now on.
    pub given: Option<Given>,
}

impl Plan {
    /// For these revisions, each once.
    pub fn new(portions: &[Portion], directions: Arc<Directions>) -> Self {
        let weights = portions.iter().map(|portion| portion.percent).enumerate();
        let mut row: Vec<_> = weights.filter(|(_, weight)| *weight > 0).collect();
        // They differ in their numbers alone: the longer name has the greater one.
        row.sort_by_key(|(at, _)| (portions[*at].revision.len(), portions[*at].revision.clone()));
        let total = row.iter().map(|(_, weight)| u64::from(*weight)).sum();
        Self { revisions: portions.iter().map(|portion| portion.revision.clone()).collect(), row, total, directions }
    }

    /// Where a request goes; `None` where nobody gets any. `random` is asked only where it is needed.
    pub fn choose(&self, asked: &Asked<'_>, random: impl FnOnce() -> u64) -> Option<Choice> {
        match self.directed(asked) {
            Some(at) => Some(Choice { at, given: None }),
            None => self.share(asked, random),
        }
    }

    /// Where another activator's word, a tag or a rule leads it.
    fn directed(&self, asked: &Asked<'_>) -> Option<usize> {
        let tagged = |tag: &[u8]| self.place(self.directions.tagged(tag)?.as_bytes());
        asked
            .told
            .and_then(|revision| self.place(revision.as_bytes()))
            .or_else(|| tagged(asked.tag?.as_bytes()))
            .or_else(|| tagged(asked.headers.get(HEADER_TAG)?.as_bytes()))
            .or_else(|| {
                let rule = self.directions.rules.iter().find(|rule| rule.matches(asked))?;
                self.place(rule.revision.as_bytes())
            })
    }

    fn place(&self, revision: &[u8]) -> Option<usize> {
        self.revisions.iter().position(|known| known.as_bytes() == revision)
    }

    fn share(&self, asked: &Asked<'_>, random: impl FnOnce() -> u64) -> Option<Choice> {
        if let [(only, _)] = self.row.as_slice() {
            return Some(Choice { at: *only, given: None });
        }
        let known = self.directions.sticky.as_ref().map_or(Number::Anonymous, |sticky| sticky.number(asked));
        let number = match known {
            Number::Has(number) => number,
            Number::Lacks | Number::Anonymous => random(),
        };
        let at = pick(self.row.iter().map(|(_, weight)| *weight), self.total, number)?;
        let given = (known == Number::Lacks).then(|| Given { directions: self.directions.clone(), number });
        Some(Choice { at: self.row.get(at)?.0, given })
    }
}

/// Which of these weights, `total` in all, a random number falls on: each as often as its part of the total says, but for one in 2^57.
fn pick(weights: impl Iterator<Item = u32>, total: u64, random: u64) -> Option<usize> {
    let mut left = (u128::from(random) * u128::from(total)) >> 64;
    for (at, weight) in weights.enumerate() {
        match left.checked_sub(u128::from(weight)) {
            Some(rest) => left = rest,
            None => return Some(at),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng as _, SeedableRng as _};

    fn counts(weights: &[u32], randoms: impl Iterator<Item = u64>) -> Vec<u32> {
        let total = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut counts = vec![0; weights.len()];
        for random in randoms {
            counts[pick(weights.iter().copied(), total, random).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn numbers_spread_evenly_fall_on_each_weight_exactly_as_often_as_it_says() {
        for weights in [vec![90, 10], vec![1, 99], vec![34, 33, 33], vec![100]] {
            let evenly = (0..100u64).map(|n| n * (u64::MAX / 100) + u64::MAX / 200);
            assert_eq!(counts(&weights, evenly), weights);
        }
        assert_eq!(counts(&[90, 10], [0, u64::MAX].into_iter()), [1, 1], "the ends");
        assert_eq!(counts(&[0, 5], std::iter::once(0)), [0, 1], "no share, no request");
        assert_eq!(pick([0, 0].into_iter(), 0, 7), None);
    }

    /// Chi-square with two degrees of freedom: above 13.8 once in a thousand, and the seed is fixed.
    #[test]
    fn many_draws_are_shared_as_they_should_be() {
        let weights = [85, 10, 5];
        let mut random = SmallRng::seed_from_u64(7);
        let draws = 100_000;
        let counts = counts(&weights, std::iter::repeat_with(|| random.next_u64()).take(draws));
        let chi_square: f64 = std::iter::zip(&counts, &weights)
            .map(|(count, weight)| {
                let expected = draws as f64 * f64::from(*weight) / 100.0;
                (f64::from(*count) - expected).powi(2) / expected
            })
            .sum();
        assert!(chi_square < 13.8, "{counts:?}: {chi_square}");
    }
}
