//! What a Function's author asks of scaling, as plain numbers.
//!
//! What always holds: whatever the numbers are, the methods give values that a decision can compute with: a target above
//! zero, windows of at least a second, a maximum of at least one.

use crate::idle::{Rung, Step};

/// Target concurrency where neither a target nor a hard limit is set; Knative's default.
const DEFAULT_TARGET: u32 = 100;
/// Target rate where none is set, in requests a second; Knative's default.
const DEFAULT_TARGET_RPS: u32 = 200;

/// Seconds without a request after which pods go where nothing else is said or known; as long as Knative looks back.
pub const USUAL_IDLE_SECONDS: u32 = 60;

/// What load is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Requests at once: the offered load.
    #[default]
    Concurrency,
    /// Requests that arrive in a second.
    Rps,
}

/// How much load one pod should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// What is measured.
    pub metric: Metric,
    /// What is aimed at, in thousandths: target × utilization. Never 0.
    pub milli: u64,
    /// Up to what a pod may fill for a short while before others are added, in thousandths: half way between what is aimed at and what it
    /// can take. Never 0.
    pub filled_milli: u64,
}

impl Target {
    fn new(metric: Metric, target: u32, full: u32, utilization_percent: u32) -> Self {
        let milli = u64::from(target) * u64::from(utilization_percent.clamp(1, 100)) * 10;
        Self { metric, milli, filled_milli: (milli + u64::from(full) * 1000).div_ceil(2) }
    }
}

/// What a Function's author asks of scaling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Replicas that always run.
    pub min_replicas: u32,
    /// Replicas at least while there are any: they go to zero at once.
    pub min_active_replicas: u32,
    /// Replicas that the first request after zero brings at least. It counts until so many have been ready once.
    pub activation_replicas: u32,
    /// Replicas at most. 0 counts as 1.
    pub max_replicas: u32,
    /// What load is measured by.
    pub metric: Metric,
    /// Requests a second that one pod should have, where that is the metric. 0: 200.
    pub target_rps: u32,
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
    /// What becomes of replicas after so long without a request, unless the adaptive policy decides. Without a step to Zero they stay.
    pub steps: Vec<Step>,
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
            min_active_replicas: 1,
            activation_replicas: 1,
            max_replicas: 100,
            metric: Metric::Concurrency,
            target_rps: 0,
            target_concurrency: 0,
            concurrency_limit: 0,
            target_utilization_percent: 70,
            stable_window_seconds: 60,
            panic_window_percent: 10,
            panic_threshold_percent: 200,
            steps: vec![Step::to_zero(USUAL_IDLE_SECONDS)],
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
        } else if self.metric == Metric::Concurrency && self.target_concurrency > 0 {
            self.target_concurrency
        } else {
            DEFAULT_TARGET
        }
    }

    /// What one pod should have, for each metric that counts. With a rate as metric a hard limit of concurrency counts as well: pods
    /// that are full take no more, whatever rate was hoped for.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        let concurrency = match self.metric {
            Metric::Concurrency => Some(self.concurrency_target()),
            Metric::Rps => (self.concurrency_limit > 0).then(|| self.limit_target()),
        };
        let rate = (self.metric == Metric::Rps).then(|| self.rate_target());
        rate.into_iter().chain(concurrency)
    }

    /// Concurrency that one pod should have: the target, never above the hard limit.
    #[must_use]
    pub fn concurrency_target(&self) -> Target {
        let target = if self.target_concurrency > 0 { self.target_concurrency.min(self.slots()) } else { self.slots() };
        Target::new(Metric::Concurrency, target, self.slots(), self.target_utilization_percent)
    }

    fn limit_target(&self) -> Target {
        let limit = self.concurrency_limit;
        Target::new(Metric::Concurrency, limit, limit, self.target_utilization_percent)
    }

    fn rate_target(&self) -> Target {
        let target = if self.target_rps > 0 { self.target_rps } else { DEFAULT_TARGET_RPS };
        Target::new(Metric::Rps, target, target, self.target_utilization_percent)
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

    /// Seconds after the last surge during which nothing is removed: two panic windows, so that the surge has left the panic window for
    /// as long as it was in it.
    #[must_use]
    pub fn panic_hold_seconds(&self) -> u64 {
        self.panic_seconds() * 2
    }

    /// The steps as they count: none to zero comes before the scale-down delay is over, nor at once.
    pub fn ladder(&self) -> impl Iterator<Item = Step> {
        let least = u64::from(self.scale_down_delay_seconds).max(1);
        self.steps.iter().map(move |step| match step.rung {
            Rung::Zero => Step { after_seconds: step.after_seconds.max(least), ..*step },
            _ => *step,
        })
    }

    /// Seconds of silence until zero, by the steps. `None`: they never go there.
    #[must_use]
    pub fn silence_seconds(&self) -> Option<u64> {
        self.ladder().filter(|step| step.rung == Rung::Zero).map(|step| step.after_seconds).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_comes_from_the_target_the_limit_or_the_default() {
        let target = |target_concurrency, concurrency_limit| {
            Policy { target_concurrency, concurrency_limit, ..Policy::default() }.concurrency_target().milli
        };
        assert_eq!(target(0, 0), 70_000);
        assert_eq!(target(0, 10), 7_000);
        assert_eq!(target(20, 0), 14_000);
        assert_eq!(target(20, 10), 7_000);
        assert_eq!(target(5, 10), 3_500);
        assert_eq!(target(0, 1), 700);
    }

    #[test]
    fn a_pod_takes_its_limit_or_its_target_of_concurrency_before_others_wait() {
        let slots = |metric, target_concurrency, concurrency_limit| {
            Policy { metric, target_concurrency, concurrency_limit, ..Policy::default() }.slots()
        };
        assert_eq!(slots(Metric::Concurrency, 20, 10), 10);
        assert_eq!(slots(Metric::Concurrency, 20, 0), 20);
        assert_eq!(slots(Metric::Concurrency, 0, 0), DEFAULT_TARGET);
        assert_eq!(slots(Metric::Rps, 20, 0), DEFAULT_TARGET, "the target of concurrency is not in force");
    }

    #[test]
    fn a_rate_has_a_default_target_and_a_hard_limit_beside_it() {
        let targets = |target_rps, concurrency_limit| {
            let policy = Policy { metric: Metric::Rps, target_rps, concurrency_limit, ..Policy::default() };
            policy.targets().map(|target| (target.metric, target.milli)).collect::<Vec<_>>()
        };
        assert_eq!(targets(0, 0), [(Metric::Rps, 140_000)]);
        assert_eq!(targets(10, 20), [(Metric::Rps, 7_000), (Metric::Concurrency, 14_000)]);
    }

    #[test]
    fn zeros_everywhere_still_compute() {
        let policy = Policy {
            max_replicas: 0,
            target_utilization_percent: 0,
            stable_window_seconds: 0,
            panic_window_percent: 0,
            steps: vec![Step::to_zero(0)],
            max_scale_up_rate: 0,
            max_scale_down_rate: 0,
            ..Policy::default()
        };
        assert_eq!(policy.ceiling(), 1);
        assert!(policy.targets().all(|target| target.milli > 0 && target.filled_milli > 0));
        assert_eq!(policy.stable_seconds(), 1);
        assert_eq!(policy.panic_seconds(), 1);
        assert_eq!(policy.silence_seconds(), Some(1));
    }
}
