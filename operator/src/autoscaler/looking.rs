//! One look at a revision with traffic: what it stands on, what was known of it before, and what is decided.
//!
//! What always holds: what a leader before knew is taken over before anything is decided or told about a Function, so it is never written over.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pilotlight_crds::Function;
use pilotlight_crds::names::LABEL_REVISION;
use pilotlight_crds::target::TargetRef;
use pilotlight_scaling::idle::Rungs;
use pilotlight_scaling::{Millis, Rung, idle};
use tracing::debug;

use super::accounts::Standing;
use super::board;
use super::cluster::Cluster;
use super::evaluation::Evaluation;
use super::footprint;
use super::lead::Lead;
use super::ledger::{FunctionKey, Part, Scene};
use super::refusals::{Refusals, Seen};
use super::schedule::Trigger;
use super::situation::{self, RevisionRead, Step, StepKind};

/// What one look at a Function found that concerns each of its revisions with traffic.
pub(super) struct Look<'a> {
    pub(super) function: &'a Function,
    pub(super) floors: &'a BTreeMap<String, u32>,
    pub(super) pods: &'a [Arc<Pod>],
    /// Over all revisions.
    pub(super) replicas: u32,
    pub(super) trigger: Trigger,
    pub(super) now: Millis,
}

impl<C: Cluster> Evaluation<C> {
    /// Looks at one revision with traffic: what is to be done about it, and when to look again. One that has but a part of it is never put on a rung between
    /// Active and Zero.
    pub(super) fn follow(
        &mut self,
        key: &FunctionKey,
        look: &Look<'_>,
        revision: &RevisionRead,
    ) -> (Option<Step>, Option<Millis>) {
        let Look { function, pods, now, .. } = *look;
        let main = situation::active_revision(function) == Some(&revision.name);
        let rung = if main {
            if let Some(event) = self.progress.entry(key.clone()).or_default().notice_wake(key, revision) {
                self.tell(event);
            }
            self.stand(key, look, revision)
        } else {
            situation::rung(revision, pods)
        };
        let schedules = &function.spec.scaling.schedules;
        let (scheduled, floor_until) = self.calendar.floor(key, schedules, jiff::Timestamp::now(), now);
        let floor =
            situation::floor(look.floors.get(&revision.name).copied(), main && self.inbox.fail_open(), scheduled);
        let policy = situation::policy(function);
        let floored = floor.as_ref().map_or(0, |floor| floor.replicas).max(policy.min_replicas) > 0;
        let refused = if main { self.refused(key, revision, pods) } else { Refusals::default() };
        let available = situation::available(&function.spec, floored, |rung| refused.refuses(&revision.name, rung));
        let scene = Scene {
            policy,
            current: revision.replicas,
            ready: revision.ready,
            floor,
            floor_until,
            led_since: self.led_since(key),
            rung,
            available: if main { available } else { Rungs::PLAIN },
            adaptive: function.spec.scaling.is_adaptive().then(|| {
                let target = self.target(key, function);
                let asked = footprint::asked(&function.spec, target.as_deref());
                footprint::expected(&asked, refused.is_rigid(&revision.name))
            }),
        };
        let wanted = if main { situation::wanted(&function.spec, floored) } else { Rungs::PLAIN };
        self.decide(key, look, revision, &scene, wanted)
    }

    /// Takes note of what a Function stands on, and, at the first look at it, of what the leader before knew of it. Gives the rung of its pods.
    fn stand(&mut self, key: &FunctionKey, look: &Look<'_>, active: &RevisionRead) -> Rung {
        let Look { function, pods, replicas, now, .. } = *look;
        let rung = situation::rung(active, pods);
        // Other revisions' pods are no idle ones.
        let on = if replicas > active.replicas { Rung::Active } else { rung };
        let target = self.target(key, function);
        let asked = footprint::asked(&function.spec, target.as_deref());
        let standing = Standing { rung: on, replicas, footprint: footprint::standing(&asked, pods) };
        let accounts = &self.board.accounts;
        if accounts.knows(key) {
            accounts.stands(key, standing, now);
            return rung;
        }
        let date = jiff::Timestamp::now();
        let known = function.status.as_ref().and_then(|status| status.idle.as_ref());
        let cost = known.and_then(|known| known.cost.as_ref());
        let (ledger, until) = cost.map_or((idle::Ledger::default(), now), |cost| board::account(cost, now, date));
        accounts.open(key, ledger, standing, until);
        if let Some(habit) = known.and_then(|known| board::habit(key, known, rung != Rung::Active, now, date)) {
            self.ledger.adopt(key, habit, now);
        }
        rung
    }

    /// The Deployment that the Function took over, if it did.
    fn target(&self, key: &FunctionKey, function: &Function) -> Option<Arc<Deployment>> {
        let target = TargetRef::of(function)?;
        self.deployments.get(&key.namespace, &target.name)
    }

    /// What the cluster did not do with the pods of this revision, as far as it was tried or can be seen of them.
    fn refused(&self, key: &FunctionKey, active: &RevisionRead, pods: &[Arc<Pod>]) -> Refusals {
        let mut own = pods.iter().filter(|pod| pod.labels().get(LABEL_REVISION) == Some(&active.name));
        if own.any(|pod| footprint::stays_rigid(pod)) {
            self.inbox.note(key, &active.name, Seen::Rigid);
        }
        self.inbox.refusals(key)
    }

    /// Since when the activators see every request of a Function; it may lie ahead.
    fn led_since(&self, key: &FunctionKey) -> Option<Millis> {
        match self.inbox.lead(key)? {
            Lead::Elsewhere(_) => None,
            Lead::Always => Some(Millis(0)),
            Lead::From(instant) => Some(self.clock.at(instant)),
        }
    }

    /// Decides for a revision with traffic.
    fn decide(
        &mut self,
        key: &FunctionKey,
        look: &Look<'_>,
        active: &RevisionRead,
        scene: &Scene,
        wanted: Rungs,
    ) -> (Option<Step>, Option<Millis>) {
        let Look { pods, trigger, now, .. } = *look;
        let part = situation::part(look.function, &active.name).unwrap_or(Part::Main);
        let decision = self.ledger.decide(key, part, now, scene);
        let code = decision.reason.code();
        let counts = (active.replicas, active.ready);
        let date = jiff::Timestamp::now();
        self.decisions.put(key, &active.name, counts, trigger, &decision, date);
        if part == Part::Main {
            self.metrics.decided(key, code, decision.replicas, active.replicas);
            self.board.put(key, &decision, self.ledger.habit(key), scene.adaptive.is_some(), (now, date));
        }
        debug!(
            function = %key.name, namespace = %key.namespace, revision = %active.name,
            replicas = decision.replicas, current = active.replicas, reason = %decision.reason,
            "Decided"
        );
        let step = if decision.replicas == active.replicas {
            let past = self.inbox.fail_open()
                || match self.inbox.lead(key) {
                    Some(Lead::Elsewhere(_)) => true,
                    Some(Lead::From(instant)) => self.clock.at(instant) > now,
                    Some(Lead::Always) | None => false,
                };
            situation::rung_step(active, &decision, wanted, past, pods)
        } else {
            let (from, to, reason) = (active.replicas, decision.replicas, decision.reason.to_string());
            Some(Step { kind: StepKind::Scale, revision: active.name.clone(), from, to, reason })
        };
        (step, decision.next_check)
    }
}
