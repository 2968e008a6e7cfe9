//! The Service and EndpointSlice of a Function.
//!
//! What always holds: the slice leads somewhere before the Service's selector is taken away (make before break).

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use pilotlight_crds::workload::Protocol;
use pilotlight_crds::{Function, names};
use serde_json::json;
use std::collections::BTreeMap;

use super::{ApplyError, Refusal, controller, sort, taken};
use crate::build::slice::{Target, slice};
use crate::build::{owns, service::service};
use crate::context::Context;
use crate::drift::holds;
use crate::observe::Observed;

pub(super) async fn apply(
    context: &Context,
    function: &Function,
    observed: &Observed,
    protocol: Protocol,
    target: Option<&Target>,
) -> Result<Result<(), Refusal>, ApplyError> {
    let desired = service(function, protocol, None);
    let live = match &observed.service {
        Some(live) => Some(live.as_ref().clone()),
        None => match find_service(context, function).await? {
            Ok(live) => live,
            Err(refusal) => return Ok(Err(refusal)),
        },
    };
    if let Some(target) = target
        && let Err(refusal) = apply_slice(context, function, observed, protocol, target).await?
    {
        return Ok(Err(refusal));
    }
    let selects = live.as_ref().is_some_and(has_selector);
    // A selector that was there before Pilotlight came back still leads somewhere; without a slice, nothing would.
    if selects && target.is_none() && observed.slice.is_none() {
        return Ok(Ok(()));
    }
    let settled = live.as_ref().is_some_and(|live| !has_selector(live) && holds(live, &desired));
    if !settled && let Err(refusal) = apply_service(context, function, &desired).await? {
        return Ok(Err(refusal));
    }
    if !observed.other_slices.is_empty() {
        delete_other_slices(context, function, observed).await?;
    }
    Ok(Ok(()))
}

/// The cache does not have the Service: it is not there, lost its label, or is somebody else's.
async fn find_service(context: &Context, function: &Function) -> Result<Result<Option<Service>, Refusal>, ApplyError> {
    let name = function.name_any();
    let api: Api<Service> = Api::namespaced(context.client.clone(), &namespace(function));
    match api.get_opt(&name).await {
        Ok(Some(live)) if !owns(function, &live.metadata) => {
            Ok(Err(taken("Service", &name, controller(&live.metadata).as_deref())))
        }
        Ok(live) => Ok(Ok(live)),
        Err(error) => Ok(Err(sort("read", "Service", &name, error)?)),
    }
}

async fn apply_service(
    context: &Context,
    function: &Function,
    desired: &Service,
) -> Result<Result<(), Refusal>, ApplyError> {
    let name = function.name_any();
    let api: Api<Service> = Api::namespaced(context.client.clone(), &namespace(function));
    let force = PatchParams::apply(names::MANAGER_OPERATOR).force();
    let applied = match api.patch(&name, &force, &Patch::Apply(desired)).await {
        Ok(applied) => applied,
        Err(error) => return Ok(Err(sort("apply", "Service", &name, error)?)),
    };
    context.metrics.wrote("Service", "apply");
    if has_selector(&applied) {
        // Somebody else set it: server-side apply leaves what is not ours.
        let none = Patch::Merge(json!({"spec": {"selector": null}}));
        let by_operator =
            PatchParams { field_manager: Some(names::MANAGER_OPERATOR.to_owned()), ..PatchParams::default() };
        if let Err(error) = api.patch(&name, &by_operator, &none).await {
            return Ok(Err(sort("apply", "Service", &name, error)?));
        }
    }
    Ok(Ok(()))
}

async fn apply_slice(
    context: &Context,
    function: &Function,
    observed: &Observed,
    protocol: Protocol,
    target: &Target,
) -> Result<Result<(), Refusal>, ApplyError> {
    let desired = slice(function, protocol, target);
    let name = desired.name_any();
    let api: Api<EndpointSlice> = Api::namespaced(context.client.clone(), &namespace(function));
    if let Some(live) = &observed.slice {
        let same_kind = live.address_type == desired.address_type;
        if same_kind && holds(live.as_ref(), &desired) && live.endpoints.len() == desired.endpoints.len() {
            return Ok(Ok(()));
        }
        // The family of addresses is immutable.
        if !same_kind && let Err(error) = api.delete(&name, &DeleteParams::default()).await {
            return Ok(Err(sort("delete", "EndpointSlice", &name, error)?));
        }
    } else {
        match api.get_opt(&name).await {
            Ok(Some(live)) if !owns(function, &live.metadata) => {
                let owner = controller(&live.metadata);
                return Ok(Err(taken("EndpointSlice", &name, owner.as_deref())));
            }
            Ok(_) => {}
            Err(error) => return Ok(Err(sort("read", "EndpointSlice", &name, error)?)),
        }
    }
    let force = PatchParams::apply(names::MANAGER_OPERATOR).force();
    match api.patch(&name, &force, &Patch::Apply(&desired)).await {
        Ok(_) => {
            context.metrics.wrote("EndpointSlice", "apply");
            Ok(Ok(()))
        }
        Err(error) => Ok(Err(sort("apply", "EndpointSlice", &name, error)?)),
    }
}

/// Kubernetes leaves the slices and Endpoints of a Service that loses its selector where they are, and mirrors the latter. They
/// would go on to send requests straight to pods.
async fn delete_other_slices(context: &Context, function: &Function, observed: &Observed) -> Result<(), ApplyError> {
    let name = function.name_any();
    let endpoints: Api<Endpoints> = Api::namespaced(context.client.clone(), &namespace(function));
    gone("Endpoints", &name, endpoints.delete(&name, &DeleteParams::default()).await)?;
    let slices: Api<EndpointSlice> = Api::namespaced(context.client.clone(), &namespace(function));
    for slice in &observed.other_slices {
        let name = slice.name_any();
        gone("EndpointSlice", &name, slices.delete(&name, &DeleteParams::default()).await)?;
        context.metrics.wrote("EndpointSlice", "delete");
    }
    Ok(())
}

pub(super) fn gone<T>(kind: &'static str, name: &str, result: kube::Result<T>) -> Result<(), ApplyError> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(ApplyError { operation: "delete", kind, name: name.to_owned(), source: Box::new(error) }),
    }
}

fn has_selector(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some_and(|selector| !selector.is_empty())
}

pub(super) fn namespace(function: &Function) -> String {
    function.namespace().unwrap_or_default()
}

/// Gives the Service a selector of its own, so that it works without Pilotlight. The same field manager sets it that will take
/// it away again after a reinstall.
pub async fn release_selector(
    api: &Api<Service>,
    function: &Function,
    protocol: Protocol,
    selector: BTreeMap<String, String>,
) -> kube::Result<Service> {
    let desired = service(function, protocol, Some(selector));
    let force = PatchParams::apply(names::MANAGER_OPERATOR).force();
    api.patch(&function.name_any(), &force, &Patch::Apply(&desired)).await
}
