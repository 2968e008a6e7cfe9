//! What a Function and its Deployments say that matters to scaling, and what is to be done about it. Pure.
//!
//! What always holds: of a Function's revisions only the route's follow load; one that proves itself is held at its floor; every
//! other goes to zero, once it has been out of use for a while, and only by a hand-shake.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pilotlight_crds::names::{LABEL_FUNCTION, LABEL_REVISION};
use pilotlight_crds::park::{self, Parking};
use pilotlight_crds::policy::{self, Scaling, ScalingMetric};
use pilotlight_crds::status::RouteStatus;
use pilotlight_crds::throttle::{is_marked, to_give_back};
use pilotlight_crds::{Function, FunctionSpec};
use pilotlight_scaling::idle::{IdleReason, Rungs, Step as IdleStep};
use pilotlight_scaling::{Cause, Decision, Floor, FloorReason, Metric, Millis, Policy, Rung};
use std::sync::Arc;

use super::ledger::Part;
use super::parking::{self, can_be_parked, can_end, owes};
use super::throttle::can_be_throttled;
use crate::observe::{all_parked, all_throttled};

/// Milliseconds that a revision must be out of use before it goes to zero: long enough for a route to change hands.
pub(super) const SUPERSEDED_MILLIS: u64 = 10_000;

/// One revision's Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RevisionRead {
    pub(super) name: String,
    /// `spec.replicas`.
    pub(super) replicas: u32,
    /// Pods that are ready.
    pub(super) ready: u32,
    pub(super) resource_version: Option<String>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum StepKind {
    /// Other replicas.
    Scale,
    /// Pods that nobody uses lose their CPU.
    Throttle,
    /// Pods get it back.
    Restore,
    /// Placeholders take the place of functions that nobody uses.
    Park,
    /// Pods get their function back.
    Unpark,
    /// Parked pods reserve next to nothing.
    Shrink,
    /// Pods reserve again what their function needs.
    Regrow,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) kind: StepKind,
    pub(super) revision: String,
    pub(super) from: u32,
    pub(super) to: u32,
    /// Why, in words and numbers.
    pub(super) reason: String,
}

impl Step {
    /// For the metric.
    pub(super) fn direction(&self) -> &'static str {
        match self.kind {
            StepKind::Throttle => "throttle",
            StepKind::Restore => "restore",
            StepKind::Park => "park",
            StepKind::Unpark => "unpark",
            StepKind::Shrink => "shrink",
            StepKind::Regrow => "regrow",
            StepKind::Scale if self.to > self.from => "up",
            StepKind::Scale => "down",
        }
    }

    /// The rung that it takes pods to.
    pub(super) fn rung(&self) -> Option<Rung> {
        match self.kind {
            StepKind::Throttle => Some(Rung::Throttled),
            StepKind::Park => Some(Rung::Parked),
            StepKind::Scale | StepKind::Restore | StepKind::Unpark | StepKind::Shrink | StepKind::Regrow => None,
        }
    }
}

/// The scaling policy of a Function.
pub(super) fn policy(function: &Function) -> Policy {
    let scaling = &function.spec.scaling;
    Policy {
        min_replicas: scaling.min_replicas,
        min_active_replicas: scaling.min_active_replicas,
        activation_replicas: scaling.activation_replicas,
        max_replicas: scaling.max_replicas,
        metric: match scaling.metric {
            ScalingMetric::Concurrency => Metric::Concurrency,
            ScalingMetric::Rps => Metric::Rps,
        },
        target_rps: scaling.target_rps,
        target_concurrency: scaling.target_concurrency,
        concurrency_limit: function.spec.concurrency.limit,
        target_utilization_percent: scaling.target_utilization_percent,
        stable_window_seconds: scaling.stable_window_seconds,
        panic_window_percent: scaling.panic_window_percent,
        panic_threshold_percent: scaling.panic_threshold_percent,
        steps: steps(scaling),
        scale_down_delay_seconds: scaling.scale_down_delay_seconds,
        ..Policy::default()
    }
}

/// The steps that the author states for idle pods.
fn steps(scaling: &Scaling) -> Vec<IdleStep> {
    let steps = scaling.idle_steps().into_iter().map(|stated| IdleStep {
        after_seconds: stated.after_seconds.into(),
        rung: match stated.rung {
            policy::IdleRung::Throttled => Rung::Throttled,
            policy::IdleRung::Parked => Rung::Parked,
            policy::IdleRung::Zero => Rung::Zero,
        },
        replicas: stated.replicas,
    });
    steps.collect()
}

/// The rungs that a Function's pods can be on. What its author states is tried, whatever its pods look like and `refused`; the adaptive policy leaves out
/// what the cluster refused, and what could do harm: a process without CPU may fail a liveness probe, and would be restarted. `floored`: a floor keeps pods.
pub(super) fn available(spec: &FunctionSpec, floored: bool, refused: impl Fn(Rung) -> bool) -> Rungs {
    if left_alone(spec, floored) {
        return Rungs::PLAIN;
    }
    if !spec.scaling.is_adaptive() {
        return if parking::unfit(spec).is_some() { Rungs::ALL.without(Rung::Parked) } else { Rungs::ALL };
    }
    let limits = spec.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let limited = limits.is_some_and(|limits| limits.contains_key("cpu"));
    let by_exec = spec.readiness_probe.as_ref().is_some_and(|probe| probe.exec.is_some());
    let throttles = limited && spec.liveness_probe.is_none() && !by_exec && !refused(Rung::Throttled);
    let parks = parking::saves(spec) && !refused(Rung::Parked);
    let left_out = [(throttles, Rung::Throttled), (parks, Rung::Parked)].into_iter().filter(|(can, _)| !can);
    left_out.fold(Rungs::ALL, |rungs, (_, rung)| rungs.without(rung))
}

/// Whether pods are only started and removed: those of a Deployment that was taken over are never changed, and whoever asks for a floor of pods and for no
/// rung means pods that run.
fn left_alone(spec: &FunctionSpec, floored: bool) -> bool {
    let unasked = spec.scaling.is_adaptive() && spec.scaling.idle.is_none();
    spec.target_ref.is_some() || (floored && unasked)
}

/// The rungs that the spec may ask for, `floored` as long as a floor keeps pods.
pub(super) fn wanted(spec: &FunctionSpec, floored: bool) -> Rungs {
    if left_alone(spec, floored) {
        return Rungs::PLAIN;
    }
    let all = [(policy::IdleRung::Throttled, Rung::Throttled), (policy::IdleRung::Parked, Rung::Parked)];
    let unasked = all.into_iter().filter(|(asked, _)| !spec.scaling.may_use(*asked));
    unasked.fold(Rungs::ALL, |rungs, (_, rung)| rungs.without(rung))
}

/// The rung that the pods of a revision are on.
pub(super) fn rung(active: &RevisionRead, pods: &[Arc<Pod>]) -> Rung {
    if active.replicas == 0 {
        return Rung::Zero;
    }
    let of_revision = |pod: &&Pod| pod.labels().get(LABEL_REVISION) == Some(&active.name);
    let pods = || pods.iter().map(AsRef::as_ref).filter(of_revision);
    match (all_parked(pods()), all_throttled(pods())) {
        (true, _) => Rung::Parked,
        (false, true) => Rung::Throttled,
        (false, false) => Rung::Active,
    }
}

/// The floor beside `minReplicas`: the highest of those there may be.
pub(super) fn floor(initial: Option<u32>, fail_open: bool, scheduled: Option<Floor>) -> Option<Floor> {
    let initial = initial.map(|replicas| Floor { replicas, reason: FloorReason::Initial });
    let open = fail_open.then_some(Floor { replicas: 1, reason: FloorReason::FailOpen });
    scheduled.into_iter().chain(initial).chain(open).max_by_key(|floor| floor.replicas)
}

/// The revision that gets the traffic, or the largest part of it.
pub(super) fn active_revision(function: &Function) -> Option<&str> {
    let route = function.status.as_ref()?.route.as_ref()?;
    route.revision.as_deref()
}

/// The other revisions that get requests, where several do.
pub(super) fn sharing_revisions(function: &Function) -> impl Iterator<Item = &str> {
    let route = function.status.as_ref().and_then(|status| status.route.as_ref());
    let all = route.map(RouteStatus::revisions).unwrap_or_default().into_iter();
    all.filter(|name| Some(*name) != active_revision(function))
}

/// Which of the revisions with traffic this is; nothing where it is none of them.
pub(super) fn part<'r>(function: &Function, revision: &'r str) -> Option<Part<'r>> {
    if active_revision(function) == Some(revision) {
        return Some(Part::Main);
    }
    sharing_revisions(function).any(|sharing| sharing == revision).then_some(Part::Share(revision))
}

/// Names of all revisions that a Function may have pods of, beside those in `floors`.
pub(super) fn revisions(function: &Function) -> impl Iterator<Item = &str> {
    let status = function.status.as_ref();
    let listed = status.map(|status| status.revisions.as_slice());
    let listed = listed.unwrap_or_default().iter();
    listed
        .map(|revision| revision.name.as_str())
        .chain(status.and_then(|status| status.latest_created_revision.as_deref()))
        .chain(active_revision(function))
        .chain(sharing_revisions(function))
}

/// Reads a Deployment, if it is one of the Function's.
pub(super) fn read(deployment: &Deployment, function: &str) -> Option<RevisionRead> {
    let ours = deployment.labels().get(LABEL_FUNCTION)? == function;
    if !ours || deployment.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let count = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok());
    let spec = deployment.spec.as_ref();
    let status = deployment.status.as_ref();
    Some(RevisionRead {
        name: deployment.name_any(),
        replicas: count(spec.and_then(|spec| spec.replicas)).unwrap_or(1),
        ready: count(status.and_then(|status| status.ready_replicas)).unwrap_or(0),
        resource_version: deployment.resource_version(),
    })
}

/// What to do about the revisions that don't get the traffic: floors first, then those out of use. `out_of_use` remembers since when
/// each of them has been so.
pub(super) fn others(
    now: Millis,
    others: &[RevisionRead],
    floors: &BTreeMap<String, u32>,
    max_replicas: u32,
    out_of_use: &mut BTreeMap<String, Millis>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    out_of_use.retain(|name, _| {
        others.iter().any(|other| other.name == *name && other.replicas > 0 && !floors.contains_key(name))
    });
    for other in others {
        let RevisionRead { name, replicas, .. } = other;
        if let Some(floor) = floors.get(name) {
            let floor = (*floor).min(max_replicas.max(1));
            if *replicas < floor {
                steps.insert(0, step(other, floor, "a new revision proves that it starts"));
            }
        } else if *replicas > 0 {
            let since = *out_of_use.entry(name.clone()).or_insert(now);
            if now.since(since) >= SUPERSEDED_MILLIS {
                steps.push(step(other, 0, "the revision gets no traffic any more"));
            }
        }
    }
    steps
}

fn step(revision: &RevisionRead, to: u32, reason: &str) -> Step {
    let kind = StepKind::Scale;
    Step { kind, revision: revision.name.clone(), from: revision.replicas, to, reason: reason.to_owned() }
}

/// What takes the active revision's pods to the rung that was decided, where their number stays. `past_activators`: requests may reach
/// pods past them, or soon may.
///
/// Whoever has a request gives its pod the CPU back, so that pods are given it here only ahead of a request, where throttling ended otherwise, and where
/// somebody died at it. That samples are missing is no such reason. `wanted`: rungs that pods may be put on by the spec.
pub(super) fn rung_step(
    active: &RevisionRead,
    decision: &Decision,
    wanted: Rungs,
    past_activators: bool,
    pods: &[Arc<Pod>],
) -> Option<Step> {
    let of_revision = || pods.iter().filter(|pod| pod.labels().get(LABEL_REVISION) == Some(&active.name));
    let ahead = matches!(decision.reason.cause, Cause::Ladder(IdleReason::Prewarm { .. }));
    let parks = wanted.contains(Rung::Parked) && !past_activators;
    if let Some(kind) = parking_step(decision, parks, ahead, of_revision) {
        return Some(Step { kind, ..step(active, active.replicas, &decision.reason.to_string()) });
    }
    let left = wanted.contains(Rung::Throttled) && !past_activators && !ahead;
    let kind = match decision.rung {
        Rung::Throttled if of_revision().any(|pod| can_be_throttled(pod)) => StepKind::Throttle,
        Rung::Active if of_revision().any(|pod| to_give_back(pod).is_some() && !(left && is_marked(pod))) => {
            StepKind::Restore
        }
        _ => return None,
    };
    Some(Step { kind, ..step(active, active.replicas, &decision.reason.to_string()) })
}

/// What takes pods to the rung Parked, or back from it.
///
/// Whoever has a request asks for one pod's function, so that functions are asked for here only `ahead` of a request, where others are in use already,
/// and where nobody would: the author wants the rung no more, or requests reach pods past the activators.
fn parking_step<'p, P: Iterator<Item = &'p Arc<Pod>>>(
    decision: &Decision,
    wanted: bool,
    ahead: bool,
    pods: impl Fn() -> P,
) -> Option<StepKind> {
    let can_wake = || pods().filter_map(|pod| Parking::of(pod)).any(|parking| can_end(&parking));
    let in_use = || pods().any(|pod| Parking::of(pod).is_none() && pod.metadata.deletion_timestamp.is_none());
    match decision.rung {
        Rung::Parked if pods().any(|pod| can_be_parked(pod)) => Some(StepKind::Park),
        // Throttled ones are parked once they have their CPU back.
        Rung::Parked if pods().any(|pod| Parking::of(pod).is_none() && to_give_back(pod).is_some()) => {
            Some(StepKind::Restore)
        }
        Rung::Parked if pods().any(|pod| park::to_shrink(pod).is_some()) => Some(StepKind::Shrink),
        Rung::Active if wanted && (ahead || in_use()) && can_wake() => Some(StepKind::Unpark),
        Rung::Active | Rung::Throttled if !wanted && can_wake() => Some(StepKind::Unpark),
        // Whoever brought the function back does it, unless it failed there.
        _ if pods().any(|pod| owes(pod)) => Some(StepKind::Regrow),
        _ => None,
    }
}

/// When the next revision will have been out of use for long enough.
pub(super) fn next_out_of_use(now: Millis, out_of_use: &BTreeMap<String, Millis>) -> Option<Millis> {
    out_of_use.values().map(|since| Millis(since.0 + SUPERSEDED_MILLIS)).map(|due| due.max(Millis(now.0 + 1_000))).min()
}
