//! The status of a Function, from what is and what was applied. Pure.
//!
//! What always holds: the same input gives the same status, so a status that is written again changes nothing; a verdict
//! about a revision changes only on evidence (a pod that is ready, or one that cannot start), never because its pods are gone.

pub mod conditions;
pub mod evidence;
mod idle;
pub mod rollout;
pub mod traffic;

pub use traffic::{Traffic, TrafficInput};

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pilotlight_crds::condition;
use pilotlight_crds::diagnosis::{Diagnosis, WillItHealAlone};
use pilotlight_crds::status::{IdleStatus, RevisionState, RevisionStatus, RouteOwner, RouteStatus, RouteTag, Rung};
use pilotlight_crds::{Function, FunctionStatus, names};

use crate::apply::Applied;
use crate::build::deployment::Revision;
use crate::contention::Contention;
use crate::gateway::Word;
use crate::hostnames::Answer;
use crate::observe::{Observed, all_parked, all_throttled};
use crate::validate::Problem;
use evidence::Evidence;
use rollout::Abort;

/// How long pods may show a problem that could pass, until the revision counts as failed.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(120);

/// Revisions that the status names.
const LISTED_REVISIONS: usize = 20;

/// What the status is made of.
pub struct StatusInput<'a> {
    /// The Function.
    pub function: &'a Function,
    /// What is.
    pub observed: &'a Observed,
    /// What is wrong with the spec.
    pub problems: &'a [Problem],
    /// What was applied.
    pub applied: &'a Applied,
    /// What the revisions have proved; from [`judge`].
    pub verdicts: &'a [Verdict],
    /// Which revision gets the traffic; from [`Traffic::decide`].
    pub traffic: &'a Traffic,
    /// Who may send to the pods.
    pub owner: Option<&'a RouteOwner>,
    /// What others write that is Pilotlight's.
    pub contested: &'a [Contention],
    /// What the autoscaler knows of it while nobody asks anything.
    pub idle: Option<&'a IdleStatus>,
    /// Which rungs pods could not be put on, and why.
    pub rungs_refused: &'a BTreeMap<pilotlight_scaling::Rung, String>,
    /// Why starting pods could not be given more CPU.
    pub boost_refused: Option<&'a str>,
    /// External domain of Functions.
    pub domain: Option<&'a str>,
    /// What became of `spec.hostnames`.
    pub hostnames: &'a Answer,
    /// What is said of the way in from outside, where there is to be one.
    pub gateway: Option<&'a Word>,
    /// Now.
    pub now: Timestamp,
}

impl StatusInput<'_> {
    /// The domain of its names outside the cluster, where it has some.
    fn domain(&self) -> Option<&str> {
        self.domain.filter(|_| self.function.spec.visibility.is_external())
    }
}

/// What is known of one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Its name.
    pub name: String,
    /// What it has proved.
    pub state: RevisionState,
    /// What its pods show.
    pub evidence: Evidence,
    /// Why it failed.
    pub reason: Option<String>,
    /// How its line in the status looks.
    number: u64,
    image: String,
}

impl Verdict {
    /// Of a Deployment that was taken over: it started before Pilotlight knew it, and has nothing to prove.
    pub fn of_target(name: &str, observed: &Observed, now: Timestamp) -> Self {
        let mut evidence = evidence::of(name, observed, now);
        evidence.diagnosis = evidence.diagnosis.map(Diagnosis::of_target);
        Self {
            name: name.to_owned(),
            state: RevisionState::Ready,
            evidence,
            reason: None,
            number: 0,
            image: String::new(),
        }
    }
}

/// Judges each of `wanted`, newest first, by what was known and what its pods show.
pub fn judge(function: &str, wanted: &[Revision], observed: &Observed, now: Timestamp) -> Vec<Verdict> {
    wanted
        .iter()
        .enumerate()
        .map(|(n, revision)| {
            let name = revision.name(function);
            let evidence = evidence::of(&name, observed, now);
            let before = observed.status.revisions.iter().find(|r| r.name == name);
            let failing_since = failing_since(&observed.status, &name).filter(|_| n == 0);
            let (state, reason) = state(before, &evidence, failing_since, now);
            Verdict { name, state, evidence, reason, number: revision.number, image: image(revision) }
        })
        .collect()
}

/// Notes that a revision's rollout was aborted: it starts, but is no good, and gets no traffic again unless the author names it.
pub fn condemn(verdicts: &mut [Verdict], aborted: Option<&Abort>) {
    let found = aborted.and_then(|aborted| verdicts.iter_mut().find(|verdict| verdict.name == aborted.revision));
    if let Some(verdict) = found {
        verdict.state = RevisionState::Failed;
        verdict.reason = Some(condition::ROLLOUT_ABORTED.to_owned());
    }
}

fn state(
    before: Option<&RevisionStatus>,
    evidence: &Evidence,
    failing_since: Option<Timestamp>,
    now: Timestamp,
) -> (RevisionState, Option<String>) {
    let was = before.map_or(RevisionState::Pending, |r| r.state);
    if let Some(reason) = before.filter(|_| was == RevisionState::Failed).and_then(|r| r.reason.clone())
        && reason == condition::ROLLOUT_ABORTED
    {
        return (was, Some(reason));
    }
    if evidence.ready > 0 || was == RevisionState::Ready {
        return (RevisionState::Ready, None);
    }
    let Some(diagnosis) = &evidence.diagnosis else {
        return (was, before.and_then(|r| r.reason.clone()));
    };
    let reason = Some(diagnosis.reason.as_str().to_owned());
    let patience_over = failing_since.is_some_and(|since| now.duration_since(since) >= PATIENCE);
    let failed = was == RevisionState::Failed || diagnosis.healing == WillItHealAlone::No || patience_over;
    if failed { (RevisionState::Failed, reason) } else { (RevisionState::Pending, reason) }
}

/// Since when the conditions say that the pods of `revision` cannot start.
pub fn failing_since(status: &FunctionStatus, revision: &str) -> Option<Timestamp> {
    condition::get(&status.conditions, condition::WORKLOAD_READY)
        .filter(|c| c.status == "False")
        .filter(|_| status.latest_created_revision.as_deref() == Some(revision))
        .map(|c| c.last_transition_time.0)
}

fn image(revision: &Revision) -> String {
    revision
        .template
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .find(|container| container.name == names::CONTAINER)
        .and_then(|container| container.image.clone())
        .unwrap_or_default()
}

/// The status.
pub fn build(input: &StatusInput<'_>) -> FunctionStatus {
    let metadata = &input.function.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let replicas = input.verdicts.iter().map(|v| v.evidence.replicas).sum();
    let latest = input.verdicts.first();
    let mut status = FunctionStatus {
        observed_generation: metadata.generation,
        url: Some(url(name, namespace, input.domain())),
        hostnames: input.hostnames.held.clone(),
        rung: Some(rung(input)),
        idle: input.observed.status.idle.clone(),
        replicas,
        ready_replicas: input.verdicts.iter().map(|v| v.evidence.ready).sum(),
        selector: Some(format!("{}={name}", names::LABEL_FUNCTION)),
        route: input.applied.port.as_ref().ok().map(|port| RouteStatus {
            port: *port,
            revision: input.traffic.revision.clone(),
            split: input.traffic.split.clone(),
            tags: input
                .traffic
                .tags
                .iter()
                .map(|(tag, revision)| tagged(tag, revision, name, namespace, input))
                .collect(),
            matches: input.traffic.matches.clone(),
            target_port: None,
            owner: input.owner.cloned(),
        }),
        rollout: input.traffic.rollout.clone(),
        latest_created_revision: latest.map(|v| v.name.clone()),
        latest_ready_revision: input.verdicts.iter().find(|v| v.state == RevisionState::Ready).map(|v| v.name.clone()),
        revisions: input.verdicts.iter().take(LISTED_REVISIONS).map(line).collect(),
        conditions: input.observed.status.conditions.clone(),
    };
    // Kubernetes writes times in whole seconds; anything finer would differ from what it gives back.
    let seconds = Timestamp::from_second(input.now.as_second()).unwrap_or(input.now);
    conditions::set_all(&mut status, input, &Time(seconds));
    status.idle = idle::carry(&input.observed.status, &status, input.idle, input.now);
    status
}

fn tagged(tag: &str, revision: &str, name: &str, namespace: &str, input: &StatusInput<'_>) -> RouteTag {
    let url = url(&names::tag_name(tag, name), namespace, input.domain());
    RouteTag { tag: tag.to_owned(), revision: revision.to_owned(), url }
}

fn line(verdict: &Verdict) -> RevisionStatus {
    RevisionStatus {
        name: verdict.name.clone(),
        number: i64::try_from(verdict.number).unwrap_or(i64::MAX),
        image: verdict.image.clone(),
        state: verdict.state,
        reason: verdict.reason.clone(),
        replicas: verdict.evidence.replicas,
    }
}

/// Where the Function answers: outside where there is a domain, else inside the cluster.
pub fn url(name: &str, namespace: &str, domain: Option<&str>) -> String {
    match domain {
        Some(domain) => format!("http://{name}.{namespace}.{domain}"),
        None => format!("http://{name}.{namespace}.svc"),
    }
}

/// A revision that has yet to prove itself gets its first pod in a moment: that is no zero.
fn rung(input: &StatusInput<'_>) -> Rung {
    let proving = input.function.spec.scaling.initial_replicas > 0
        && input.applied.workload.is_ok()
        && input.verdicts.first().is_some_and(|latest| latest.state == RevisionState::Pending);
    let asked = input.observed.deployments.iter().any(|d| d.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0) > 0);
    let there = input.verdicts.iter().any(|v| v.evidence.replicas > 0);
    let pods = || input.observed.pods.iter().map(AsRef::as_ref);
    match proving || asked || there {
        false => Rung::Zero,
        true if all_parked(pods()) => Rung::Parked,
        true if all_throttled(pods()) => Rung::Throttled,
        true => Rung::Active,
    }
}

#[cfg(test)]
mod tests;
