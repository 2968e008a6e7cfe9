//! The conditions of a Function. Pure.
//!
//! What always holds: `Ready` is false or unknown exactly when the workload or the route is, and says why in the same
//! words; `Stalled` and `Reconciling` are never there together.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use pilotlight_crds::FunctionStatus;
use pilotlight_crds::condition::{self, Desired};
use pilotlight_crds::diagnosis::BeaconState;
use pilotlight_crds::policy::{Beacon, IdleRung};
use pilotlight_crds::status::{RevisionState, RolloutStatus, RouteShare, Rung};

use pilotlight_scaling::Rung as ScalingRung;

use super::evidence::worst;
use super::traffic::{Promotion, Wish};
use super::{StatusInput, Verdict};
use crate::autoscaler::parking;
use crate::contention::Field;
use crate::hostnames::Answer;
use crate::ports::Claimant;
use crate::route::Route;

/// Reason of `Ready=False` and `Stalled=True`: the spec contradicts itself.
pub const INVALID_SPEC: &str = "InvalidSpec";
/// Reason of `Active=Unknown`: pods are on their way.
pub const STARTING: &str = "Starting";
/// Reason of `Reconciling=True` while a revision that proved itself gets pods enough to take over the traffic.
pub const PROMOTING: &str = "PromotingRevision";

/// Reason of `Reconciling=True` while traffic moves to a new revision in steps.
pub const ROLLING_OUT: &str = "RollingOut";

/// A condition before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Say {
    status: Option<bool>,
    reason: String,
    message: String,
    /// Whether it takes a change from outside to get on.
    stalled: bool,
}

impl Say {
    fn new(status: Option<bool>, reason: &str, message: impl Into<String>) -> Self {
        Self { status, reason: reason.to_owned(), message: message.into(), stalled: false }
    }

    fn stalled(mut self) -> Self {
        self.stalled = true;
        self
    }

    /// The same as before.
    fn again(before: &Condition) -> Self {
        let status = match before.status.as_str() {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        };
        Self::new(status, &before.reason, &before.message)
    }
}

/// Sets all conditions.
pub(super) fn set_all(status: &mut FunctionStatus, input: &StatusInput<'_>, now: &Time) {
    let workload = workload(input);
    let route = route(input);
    let named = tags(input).or_else(|| named(input));
    let ready = ready(&workload, &route, named.as_ref(), input);
    let active = active(status);
    let stalled = [&workload, &route].into_iter().chain(&named).find(|say| say.stalled);
    let stalled = stalled.map(|say| Say { status: Some(true), ..say.clone() });
    let reconciling = if stalled.is_some() { None } else { reconciling(&workload, &route, input) };
    let generation = input.function.metadata.generation;
    let all = [
        (condition::READY, Some(ready)),
        (condition::WORKLOAD_READY, Some(workload)),
        (condition::ROUTE_READY, Some(route)),
        (condition::ACTIVE, Some(active)),
        (condition::TRAFFIC_READY, named),
        (condition::HOSTNAMES_READY, hostnames(input)),
        (condition::GATEWAY_READY, input.gateway.map(|word| Say::new(word.status, &word.reason, &word.message))),
        (condition::RECONCILING, reconciling),
        (condition::STALLED, stalled),
        (condition::REPLICAS_CONTESTED, contested(Field::Replicas, input)),
        (condition::SELECTOR_CONTESTED, contested(Field::Selector, input)),
        (condition::BEACON_FAILING, beacon(input)),
        (condition::RUNG_UNAVAILABLE, rung_unavailable(input)),
        (condition::BOOST_UNAVAILABLE, boost_unavailable(input)),
    ];
    for (type_, say) in all {
        match say {
            None => {
                condition::clear(&mut status.conditions, type_);
            }
            Some(say) => {
                let desired = Desired { type_, status: say.status, reason: &say.reason, message: &say.message };
                condition::set(&mut status.conditions, &desired, generation, now);
            }
        }
    }
}

/// A tag whose Service cannot be had. Its host name and its header lead to its revision all the same.
fn tags(input: &StatusInput<'_>) -> Option<Say> {
    let refusal = input.applied.tags.as_ref().err()?;
    Some(Say::new(Some(false), refusal.reason, &refusal.message).stalled())
}

/// What is said of the revisions that the author names. The route's own condition is about the way there, and others count on that.
fn named(input: &StatusInput<'_>) -> Option<Say> {
    let traffic = input.traffic.revision.as_deref().unwrap_or("none");
    let had = if input.traffic.split.is_empty() { traffic.to_owned() } else { shares(&input.traffic.split) };
    let stays = |why: String| format!("spec.traffic names revision {why}: traffic stays with {had}");
    let remedy = "name another revision of status.revisions, or remove spec.traffic";
    Some(match input.traffic.wish.as_ref()? {
        Wish::Granted if input.traffic.split.is_empty() => {
            let newest = input.verdicts.first().map_or("", |latest| &latest.name);
            let message = format!("Revision {traffic} has the traffic, as spec.traffic says; the newest is {newest}");
            Say::new(Some(true), condition::REVISION_PINNED, message)
        }
        Wish::Granted => Say::new(Some(true), condition::TRAFFIC_SPLIT, format!("The traffic goes to {had}")),
        Wish::Proving(name) => Say::new(
            None,
            condition::REVISION_STARTING,
            stays(format!("{name}, which has yet to prove that it starts")),
        ),
        Wish::Failed(name, why) => {
            let why = why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
            let message = format!("{}; {remedy}", stays(format!("{name}, which did not start{why}")));
            Say::new(Some(false), condition::REVISION_FAILED, message).stalled()
        }
        Wish::Missing(name) => {
            let message = format!("{}; {remedy}", stays(format!("{name}, which does not exist")));
            Say::new(Some(false), condition::REVISION_MISSING, message).stalled()
        }
    })
}

/// `hello-3 (90 %), hello-4 (10 %)`.
fn shares(split: &[RouteShare]) -> String {
    let all: Vec<_> = split.iter().map(|share| format!("{} ({} %)", share.revision, share.percent)).collect();
    all.join(", ")
}

/// What is said of the host names that the author asks for. What only other people can change comes first.
fn hostnames(input: &StatusInput<'_>) -> Option<Say> {
    let Answer { held, taken, refused, .. } = input.hostnames;
    let refused = refused.iter().map(|(host, why)| format!("{host} {why}"));
    let taken = taken.iter().map(|(host, holder)| {
        let Claimant { namespace, name, .. } = holder;
        format!("{host} is that of the Function {name} in namespace {namespace}, and comes here when that one asks for it no more")
    });
    let (refused, taken): (Vec<_>, Vec<_>) = (refused.collect(), taken.collect());
    let reason = match (held.len(), refused.is_empty(), taken.is_empty()) {
        (0, true, true) => return None,
        (_, true, true) => return Some(Say::new(Some(true), condition::HOSTNAMES_HELD, lead_here(held))),
        (_, false, _) => condition::HOSTNAME_NOT_ALLOWED,
        (_, true, false) => condition::HOSTNAME_TAKEN,
    };
    let held = Some(lead_here(held)).filter(|_| !held.is_empty());
    let message = refused.into_iter().chain(taken).chain(held).collect::<Vec<_>>().join("; ");
    Some(Say::new(Some(false), reason, message))
}

fn lead_here(held: &[String]) -> String {
    format!("{} lead{} to the Function", held.join(", "), if held.len() == 1 { "s" } else { "" })
}

fn workload(input: &StatusInput<'_>) -> Say {
    if !input.problems.is_empty() {
        let problems: Vec<_> = input.problems.iter().map(ToString::to_string).collect();
        return Say::new(Some(false), INVALID_SPEC, problems.join("; ")).stalled();
    }
    if let Err(refusal) = &input.applied.workload {
        return Say::new(Some(false), refusal.reason, &refusal.message).stalled();
    }
    let Some(latest) = input.verdicts.first() else {
        return Say::new(None, condition::REVISION_STARTING, "No revision exists yet");
    };
    if let Some(aborted) = input.traffic.aborted.as_ref().filter(|aborted| aborted.revision == latest.name) {
        return Say::new(Some(false), condition::ROLLOUT_ABORTED, &aborted.message).stalled();
    }
    if latest.is_aborted() {
        return without_evidence(latest, input);
    }
    if latest.evidence.ready > 0 {
        return proven(latest, input);
    }
    if let Some(diagnosis) = &latest.evidence.diagnosis {
        let say = Say::new(Some(false), diagnosis.reason.as_str(), &diagnosis.message);
        return if latest.state == RevisionState::Failed { say.stalled() } else { say };
    }
    without_evidence(latest, input)
}

fn proven(latest: &Verdict, input: &StatusInput<'_>) -> Say {
    if input.function.spec.target_ref.is_some() {
        let message = format!("Deployment {} is as it must be; Pilotlight sets its replicas", latest.name);
        return Say::new(Some(true), condition::TARGET_ACCEPTED, message);
    }
    Say::new(Some(true), condition::REVISION_READY, format!("Revision {} has proved that it starts", latest.name))
}

/// No pod of the newest revision is ready and none shows a problem: what was said of it before still holds.
fn without_evidence(latest: &Verdict, input: &StatusInput<'_>) -> Say {
    let status = &input.observed.status;
    let same = status.latest_created_revision.as_deref() == Some(latest.name.as_str());
    let before = condition::get(&status.conditions, condition::WORKLOAD_READY)
        .filter(|before| same && before.status == "False" && !about_the_spec(before));
    match (before, latest.state) {
        (Some(before), RevisionState::Failed) => Say::again(before).stalled(),
        (Some(before), _) => Say::again(before),
        (None, RevisionState::Ready) => proven(latest, input),
        (None, RevisionState::Failed) => {
            let reason = latest.reason.as_deref().unwrap_or("Failed");
            let message = match latest.is_aborted() {
                true => format!("The rollout of revision {} was aborted", latest.name),
                false => format!("Revision {} did not start", latest.name),
            };
            Say::new(Some(false), reason, message).stalled()
        }
        (None, RevisionState::Pending) if input.function.spec.scaling.initial_replicas == 0 => Say::new(
            Some(true),
            condition::NOT_TRIED,
            format!("Revision {} starts at its first request, because spec.scaling.initialReplicas is 0", latest.name),
        ),
        (None, RevisionState::Pending) => Say::new(
            None,
            condition::REVISION_STARTING,
            format!("The first pod of revision {} is starting", latest.name),
        ),
    }
}

/// Whether a condition spoke of the spec or the API server's refusal, not of pods: such a word ends when its cause does.
fn about_the_spec(before: &Condition) -> bool {
    [INVALID_SPEC, condition::REVISION_REFUSED, condition::NAME_TAKEN].contains(&before.reason.as_str())
}

fn route(input: &StatusInput<'_>) -> Say {
    if let Err(refusal) = &input.applied.port {
        return Say::new(Some(false), refusal.reason, &refusal.message).stalled();
    }
    if let Err(refusal) = &input.applied.service {
        return Say::new(Some(false), refusal.reason, &refusal.message).stalled();
    }
    match &input.applied.route {
        Route::Activators(target) => Say::new(
            Some(true),
            condition::ROUTED,
            format!("The Service leads to the activators, on port {}", target.port),
        ),
        Route::Pods(_) => Say::new(
            Some(true),
            condition::FAILED_OPEN,
            "No activator takes requests; the Service leads to the pods themselves and at least one is kept",
        ),
        Route::Keep => {
            let before = condition::get(&input.observed.status.conditions, condition::ROUTE_READY);
            match before.filter(|_| leads_somewhere(input)) {
                Some(before) if before.status == "True" => Say::again(before),
                _ => Say::new(Some(false), condition::NO_ACTIVATOR, "No activator has taken the route yet"),
            }
        }
    }
}

/// What an author asked for and does not get.
fn rung_unavailable(input: &StatusInput<'_>) -> Option<Say> {
    if let Some(why) = parking::unfit(&input.function.spec) {
        let message = format!("Pods go to Zero, or stay where a floor keeps them, instead of Parked: {why}");
        return Some(Say::new(Some(true), condition::SHAPE_UNFIT, message));
    }
    let scaling = &input.function.spec.scaling;
    let mut asked_for = input.rungs_refused.iter().filter_map(|(rung, why)| match rung {
        ScalingRung::Throttled if scaling.asks_for(IdleRung::Throttled) => Some((rung, why, condition::RESIZE_REFUSED)),
        ScalingRung::Parked if scaling.asks_for(IdleRung::Parked) => Some((rung, why, condition::PARK_REFUSED)),
        _ => None,
    });
    let (rung, why, reason) = asked_for.next()?;
    Some(Say::new(Some(true), reason, format!("Pods stay Active instead of {rung}: {why}")))
}

/// A start that takes as long as it did without `coldStart.cpuBoost`, and why.
fn boost_unavailable(input: &StatusInput<'_>) -> Option<Say> {
    input.function.spec.cold_start.cpu_boost.as_ref()?;
    let why = input.boost_refused?;
    let message = format!("Pods start with the CPU of spec.resources instead of spec.coldStart.cpuBoost: {why}");
    Some(Say::new(Some(true), condition::RESIZE_REFUSED, message))
}

/// What others write is undone; that they do so costs pods, or leads clients past the activators, at the wrong moment, and an author should know.
fn contested(field: Field, input: &StatusInput<'_>) -> Option<Say> {
    let contention = input.contested.iter().find(|contention| contention.field() == field)?;
    Some(Say::new(Some(true), condition::FOREIGN_WRITER, contention.message(input.function)))
}

/// What is said of the beacon stays until a pod shows otherwise, so that it can be read at zero, too.
fn beacon(input: &StatusInput<'_>) -> Option<Say> {
    if input.function.spec.cold_start.beacon == Beacon::Disabled {
        return None;
    }
    match worst(input.verdicts.iter().filter_map(|verdict| verdict.evidence.beacon.clone())) {
        Some(BeaconState::Fails { reason, message }) => Some(Say::new(Some(true), &reason, message)),
        Some(BeaconState::Runs) => None,
        None => condition::get(&input.observed.status.conditions, condition::BEACON_FAILING).map(Say::again),
    }
}

/// Whether the Service has a slice, or the selector that a release left it with.
fn leads_somewhere(input: &StatusInput<'_>) -> bool {
    let selects = input
        .observed
        .service
        .as_ref()
        .and_then(|service| service.spec.as_ref()?.selector.as_ref())
        .is_some_and(|selector| !selector.is_empty());
    selects || input.observed.slice.is_some()
}

fn ready(workload: &Say, route: &Say, named: Option<&Say>, input: &StatusInput<'_>) -> Say {
    if workload.status == Some(false) {
        let older = input.traffic.revision.as_deref().filter(|traffic| {
            let latest = input.verdicts.first().map(|v| v.name.as_str());
            let proven = input.verdicts.iter().any(|v| v.name == *traffic && v.state == RevisionState::Ready);
            proven && latest != Some(*traffic)
        });
        let message = match older {
            Some(older) => format!("{} (revision {older} still answers)", workload.message),
            None => workload.message.clone(),
        };
        return Say { message, ..workload.clone() };
    }
    if route.status != Some(true) {
        return route.clone();
    }
    if let Some(named) = named.filter(|named| named.status == Some(false)) {
        return named.clone();
    }
    if workload.status.is_none() {
        return workload.clone();
    }
    Say::new(Some(true), condition::AVAILABLE, "The Function answers requests")
}

fn active(status: &FunctionStatus) -> Say {
    if status.rung == Some(Rung::Parked) {
        let message = "Placeholders hold the place of pods; the next request brings the function back";
        return Say::new(Some(false), condition::PARKED, message);
    }
    if status.rung == Some(Rung::Throttled) {
        return Say::new(Some(true), condition::THROTTLED, "Pods have next to no CPU; the next request gives it back");
    }
    if status.ready_replicas > 0 {
        return Say::new(Some(true), condition::RUNNING, "Pods are ready");
    }
    match status.rung {
        Some(Rung::Zero) => Say::new(Some(false), condition::SCALED_TO_ZERO, "No pods; the next request starts one"),
        _ => Say::new(None, STARTING, "Pods are starting"),
    }
}

fn reconciling(workload: &Say, route: &Say, input: &StatusInput<'_>) -> Option<Say> {
    let busy = |reason: &str, message: String| Some(Say::new(Some(true), reason, message));
    if workload.status != Some(true) {
        let latest_proved = input.verdicts.first().is_some_and(|v| v.state == RevisionState::Ready);
        // A revision that once started and now does not is no work in progress.
        return if latest_proved { None } else { busy(&workload.reason, workload.message.clone()) };
    }
    if route.status != Some(true) {
        return busy(&route.reason, route.message.clone());
    }
    if let Some(RolloutStatus { revision, from, percent, since }) = &input.traffic.rollout {
        let message = format!("Revision {revision} has {percent} % of the traffic since {}, {from} the rest", since.0);
        return busy(ROLLING_OUT, message);
    }
    input.traffic.promotion.as_ref().and_then(|Promotion { revision, replicas }| {
        let message = if input.traffic.revision.as_ref() == Some(revision) {
            format!("Revision {revision} has the traffic and is getting {replicas} pods, as many as the one before")
        } else {
            format!("Revision {revision} takes over the traffic once {replicas} of its pods are ready")
        };
        busy(PROMOTING, message)
    })
}
