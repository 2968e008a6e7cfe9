//! Why a decision is what it is: typed for code, and in words and numbers for people.

use std::fmt;

use crate::decide::FloorReason;
use crate::idle::IdleReason;
use crate::load::Average;
use crate::policy::Metric;

/// Why a decision is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What the number of replicas comes from.
    pub cause: Cause,
    /// The bound that the number was then moved to, if any.
    pub bound: Option<Bound>,
}

/// What a number of replicas comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The Function is at zero. If something waits, an activator wakes it.
    AtZero {
        /// Requests that wait.
        queued: u64,
    },
    /// No activator has had a request for long enough, and all have said so.
    Idle {
        /// Seconds of silence, proven.
        silent_seconds: u64,
        /// Seconds of silence asked for.
        needed_seconds: u64,
    },
    /// Nothing to do at the moment, but not silent for long enough to go to zero.
    NotIdleYet {
        /// Seconds of silence, proven.
        silent_seconds: u64,
        /// Seconds of silence asked for.
        needed_seconds: u64,
    },
    /// Nobody asks anything, and the idle ladder says what becomes of it.
    Ladder(IdleReason),
    /// Average concurrency, or rate of requests, over the stable window.
    Stable {
        /// The average.
        average: Average,
        /// What is aimed at in one pod, in thousandths.
        target_milli: u64,
    },
    /// Average concurrency, or rate of requests, over the panic window, which overwhelms the ready pods.
    Panic {
        /// The average.
        average: Average,
        /// What is aimed at in one pod, in thousandths.
        target_milli: u64,
    },
    /// Average concurrency, or rate of requests, over the panic window, drawn on to when a new pod would be ready: more than the pods should fill up to.
    Rising {
        /// The average.
        average: Average,
        /// What it will be.
        ahead: Average,
        /// In so many ms.
        start_millis: u64,
        /// Up to what one pod may fill, in thousandths.
        target_milli: u64,
    },
    /// Average concurrency, or rate of requests, over the panic window: not enough to add replicas, but too much to remove any.
    Lately {
        /// The average.
        average: Average,
        /// What is aimed at in one pod, in thousandths.
        target_milli: u64,
    },
    /// Requests wait: each needs a slot now.
    Queue {
        /// Requests that wait.
        queued: u64,
        /// Requests at pods.
        in_flight: u64,
        /// Requests that one pod can take.
        slots: u32,
    },
    /// Less would do, but nothing is removed until two panic windows have passed without a surge.
    PanicHold {
        /// Replicas that would do.
        wanted: u32,
    },
    /// Less would do on average, but not at the peak of the stable window.
    Peak {
        /// Replicas that would do.
        wanted: u32,
        /// Seconds that are looked back.
        seconds: u64,
    },
    /// Less would do, but more was needed within `scaleDownDelaySeconds`.
    Delay {
        /// Replicas that would do.
        wanted: u32,
        /// Seconds that load must stay lower.
        seconds: u64,
    },
    /// Less would do by what is known, but an activator's samples are missing.
    DataMissing {
        /// Replicas that would do by what is known.
        wanted: u32,
    },
    /// Less would do, but the Service led to pods until a moment ago, and some requests may still go there past the activators.
    Settling {
        /// Replicas that would do.
        wanted: u32,
        /// Seconds until none does any more.
        seconds: u64,
    },
    /// Less would do by what is known, but who decides has not looked on for long enough to know what was needed lately.
    HistoryMissing {
        /// Replicas that would do by what is known.
        wanted: u32,
        /// Seconds that must be known.
        seconds: u64,
    },
}

/// A bound that a number of replicas was moved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `minReplicas`.
    Min(u32),
    /// `minActiveReplicas`.
    MinActive(u32),
    /// `activationReplicas`.
    Activation(u32),
    /// `maxReplicas`.
    Max(u32),
    /// A floor beside `minReplicas`.
    Floor(u32, FloorReason),
    /// The most that one decision may go up to.
    UpRate(u32),
    /// The least that one decision may go down to.
    DownRate(u32),
}

impl Reason {
    /// A CamelCase word for metrics and JSON: that of the bound where there is one, else the cause's.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match &self.bound {
            Some(Bound::Min(_)) => "MinReplicas",
            Some(Bound::MinActive(_)) => "MinActiveReplicas",
            Some(Bound::Activation(_)) => "ActivationReplicas",
            Some(Bound::Max(_)) => "MaxReplicas",
            Some(Bound::Floor(_, FloorReason::Initial)) => "InitialReplicas",
            Some(Bound::Floor(_, FloorReason::FailOpen)) => "FailOpen",
            Some(Bound::Floor(_, FloorReason::Schedule(_))) => "Schedule",
            Some(Bound::UpRate(_) | Bound::DownRate(_)) | None => self.cause.code(),
        }
    }
}

impl Cause {
    /// A CamelCase word for metrics and JSON.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::AtZero { .. } => "AtZero",
            Self::Idle { .. } => "Idle",
            Self::NotIdleYet { .. } => "NotIdleYet",
            Self::Ladder(reason) => reason.code(),
            Self::Stable { .. } => "StableWindow",
            Self::Panic { .. } => "PanicWindow",
            Self::Rising { .. } => "RisingLoad",
            Self::Lately { .. } => "RecentLoad",
            Self::Queue { .. } => "Queue",
            Self::PanicHold { .. } => "PanicHold",
            Self::Peak { .. } => "PeakLoad",
            Self::Delay { .. } => "ScaleDownDelay",
            Self::DataMissing { .. } => "DataMissing",
            Self::Settling { .. } => "Settling",
            Self::HistoryMissing { .. } => "HistoryMissing",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)?;
        match &self.bound {
            None => Ok(()),
            Some(Bound::Min(n)) => write!(f, "; minReplicas is {n}"),
            Some(Bound::MinActive(n)) => write!(f, "; minActiveReplicas is {n}"),
            Some(Bound::Activation(n)) => {
                write!(f, "; activationReplicas is {n}, and so many have not been ready since zero")
            }
            Some(Bound::Max(n)) => write!(f, "; maxReplicas is {n}"),
            Some(Bound::Floor(n, FloorReason::Initial)) => {
                write!(f, "; a new revision proves itself with {n}")
            }
            Some(Bound::Floor(n, FloorReason::FailOpen)) => {
                write!(f, "; no activator is ready, so {n} must run")
            }
            Some(Bound::Floor(n, FloorReason::Schedule(name))) => write!(f, "; the schedule {name} keeps {n}"),
            Some(Bound::UpRate(n)) => write!(f, "; one step goes up to {n} at most"),
            Some(Bound::DownRate(n)) => write!(f, "; one step goes down to {n} at most"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtZero { queued: 0 } => write!(f, "at zero, and nothing waits"),
            Self::AtZero { queued } => {
                write!(f, "at zero with {queued} waiting; an activator wakes it")
            }
            Self::Idle { silent_seconds, needed_seconds } => {
                write!(f, "no request for {silent_seconds} s at any activator, {needed_seconds} s are enough")
            }
            Self::NotIdleYet { silent_seconds, needed_seconds } => {
                write!(f, "no request for {silent_seconds} s of the {needed_seconds} s until zero")
            }
            Self::Ladder(reason) => reason.fmt(f),
            Self::Stable { average, target_milli } | Self::Lately { average, target_milli } => {
                measured(f, *average, *target_milli)
            }
            Self::Panic { average, target_milli } => {
                measured(f, *average, *target_milli)?;
                write!(f, ", more than the ready pods can bear")
            }
            Self::Rising { average, ahead, start_millis, target_milli } => {
                measured(f, *average, *target_milli)?;
                write!(f, ", and {} when a new one has started in {start_millis} ms", Thousandths(ahead.milli()))
            }
            Self::Queue { queued, in_flight, slots } => {
                write!(f, "{queued} waiting and {in_flight} in flight, {slots} for each pod")
            }
            Self::PanicHold { wanted } => {
                write!(f, "{wanted} would do, but there was a surge a moment ago")
            }
            Self::Peak { wanted, seconds } => {
                write!(f, "{wanted} would do on average, but not at the peak of the last {seconds} s")
            }
            Self::Delay { wanted, seconds } => {
                write!(f, "{wanted} would do, but more was needed within the scale-down delay of {seconds} s")
            }
            Self::DataMissing { wanted } => {
                write!(f, "{wanted} would do by what is known, but samples of an activator are missing")
            }
            Self::Settling { wanted, seconds } => {
                write!(f, "{wanted} would do, but requests may still reach pods past the activators for {seconds} s")
            }
            Self::HistoryMissing { wanted, seconds } => {
                write!(f, "{wanted} would do now, but this leader does not know yet what the last {seconds} s needed")
            }
        }
    }
}

fn measured(f: &mut fmt::Formatter<'_>, average: Average, target_milli: u64) -> fmt::Result {
    let (number, seconds, each) = (Thousandths(average.milli()), average.seconds, Thousandths(target_milli));
    match average.metric {
        Metric::Concurrency => write!(f, "concurrency {number} over {seconds} s, {each} for each pod"),
        Metric::Rps => write!(f, "{number} requests/s over {seconds} s, {each} for each pod"),
    }
}

/// Shows thousandths with at most two decimals.
struct Thousandths(u64);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = self.0 / 10;
        match (hundredths / 100, hundredths % 100) {
            (whole, 0) => write!(f, "{whole}"),
            (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}", part / 10),
            (whole, part) => write!(f, "{whole}.{part:02}"),
        }
    }
}

#[cfg(test)]
mod tests;
