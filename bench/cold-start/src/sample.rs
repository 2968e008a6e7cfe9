//! The values of one figure, one for each round, and what is told of them.

use std::time::Duration;

/// Milliseconds, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// Adds a round's value.
    pub(crate) fn push(&mut self, value: Duration) {
        self.0.push(value.as_secs_f64() * 1e3);
        self.0.sort_by(f64::total_cmp);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The least; nothing where there is no value.
    pub(crate) fn min(&self) -> Option<f64> {
        self.0.first().copied()
    }

    /// The middle one; between the two middle ones where their number is even.
    pub(crate) fn median(&self) -> Option<f64> {
        let upper = *self.0.get(self.0.len() / 2)?;
        let lower = self.0[(self.0.len() - 1) / 2];
        Some(f64::midpoint(lower, upper))
    }

    /// The 95th percentile by nearest rank: the least value that at least 95 % of all do not exceed. Of 20 it is the 19th.
    pub(crate) fn p95(&self) -> Option<f64> {
        let rank = (self.0.len() * 95).div_ceil(100);
        self.0.get(rank.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: impl IntoIterator<Item = u64>) -> Sample {
        let mut sample = Sample::default();
        for value in values {
            sample.push(Duration::from_millis(value));
        }
        sample
    }

    #[test]
    fn nothing_is_told_of_no_values() {
        let none = Sample::default();
        assert_eq!((none.min(), none.median(), none.p95(), none.len()), (None, None, None, 0));
    }

    #[test]
    fn the_order_of_rounds_does_not_matter() {
        let mixed = sample([30, 10, 20]);
        assert_eq!((mixed.min(), mixed.median(), mixed.p95()), (Some(10.0), Some(20.0), Some(30.0)));
    }

    #[test]
    fn an_even_number_has_its_median_between_two() {
        assert_eq!(sample([4, 1, 2, 8]).median(), Some(3.0));
    }

    #[test]
    fn the_percentile_is_a_value_that_was_measured() {
        assert_eq!(sample(1..=20).p95(), Some(19.0));
        assert_eq!(sample(1..=21).p95(), Some(20.0));
        assert_eq!(sample(1..=100).p95(), Some(95.0));
        assert_eq!(sample([7]).p95(), Some(7.0));
    }
}
