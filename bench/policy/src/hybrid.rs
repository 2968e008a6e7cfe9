//! The hybrid histogram policy: Shahrad et al., "Serverless in the Wild: Characterizing and Optimizing the Serverless Workload at a Large Cloud
//! Provider", USENIX ATC'20, section 4, with the paper's parameters: 240 bins of one minute, head and tail at the 5th and 99th percentile with a margin
//! of 10 %, the histogram used where the coefficient of variation of its bin counts is at least 2, a time series model where at least half of the idle
//! times are out of bounds, with a margin of 15 %.
//!
//! What always holds: as long as neither is representative, the pod stays for the histogram's range.

use pilotlight_scaling::idle::Rung;

use crate::world::{Idle, Policy, Verdict};

const MINUTE: u64 = 60_000;
const BINS: usize = 240;
const CV_THRESHOLD: f64 = 2.0;
const OUT_OF_BOUNDS_SHARE: f64 = 0.5;

/// What is known of one Function.
#[derive(Default)]
pub(crate) struct HybridHistogram {
    bins: Vec<u64>,
    out_of_bounds: u64,
    /// Idle times in minutes, for the time series model.
    series: Vec<f64>,
}

/// When a pod is started after the last answer, and how long it stays, in ms. Without a start the pod of before stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Windows {
    prewarm: u64,
    keep_alive: u64,
}

impl HybridHistogram {
    fn windows(&self) -> Windows {
        let inside: u64 = self.bins.iter().sum();
        let all = inside + self.out_of_bounds;
        if all > 0 && self.out_of_bounds as f64 >= OUT_OF_BOUNDS_SHARE * all as f64 {
            let predicted = forecast(&self.series) * MINUTE as f64;
            return Windows { prewarm: (predicted * 0.85) as u64, keep_alive: (predicted * 0.3) as u64 };
        }
        if self.variation() < CV_THRESHOLD {
            return Windows { prewarm: 0, keep_alive: BINS as u64 * MINUTE };
        }
        // The head is rounded down to its minute, the tail up.
        let head = self.percentile(inside, 0.05) * MINUTE * 9 / 10;
        let tail = (self.percentile(inside, 0.99) + 1) * MINUTE * 11 / 10;
        Windows { prewarm: head, keep_alive: tail - head }
    }

    /// The coefficient of variation of the bin counts.
    fn variation(&self) -> f64 {
        let count = |bin: usize| self.bins.get(bin).copied().unwrap_or(0) as f64;
        let mean = (0..BINS).map(count).sum::<f64>() / BINS as f64;
        if mean == 0.0 {
            return 0.0;
        }
        let variance = (0..BINS).map(|bin| (count(bin) - mean).powi(2)).sum::<f64>() / BINS as f64;
        variance.sqrt() / mean
    }

    /// The minute of a percentile.
    fn percentile(&self, inside: u64, share: f64) -> u64 {
        let rank = ((inside as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.bins.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.unwrap_or(0) as u64
    }
}

impl Policy for HybridHistogram {
    fn look(&mut self, idle: Idle, now: u64, _: Rung) -> Verdict {
        let Windows { prewarm, keep_alive } = self.windows();
        let (start, end) = (idle.ended + prewarm, idle.ended + prewarm + keep_alive);
        if now < start {
            Verdict { rung: Rung::Zero, next: Some(start) }
        } else if now < end {
            Verdict { rung: Rung::Active, next: Some(end) }
        } else {
            Verdict { rung: Rung::Zero, next: None }
        }
    }

    fn learn(&mut self, idle: Idle, next: u64) {
        let millis = next - idle.ended;
        let bin = (millis / MINUTE) as usize;
        self.bins.resize(BINS, 0);
        match self.bins.get_mut(bin) {
            Some(count) => *count += 1,
            None => self.out_of_bounds += 1,
        }
        self.series.push(millis as f64 / MINUTE as f64);
    }
}

/// The next value of a series: ARIMA(1,0,0) by least squares, the mean where there are fewer than four values. (The paper lets `auto_arima` choose the orders; an
/// order of one is what so few values as a Function with gaps of hours has can bear.)
fn forecast(series: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let [before @ .., last] = series else { return 0.0 };
    if series.len() < 4 {
        return mean(series);
    }
    let after = &series[1..];
    let (mean_before, mean_after) = (mean(before), mean(after));
    let pairs = before.iter().zip(after);
    let covariance: f64 = pairs.map(|(x, y)| (x - mean_before) * (y - mean_after)).sum();
    let variance: f64 = before.iter().map(|x| (x - mean_before).powi(2)).sum();
    let slope = if variance > 0.0 { (covariance / variance).clamp(-1.0, 1.0) } else { 0.0 };
    (mean_after + slope * (last - mean_before)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(minutes: &[u64]) -> HybridHistogram {
        let mut policy = HybridHistogram::default();
        for minute in minutes {
            policy.learn(Idle { began: 0, ended: 0 }, minute * MINUTE + 1);
        }
        policy
    }

    #[test]
    fn what_is_not_representative_is_kept_for_the_range() {
        assert_eq!(HybridHistogram::default().windows(), Windows { prewarm: 0, keep_alive: 240 * MINUTE });
        let spread: Vec<u64> = (0..240).collect();
        assert_eq!(after(&spread).windows(), Windows { prewarm: 0, keep_alive: 240 * MINUTE });
    }

    #[test]
    fn a_narrow_histogram_is_kept_from_its_head_to_its_tail() {
        assert_eq!(
            after(&[10; 20]).windows(),
            Windows { prewarm: 9 * MINUTE, keep_alive: 12 * MINUTE + 6_000 - 9 * MINUTE }
        );
        // A head within the first minute means that the pod is not let go.
        assert_eq!(after(&[0; 20]).windows(), Windows { prewarm: 0, keep_alive: MINUTE * 11 / 10 });
    }

    #[test]
    fn what_is_out_of_bounds_is_forecast() {
        assert_eq!(after(&[300, 300]).windows(), Windows { prewarm: 255 * MINUTE, keep_alive: 90 * MINUTE });
        assert!((forecast(&[300.0, 400.0, 300.0, 400.0, 300.0]) - 400.0).abs() < 1.0);
        assert_eq!(forecast(&[]), 0.0);
    }

    #[test]
    fn the_pod_goes_is_started_and_goes_again() {
        let mut policy = after(&[10; 20]);
        let gap = Idle { began: 0, ended: 0 };
        assert_eq!(policy.look(gap, 0, Rung::Active), Verdict { rung: Rung::Zero, next: Some(9 * MINUTE) });
        assert_eq!(policy.look(gap, 9 * MINUTE, Rung::Zero), Verdict { rung: Rung::Active, next: Some(726_000) });
        assert_eq!(policy.look(gap, 726_000, Rung::Active), Verdict { rung: Rung::Zero, next: None });
    }
}
