//! The last decision for each Function, for people who ask why. Bounded by the number of Functions.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use pilotlight_scaling::{Decision, Rung};
use serde::Serialize;

use super::ledger::FunctionKey;
use super::situation::Step;

/// A decision as people see it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LastDecision {
    namespace: String,
    name: String,
    revision: String,
    /// Replicas that should be.
    replicas: u32,
    /// Replicas that the Deployment asked for when it was decided.
    current_replicas: u32,
    ready_replicas: u32,
    rung: &'static str,
    reason: &'static str,
    message: String,
    decided_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_change: Option<LastChange>,
}

/// The last time that replicas changed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LastChange {
    revision: String,
    from: u32,
    to: u32,
    message: String,
    changed_at: Timestamp,
}

/// The last decision for each Function.
#[derive(Debug, Default)]
pub(super) struct DecisionLog {
    last: Mutex<HashMap<FunctionKey, LastDecision>>,
}

impl DecisionLog {
    /// Keeps a decision in place of the Function's last.
    pub(super) fn put(&self, key: &FunctionKey, revision: &str, (current, ready): (u32, u32), decision: &Decision) {
        let mut log = self.lock();
        let last = LastDecision {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            revision: revision.to_owned(),
            replicas: decision.replicas,
            current_replicas: current,
            ready_replicas: ready,
            rung: match decision.rung {
                Rung::Active => "Active",
                Rung::Zero => "Zero",
            },
            reason: decision.reason.code(),
            message: decision.reason.to_string(),
            decided_at: Timestamp::now(),
            last_change: log.get(key).and_then(|last| last.last_change.clone()),
        };
        log.insert(key.clone(), last);
    }

    /// Keeps that a step changed the replicas of one of the Function's revisions.
    pub(super) fn changed(&self, key: &FunctionKey, step: &Step, replicas: u32) {
        if let Some(last) = self.lock().get_mut(key) {
            last.last_change = Some(LastChange {
                revision: step.revision.clone(),
                from: step.from,
                to: replicas,
                message: step.reason.clone(),
                changed_at: Timestamp::now(),
            });
        }
    }

    /// The Function's last decision as JSON.
    pub(super) fn json(&self, key: &FunctionKey) -> Option<serde_json::Value> {
        let last = self.lock().get(key).cloned()?;
        serde_json::to_value(last).ok()
    }

    /// Forgets a Function.
    pub(super) fn forget(&self, key: &FunctionKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<FunctionKey, LastDecision>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
