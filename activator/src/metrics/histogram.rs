//! A histogram of durations without a lock: observing is two additions, however many requests end at once. The library's own takes a mutex
//! for each observation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds in microseconds; whatever is above them all counts in the last bucket. From half a millisecond, which a warm request
/// takes, to a minute, which a cold start may.
const BOUNDS: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000, 60_000_000,
];

/// Durations, counted by [`BOUNDS`]. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Durations(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

impl Durations {
    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts: Vec<u64> = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        let sum = self.0.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    #[test]
    fn buckets_are_cumulative_and_bounds_belong_to_them() {
        let durations = Durations::default();
        for millis in [0, 1, 3, 70_000] {
            durations.observe(Duration::from_millis(millis));
        }
        durations.observe(Duration::from_secs(600));
        let mut registry = Registry::default();
        registry.register("x_seconds", "X", durations);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "x_seconds_count 5",
            "le=\"0.0005\"} 1",
            "le=\"0.001\"} 2",
            "le=\"0.0025\"} 2",
            "le=\"0.005\"} 3",
            "le=\"60.0\"} 3",
            "le=\"+Inf\"} 5",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let durations = Durations::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| durations.observe(Duration::from_micros(10))));
            }
        });
        assert_eq!(durations.0.counts[0].load(Ordering::Relaxed), 40_000);
        assert_eq!(durations.0.sum_micros.load(Ordering::Relaxed), 400_000);
    }
}
