//! How a Function's requests are shared among its revisions. All ways to a Function lead to one cell for ever, the door; it chooses for each
//! request the cell that goes on with it.
//!
//! What always holds: where no other cell gets requests, the choice is one atomic load; else each request is drawn for itself, so that the
//! shares are what they should be whoever sends how much over which connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;

use super::FunctionCell;
use crate::telemetry::ids;

/// Who gets the requests that come to a door.
#[derive(Default)]
pub(super) struct Split {
    /// Whether any other cell gets some: all that most Functions look at.
    open: AtomicBool,
    shares: ArcSwapOption<Shares>,
}

/// A cell, `None` for the door itself, and how much it gets beside the others.
pub(super) type Weighted = (Option<Arc<FunctionCell>>, u32);

struct Shares {
    cells: Vec<Weighted>,
    total: u64,
}

impl Split {
    /// Shares what comes from now on.
    pub(super) fn set(&self, cells: Vec<Weighted>) {
        let open = cells.iter().any(|(cell, _)| cell.is_some());
        let total = cells.iter().map(|(_, weight)| u64::from(*weight)).sum();
        self.shares.store(open.then(|| Arc::new(Shares { cells, total })));
        self.open.store(open, Ordering::Release);
    }

    /// Whether a cell, `None` for the door itself, gets requests.
    pub(super) fn serves(&self, cell: Option<&Arc<FunctionCell>>) -> bool {
        let shares = self.shares.load();
        let Some(shares) = shares.as_ref() else { return cell.is_none() };
        shares.cells.iter().any(|(known, _)| known.as_ref().map(Arc::as_ptr) == cell.map(Arc::as_ptr))
    }

    /// The cells beside the door that get requests.
    pub(super) fn others(&self) -> Vec<Arc<FunctionCell>> {
        if !self.open.load(Ordering::Acquire) {
            return Vec::new();
        }
        let shares = self.shares.load();
        shares.as_ref().into_iter().flat_map(|shares| &shares.cells).filter_map(|(cell, _)| cell.clone()).collect()
    }

    /// The cell that a request goes to; `None`: the door itself.
    fn draw(&self, random: impl FnOnce() -> u64) -> Option<Arc<FunctionCell>> {
        if !self.open.load(Ordering::Acquire) {
            return None;
        }
        let shares = self.shares.load();
        let shares = shares.as_ref()?;
        let at = pick(shares.cells.iter().map(|(_, weight)| *weight), shares.total, random())?;
        shares.cells.get(at)?.0.clone()
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

impl FunctionCell {
    /// The cell that the request which has just come goes on with: this one, which it came to, or that of another revision.
    #[must_use]
    pub fn choose(self: Arc<Self>) -> Arc<Self> {
        self.split.draw(ids::random_u64).unwrap_or(self)
    }
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

    #[test]
    fn without_other_cells_all_goes_to_the_door_and_nothing_is_drawn() {
        let split = Split::default();
        assert!(split.draw(|| unreachable!("nothing is drawn")).is_none() && split.serves(None));
        split.set(vec![(None, 100)]);
        assert!(split.draw(|| unreachable!("nothing is drawn")).is_none() && split.others().is_empty());
    }
}
