//! What the idle ladder says of a Function now: the bridge from load and silence to [`crate::idle`].
//!
//! What always holds: nothing goes down on less than proven silence; where a floor keeps replicas there is no Zero; while requests reach pods past the
//! activators there is no ladder at all.

use crate::decide::{FloorReason, Input};
use crate::idle::{
    Footprint, HOLD_MILLIS, Idle, IdleDecision, IdleReason, Kept, Learnt, Prices, Rung, Step, adapt, follow, kept,
};
use crate::memory::Memory;
use crate::time::{Millis, Second};

/// Seconds that the newest sample of any activator may be old before its data counts as missing.
pub(crate) const FRESH_SECONDS: u64 = 5;

/// What the adaptive policy knows of a Function.
#[derive(Clone, Copy, Debug)]
pub struct Adaptive<'a> {
    /// When the last request was answered.
    pub since: Millis,
    /// When the first request of the activity before arrived.
    pub began: Millis,
    /// The rung that the Function is on.
    pub rung: Rung,
    /// What a replica reserves.
    pub footprint: Footprint,
    /// What things are worth.
    pub prices: &'a Prices,
    /// What was learnt of the Function.
    pub learnt: &'a Learnt,
}

/// For how many ms no activator has had a request, as far as all of them have said so; since the Function was woken at most.
pub(crate) fn silence(input: &Input<'_>, memory: &Memory) -> u64 {
    if input.load.queued + input.load.in_flight > 0 {
        return 0;
    }
    let Some(span) = input.span.filter(|span| is_fresh(input.now, span.until)) else { return 0 };
    let since =
        span.from.start().max(input.load.last_active.unwrap_or_default()).max(memory.awake_since().unwrap_or_default());
    span.until.start().min(input.now).since(since)
}

/// Whether what was told until this second is of now: no more than five seconds old.
#[must_use]
pub fn is_fresh(now: Millis, until: Second) -> bool {
    now.since(until.start()) <= FRESH_SECONDS * 1000
}

/// How many replicas the steps keep after `silence` ms; while requests are under way, or may be, they say nothing.
pub(crate) fn stay_of(input: &Input<'_>, silence: u64, floored: bool) -> Kept {
    if silence == 0 || input.adaptive.is_some() || is_open(input) {
        return Kept::FREE;
    }
    kept(&steps(input, floored), silence, u64::from(input.policy.scale_down_delay_seconds) * 1000)
}

/// The steps that can be taken: where a floor keeps replicas there is none to Zero.
fn steps(input: &Input<'_>, floored: bool) -> Vec<Step> {
    input.policy.ladder().filter(|step| !(floored && step.rung == Rung::Zero)).collect()
}

/// Whether requests reach pods past the activators.
fn is_open(input: &Input<'_>) -> bool {
    input.floor.as_ref().is_some_and(|floor| floor.reason == FloorReason::FailOpen)
}

/// What the ladder says after `silence` ms, where `floored` tells whether a floor keeps replicas.
pub(crate) fn rest(input: &Input<'_>, silence: u64, floored: bool) -> IdleDecision {
    match &input.adaptive {
        _ if is_open(input) => stay(Rung::Active, silence),
        Some(adaptive) => adapted(input, adaptive, silence, floored),
        None => {
            let since = Millis(input.now.0.saturating_sub(silence));
            let available = if floored { input.available.without(Rung::Zero) } else { input.available };
            follow(&steps(input, floored), available, input.current, since, input.now)
        }
    }
}

/// Nobody would give a pod its CPU back in time, or it is too early to say more.
fn stay(rung: Rung, silence: u64) -> IdleDecision {
    let reason = IdleReason::Settling { idle_millis: silence, hold_millis: HOLD_MILLIS };
    IdleDecision { rung, replicas: u32::from(rung != Rung::Zero), reason, next_look: None }
}

fn adapted(input: &Input<'_>, adaptive: &Adaptive<'_>, silence: u64, floored: bool) -> IdleDecision {
    let delay = adaptive.since.plus_seconds(input.policy.scale_down_delay_seconds.into());
    let early = input.now < delay;
    let mut available = input.available;
    if floored || (early && input.current > 0) {
        available = available.without(Rung::Zero);
    }
    let here = if input.current == 0 { Rung::Zero } else { adaptive.rung };
    let Adaptive { since, began, footprint, prices, learnt, .. } = *adaptive;
    // Of requests under way nobody can say yet how long what follows will be.
    if input.current > 0 && silence == 0 {
        return stay(Rung::Active, 0);
    }
    let mut decision = adapt(&Idle { now: input.now, since, began, rung: here, available, footprint, prices, learnt });
    if input.current > 0 && silence < HOLD_MILLIS && decision.rung > here {
        let next_look = Some(Millis(input.now.0.saturating_add(HOLD_MILLIS - silence)));
        return IdleDecision { next_look, ..stay(here, silence) };
    }
    if early && input.current > 0 && !floored {
        decision.next_look = [decision.next_look, Some(delay)].into_iter().flatten().min();
    }
    decision
}
