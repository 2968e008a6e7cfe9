//! What a Function's author asks of scaling, as plain numbers.
//!
//! What always holds: whatever the numbers are, the methods give values that a decision can compute with: a target above
//! zero, windows of at least a second, a maximum of at least one.

/// Target concurrency where neither a target nor a hard limit is set.
const DEFAULT_TARGET: u32 = 100;

/// What a Function's author asks of scaling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Replicas that always run.
    pub min_replicas: u32,
    /// Replicas at most. 0 counts as 1.
    pub max_replicas: u32,
    /// Requests at once that one pod should have. 0: `concurrency_limit`, or 100 where that is 0 too.
    pub target_concurrency: u32,
    /// Hard limit of requests at one pod at one moment. 0: none.
    pub concurrency_limit: u32,
    /// Percentage of the target that is aimed at.
    pub target_utilization_percent: u32,
    /// Seconds over which load is averaged.
    pub stable_window_seconds: u32,
    /// Length of the panic window, in percent of the stable window.
    pub panic_window_percent: u32,
    /// Load in the panic window, in percent of what the ready pods are meant to bear, from which on scaling panics.
    pub panic_threshold_percent: u32,
    /// Seconds without a request until zero.
    pub idle_seconds: u32,
    /// Seconds that load must stay lower before replicas are removed.
    pub scale_down_delay_seconds: u32,
    /// How many times the ready replicas one decision may go up to.
    pub max_scale_up_rate: u32,
    /// By how much one decision may divide the ready replicas.
    pub max_scale_down_rate: u32,
}

impl Default for Policy {
    /// The defaults of a Function: Knative's, where it has the same notion.
    fn default() -> Self {
        Self {
            min_replicas: 0,
            max_replicas: 100,
            target_concurrency: 0,
            concurrency_limit: 0,
            target_utilization_percent: 70,
            stable_window_seconds: 60,
            panic_window_percent: 10,
            panic_threshold_percent: 200,
            idle_seconds: 60,
            scale_down_delay_seconds: 0,
            max_scale_up_rate: 1000,
            max_scale_down_rate: 2,
        }
    }
}

impl Policy {
    /// Replicas at most, never 0 and never below the minimum.
    #[must_use]
    pub fn ceiling(&self) -> u32 {
        self.max_replicas.max(1).max(self.min_replicas)
    }

    /// Requests at once that one pod can take before others have to wait: the hard limit, or the target without one.
    #[must_use]
    pub fn slots(&self) -> u32 {
        if self.concurrency_limit > 0 {
            self.concurrency_limit
        } else if self.target_concurrency > 0 {
            self.target_concurrency
        } else {
            DEFAULT_TARGET
        }
    }

    /// Concurrency aimed at in one pod, in thousandths: target × utilization, never above the hard limit and never 0.
    #[must_use]
    pub fn target_milli(&self) -> u64 {
        let target = if self.target_concurrency > 0 { self.target_concurrency.min(self.slots()) } else { self.slots() };
        let percent = u64::from(self.target_utilization_percent.clamp(1, 100));
        u64::from(target) * percent * 10
    }

    /// Length of the stable window, in seconds.
    #[must_use]
    pub fn stable_seconds(&self) -> u64 {
        u64::from(self.stable_window_seconds.max(1))
    }

    /// Length of the panic window, in seconds, rounded up.
    #[must_use]
    pub fn panic_seconds(&self) -> u64 {
        let percent = u64::from(self.panic_window_percent.clamp(1, 100));
        (self.stable_seconds() * percent).div_ceil(100)
    }

    /// Concurrency up to which a pod may fill for a short while before others are added, in thousandths: half way between the target and the
    /// slots. Never 0.
    #[must_use]
    pub fn filled_milli(&self) -> u64 {
        (self.target_milli() + u64::from(self.slots()) * 1000).div_ceil(2)
    }

    /// Seconds after the last surge during which nothing is removed: two panic windows, so that the surge has left the panic window for
    /// as long as it was in it.
    #[must_use]
    pub fn panic_hold_seconds(&self) -> u64 {
        self.panic_seconds() * 2
    }

    /// Seconds of silence until zero: the idle time, and at least the scale-down delay.
    #[must_use]
    pub fn silence_seconds(&self) -> u64 {
        u64::from(self.idle_seconds.max(self.scale_down_delay_seconds)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_comes_from_the_target_the_limit_or_the_default() {
        let target = |target_concurrency, concurrency_limit| {
            Policy { target_concurrency, concurrency_limit, ..Policy::default() }.target_milli()
        };
        assert_eq!(target(0, 0), 70_000);
        assert_eq!(target(0, 10), 7_000);
        assert_eq!(target(20, 0), 14_000);
        assert_eq!(target(20, 10), 7_000);
        assert_eq!(target(0, 1), 700);
    }

    #[test]
    fn zeros_everywhere_still_compute() {
        let policy = Policy {
            max_replicas: 0,
            target_utilization_percent: 0,
            stable_window_seconds: 0,
            panic_window_percent: 0,
            idle_seconds: 0,
            max_scale_up_rate: 0,
            max_scale_down_rate: 0,
            ..Policy::default()
        };
        assert_eq!(policy.ceiling(), 1);
        assert!(policy.target_milli() > 0);
        assert_eq!(policy.stable_seconds(), 1);
        assert_eq!(policy.panic_seconds(), 1);
        assert_eq!(policy.silence_seconds(), 1);
    }
}
