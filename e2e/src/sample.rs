//! The values of one figure of a benchmark, and what is told of them.

use std::time::Duration;

/// Milliseconds, in order.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Adds a value.
    pub fn push(&mut self, value: Duration) {
        self.0.push(value.as_secs_f64() * 1e3);
        self.0.sort_by(f64::total_cmp);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The least; nothing where there is no value.
    pub fn min(&self) -> Option<f64> {
        self.0.first().copied()
    }

    /// The middle one; between the two middle ones where their number is even.
    pub fn median(&self) -> Option<f64> {
        let upper = *self.0.get(self.0.len() / 2)?;
        let lower = self.0[(self.0.len() - 1) / 2];
        Some(f64::midpoint(lower, upper))
    }

    /// The 95th percentile; see [`Sample::percentile`]. Of 20 it is the 19th.
    pub fn p95(&self) -> Option<f64> {
        self.percentile(95)
    }

    /// A percentile by nearest rank: the least value that at least `percent` % of all do not exceed; `percent` from 1 to 100.
    pub fn percentile(&self, percent: usize) -> Option<f64> {
        let rank = (self.0.len() * percent).div_ceil(100);
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
        assert_eq!((sample(1..=50).percentile(99), sample(1..=250).percentile(99)), (Some(50.0), Some(248.0)));
        assert_eq!(sample([7]).p95(), Some(7.0));
    }
}
