//! Traffic that moves to a new revision in steps (`spec.rollout`), and goes back by itself where that is no good.
//!
//! Pure. What always holds: a step is made only after the one before has lasted its interval, with as many pods as its share takes (or after the
//! wait for them was long enough), and while what was seen of the new revision's requests is within what the author allows; a revision whose rollout was
//! aborted gets no traffic again unless the author names it.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pilotlight_crds::diagnosis::WillItHealAlone;
use pilotlight_crds::rollout::{Rollout, RolloutStrategy};
use pilotlight_crds::status::{RolloutStatus, RouteShare};
use pilotlight_crds::{FunctionSpec, condition};

use super::Verdict;
use super::traffic::{PROMOTION_PATIENCE, Promotion, Traffic, TrafficInput, ready};

/// How often a revision that keeps to the limit exactly may be taken for one that does not.
const DOUBT: f64 = 0.001;
/// The share of requests that may be slower than the 99th percentile.
const SLOW: f64 = 0.01;

/// What activators saw of the new revision's requests since the step began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests that ended.
    pub completed: u64,
    /// Of these, those that failed.
    pub errors: u64,
    /// Of these, those that took longer than `abortOn.latencyP99Seconds`.
    pub slow: u64,
    /// For how long they have been counted.
    pub lasted: Duration,
}

/// A rollout that ended where it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abort {
    /// The revision that was no good.
    pub revision: String,
    /// What was seen of it, and what helps.
    pub message: String,
}

/// What a rollout does next; nothing where none is to be.
pub(super) fn steps(spec: &FunctionSpec, input: &TrafficInput<'_>, next: &Verdict) -> Option<Traffic> {
    let rollout = spec.rollout.as_ref().filter(|rollout| rollout.strategy == RolloutStrategy::Gradual)?;
    let under_way = input.rollout.filter(|state| state.revision == next.name);
    let from = input.rollout.map(|state| state.from.as_str()).or(input.current)?;
    let old = input.verdicts.iter().find(|v| v.name == from && v.name != next.name)?;
    let percent = under_way.map_or(0, |state| state.percent);
    let stays = |promotion| {
        let rollout = under_way.cloned();
        Traffic { promotion, rollout, ..shared(old, next, percent) }
    };
    let more = (percent + rollout.step_percent).min(100);
    if let Some(diagnosis) = &next.evidence.diagnosis {
        // One that has started once need not do so again.
        return Some(match diagnosis.healing {
            WillItHealAlone::No if percent > 0 => {
                aborted(old, next, &format!("its pods do not start: {}", diagnosis.message))
            }
            _ => stays(None),
        });
    }
    if percent > 0 {
        match judge(rollout, &input.seen) {
            Judgement::Bad(why) => return Some(aborted(old, next, &why)),
            Judgement::Unclear => return Some(stays(None)),
            Judgement::Fine if input.seen.lasted < Duration::from_secs(u64::from(rollout.interval_seconds)) => {
                return Some(stays(None));
            }
            Judgement::Fine => {}
        }
    }
    let needed = ((ready(old) + ready(next)) * more).div_ceil(100).min(spec.scaling.max_replicas);
    if ready(next) < needed && input.waited(&next.name) < PROMOTION_PATIENCE {
        return Some(stays(Some(Promotion { revision: next.name.clone(), replicas: needed })));
    }
    if more == 100 {
        return Some(Traffic { revision: Some(next.name.clone()), ..Traffic::default() });
    }
    let state = RolloutStatus {
        revision: next.name.clone(),
        from: old.name.clone(),
        percent: more,
        since: Time(jiff::Timestamp::from_second(input.now.as_second()).unwrap_or(input.now)),
    };
    Some(Traffic { rollout: Some(state), ..shared(old, next, more) })
}

/// Where all traffic is the old revision's again, because the new one is: at once, whatever pods there are.
pub(super) fn returns(input: &TrafficInput<'_>, next: &Verdict) -> Option<Traffic> {
    input.rollout.filter(|state| state.from == next.name)?;
    Some(Traffic { revision: Some(next.name.clone()), ..Traffic::default() })
}

/// Traffic of which the new revision has so much.
fn shared(old: &Verdict, next: &Verdict, percent: u32) -> Traffic {
    let share = |verdict: &Verdict, percent| RouteShare { revision: verdict.name.clone(), percent };
    let mut split = vec![share(old, 100 - percent), share(next, percent)];
    if percent > 50 {
        split.reverse();
    }
    let revision = Some(split[0].revision.clone());
    Traffic { revision, split: if percent == 0 { Vec::new() } else { split }, ..Traffic::default() }
}

fn aborted(old: &Verdict, next: &Verdict, why: &str) -> Traffic {
    let message = format!(
        "The rollout of revision {} was aborted: {why}. All traffic is {}'s again. A changed spec makes a new revision; to try this one all the same, name it in spec.traffic",
        next.name, old.name
    );
    let aborted = Abort { revision: next.name.clone(), message };
    let needed = ready(old) + ready(next);
    let promotion = (ready(old) < needed).then(|| Promotion { revision: old.name.clone(), replicas: needed });
    Traffic { revision: Some(old.name.clone()), promotion, aborted: Some(aborted), ..Traffic::default() }
}

enum Judgement {
    /// Within what is allowed.
    Fine,
    /// More than is allowed, but too little was seen to be sure.
    Unclear,
    /// More than is allowed, and why.
    Bad(String),
}

fn judge(rollout: &Rollout, seen: &Seen) -> Judgement {
    let Some(abort_on) = &rollout.abort_on else { return Judgement::Fine };
    let errors = abort_on.error_percent.map(|percent| {
        let words = || {
            format!(
                "{} of {} requests failed, and spec.rollout.abortOn.errorPercent is {percent}",
                seen.errors, seen.completed
            )
        };
        compare(seen.errors, seen.completed, f64::from(percent) / 100.0, words)
    });
    let slow = abort_on.latency_p99_seconds.map(|seconds| {
        let words = || {
            format!(
                "{} of {} requests took longer than the {seconds} s of spec.rollout.abortOn.latencyP99Seconds, which one of a hundred may",
                seen.slow, seen.completed
            )
        };
        compare(seen.slow, seen.completed, SLOW, words)
    });
    let all: Vec<_> = errors.into_iter().chain(slow).collect();
    let unclear = all.iter().any(|judgement| matches!(judgement, Judgement::Unclear));
    let bad = all.into_iter().find(|judgement| matches!(judgement, Judgement::Bad(_)));
    bad.unwrap_or(if unclear { Judgement::Unclear } else { Judgement::Fine })
}

/// Compares a share with the one that is allowed.
fn compare(some: u64, all: u64, allowed: f64, words: impl Fn() -> String) -> Judgement {
    if (some as f64) <= allowed * all as f64 {
        Judgement::Fine
    } else if is_surely_more(some, all, allowed) {
        Judgement::Bad(words())
    } else {
        Judgement::Unclear
    }
}

/// Whether a share is surely larger than is allowed: were it not, so many of so few would be seen less than once in a thousand times. By Chernoff's bound for
/// the binomial distribution (H. Chernoff 1952, "A measure of asymptotic efficiency for tests of a hypothesis based on the sum of observations"):
/// at most e to the power of minus `all` times the relative entropy.
fn is_surely_more(some: u64, all: u64, allowed: f64) -> bool {
    let (n, p) = (all as f64, some as f64 / all as f64);
    let part = |seen: f64, expected: f64| if seen == 0.0 { 0.0 } else { seen * (seen / expected).ln() };
    n * (part(p, allowed) + part(1.0 - p, 1.0 - allowed)) > DOUBT.recip().ln()
}

impl Verdict {
    /// Whether its rollout was aborted: it starts, but it is no good.
    pub fn is_aborted(&self) -> bool {
        self.state == pilotlight_crds::status::RevisionState::Failed
            && self.reason.as_deref() == Some(condition::ROLLOUT_ABORTED)
    }
}

#[cfg(test)]
mod tests;
