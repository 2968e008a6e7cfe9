//! The last decisions for each Function, for people who ask why.
//!
//! What always holds: memory is bounded, by the number of Functions and in all; a decision that only says again what the one before said is
//! counted, not kept twice, so what is kept reaches back to the last changes and not just over the last seconds.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use pilotlight_scaling::{Decision, Reason, Rung};
use serde_json::{Value, json};

use super::ledger::FunctionKey;
use super::schedule::Trigger;
use super::situation::Step;

/// Decisions kept for one Function at most.
const EACH: usize = 20;
/// Decisions kept in all, but one for each Function at least. With the reasons as data, not words, some 20 MiB.
const ALL: usize = 100_000;

/// A decision, and how often in a row it said the same.
#[derive(Clone, Debug)]
struct Kept {
    revision: String,
    replicas: u32,
    current: u32,
    ready: u32,
    rung: Rung,
    reason: Reason,
    /// What made the autoscaler look when it first decided so.
    trigger: Trigger,
    since: Timestamp,
    last: Timestamp,
    times: u64,
}

impl Kept {
    fn says_the_same(&self, other: &Self) -> bool {
        (&self.revision, self.replicas, self.current, self.rung, self.reason.code())
            == (&other.revision, other.replicas, other.current, other.rung, other.reason.code())
    }

    fn json(&self) -> Value {
        json!({
            "revision": self.revision,
            "replicas": self.replicas,
            "currentReplicas": self.current,
            "readyReplicas": self.ready,
            "rung": self.rung.name(),
            "reason": self.reason.code(),
            "message": self.reason.to_string(),
            "trigger": self.trigger.code(),
            "decidedAt": self.last,
        })
    }
}

/// The last time that replicas changed.
#[derive(Clone, Debug)]
struct LastChange {
    revision: String,
    from: u32,
    to: u32,
    message: String,
    changed_at: Timestamp,
}

#[derive(Clone, Debug, Default)]
struct Log {
    /// Newest last; never empty once something was decided.
    decisions: VecDeque<Kept>,
    last_change: Option<LastChange>,
}

/// The last decisions for each Function.
#[derive(Debug, Default)]
pub(super) struct DecisionLog {
    logs: Mutex<HashMap<FunctionKey, Log>>,
}

impl DecisionLog {
    /// Keeps a decision that was made at `now`.
    pub(super) fn put(
        &self,
        key: &FunctionKey,
        revision: &str,
        (current, ready): (u32, u32),
        trigger: Trigger,
        decision: &Decision,
        now: Timestamp,
    ) {
        let mut logs = self.lock();
        let room = (ALL / (logs.len() + 1)).clamp(1, EACH);
        let log = logs.entry(key.clone()).or_default();
        let mut new = Kept {
            revision: revision.to_owned(),
            replicas: decision.replicas,
            current,
            ready,
            rung: decision.rung,
            reason: decision.reason.clone(),
            trigger,
            since: now,
            last: now,
            times: 1,
        };
        if let Some(before) = log.decisions.pop_back_if(|before| before.says_the_same(&new)) {
            (new.since, new.trigger) = (before.since, before.trigger);
            new.times = before.times.saturating_add(1);
        }
        log.decisions.push_back(new);
        while log.decisions.len() > room {
            log.decisions.pop_front();
        }
    }

    /// Keeps that a step changed the replicas of one of the Function's revisions at `now`.
    pub(super) fn changed(&self, key: &FunctionKey, step: &Step, replicas: u32, now: Timestamp) {
        if let Some(log) = self.lock().get_mut(key) {
            log.last_change = Some(LastChange {
                revision: step.revision.clone(),
                from: step.from,
                to: replicas,
                message: step.reason.clone(),
                changed_at: now,
            });
        }
    }

    /// The Function's last decision as JSON, and in `history` those before it, newest first.
    pub(super) fn json(&self, key: &FunctionKey) -> Option<Value> {
        let log = self.lock().get(key).cloned()?;
        let mut all = log.decisions.back()?.json();
        all["namespace"] = key.namespace.clone().into();
        all["name"] = key.name.clone().into();
        if let Some(LastChange { revision, from, to, message, changed_at }) = log.last_change {
            let change =
                json!({"revision": revision, "from": from, "to": to, "message": message, "changedAt": changed_at});
            all["lastChange"] = change;
        }
        let history = log.decisions.iter().rev().map(|kept| {
            let mut decision = kept.json();
            decision["firstDecidedAt"] = json!(kept.since);
            decision["times"] = kept.times.into();
            decision
        });
        all["history"] = history.collect();
        Some(all)
    }

    /// Forgets a Function.
    pub(super) fn forget(&self, key: &FunctionKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<FunctionKey, Log>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoscaler::situation::StepKind;
    use pilotlight_scaling::{Bound, Cause, Memory};

    fn decision(replicas: u32, cause: Cause, bound: Option<Bound>) -> Decision {
        let rung = if replicas == 0 { Rung::Zero } else { Rung::Active };
        Decision {
            replicas,
            rung,
            reason: Reason { cause, bound },
            idle: None,
            next_check: None,
            memory: Memory::default(),
        }
    }

    fn waiting(silent_seconds: u64) -> Decision {
        decision(1, Cause::NotIdleYet { silent_seconds, needed_seconds: 60 }, None)
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_said_again_is_counted_and_what_is_new_comes_first() {
        let (log, key) = (DecisionLog::default(), FunctionKey::new("shop", "hello"));
        assert_eq!(log.json(&key), None);
        log.put(&key, "hello-1", (0, 0), Trigger::Poke, &decision(0, Cause::AtZero { queued: 1 }, None), second(1));
        for n in 2..=10 {
            log.put(&key, "hello-1", (1, 1), Trigger::Time, &waiting(n), second(i64::try_from(n).unwrap()));
        }
        let step = Step {
            kind: StepKind::Scale,
            revision: "hello-1".to_owned(),
            from: 1,
            to: 0,
            reason: "no request".to_owned(),
        };
        log.changed(&key, &step, 0, second(11));
        let all = log.json(&key).unwrap();
        assert_eq!((all["namespace"].as_str(), all["name"].as_str()), (Some("shop"), Some("hello")));
        assert_eq!(all["message"], "no request for 10 s of the 60 s until zero");
        assert_eq!(all["lastChange"]["to"], 0);
        let history = all["history"].as_array().unwrap();
        let told: Vec<_> = history.iter().map(|d| (d["reason"].as_str().unwrap(), d["times"].as_u64())).collect();
        assert_eq!(told, [("NotIdleYet", Some(9)), ("AtZero", Some(1))]);
        assert_eq!([&history[0]["trigger"], &history[1]["trigger"]], ["Time", "Poke"]);
        assert_eq!(history[0]["firstDecidedAt"], "1970-01-01T00:00:02Z");
        assert_eq!(history[0]["decidedAt"], "1970-01-01T00:00:10Z");
        log.forget(&key);
        assert_eq!(log.json(&key), None);
    }

    #[test]
    fn the_oldest_go_and_more_functions_leave_less_room_for_each() {
        let log = DecisionLog::default();
        let key = |n: usize| FunctionKey::new("shop", &format!("f{n}"));
        for n in 0..u32::try_from(EACH).unwrap() + 7 {
            log.put(&key(0), "r", (n, n), Trigger::Time, &waiting(0), second(i64::from(n)));
        }
        let kept = |log: &DecisionLog| log.lock().values().map(|log| log.decisions.len()).sum::<usize>();
        assert_eq!(kept(&log), EACH);
        let oldest =
            log.json(&key(0)).unwrap()["history"].as_array().unwrap().last().unwrap()["currentReplicas"].clone();
        assert_eq!(oldest, 7);
        for n in 0..ALL {
            log.put(&key(n), "r", (1, 1), Trigger::Time, &waiting(0), second(100));
        }
        assert!(kept(&log) <= ALL + EACH, "{}", kept(&log));
        assert!(log.json(&key(ALL - 1)).is_some());
    }
}
