//! The decision itself. It reads top-down as the specification of the autoscaler.
//!
//! Semantics and names are those of Knative's concurrency autoscaler (stable and panic window, target, rates, scale-down delay), with
//! these differences: what load asks for is the offered load, not the backlog (`demand`); panic ends with the surge, and replicas are
//! removed only below the peak of the whole stable window, which fades in its second half, so that there is no cliff and noise adds and
//! removes nothing; a Function goes to zero after a proven silence of its own length,
//! also out of panic, and so it goes to the replicas that a step of the idle ladder keeps; and nothing is removed while an activator's samples are missing.
//!
//! What always holds: the result lies within the bounds, except that nothing is removed while requests may come past the activators; more
//! load never gives fewer replicas; panic and missing data never remove any, except to reach a lowered maximum.

use std::sync::Arc;

use crate::coverage::Span;
use crate::demand::demand;
use crate::idle::{IdleDecision, Kept, Rung, Rungs};
use crate::load::Load;
use crate::memory::Memory;
use crate::policy::Policy;
use crate::reason::{Bound, Cause, Reason};
use crate::rest::{Adaptive, FRESH_SECONDS, is_fresh, rest, silence, stay_of};
use crate::time::{Millis, Second};

/// Seconds after which a Function under load is looked at again, if nothing pokes before.
const TICK_SECONDS: u64 = 2;
/// Milliseconds between two looks at the least, where only time has to pass.
const SOON_MILLIS: u64 = 100;

/// All that a decision depends on.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The moment of the decision.
    pub now: Millis,
    /// What the author asks for.
    pub policy: &'a Policy,
    /// The Function's load.
    pub load: &'a Load,
    /// The stretch of time that every activator has told about; see `Coverage::span`.
    pub span: Option<Span>,
    /// From when on all requests come through the activators, where they are to; before, some may be on their way to pods that no activator
    /// knows of, so that nothing is removed. It may lie ahead.
    pub settles_at: Option<Millis>,
    /// Replicas asked for at the moment: the Deployment's `spec.replicas`.
    pub current: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// Milliseconds from asking for a replica to its first answer, as measured lately. `None`: not known.
    pub start_millis: Option<u64>,
    /// A floor beside `minReplicas`.
    pub floor: Option<Floor>,
    /// When the floor changes with time alone. `None`: it does not.
    pub floor_until: Option<Millis>,
    /// The rungs of the idle ladder that the Function's pods can be on.
    pub available: Rungs,
    /// What the adaptive policy knows. `None`: the steps of `policy` decide.
    pub adaptive: Option<Adaptive<'a>>,
    /// What the last decision handed on.
    pub memory: &'a Memory,
}

/// A floor beside `minReplicas`, for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// Replicas at least.
    pub replicas: u32,
    /// Why.
    pub reason: FloorReason,
}

/// Why there is a floor beside `minReplicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FloorReason {
    /// A new revision proves that it starts.
    Initial,
    /// No activator is ready, so nobody could wake the Function.
    FailOpen,
    /// The schedule of this name asks for it at this time.
    Schedule(Arc<str>),
}

/// What should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Replicas that the Deployment should have.
    pub replicas: u32,
    /// The rung that this is.
    pub rung: Rung,
    /// Why.
    pub reason: Reason,
    /// What the idle ladder says, where nobody asks anything; its rung may be one that a floor or other bounds do not allow.
    pub idle: Option<IdleDecision>,
    /// When to decide again if nothing happens before. `None`: not until something does.
    pub next_check: Option<Millis>,
    /// To be handed to the next decision.
    pub memory: Memory,
}

/// Decides how many replicas a Function should have, and which rung they should be on.
#[must_use]
pub fn decide(input: &Input<'_>) -> Decision {
    let mut memory = input.memory.clone();
    memory.see(input.current, input.load, input.now);
    let rest = Resting::of(input, &memory);
    let mut decision = settled(input, replicas(input, memory, &rest));
    let kept = decision.replicas > 0 && decision.replicas == input.current;
    if kept && matches!(rest.idle.rung, Rung::Throttled | Rung::Parked) {
        decision.rung = rest.idle.rung;
        decision.reason.cause = Cause::Ladder(rest.idle.reason.clone());
    }
    decision.idle = rest.counts(input).then_some(rest.idle);
    decision.memory.leaving = (decision.replicas == 0).then_some(input.now);
    decision
}

/// Holds what is there until all requests come through the activators, even above the maximum.
fn settled(input: &Input<'_>, decision: Decision) -> Decision {
    let Some(at) = input.settles_at.filter(|at| *at > input.now) else { return decision };
    let next_check = Some(decision.next_check.map_or(at, |check| check.min(at)));
    if decision.replicas >= input.current {
        return Decision { next_check, ..decision };
    }
    let cause = Cause::Settling { wanted: decision.replicas, seconds: at.since(input.now).div_ceil(1000) };
    let (replicas, rung) = (input.current, Rung::Active);
    Decision { replicas, rung, reason: Reason { cause, bound: None }, next_check, ..decision }
}

/// How long nobody has asked anything, and what the idle ladder says of that.
struct Resting {
    silent_millis: u64,
    /// Seconds of silence until zero, where that is by a step.
    needed_seconds: Option<u64>,
    idle: IdleDecision,
    /// How many replicas the steps keep.
    kept: Kept,
}

impl Resting {
    fn of(input: &Input<'_>, memory: &Memory) -> Self {
        let silent_millis = silence(input, memory);
        let needed_seconds = input.policy.silence_seconds().filter(|_| input.adaptive.is_none());
        let floored = floor(input).0 > 0;
        let (idle, kept) = (rest(input, silent_millis, floored), stay_of(input, silent_millis, floored));
        Self { silent_millis, needed_seconds, idle, kept }
    }

    /// Whether what the ladder says is about silence that is known of.
    fn counts(&self, input: &Input<'_>) -> bool {
        self.silent_millis > 0 || (input.current == 0 && input.adaptive.is_some())
    }

    fn cause(&self) -> Cause {
        let silent_seconds = self.silent_millis / 1000;
        match self.needed_seconds {
            Some(needed_seconds) if silent_seconds >= needed_seconds => Cause::Idle { silent_seconds, needed_seconds },
            Some(needed_seconds) => Cause::NotIdleYet { silent_seconds, needed_seconds },
            None => Cause::Ladder(self.idle.reason.clone()),
        }
    }
}

fn replicas(input: &Input<'_>, mut memory: Memory, rest: &Resting) -> Decision {
    if input.current == 0 {
        memory.settle_at_zero();
        let queued = input.load.queued;
        if input.adaptive.is_some() && rest.idle.rung != Rung::Zero && floor(input).0 == 0 {
            return bounded(input, rest.idle.replicas, rest.cause(), None, memory, rest);
        }
        return bounded(input, 0, Cause::AtZero { queued }, None, memory, rest);
    }
    activate(input, &mut memory);

    if rest.idle.rung == Rung::Zero {
        memory.settle_at_zero();
        return bounded(input, 0, rest.cause(), None, memory, rest);
    }

    let demand = demand(input, &mut memory);
    let (wanted, rate) = within_rates(input, demand.replicas.max(1));
    let mut replicas = wanted;
    let unheard = !input.span.is_some_and(|span| is_fresh(input.now, span.until));
    let mut cause = match demand.cause {
        Some(cause) => cause,
        None if unheard => Cause::DataMissing { wanted: 0 },
        None => rest.cause(),
    };
    let mut bound = rate;
    let mut hold = |at_least: u32, why: Cause| {
        if at_least > replicas {
            (replicas, cause, bound) = (at_least, why.clone(), None);
        }
    };

    if let Some((recent, why)) = demand.lately {
        hold(recent.min(input.current), why);
    }
    let seconds = input.policy.stable_seconds();
    // Replicas that activation brought stay as if load had asked for them, so that they do not go the moment they are ready.
    let activation = activation(input, &memory);
    let kept = peak(input, &mut memory, demand.peak.max(activation), wanted);
    if kept > activation {
        hold(kept.min(input.current), Cause::Peak { wanted, seconds });
    }
    let seconds = u64::from(input.policy.scale_down_delay_seconds);
    let recent = memory.recommended.highest(input.now, wanted, seconds);
    hold(recent.min(input.current), Cause::Delay { wanted, seconds });
    if memory.panic_until.is_some() {
        hold(input.current, Cause::PanicHold { wanted });
    }
    if !is_complete(input) {
        hold(input.current, Cause::DataMissing { wanted });
    }
    let seconds = seconds.max(input.policy.stable_seconds());
    if Second::containing(input.now).minus(seconds) < memory.seen_from {
        hold(input.current, Cause::HistoryMissing { wanted, seconds });
    }
    hold(rest.kept.least.min(input.current), Cause::Ladder(rest.idle.reason.clone()));
    if replicas > rest.kept.most {
        (replicas, cause, bound) = (rest.kept.most, Cause::Ladder(rest.idle.reason.clone()), None);
    }
    bounded(input, replicas, cause, bound, memory, rest)
}

/// Notes whether the activation replicas are ready.
fn activate(input: &Input<'_>, memory: &mut Memory) {
    memory.activated |= input.ready >= input.policy.activation_replicas.min(input.policy.ceiling());
}

/// Replicas that the first request after zero brings at least; 0 where there was none, or once so many have been ready. That pods run
/// although nobody asked (a new revision proves itself, a schedule) is no activation.
fn activation(input: &Input<'_>, memory: &Memory) -> u32 {
    let Some(woken) = memory.awake_since().filter(|_| !memory.activated) else { return 0 };
    let under_way = input.load.queued + input.load.in_flight > 0;
    let asked = under_way || input.load.last_active.is_some_and(|at| at.plus_seconds(FRESH_SECONDS) >= woken);
    if asked { input.policy.activation_replicas } else { 0 }
}

/// What the peak of the stable window keeps: all of it in its first half, ever less in its second; but of what lies within a quarter above
/// what is wanted, which noise will ask for again, all to the end.
fn peak(input: &Input<'_>, memory: &mut Memory, now: u32, wanted: u32) -> u32 {
    let highest = memory.peaks.highest(input.now, now, input.policy.stable_seconds());
    let fading = memory.peaks.fading(input.now, input.policy.stable_seconds());
    fading.max(highest.min(wanted.saturating_add(wanted.div_ceil(4))))
}

/// Holds a number within what one decision may change of the ready replicas.
fn within_rates(input: &Input<'_>, wanted: u32) -> (u32, Option<Bound>) {
    let ready = input.ready.max(1);
    let up = ready.saturating_mul(input.policy.max_scale_up_rate.max(2));
    let down = ready / input.policy.max_scale_down_rate.max(2);
    if wanted > up {
        (up, Some(Bound::UpRate(up)))
    } else if wanted < down {
        (down, Some(Bound::DownRate(down)))
    } else {
        (wanted, None)
    }
}

/// Whether every activator has told about the whole stable window.
fn is_complete(input: &Input<'_>) -> bool {
    let from = Second::containing(input.now).minus(input.policy.stable_seconds());
    input.span.is_some_and(|span| span.from <= from && is_fresh(input.now, span.until))
}

/// The least that is allowed at any time, and the bound that says so. The maximum wins over every floor.
fn floor(input: &Input<'_>) -> (u32, Bound) {
    let min = input.policy.min_replicas;
    let (replicas, bound) = match &input.floor {
        Some(floor) if floor.replicas > min => (floor.replicas, Bound::Floor(floor.replicas, floor.reason.clone())),
        _ => (min, Bound::Min(min)),
    };
    (replicas.min(input.policy.ceiling()), bound)
}

/// The least that is allowed beside `replicas`: what holds only while there are any comes on top.
fn least(input: &Input<'_>, replicas: u32, memory: &Memory) -> (u32, Bound) {
    let mut least = floor(input);
    if replicas.max(least.0) == 0 {
        return least;
    }
    let (min_active, activation) = (input.policy.min_active_replicas, activation(input, memory));
    for (more, bound) in [(min_active, Bound::MinActive(min_active)), (activation, Bound::Activation(activation))] {
        let more = more.min(input.policy.ceiling());
        if more > least.0 {
            least = (more, bound);
        }
    }
    least
}

/// Moves the result into its bounds and says when to look again.
fn bounded(
    input: &Input<'_>,
    replicas: u32,
    cause: Cause,
    bound: Option<Bound>,
    memory: Memory,
    rest: &Resting,
) -> Decision {
    let (least, least_bound) = least(input, replicas, &memory);
    let most = input.policy.ceiling();
    let (replicas, bound) = if replicas < least {
        (least, Some(least_bound))
    } else if replicas > most {
        (most, Some(Bound::Max(most)))
    } else {
        (replicas, bound)
    };
    Decision {
        next_check: next_check(input, replicas, &memory, rest),
        replicas,
        rung: if replicas == 0 { Rung::Zero } else { Rung::Active },
        reason: Reason { cause, bound },
        idle: None,
        memory,
    }
}

/// When time alone could change the decision.
fn next_check(input: &Input<'_>, replicas: u32, memory: &Memory, rest: &Resting) -> Option<Millis> {
    // Never at once again: that the time is up may be known here a moment before it is where it comes from, and at an activator.
    let soon = |at: Millis| at.max(Millis(input.now.0.saturating_add(SOON_MILLIS)));
    let load = load_check(input, replicas, memory, rest);
    let ladder = rest.idle.next_look.filter(|_| rest.counts(input)).map(soon);
    [load, input.floor_until.map(soon), ladder].into_iter().flatten().min()
}

fn load_check(input: &Input<'_>, replicas: u32, memory: &Memory, rest: &Resting) -> Option<Millis> {
    let tick = input.now.plus_seconds(TICK_SECONDS);
    let load = input.load;
    if (input.current, replicas, load.queued) == (0, 0, 0) {
        return None;
    }
    let quiet = load.queued + load.in_flight == 0
        && load.stable.is_none_or(|window| window.concurrency_milli == 0 && window.arrivals == 0)
        && memory.panic_until.is_none();
    if !quiet || replicas != input.current {
        return Some(tick);
    }
    let floored = replicas == floor(input).0;
    let waits_for_time_only = if rest.silent_millis > 0 {
        floored || replicas == least(input, 1, memory).0.max(rest.kept.least.min(input.current)).max(1)
    } else {
        floored && rest.idle.next_look.is_none() && input.adaptive.is_none()
    };
    (!waits_for_time_only).then_some(tick)
}
