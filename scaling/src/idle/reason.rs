//! Why an idle Function is on its rung: typed for code, and in words and numbers for people.

use std::fmt;

use super::rung::Rung;

/// Why an idle Function should be on a rung.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdleReason {
    /// It has not been idle for long enough for anything to be done.
    Settling {
        /// How long it has been idle, in ms.
        idle_millis: u64,
        /// How long it must be.
        hold_millis: u64,
    },
    /// No step of `scaling.idle` is due yet.
    BeforeSteps {
        /// How long it has been idle, in ms.
        idle_millis: u64,
        /// After how long the first step is, in s. `None`: there is no step.
        first_seconds: Option<u64>,
    },
    /// A step of `scaling.idle` is due.
    Step {
        /// How long it has been idle, in ms.
        idle_millis: u64,
        /// After how long the step is, in s.
        after_seconds: u64,
        /// The rung that it names.
        rung: Rung,
        /// Replicas that stay there, where it says so.
        replicas: Option<u32>,
        /// What takes that rung's place where it is not available.
        instead: Option<Rung>,
    },
    /// It costs the least, by what is known of the gaps.
    Cheapest {
        /// The rung.
        rung: Rung,
        /// How long it has been idle, in ms.
        idle_millis: u64,
        /// Gaps known that were longer, weighted by age.
        gaps: u32,
        /// How long the next request is expected to wait, in µs.
        wait_micros: u64,
        /// What that and what is reserved until then is expected to cost, in MiB·s.
        cost: u64,
        /// What staying Active until then would be expected to cost, in MiB·s.
        active_cost: u64,
    },
    /// Too few gaps are known for a process to be kept running any longer.
    LittleKnown {
        /// The rung without a process that costs the least.
        rung: Rung,
        /// How long it has been idle, in ms.
        idle_millis: u64,
        /// Gaps known, weighted by age.
        known: u32,
        /// From how many on a process may run for longer.
        needed: u32,
        /// For how long it is kept running until then, in ms.
        kept_millis: u64,
        /// How long it will have been idle when the rung changes, in ms. `None`: it stays until a request comes.
        until_millis: Option<u64>,
    },
    /// A request is expected soon, and a pod is started ahead of it.
    Prewarm {
        /// How long it has been idle, in ms.
        idle_millis: u64,
        /// The pod stays for so long if no request comes, in ms.
        stay_millis: u64,
        /// The chance of a request meanwhile, in percent.
        percent: u32,
        /// Gaps known that were longer, weighted by age.
        gaps: u32,
    },
}

impl IdleReason {
    /// A CamelCase word for metrics, events and JSON.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Settling { .. } => "Settling",
            Self::BeforeSteps { .. } => "BeforeIdleSteps",
            Self::Step { instead: None, .. } => "IdleStep",
            Self::Step { instead: Some(_), .. } => "IdleStepSubstituted",
            Self::Cheapest { .. } => "LeastExpectedCost",
            Self::LittleKnown { .. } => "LittleKnown",
            Self::Prewarm { .. } => "Prewarm",
        }
    }
}

impl fmt::Display for IdleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settling { idle_millis, hold_millis } => {
                write!(f, "idle for {}, nothing is done before {}", Time(*idle_millis), Time(*hold_millis))
            }
            Self::BeforeSteps { idle_millis, first_seconds: None } => {
                write!(f, "idle for {}, and scaling.idle has no steps", Time(*idle_millis))
            }
            Self::BeforeSteps { idle_millis, first_seconds: Some(first) } => {
                write!(
                    f,
                    "idle for {}, the first step of scaling.idle is after {}",
                    Time(*idle_millis),
                    Time(first.saturating_mul(1000))
                )
            }
            Self::Step { idle_millis, after_seconds, rung, replicas, instead } => {
                let substituted = |instead| format!("; {rung} is not available here, {instead} takes its place");
                let (idle, after) = (Time(*idle_millis), Time(after_seconds.saturating_mul(1000)));
                let instead = instead.map(substituted).unwrap_or_default();
                let replicas = replicas.map(|replicas| format!(" with {replicas} replicas")).unwrap_or_default();
                write!(f, "idle for {idle}, scaling.idle says {rung}{replicas} after {after}{instead}")
            }
            Self::Cheapest { rung, idle_millis, gaps, wait_micros, cost, active_cost } => {
                let (idle, wait) = (Time(*idle_millis), Micros(*wait_micros));
                let beside = match rung {
                    Rung::Active => "and no other rung costs less".to_owned(),
                    _ => format!("{active_cost} if it stayed Active"),
                };
                write!(
                    f,
                    "idle for {idle}: by {gaps} known gaps the next request waits {wait} on average for an expected {cost} MiB·s, {beside}"
                )
            }
            Self::LittleKnown { rung, idle_millis, known, needed, kept_millis, until_millis } => {
                let (idle, kept) = (Time(*idle_millis), Time(*kept_millis));
                let until = until_millis.map(|until| format!("it has been idle for {}", Time(until)));
                let until = until.unwrap_or_else(|| "a request comes".to_owned());
                write!(
                    f,
                    "idle for {idle}: with {known} of {needed} gaps known it is not kept running for longer than {kept}; {rung} until {until}"
                )
            }
            Self::Prewarm { idle_millis, stay_millis, percent, gaps } => write!(
                f,
                "idle for {}: by {gaps} known gaps a request comes within the next {} with a chance of {percent} %",
                Time(*idle_millis),
                Time(*stay_millis)
            ),
        }
    }
}

/// Shows milliseconds in the unit that people would use.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        match seconds {
            0..10 => write!(f, "{}.{} s", seconds, self.0 % 1000 / 100),
            10..600 => write!(f, "{seconds} s"),
            600..36_000 => write!(f, "{} min", seconds / 60),
            _ => write!(f, "{} h", seconds / 3600),
        }
    }
}

/// Shows microseconds as milliseconds.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..10_000 => write!(f, "{}.{} ms", self.0 / 1000, self.0 % 1000 / 100),
            micros => write!(f, "{} ms", micros / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_code_and_words_with_its_numbers() {
        let cheapest = |rung| IdleReason::Cheapest {
            rung,
            idle_millis: 2_000,
            gaps: 7,
            wait_micros: 12_345,
            cost: 900,
            active_cost: 5_000,
        };
        let step = |instead| IdleReason::Step {
            idle_millis: 61_500,
            after_seconds: 60,
            rung: Rung::Parked,
            replicas: None,
            instead,
        };
        let little = |rung, until_millis| IdleReason::LittleKnown {
            rung,
            idle_millis: 61_000,
            known: 2,
            needed: 5,
            kept_millis: 60_000,
            until_millis,
        };
        let table = [
            (
                IdleReason::Settling { idle_millis: 1_250, hold_millis: 2_000 },
                "Settling",
                "idle for 1.2 s, nothing is done before 2.0 s",
            ),
            (
                IdleReason::BeforeSteps { idle_millis: 59_999, first_seconds: Some(60) },
                "BeforeIdleSteps",
                "idle for 59 s, the first step of scaling.idle is after 60 s",
            ),
            (
                IdleReason::BeforeSteps { idle_millis: 59_999, first_seconds: None },
                "BeforeIdleSteps",
                "idle for 59 s, and scaling.idle has no steps",
            ),
            (step(None), "IdleStep", "idle for 61 s, scaling.idle says Parked after 60 s"),
            (
                IdleReason::Step {
                    idle_millis: 30_000,
                    after_seconds: 30,
                    rung: Rung::Throttled,
                    replicas: Some(2),
                    instead: None,
                },
                "IdleStep",
                "idle for 30 s, scaling.idle says Throttled with 2 replicas after 30 s",
            ),
            (
                step(Some(Rung::Zero)),
                "IdleStepSubstituted",
                "idle for 61 s, scaling.idle says Parked after 60 s; Parked is not available here, Zero takes its place",
            ),
            (
                cheapest(Rung::Parked),
                "LeastExpectedCost",
                "idle for 2.0 s: by 7 known gaps the next request waits 12 ms on average for an expected 900 MiB·s, 5000 if it stayed Active",
            ),
            (
                cheapest(Rung::Active),
                "LeastExpectedCost",
                "idle for 2.0 s: by 7 known gaps the next request waits 12 ms on average for an expected 900 MiB·s, and no other rung costs less",
            ),
            (
                little(Rung::Parked, Some(11_000_000)),
                "LittleKnown",
                "idle for 61 s: with 2 of 5 gaps known it is not kept running for longer than 60 s; Parked until it has been idle for 183 min",
            ),
            (
                little(Rung::Zero, None),
                "LittleKnown",
                "idle for 61 s: with 2 of 5 gaps known it is not kept running for longer than 60 s; Zero until a request comes",
            ),
            (
                IdleReason::Prewarm { idle_millis: 3_599_000, stay_millis: 36_000_000, percent: 93, gaps: 24 },
                "Prewarm",
                "idle for 59 min: by 24 known gaps a request comes within the next 10 h with a chance of 93 %",
            ),
        ];
        for (reason, code, words) in table {
            assert_eq!((reason.code(), reason.to_string().as_str()), (code, words));
        }
        assert_eq!(Micros(9_870).to_string(), "9.8 ms");
    }
}
