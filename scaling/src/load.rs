//! The numbers that a decision is made on: what happened in a window of seconds, and what is under way.
//!
//! What always holds: an average is an exact fraction of integers, so nothing is rounded before a decision rounds up to whole pods.

use crate::policy::Metric;
use crate::time::Millis;
use crate::windows::Sample;

/// What happened in a window of seconds, in sums over those that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Seconds that are known; never 0.
    pub seconds: u64,
    /// Requests in flight and waiting, in thousandths of request-seconds.
    pub concurrency_milli: u64,
    /// Requests in flight alone, in thousandths of request-seconds.
    pub busy_milli: u64,
    /// Requests that arrived.
    pub arrivals: u64,
    /// Requests that a pod has answered to the end.
    pub completed: u64,
}

impl Window {
    pub(crate) fn add(&mut self, sample: Sample) {
        self.concurrency_milli = self.concurrency_milli.saturating_add(sample.concurrency_milli);
        self.busy_milli = self.busy_milli.saturating_add(sample.busy_milli);
        self.arrivals = self.arrivals.saturating_add(u64::from(sample.arrivals));
        self.completed = self.completed.saturating_add(u64::from(sample.completed));
    }

    /// How long a request keeps a pod busy, by Little's law. `None` where none has ended.
    #[must_use]
    pub fn service(&self) -> Option<Service> {
        let Self { busy_milli, completed, .. } = *self;
        (completed > 0 && busy_milli > 0).then_some(Service { busy_milli, completed })
    }

    /// The concurrency that these arrivals would have with a free slot for each at once (the offered load): what waiting adds is not
    /// demand. Where the service time is not known, it is.
    #[must_use]
    pub fn offered(&self, service: Option<Service>) -> Average {
        let sum_milli = match service {
            Some(service) => self.concurrency_milli.min(self.busy_milli.max(service.millis_of(self.arrivals))),
            None => self.concurrency_milli,
        };
        Average { metric: Metric::Concurrency, sum_milli, seconds: self.seconds.max(1) }
    }

    /// The rate at which requests arrived.
    #[must_use]
    pub fn rate(&self) -> Average {
        let sum_milli = self.arrivals.saturating_mul(1000);
        Average { metric: Metric::Rps, sum_milli, seconds: self.seconds.max(1) }
    }
}

/// Mean service time as an exact fraction: `busy_milli / completed`, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Milliseconds that pods were busy with requests.
    pub busy_milli: u64,
    /// Requests that they answered meanwhile; never 0.
    pub completed: u64,
}

impl Service {
    /// Milliseconds that so many requests keep a slot busy, rounded up.
    #[must_use]
    pub fn millis_of(self, requests: u64) -> u64 {
        let millis = u128::from(requests) * u128::from(self.busy_milli);
        u64::try_from(millis.div_ceil(u128::from(self.completed.max(1)))).unwrap_or(u64::MAX)
    }
}

/// An average as an exact fraction: `sum_milli / seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Average {
    /// What it is an average of.
    pub metric: Metric,
    /// Sum over the seconds, in thousandths.
    pub sum_milli: u64,
    /// Seconds that are known; never 0.
    pub seconds: u64,
}

impl Average {
    /// The average in thousandths, rounded down; for people, not for decisions.
    #[must_use]
    pub fn milli(self) -> u64 {
        self.sum_milli / self.seconds.max(1)
    }
}

/// One Function's load as a decision sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The stable window. `None`: no activator told about any second of it.
    pub stable: Option<Window>,
    /// The panic window. `None`: no activator told about any second of it.
    pub panic: Option<Window>,
    /// Requests that wait now.
    pub queued: u64,
    /// Requests at pods now.
    pub in_flight: u64,
    /// The end of the last second in which any activator had a request. `None`: none that is remembered.
    pub last_active: Option<Millis>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_no_lasting_demand_once_the_service_time_is_known() {
        // 30 arrivals a second, 100 ms each, and a backlog of 50: the offered load is 3.
        let window =
            Window { seconds: 10, concurrency_milli: 530_000, busy_milli: 20_000, arrivals: 300, completed: 200 };
        assert_eq!(window.service(), Some(Service { busy_milli: 20_000, completed: 200 }));
        assert_eq!(window.offered(window.service()).milli(), 3_000);
        assert_eq!(window.offered(None).milli(), 53_000);
        // A busier time than the arrivals explain counts as it is.
        let busy = Window { busy_milli: 100_000, ..window };
        assert_eq!(busy.offered(window.service()).milli(), 10_000);
        assert_eq!(Window { completed: 0, ..window }.service(), None);
        assert_eq!(
            Window { busy_milli: 0, ..window }.service(),
            None,
            "what took no time that was counted has no known time"
        );
    }

    #[test]
    fn a_rate_counts_arrivals_however_long_they_stay() {
        let window = Window { seconds: 10, concurrency_milli: 530_000, arrivals: 25, ..Window::default() };
        assert_eq!(window.rate(), Average { metric: Metric::Rps, sum_milli: 25_000, seconds: 10 });
        assert_eq!(window.rate().milli(), 2_500);
    }
}
