//! What the reconciler may ask about idle Functions: the plan, the habit and the account of each, as it is to stand in the status.
//!
//! What always holds: memory is bounded by the Functions that exist; a text of what was learnt is made when something was learnt, not at each look.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pilotlight_crds::status::{self, CostStatus, IdlePlan, IdleStatus, ReservedSeconds, RungSeconds};
use pilotlight_scaling::idle::{Learnt, Ledger, Usage};
use pilotlight_scaling::{Decision, Millis, Rung};
use tracing::warn;

use super::accounts::Accounts;
use super::habit::{Activity, Habit};
use super::ledger::FunctionKey;

/// What was told of one Function.
#[derive(Debug, Default)]
struct Told {
    since: Option<Time>,
    active_since: Option<Time>,
    plan: Option<IdlePlan>,
    learnt: Option<Arc<str>>,
    /// The habit's version that `learnt` is of.
    version: Option<u64>,
}

/// What is known of all.
#[derive(Debug)]
pub(super) struct Board {
    told: Mutex<HashMap<FunctionKey, Told>>,
    pub(super) accounts: Arc<Accounts>,
}

impl Board {
    /// A board beside these accounts.
    pub(super) fn new(accounts: Arc<Accounts>) -> Self {
        Self { told: Mutex::default(), accounts }
    }

    /// Takes note of a decision at `now`, which is `date`. `adaptive`: what was learnt matters.
    pub(super) fn put(
        &self,
        key: &FunctionKey,
        decision: &Decision,
        habit: Option<&Habit>,
        adaptive: bool,
        (now, date): (Millis, Timestamp),
    ) {
        let plan = decision.idle.as_ref().map(|idle| IdlePlan {
            rung: rung(decision.rung),
            reason: decision.reason.to_string(),
            next_move: idle.next_look.map(|at| time_of(at, now, date)),
        });
        let mut all = self.lock();
        let told = all.entry(key.clone()).or_default();
        // At zero nothing is decided: what was decided before stands.
        let at_zero =
            decision.rung == Rung::Zero && told.plan.as_ref().is_some_and(|plan| plan.rung == status::Rung::Zero);
        if plan.is_some() || !at_zero {
            told.plan = plan;
        }
        let last = habit.and_then(Habit::last).filter(|_| told.plan.is_some());
        told.since = last.map(|last| time_of(last.ended, now, date));
        told.active_since = last.filter(|last| last.began < last.ended).map(|last| time_of(last.began, now, date));
        let version = habit.filter(|_| adaptive).map(Habit::version);
        if told.version != version {
            told.version = version;
            let known = habit.map(Habit::learnt).filter(|learnt| adaptive && **learnt != Learnt::default());
            told.learnt = known.map(|learnt| learnt.to_text().into());
        }
    }

    /// What the status could say at `now`, which is `date`. `None` while nothing was decided about the Function.
    pub(super) fn read(&self, key: &FunctionKey, (now, date): (Millis, Timestamp)) -> Option<IdleStatus> {
        let cost = self.accounts.read(key, now).map(|ledger| cost(&ledger, date));
        let all = self.lock();
        let told = all.get(key)?;
        Some(IdleStatus {
            since: told.since.clone(),
            active_since: told.active_since.clone(),
            plan: told.plan.clone(),
            learnt: told.learnt.as_deref().map(str::to_owned),
            cost,
        })
    }

    /// Forgets a Function.
    pub(super) fn forget(&self, key: &FunctionKey) {
        self.lock().remove(key);
        self.accounts.forget(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FunctionKey, Told>> {
        // Each field is whole by itself, so what a panic left behind can be read.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a leader before knew of a Function's habit. `at_rest`: the pods show that nothing was asked of it since it was written.
pub(super) fn habit(
    key: &FunctionKey,
    known: &IdleStatus,
    at_rest: bool,
    now: Millis,
    date: Timestamp,
) -> Option<Habit> {
    if known.learnt.is_none() && known.since.is_none() && known.active_since.is_none() {
        return None;
    }
    let read = known.learnt.as_deref().map(Learnt::from_text);
    let learnt = match read {
        None => Learnt::default(),
        Some(Ok(learnt)) => learnt,
        Some(Err(error)) => {
            warn!(function = %key.name, namespace = %key.namespace, %error, "What was learnt of a Function cannot be read, and is learnt anew");
            Learnt::default()
        }
    };
    let moment = |time: &Time| Millis(now.0.saturating_sub(millis(date.duration_since(time.0))));
    let ended = known.since.as_ref().filter(|_| at_rest).map(moment);
    Some(match (ended, &known.active_since) {
        (Some(ended), Some(began)) => Habit::resume(learnt, Some(Activity { began: moment(began).min(ended), ended })),
        (Some(ended), None) => Habit::unasked(ended).knowing(learnt),
        (None, _) => Habit::resume(learnt, None),
    })
}

/// The account that a leader before wrote down, and when it had counted to.
pub(super) fn account(known: &CostStatus, now: Millis, date: Timestamp) -> (Ledger, Millis) {
    let count = |value: i64| u64::try_from(value).unwrap_or(0);
    let usage = |seconds: &ReservedSeconds| {
        let ReservedSeconds { replica_seconds, core_seconds, memory_mib_seconds } = *seconds;
        Usage::of_seconds(count(replica_seconds), count(core_seconds), count(memory_mib_seconds))
    };
    let RungSeconds { active, throttled, parked, zero } = known.rung_seconds;
    let seconds = [active, throttled, parked, zero].map(count);
    let until = Millis(now.0.saturating_sub(millis(date.duration_since(known.counted_until.0))));
    (Ledger::resume(seconds, usage(&known.reserved), usage(&known.always_on)), until)
}

fn cost(ledger: &Ledger, date: Timestamp) -> CostStatus {
    let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let usage = |usage: Usage| ReservedSeconds {
        replica_seconds: whole(usage.replica_seconds()),
        core_seconds: whole(usage.core_seconds()),
        memory_mib_seconds: whole(usage.memory_mib_seconds()),
    };
    let on = |rung| whole(ledger.seconds(rung));
    CostStatus {
        counted_until: Time(in_seconds(date)),
        rung_seconds: RungSeconds {
            active: on(Rung::Active),
            throttled: on(Rung::Throttled),
            parked: on(Rung::Parked),
            zero: on(Rung::Zero),
        },
        reserved: usage(ledger.used()),
        always_on: usage(ledger.always_on()),
        saved_percent: ledger.saved_percent(),
    }
}

fn rung(rung: Rung) -> status::Rung {
    match rung {
        Rung::Active => status::Rung::Active,
        Rung::Throttled => status::Rung::Throttled,
        Rung::Parked => status::Rung::Parked,
        Rung::Zero => status::Rung::Zero,
    }
}

/// A moment as Kubernetes writes times: in whole seconds.
fn time_of(moment: Millis, now: Millis, date: Timestamp) -> Time {
    let apart =
        |from: Millis, to: Millis| SignedDuration::from_millis(i64::try_from(to.since(from)).unwrap_or(i64::MAX));
    let time = date.checked_add(apart(now, moment)).and_then(|time| time.checked_sub(apart(moment, now)));
    Time(in_seconds(time.unwrap_or(date)))
}

fn in_seconds(date: Timestamp) -> Timestamp {
    Timestamp::from_second(date.as_second()).unwrap_or(date)
}

fn millis(duration: SignedDuration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(0)
}
