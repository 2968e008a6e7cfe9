//! The status of a Function that takes over a Deployment.
//!
//! What always holds: selector, port and Deployment stand in it from when the target was accepted until all of it was given back, so that the activators
//! serve for as long as anybody is led to them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use pilotlight_crds::target::Adopted;
use pilotlight_crds::{Function, FunctionStatus, condition, names};
use std::sync::Arc;

use super::next::Rest;
use super::reconcile::Outcome;
use super::seen::{Seen, target_of};
use crate::apply::gateway::{self, Fronted};
use crate::apply::{Applied, Refusal};
use crate::contention::Contention;
use crate::context::Context;
use crate::gateway::Word;
use crate::observe::{Observed, pod_events};
use crate::ports::PortsExhausted;
use crate::reconcile::{claim_hostnames, decide_owner};
use crate::route::Route;
use crate::status::{self, StatusInput, Traffic, Verdict};
use crate::validate::Problem;
use crate::write::{WriteError, Written, write};

/// What of a target the activators must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Label selector of the pods.
    selector: String,
    /// Port of the pods, as the Service says it.
    target_port: IntOrString,
    /// The same by its number; 0 where nobody knows it.
    pub(super) pod_port: u16,
}

/// Where the Service's port cannot be told from what is there, requests to the pods' own addresses are not possible either.
const NO_PORT: u16 = 0;

impl Accepted {
    /// As the target shows it, or as the status has it where the target does not fit any more but is not given back yet.
    pub(super) fn of(seen: &Seen, problems: &[Problem]) -> Option<Self> {
        let goes = seen.function.metadata.deletion_timestamp.is_some();
        match seen.fit() {
            Ok(fit) if seen.begun() || (problems.is_empty() && !goes) => {
                Some(Self { selector: fit.selector, target_port: fit.target_port, pod_port: fit.pod_port })
            }
            // What was taken away from it, it may be given back: the activators serve until it is.
            _ => Self::read(&seen.function),
        }
    }

    fn read(function: &Function) -> Option<Self> {
        let Adopted { selector, port, .. } = Adopted::of(function)?;
        let pod_port = match &port {
            IntOrString::Int(number) => u16::try_from(*number).unwrap_or(NO_PORT),
            IntOrString::String(_) => NO_PORT,
        };
        Some(Self { selector, target_port: port, pod_port })
    }

    /// Whether the activators were told the same.
    pub(super) fn is_told(&self, status: &FunctionStatus) -> bool {
        let route = status.route.as_ref();
        status.selector.as_ref() == Some(&self.selector)
            && route.is_some_and(|route| route.target_port.as_ref() == Some(&self.target_port))
    }
}

/// Gathers what is, as for any Function; only what is accepted counts as the Function's.
pub(super) async fn observe(context: &Context, seen: &Seen, accepted: Option<&Accepted>) -> Observed {
    let function = &seen.function;
    let (namespace, name) = (function.namespace().unwrap_or_default(), function.name_any());
    let uid = function.uid().unwrap_or_default();
    let status = context.last_status(function);
    if accepted.is_none() {
        return Observed { status, ..Observed::default() };
    }
    // The cache has seen who wrote its replicas.
    let deployment = context.caches.deployments.get(&namespace, target_of(function));
    let deployment = deployment.or_else(|| seen.deployment.clone().map(Arc::new));
    let pods = context.caches.pods_of(&namespace, &name);
    Observed {
        status,
        deployments: deployment.into_iter().collect(),
        tag_services: Vec::new(),
        service: seen.service.clone().map(Arc::new),
        slice: seen.slice.clone().map(Arc::new),
        other_slices: seen.others.iter().cloned().map(Arc::new).collect(),
        pod_events: pod_events(context, &uid, &namespace, &pods).await,
        pods,
    }
}

/// What others have written since Deployment and Service were taken over. The cache has seen it.
pub(super) fn contentions(
    context: &Context,
    function: &Function,
    observed: &Observed,
    now: Timestamp,
) -> Vec<Contention> {
    let service = context.caches.services.get(&function.namespace().unwrap_or_default(), &function.name_any());
    contested(observed, service.as_deref(), now)
}

/// The same, where the cache has this Service. Conditions have whole seconds.
fn contested(observed: &Observed, service: Option<&Service>, now: Timestamp) -> Vec<Contention> {
    let routed = condition::get(&observed.status.conditions, condition::ROUTE_READY);
    let Some(routed) = routed.filter(|routed| routed.status == "True") else {
        return Vec::new();
    };
    let since = routed.last_transition_time.0.saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX);
    let replicas = Contention::of_replicas(&observed.deployments, now);
    let selector = service.and_then(|service| Contention::of_selector(service, now));
    replicas.into_iter().chain(selector).filter(|contention| !contention.was_before(since)).collect()
}

/// Leads to the Service from outside, and no more once it was given back. What leads there goes with the Function.
pub(super) async fn front(context: &Context, function: &Function, observed: &Observed, outcome: &Outcome) -> Fronted {
    let spec = outcome.seen.service.as_ref().and_then(|service| service.spec.as_ref());
    let port = spec.and_then(|spec| spec.ports.as_ref()?.first()).and_then(|port| u16::try_from(port.port).ok());
    if function.metadata.deletion_timestamp.is_some() || port.is_none() {
        return Fronted::default();
    }
    let port = port.filter(|_| outcome.rest != Rest::Released);
    let held = claim_hostnames(context, function).held;
    gateway::apply(context, function, &observed.status, &held, port).await
}

/// Writes the status, and tells what changed.
#[expect(clippy::too_many_arguments, reason = "all that a status is made of")]
pub(super) async fn report(
    context: &Context,
    function: &Function,
    observed: &Observed,
    problems: &[Problem],
    outcome: &Outcome,
    accepted: Option<&Accepted>,
    port: Option<Result<u16, PortsExhausted>>,
    route: &Route,
    outside: Option<&Word>,
) -> Result<Written, WriteError> {
    let now = Timestamp::now();
    let (namespace, name) = (function.namespace().unwrap_or_default(), function.name_any());
    let target = target_of(function);
    let verdicts: Vec<_> = accepted.map(|_| Verdict::of_target(target, observed, now)).into_iter().collect();
    let traffic = Traffic { revision: accepted.map(|_| target.to_owned()), ..Traffic::default() };
    let owner = match &port {
        Some(Ok(port)) => decide_owner(context, function, Some(port), now),
        _ => None,
    };
    let (workload, service) = refusals(outcome);
    let claimed = match port {
        Some(port) => {
            port.map_err(|exhausted| Refusal { reason: condition::NO_ROUTE_PORT, message: exhausted.to_string() })
        }
        None => Ok(0),
    };
    let applied = Applied::of_target(claimed, workload, service, route.clone());
    let contested = contentions(context, function, observed, now);
    let idle = context.autoscaler.idle(&namespace, &name, now);
    let mut status = status::build(&StatusInput {
        function,
        observed,
        problems,
        applied: &applied,
        verdicts: &verdicts,
        traffic: &traffic,
        owner: owner.as_ref(),
        contested: &contested,
        idle: idle.as_ref(),
        rungs_refused: &BTreeMap::new(),
        boost_refused: None,
        domain: context.domain.as_deref(),
        hostnames: &claim_hostnames(context, function),
        gateway: outside,
        now,
    });
    status.revisions.clear();
    status.latest_created_revision = None;
    status.latest_ready_revision = None;
    status.selector = accepted.map(|accepted| accepted.selector.clone());
    match (accepted, &mut status.route) {
        (Some(accepted), Some(route)) => route.target_port = Some(accepted.target_port.clone()),
        (_, route) => *route = None,
    }
    if context.domain.is_none() {
        status.url = Some(url(&namespace, &name, &outcome.seen));
    }
    write(context, function, &observed.status, &status).await
}

/// What to say of the Deployment and of the Service.
fn refusals(outcome: &Outcome) -> (Result<(), Refusal>, Result<(), Refusal>) {
    if let Some(refused) = &outcome.refused {
        return (Ok(()), Err(refused.clone()));
    }
    match (&outcome.fit, outcome.rest) {
        (Err(unfit), _) => {
            let refusal = Err(Refusal { reason: unfit.reason, message: unfit.message.clone() });
            if unfit.of_deployment { (refusal, Ok(())) } else { (Ok(()), refusal) }
        }
        (Ok(_), Rest::AwaitsEndpoints | Rest::Lingers | Rest::Released) => {
            let message =
                "The Deployment and the Service are being given back, because the Function is deleted".to_owned();
            (Ok(()), Err(Refusal { reason: condition::RELEASING, message }))
        }
        (Ok(_), _) => (Ok(()), Ok(())),
    }
}

/// Where the Service answers inside the cluster: its port is its owner's choice.
fn url(namespace: &str, name: &str, seen: &Seen) -> String {
    let spec = seen.service.as_ref().and_then(|service| service.spec.as_ref());
    let port = spec.and_then(|spec| spec.ports.as_ref()?.first()).map(|port| port.port);
    let plain = status::url(name, namespace, None);
    match port {
        Some(port) if port != i32::from(names::SERVICE_PORT) => format!("{plain}:{port}"),
        _ => plain,
    }
}

#[cfg(test)]
mod tests;
