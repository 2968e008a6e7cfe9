//! One look at the revision that gets the traffic: what it stands on, what was known of it before, and what is decided.
//!
//! What always holds: what a leader before knew is taken over before anything is decided or told about a Function, so it is never written over.

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
use super::ledger::{FunctionKey, Scene};
use super::refusals::{Refusals, Seen};
use super::schedule::Trigger;
use super::situation::{self, RevisionRead, Step, StepKind};

impl<C: Cluster> Evaluation<C> {
    /// Takes note of what a Function stands on, and, at the first look at it, of what the leader before knew of it. Gives the rung of its pods.
    pub(super) fn stand(
        &mut self,
        key: &FunctionKey,
        function: &Function,
        active: &RevisionRead,
        others: &[RevisionRead],
        pods: &[Arc<Pod>],
        now: Millis,
    ) -> Rung {
        let rung = situation::rung(active, pods);
        let replicas = others.iter().map(|other| other.replicas).sum::<u32>() + active.replicas;
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
    pub(super) fn target(&self, key: &FunctionKey, function: &Function) -> Option<Arc<Deployment>> {
        let target = TargetRef::of(function)?;
        self.deployments.get(&key.namespace, &target.name)
    }

    /// What the cluster did not do with the pods of this revision, as far as it was tried or can be seen of them.
    pub(super) fn refused(&self, key: &FunctionKey, active: &RevisionRead, pods: &[Arc<Pod>]) -> Refusals {
        let mut own = pods.iter().filter(|pod| pod.labels().get(LABEL_REVISION) == Some(&active.name));
        if own.any(|pod| footprint::stays_rigid(pod)) {
            self.inbox.note(key, &active.name, Seen::Rigid);
        }
        self.inbox.refusals(key)
    }

    /// Since when the activators see every request of a Function; it may lie ahead.
    pub(super) fn led_since(&self, key: &FunctionKey) -> Option<Millis> {
        match self.inbox.lead(key)? {
            Lead::Elsewhere(_) => None,
            Lead::Always => Some(Millis(0)),
            Lead::From(instant) => Some(self.clock.at(instant)),
        }
    }

    /// Decides for the revision that gets the traffic.
    #[expect(clippy::too_many_arguments, reason = "what one look found")]
    pub(super) fn decide(
        &mut self,
        key: &FunctionKey,
        active: &RevisionRead,
        scene: &Scene,
        wanted: Rungs,
        pods: &[Arc<Pod>],
        trigger: Trigger,
        now: Millis,
    ) -> (Option<Step>, Option<Millis>) {
        let decision = self.ledger.decide(key, now, scene);
        let code = decision.reason.code();
        self.metrics.decided(key, code, decision.replicas, active.replicas);
        let counts = (active.replicas, active.ready);
        let date = jiff::Timestamp::now();
        self.decisions.put(key, &active.name, counts, trigger, &decision, date);
        self.board.put(key, &decision, self.ledger.habit(key), scene.adaptive.is_some(), (now, date));
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
