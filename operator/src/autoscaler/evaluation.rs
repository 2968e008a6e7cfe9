//! The evaluation loop: one task owns all state, hears activators, looks at the Functions that are due, and starts steps.
//!
//! What always holds: at most one step of a Function is under way; a step works on the number of replicas that its decision saw, or
//! not at all; looking costs what changed, not what exists.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use pilotlight_crds::Function;
use pilotlight_scaling::{ActivatorId, Millis};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::cache::Shelf;

use super::board::Board;
use super::calendar::Calendar;
use super::cluster::Cluster;
use super::control::ControlClient;
use super::decisions::DecisionLog;
use super::events::ScalingEvent;
use super::inbox::{Inbox, News};
use super::ledger::{FunctionKey, Ledger, Part};
use super::looking::Look;
use super::metrics::AutoscalerMetrics;
use super::pods::PodChange;
use super::progress::{Done, Progress, Versions};
use super::refusals::Seen;
use super::registry::Registry;
use super::schedule::{Schedule, Trigger};
use super::situation::{self, RevisionRead, Step};
use super::stepdown::StepOutcome;
use super::stream::Heard;
use super::view::{Moved, Snapshot};
use super::{PodsOf, clock::Clock, steps};

/// How often Functions that nobody spoke of are compared with what was seen of them.
const RESYNC: Duration = Duration::from_secs(10);
/// Milliseconds between two looks at a Function under load.
const TICK_MILLIS: u64 = 2_000;
/// Milliseconds between two looks at a Function that is poked again and again.
const POKE_MILLIS: u64 = 50;
/// Time for the steps under way when the loop ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// What the loop needs from outside.
pub(super) struct Evaluation<C> {
    pub(super) cluster: Arc<C>,
    pub(super) control: ControlClient,
    pub(super) clock: Clock,
    pub(super) functions: Shelf<Function>,
    pub(super) deployments: Shelf<Deployment>,
    pub(super) pods: PodsOf,
    pub(super) inbox: Arc<Inbox>,
    pub(super) decisions: Arc<DecisionLog>,
    pub(super) board: Arc<Board>,
    pub(super) metrics: AutoscalerMetrics,
    pub(super) events: mpsc::Sender<ScalingEvent>,
    pub(super) view: watch::Sender<Snapshot>,
    pub(super) moved: Arc<Moved>,
    pub(super) shutdown: CancellationToken,
    pub(super) heard_sender: mpsc::Sender<Heard>,
    pub(super) ledger: Ledger,
    pub(super) registry: Registry,
    pub(super) schedule: Schedule,
    pub(super) calendar: Calendar,
    pub(super) progress: HashMap<FunctionKey, Progress>,
    pub(super) listeners: HashMap<ActivatorId, AbortHandle>,
    pub(super) steps: JoinSet<Done>,
}

impl<C: Cluster> Evaluation<C> {
    /// Runs until shutdown.
    pub(super) async fn run(mut self, mut pods: mpsc::Receiver<PodChange>, mut heard: mpsc::Receiver<Heard>) {
        let mut resync = tokio::time::interval(RESYNC);
        resync.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let shutdown = self.shutdown.clone();
        let inbox = Arc::clone(&self.inbox);
        loop {
            let due = self.schedule.next().map(|at| self.clock.instant(at));
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(change) = pods.recv() => self.pod(change),
                Some(heard) = heard.recv() => self.hear(heard),
                Some(done) = self.steps.join_next() => self.done(done),
                () = inbox.notified() => self.news(),
                () = wait => {}
                _ = resync.tick() => {
                    let begun = tokio::time::Instant::now();
                    self.resync();
                    self.metrics.ticked(begun.elapsed());
                }
            }
            self.look_at_due();
        }
        for listener in self.listeners.values() {
            listener.abort();
        }
        let steps = async { while self.steps.join_next().await.is_some() {} };
        // A step that does not end in time is left to end by the activators' fence.
        let _ = tokio::time::timeout(FAREWELL, steps).await;
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Cut { id, unreached } => {
                self.ledger.interrupted(id);
                if unreached && self.registry.unreached(id) {
                    self.show();
                }
            }
            Heard::Gone { id } => self.moved.tell(self.registry.gone(id)),
            Heard::Batch { id, at, batch } => {
                self.metrics.heard();
                let news = self.registry.heard(id, batch.full);
                self.moved.tell(self.registry.acknowledge(id, batch.full, &batch.routes));
                // After its routes: whoever sees that it told them sees them, too.
                if news {
                    self.show();
                }
                self.inbox.tallies.hear(&batch);
                let functions = &self.functions;
                let touched = self.ledger.hear(id, at, &batch, |key, heard| match &heard.revision {
                    None => functions.has(&key.namespace, &key.name).then_some(Part::Main),
                    Some(revision) => situation::part(&*functions.get(&key.namespace, &key.name)?, revision),
                });
                for key in touched.sampled {
                    self.look_again(&key, TICK_MILLIS, Trigger::Sample);
                }
                let trigger = if batch.poke { Trigger::Poke } else { Trigger::Sample };
                for key in touched.poked {
                    self.look_again(&key, POKE_MILLIS, trigger);
                }
            }
        }
    }

    /// Looks at a Function now, or once `pause` ms have passed since the last look.
    fn look_again(&mut self, key: &FunctionKey, pause: u64, trigger: Trigger) {
        let last = self.progress.get(key).and_then(|progress| progress.looked);
        let earliest = last.map_or(Millis(0), |last| Millis(last.0 + pause));
        self.schedule.at(key, earliest.max(self.clock.now()), trigger);
    }

    fn news(&mut self) {
        let now = self.clock.now();
        match self.inbox.take() {
            News::Some(changed) => {
                for key in changed {
                    self.schedule.at(&key, now, Trigger::Change);
                }
            }
            News::All => {
                for (namespace, name) in self.functions.names() {
                    self.schedule.at(&FunctionKey { namespace, name }, now, Trigger::Change);
                }
            }
        }
    }

    /// Finds Functions that changed although nobody said so, and forgets those that are gone. Costs what changed.
    fn resync(&mut self) {
        let now = self.clock.now();
        let touched = self.functions.touched().into_iter().chain(self.deployments.touched());
        for (namespace, name) in touched {
            let key = FunctionKey { namespace, name };
            if !self.functions.has(&key.namespace, &key.name) {
                self.forget(&key);
                continue;
            }
            let seen = self.progress.get(&key).and_then(|progress| progress.seen.as_ref());
            if !seen.is_some_and(|seen| self.stands_as(&key, seen)) {
                self.schedule.at(&key, now, Trigger::Change);
            }
        }
    }

    fn forget(&mut self, key: &FunctionKey) {
        self.ledger.forget(key);
        self.schedule.forget(key);
        self.calendar.forget(key);
        self.progress.remove(key);
        self.decisions.forget(key);
        self.board.forget(key);
        self.metrics.forget(key);
        self.inbox.forget(key);
    }

    fn look_at_due(&mut self) {
        let now = self.clock.now();
        while let Some((key, trigger)) = self.schedule.take(now) {
            match self.functions.get(&key.namespace, &key.name) {
                Some(function) => self.look(&key, &function, trigger, now),
                None => self.forget(&key),
            }
        }
    }

    /// The Function's revisions as the caches show them.
    fn revisions(&self, function: &Function, key: &FunctionKey) -> Vec<RevisionRead> {
        let floors = self.inbox.floors(key);
        let found = names(function, &floors).into_iter().filter_map(|name| {
            let deployment = self.deployments.get(&key.namespace, name)?;
            situation::read(&deployment, &key.name)
        });
        found.collect()
    }

    /// The versions of the Function and of its revisions' Deployments.
    fn versions(&self, function: &Function, key: &FunctionKey) -> Versions {
        let floors = self.inbox.floors(key);
        let names = names(function, &floors).into_iter();
        let deployments = names.map(|name| (name.to_owned(), self.deployments.version(&key.namespace, name)));
        Versions { function: function.resource_version(), deployments: deployments.collect() }
    }

    /// Whether all is as it was seen. Another floor is told, other revisions make another version of the Function.
    fn stands_as(&self, key: &FunctionKey, seen: &Versions) -> bool {
        let mut deployments = seen.deployments.iter();
        self.functions.version(&key.namespace, &key.name) == seen.function
            && deployments.all(|(name, version)| self.deployments.version(&key.namespace, name) == *version)
    }

    fn look(&mut self, key: &FunctionKey, function: &Function, trigger: Trigger, now: Millis) {
        // First: what changes between the two is noticed at the next comparison.
        let seen = self.versions(function, key);
        let mut revisions = self.revisions(function, key);
        let progress = self.progress.entry(key.clone()).or_default();
        progress.looked = Some(now);
        progress.seen = Some(seen);
        if function.metadata.deletion_timestamp.is_some() {
            return;
        }
        progress.correct(&mut revisions);
        let uid = function.uid().unwrap_or_default();
        if progress.uid.replace(uid.clone()).is_some_and(|before| before != uid) {
            // Another Function of the same name.
            self.ledger.forget(key);
            self.board.forget(key);
        }
        let floors = self.inbox.floors(key);
        self.ledger.retain_shares(key, |name| situation::part(function, name).is_some());
        let mut parts = Vec::new();
        let mut others = Vec::new();
        for revision in revisions {
            match situation::part(function, &revision.name) {
                Some(Part::Main) => parts.insert(0, revision),
                Some(Part::Share(_)) => parts.push(revision),
                None => others.push(revision),
            }
        }
        let max = function.spec.scaling.max_replicas;
        let mut steps = situation::others(now, &others, &floors, max, &mut progress.out_of_use);
        let mut next = situation::next_out_of_use(now, &progress.out_of_use);
        if !parts.is_empty() {
            let pods = (self.pods)(&key.namespace, &key.name);
            let all = others.iter().chain(&parts).map(|revision| revision.replicas).sum();
            let look = Look { function, floors: &floors, pods: &pods, replicas: all, trigger, now };
            let followed: Vec<_> = parts.iter().map(|revision| self.follow(key, &look, revision)).collect();
            next = followed.iter().map(|(_, check)| *check).chain([next]).flatten().min();
            let mut followed: Vec<_> = followed.into_iter().filter_map(|(step, _)| step).collect();
            followed.sort_by_key(|step| step.to <= step.from);
            // Floors of new revisions come first, revisions out of use last.
            let at = steps.iter().take_while(|step| step.to > step.from).count();
            steps.splice(at..at, followed);
        }
        if let Some(next) = next {
            self.schedule.at(key, next, Trigger::Time);
        }
        self.start(key, &steps, now);
    }

    /// Starts the first step that may be tried now.
    fn start(&mut self, key: &FunctionKey, steps: &[Step], now: Millis) {
        let Some(progress) = self.progress.get_mut(key) else {
            return;
        };
        if progress.under_way {
            return;
        }
        let Some(step) = steps.iter().find(|step| progress.may_try(step, now)) else {
            let retry = steps.iter().map(|step| progress.not_before(step)).min();
            if let Some(at) = retry {
                self.schedule.at(key, at, Trigger::Time);
            }
            return;
        };
        progress.under_way = true;
        let task = steps::Task {
            cluster: Arc::clone(&self.cluster),
            control: self.control.clone(),
            known: self.registry.peers(),
            shutdown: self.shutdown.clone(),
            key: key.clone(),
            step: step.clone(),
        };
        self.steps.spawn(task.run());
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = self.clock.now();
        let Ok(done) = done else {
            // A step panicked: which one is unknown, and no Function may wait for it for ever.
            tracing::error!("A scaling step panicked; please report this with the panic message above");
            for (key, progress) in &mut self.progress {
                progress.under_way = false;
                self.schedule.at(key, now, Trigger::Change);
            }
            return;
        };
        let direction = done.step.direction();
        self.metrics.wrote(direction, done.outcome.code(), done.took);
        if let StepOutcome::Scaled { replicas } = done.outcome {
            self.decisions.changed(&done.key, &done.step, replicas, jiff::Timestamp::now());
        }
        let Some(progress) = self.progress.get_mut(&done.key) else {
            return;
        };
        let after = progress.finish(&done, now);
        self.schedule.at(&done.key, after.look_at, Trigger::Change);
        if let Some(seen) = Seen::of(&done.step, &done.outcome)
            && self.inbox.note(&done.key, &done.step.revision, seen)
        {
            // Where the cluster can't, another rung may be the better one.
            self.schedule.at(&done.key, now, Trigger::Change);
        }
        if let Some(event) = after.event {
            self.tell(event);
        }
    }

    /// Hands an event on; where nobody takes it in time it is only in the log.
    pub(super) fn tell(&self, event: ScalingEvent) {
        if self.events.try_send(event).is_err() {
            debug!("An event about scaling was dropped");
        }
    }
}

/// Names of the revisions that a Function has, or may have.
fn names<'a>(function: &'a Function, floors: &'a BTreeMap<String, u32>) -> BTreeSet<&'a str> {
    situation::revisions(function).chain(floors.keys().map(String::as_str)).collect()
}
