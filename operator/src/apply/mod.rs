//! Makes the cluster what was built. The only place that writes a Function's objects.
//!
//! What always holds: an object that the Function does not own is left alone and named in the status; `replicas` is written
//! by no write here but a creation's 0; a write happens only where something differs.

mod deployments;
pub mod gateway;
mod labels;
mod network;
mod tags;

pub use network::release_selector;

use kube::core::Status;
use pilotlight_crds::{Function, condition};

use crate::context::Context;
use crate::observe::Observed;
use crate::ports::PortsExhausted;
use crate::revisions::RevisionPlan;
use crate::route::Route;
use crate::status::{Traffic, Verdict};

/// A write that failed and may succeed when it is tried again.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {kind} {name}: {source}")]
pub struct ApplyError {
    /// What was tried.
    pub operation: &'static str,
    /// Kind of the object.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Why it failed.
    #[source]
    pub source: Box<kube::Error>,
}

impl ApplyError {
    /// A CamelCase reason.
    pub fn reason(&self) -> &'static str {
        match self.source.as_ref() {
            kube::Error::Api(status) if status.is_conflict() => "Conflict",
            kube::Error::Api(_) => "ApiServerError",
            _ => "ApiServerUnreachable",
        }
    }
}

/// The API server's, or our own, well-founded no: it does not go away by trying again soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A CamelCase reason.
    pub reason: &'static str,
    /// What was refused and what to do.
    pub message: String,
}

/// What was applied. A status can be made from nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The Function's route port.
    pub port: Result<u16, Refusal>,
    /// Whether every revision has its Deployment.
    pub workload: Result<(), Refusal>,
    /// Whether the Function has its Service and EndpointSlice.
    pub service: Result<(), Refusal>,
    /// Whether each tag has its Service.
    pub tags: Result<(), Refusal>,
    /// Where the Service leads.
    pub route: Route,
    /// Only [`apply`] and [`crate::adopt`] make one.
    _sealed: Sealed,
}

#[derive(Clone, Debug, PartialEq)]
struct Sealed;

impl Applied {
    /// For a Function whose objects are another's: what [`crate::adopt`] found and did.
    pub fn of_target(
        port: Result<u16, Refusal>,
        workload: Result<(), Refusal>,
        service: Result<(), Refusal>,
        route: Route,
    ) -> Self {
        Self { port, workload, service, tags: Ok(()), route, _sealed: Sealed }
    }
}

/// What must be.
pub struct Desired<'a> {
    /// Revisions to keep and to give up.
    pub plan: &'a RevisionPlan,
    /// What the Service speaks.
    pub protocol: pilotlight_crds::workload::Protocol,
    /// What the revisions have proved.
    pub verdicts: &'a [Verdict],
    /// Which of them get the traffic, and have names of their own.
    pub traffic: &'a Traffic,
    /// The route port.
    pub port: Result<u16, PortsExhausted>,
    /// Where the Service leads.
    pub route: Route,
}

/// Applies all of it. A refusal of one object does not keep the others from being applied; an error does, because the next
/// write would meet it too.
pub async fn apply(
    context: &Context,
    function: &Function,
    observed: &Observed,
    desired: &Desired<'_>,
) -> Result<Applied, ApplyError> {
    let workload = deployments::apply(context, function, observed, desired.plan).await?;
    let service = network::apply(context, function, observed, desired.protocol, desired.route.target()).await?;
    labels::apply(context, function, observed, desired.verdicts, desired.traffic).await?;
    let tags =
        tags::apply(context, function, observed, desired.traffic.tags.iter().map(|(tag, _)| tag.as_str())).await?;
    Ok(Applied {
        port: desired
            .port
            .clone()
            .map_err(|exhausted| Refusal { reason: condition::NO_ROUTE_PORT, message: exhausted.to_string() }),
        workload,
        service,
        tags,
        route: desired.route.clone(),
        _sealed: Sealed,
    })
}

/// Sorts a failure: a refusal to report, or an error to try again.
fn sort(operation: &'static str, kind: &'static str, name: &str, error: kube::Error) -> Result<Refusal, ApplyError> {
    if let kube::Error::Api(status) = &error
        && is_refusal(status)
    {
        return Ok(Refusal {
            reason: condition::REVISION_REFUSED,
            message: format!("The API server refuses to {operation} {kind} {name}: {}", status.message),
        });
    }
    Err(ApplyError { operation, kind, name: name.to_owned(), source: Box::new(error) })
}

/// Bad requests, forbidden ones (quota, policy, rights) and invalid ones. A namespace that is going away forbids all
/// creations; that is the end of the Function, too.
pub(crate) fn is_refusal(status: &Status) -> bool {
    matches!(status.code, 400 | 403 | 422)
}

/// That an object of this name belongs to somebody else.
fn taken(kind: &str, name: &str, owner: Option<&str>) -> Refusal {
    let whose = match owner {
        Some(owner) => format!("it belongs to {owner}"),
        None => "Pilotlight did not make it".to_owned(),
    };
    Refusal {
        reason: condition::NAME_TAKEN,
        message: format!(
            "A {kind} named {name} exists already and {whose}; delete or rename it, or name the Function otherwise"
        ),
    }
}

/// Who controls the object with this metadata, as `kind name`.
fn controller(metadata: &kube::api::ObjectMeta) -> Option<String> {
    metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| format!("{} {}", owner.kind, owner.name))
}
