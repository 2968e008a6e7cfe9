//! The adaptive ladder: the rung and the moment by what was learnt of one Function.
//!
//! What always holds: nothing is done before [`HOLD_MILLIS`]; where little is known the prior of `gaps` decides and waiting weighs
//! more, but no process is kept running for longer than [`USUAL_IDLE_SECONDS`], and none is started ahead of time after that; a pod that was started ahead
//! of time goes again when the request it was meant for does not come.

use super::IdleDecision;
use super::cost::{Footprint, Prices};
use super::forecast::intervals;
use super::learnt::Learnt;
use super::plan::{Outlook, Plan, Terms};
use super::reason::IdleReason;
use super::rung::{Rung, Rungs};
use crate::policy::USUAL_IDLE_SECONDS;
use crate::time::Millis;

/// Milliseconds of silence before anything is done: what activators need to tell of it, and for the hand-shake before a step down.
pub const HOLD_MILLIS: u64 = 2_000;
/// Milliseconds that a wake is begun earlier than it takes on average.
const MARGIN_MILLIS: u64 = 250;
/// As long as fewer gaps are known than this, a Function is little known: the plan is one for Functions at large.
const SCARCE_GAPS: u32 = 5;
/// By this factor waiting weighs more meanwhile, so that little knowledge keeps a pod rather than letting it go.
const SCARCE_FACTOR: u64 = 4;
/// Milliseconds of silence after which the process of a little known Function is kept running no longer: a plan for all may be wrong by hours for one. Where
/// nothing would be reserved less without it, it stays.
const KEPT_MILLIS: u64 = USUAL_IDLE_SECONDS as u64 * 1000;

/// All that a decision about an idle Function depends on.
#[derive(Clone, Copy, Debug)]
pub struct Idle<'a> {
    /// The moment of the decision.
    pub now: Millis,
    /// When the last request was answered.
    pub since: Millis,
    /// When the first request of the activity before arrived.
    pub began: Millis,
    /// The rung that it is on.
    pub rung: Rung,
    /// The rungs that it could be on.
    pub available: Rungs,
    /// What a replica reserves. What was learnt of its memory is the caller's to put in here.
    pub footprint: Footprint,
    /// What things are worth.
    pub prices: &'a Prices,
    /// What was learnt of the Function.
    pub learnt: &'a Learnt,
}

/// Decides on which rung an idle Function should be.
#[must_use]
pub fn adapt(idle: &Idle<'_>) -> IdleDecision {
    let idle_millis = idle.now.since(idle.since);
    let here = idle.available.substitute(idle.rung);
    if idle_millis < HOLD_MILLIS {
        let next_look = Some(Millis(idle.since.0.saturating_add(HOLD_MILLIS)));
        return decision(here, IdleReason::Settling { idle_millis, hold_millis: HOLD_MILLIS }, next_look);
    }
    let (gaps, from_begin) = idle.learnt.best();
    let elapsed = if from_begin { idle.now.since(idle.began) } else { idle_millis };
    let wakes = idle.learnt.wakes();
    let leads = [wakes.parked_millis, wakes.zero_millis].map(|wake| wake + MARGIN_MILLIS);
    let scarce = gaps.known(0) < SCARCE_GAPS;
    let shrinks = idle.footprint.parked_mib.is_some();
    let rests = (idle.available.contains(Rung::Parked) && shrinks) || idle.available.contains(Rung::Zero);
    // Counted as the intervals are.
    let let_go = (scarce && rests).then_some(elapsed.saturating_sub(idle_millis) + KEPT_MILLIS);
    let intervals = intervals(gaps, elapsed, &leads, let_go);
    let wait_second = idle.prices.wait_second.saturating_mul(if scarce { SCARCE_FACTOR } else { 1 });
    let prices = Prices { wait_second, ..*idle.prices };
    let terms = Terms { prices: &prices, footprint: idle.footprint, wakes, available: idle.available, let_go };
    let plan = Plan::new(&terms, &intervals);
    let best = plan.at(0, here);
    // Where the rung changes if no request comes; what is after the last interval counts, too.
    let change = (1..=intervals.len()).find(|index| plan.at(*index, best.rung).rung != best.rung);
    let next_look = change.map(|index| Millis(idle.now.0.saturating_add(intervals[index - 1].until - elapsed)));
    if let_go.is_some_and(|from| elapsed >= from) {
        let until_millis = next_look.map(|at| at.since(idle.since));
        let (known, needed, kept_millis) = (gaps.known(0), SCARCE_GAPS, KEPT_MILLIS);
        let reason = IdleReason::LittleKnown { rung: best.rung, idle_millis, known, needed, kept_millis, until_millis };
        return decision(best.rung, reason, next_look);
    }
    let known = gaps.known(elapsed);
    if best.rung < idle.rung {
        let stay = warm(&plan, best.rung, intervals.len());
        let missed: f64 = intervals[..stay].iter().map(|interval| 1.0 - interval.chance).product();
        let stay_millis = intervals[..stay].last().map_or(0, |last| last.until - elapsed);
        let percent = ((1.0 - missed) * 100.0) as u32;
        return decision(best.rung, IdleReason::Prewarm { idle_millis, stay_millis, percent, gaps: known }, next_look);
    }
    let active = Plan::new(&terms.only_active(), &intervals).at(0, Rung::Active);
    decision(best.rung, cheapest(idle_millis, known, &best, &active), next_look)
}

/// How many intervals the process runs on, by a plan.
fn warm(plan: &Plan, mut rung: Rung, intervals: usize) -> usize {
    let cold = (1..intervals).find(|index| {
        rung = plan.at(*index, rung).rung;
        rung > Rung::Throttled
    });
    cold.unwrap_or(intervals)
}

fn cheapest(idle_millis: u64, gaps: u32, best: &Outlook, active: &Outlook) -> IdleReason {
    IdleReason::Cheapest {
        rung: best.rung,
        idle_millis,
        gaps,
        wait_micros: (best.wait_millis * 1000.0).round() as u64,
        cost: best.cost.round() as u64,
        active_cost: active.cost.round() as u64,
    }
}

fn decision(rung: Rung, reason: IdleReason, next_look: Option<Millis>) -> IdleDecision {
    IdleDecision { rung, replicas: u32::from(rung != Rung::Zero), reason, next_look }
}
