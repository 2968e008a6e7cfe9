//! What the rest of the operator told the autoscaler and it has not looked at yet, and what it has to tell in return. Calls never wait, and however often one is
//! repeated, memory is bounded by the number of Functions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pilotlight_scaling::Rung;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::lead::{Lead, Leads};
use super::ledger::FunctionKey;
use super::refusals::{Refusals, Seen};
use super::tally::Tallies;

#[derive(Debug, Default)]
struct Told {
    changed: BTreeSet<FunctionKey>,
    floors: HashMap<FunctionKey, BTreeMap<String, u32>>,
    leads: HashMap<FunctionKey, Lead>,
    refusals: HashMap<FunctionKey, Refusals>,
    fail_open: bool,
    all_changed: bool,
}

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    told: Mutex<Told>,
    news: Notify,
    /// What activators saw of revisions that are being rolled out.
    pub(super) tallies: Tallies,
}

/// What changed since the last look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Everything may have.
    All,
    /// These Functions did.
    Some(BTreeSet<FunctionKey>),
}

impl Inbox {
    pub(super) fn changed(&self, key: FunctionKey) {
        self.lock().changed.insert(key);
        self.news.notify_one();
    }

    pub(super) fn set_floor(&self, key: FunctionKey, revision: &str, replicas: u32) {
        let mut told = self.lock();
        let floors = told.floors.entry(key.clone()).or_default();
        if floors.insert(revision.to_owned(), replicas) == Some(replicas) {
            return;
        }
        told.changed.insert(key);
        drop(told);
        self.news.notify_one();
    }

    pub(super) fn clear_floor(&self, key: FunctionKey, revision: &str) {
        let mut told = self.lock();
        let Some(floors) = told.floors.get_mut(&key) else {
            return;
        };
        if floors.remove(revision).is_none() {
            return;
        }
        if floors.is_empty() {
            told.floors.remove(&key);
        }
        told.changed.insert(key);
        drop(told);
        self.news.notify_one();
    }

    pub(super) fn set_lead(&self, key: FunctionKey, leads: Leads, reachable: Duration) {
        let mut told = self.lock();
        let lead = Lead::next(told.leads.get(&key).copied(), leads, reachable, Instant::now());
        if told.leads.insert(key.clone(), lead) == Some(lead) {
            return;
        }
        told.changed.insert(key);
        drop(told);
        self.news.notify_one();
    }

    /// Where a Function's Service leads; nothing while nobody has told.
    pub(super) fn lead(&self, key: &FunctionKey) -> Option<Lead> {
        self.lock().leads.get(key).copied()
    }

    pub(super) fn set_fail_open(&self, fail_open: bool) {
        let mut told = self.lock();
        if told.fail_open == fail_open {
            return;
        }
        told.fail_open = fail_open;
        told.all_changed = true;
        drop(told);
        self.news.notify_one();
    }

    /// Waits until something is told.
    pub(super) async fn notified(&self) {
        self.news.notified().await;
    }

    /// Takes what changed.
    pub(super) fn take(&self) -> News {
        let mut told = self.lock();
        let changed = std::mem::take(&mut told.changed);
        if std::mem::take(&mut told.all_changed) { News::All } else { News::Some(changed) }
    }

    /// The floors of a Function's revisions.
    pub(super) fn floors(&self, key: &FunctionKey) -> BTreeMap<String, u32> {
        self.lock().floors.get(key).cloned().unwrap_or_default()
    }

    /// Whether every Function must keep a replica.
    pub(super) fn fail_open(&self) -> bool {
        self.lock().fail_open
    }

    /// Which rungs a Function's pods could not be put on, and why.
    pub(super) fn rungs_refused(&self, key: &FunctionKey) -> BTreeMap<Rung, String> {
        self.lock().refusals.get(key).map(|refusals| refusals.rungs().clone()).unwrap_or_default()
    }

    /// What the cluster did not do with a Function's pods.
    pub(super) fn refusals(&self, key: &FunctionKey) -> Refusals {
        self.lock().refusals.get(key).cloned().unwrap_or_default()
    }

    /// Notes what was seen of a revision's pods. Whether that is news.
    pub(super) fn note(&self, key: &FunctionKey, revision: &str, seen: Seen) -> bool {
        let mut told = self.lock();
        let mut refusals = told.refusals.remove(key).unwrap_or_default();
        let news = refusals.note(revision, seen);
        if !refusals.is_empty() {
            told.refusals.insert(key.clone(), refusals);
        }
        news
    }

    /// Forgets a Function that is gone.
    pub(super) fn forget(&self, key: &FunctionKey) {
        let mut told = self.lock();
        told.floors.remove(key);
        told.leads.remove(key);
        told.refusals.remove(key);
        drop(told);
        self.tallies.forget(key);
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        // Every change is one assignment, so what a panic left behind is whole.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
