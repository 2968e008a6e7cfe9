//! Writes the status where it changed, and tells what changed as Events.
//!
//! What always holds: an Event is told after the status that it is about was written; one that cannot be told is logged and
//! stops nothing.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Client, Resource, ResourceExt};
use pilotlight_crds::status::RouteOwner;
use pilotlight_crds::{Function, FunctionStatus, names};
use serde_json::json;

use crate::autoscaler::ScalingEvent;
use crate::context::Context;
use crate::event_writer::EventWriter;
use crate::transitions::{Transition, cut, transitions};

/// The status could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the status: {0}")]
pub struct WriteError(#[source] Box<kube::Error>);

impl WriteError {
    /// A CamelCase reason.
    pub fn reason(&self) -> &'static str {
        match self.0.as_ref() {
            kube::Error::Api(_) => "StatusRefused",
            _ => "ApiServerUnreachable",
        }
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The API server has the status, or the Function is gone.
    Done,
    /// The Function had changed since it was read, where that matters: nothing was written.
    Outdated,
}

/// Writes `status` if it is not what the API server has, and tells how it differs from `before`.
pub async fn write(
    context: &Context,
    function: &Function,
    before: &FunctionStatus,
    status: &FunctionStatus,
) -> Result<Written, WriteError> {
    let uid = function.uid().unwrap_or_default();
    let changed = function.status.as_ref() != Some(status);
    if changed {
        // Two writers must never give one epoch two owners, nor bring an old one back.
        let exact = owner(status).is_some() || owner(before).is_some();
        match apply_status(&context.client, function, status, exact).await {
            Ok(Applied::Written) => context.metrics.wrote("Function", "status"),
            Ok(Applied::Gone) => return Ok(Written::Done),
            Ok(Applied::Outdated) => return Ok(Written::Outdated),
            Err(error) => return Err(WriteError(Box::new(error))),
        }
    }
    context.with_memory(&uid, |memory| memory.status = changed.then(|| Box::new(status.clone())));
    for transition in transitions(before, status) {
        log(function, &transition);
        publish(&context.recorder, function, &transition).await;
    }
    Ok(Written::Done)
}

/// What the API server made of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It has it.
    Written,
    /// There is no such Function any more.
    Gone,
    /// The Function is another than the one that was read.
    Outdated,
}

/// Writes the status as a whole; where it is `exact`, only to the very version that was read.
pub(crate) async fn apply_status(
    client: &Client,
    function: &Function,
    status: &FunctionStatus,
    exact: bool,
) -> kube::Result<Applied> {
    let api: Api<Function> = Api::namespaced(client.clone(), &function.namespace().unwrap_or_default());
    // The uid keeps a Function that was deleted and made again from getting its predecessor's status.
    let mut metadata = json!({"name": function.name_any(), "uid": function.uid()});
    if exact {
        metadata["resourceVersion"] = json!(function.resource_version());
    }
    let patch = Patch::Apply(json!({
        "apiVersion": Function::api_version(&()),
        "kind": Function::kind(&()),
        "metadata": metadata,
        "status": status,
    }));
    let force = PatchParams::apply(names::MANAGER_OPERATOR).force();
    match api.patch_status(&function.name_any(), &force, &patch).await {
        Ok(_) => Ok(Applied::Written),
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() => Ok(Applied::Gone),
        Err(kube::Error::Api(refusal)) if refusal.is_conflict() => Ok(Applied::Outdated),
        Err(error) => Err(error),
    }
}

fn owner(status: &FunctionStatus) -> Option<&RouteOwner> {
    status.route.as_ref().and_then(|route| route.owner.as_ref())
}

fn log(function: &Function, transition: &Transition) {
    tracing::info!(
        function = function.name_any(),
        namespace = function.namespace().unwrap_or_default(),
        reason = transition.reason,
        note = transition.note,
        "the Function's state changed"
    );
}

pub(crate) async fn publish(recorder: &EventWriter, function: &Function, transition: &Transition) {
    let event = Event {
        type_: transition.type_,
        reason: transition.reason.clone(),
        note: Some(cut(&transition.note)),
        action: transition.action.to_owned(),
        secondary: transition.deployment.as_ref().map(|name| ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("Deployment".to_owned()),
            name: Some(name.clone()),
            namespace: function.namespace(),
            ..ObjectReference::default()
        }),
    };
    if let Err(error) = recorder.publish(&event, &function.object_ref(&())).await {
        tracing::warn!(
            function = function.name_any(),
            namespace = function.namespace().unwrap_or_default(),
            %error,
            "cannot write an event"
        );
    }
}

/// Tells what the autoscaler did.
pub async fn publish_scaling(recorder: &EventWriter, function: &Function, scaling: &ScalingEvent) {
    let transition = Transition {
        type_: if scaling.kind.is_warning() { EventType::Warning } else { EventType::Normal },
        reason: scaling.kind.reason().to_owned(),
        note: scaling.message.clone(),
        action: "Scale",
        deployment: None,
    };
    publish(recorder, function, &transition).await;
}
