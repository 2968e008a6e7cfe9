//! The Services by which tags answer inside the cluster: aliases of the activators' own, which go by the host name.
//!
//! What always holds: a Service that the Function does not own is left alone; one whose tag is gone is removed.

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use pilotlight_crds::{Function, names};

use super::network::{gone, namespace};
use super::{ApplyError, Refusal, controller, sort, taken};
use crate::build::owns;
use crate::build::service::alias;
use crate::context::Context;
use crate::drift::holds;
use crate::observe::Observed;

/// Makes the tags' Services what they have to be. `tags`: those that there are.
pub(super) async fn apply<'t>(
    context: &Context,
    function: &Function,
    observed: &Observed,
    tags: impl Iterator<Item = &'t str>,
) -> Result<Result<(), Refusal>, ApplyError> {
    let function_name = function.name_any();
    let wanted: Vec<Service> = match context.activator_host.as_deref() {
        Some(host) => tags.map(|tag| alias(function, names::tag_name(tag, &function_name), host)).collect(),
        None => Vec::new(),
    };
    let api: Api<Service> = Api::namespaced(context.client.clone(), &namespace(function));
    let is_wanted = |live: &Service| wanted.iter().any(|service| service.metadata.name == live.metadata.name);
    for over in observed.tag_services.iter().filter(|live| !is_wanted(live)) {
        let name = over.name_any();
        gone("Service", &name, api.delete(&name, &DeleteParams::default()).await)?;
        context.metrics.wrote("Service", "delete");
    }
    let mut refused = Ok(());
    for desired in &wanted {
        let live = observed.tag_services.iter().find(|live| live.metadata.name == desired.metadata.name);
        if live.is_some_and(|live| holds(live.as_ref(), desired)) {
            continue;
        }
        if let Err(refusal) = create(context, function, &api, desired, live.is_some()).await? {
            refused = Err(refusal);
        }
    }
    Ok(refused)
}

async fn create(
    context: &Context,
    function: &Function,
    api: &Api<Service>,
    desired: &Service,
    known: bool,
) -> Result<Result<(), Refusal>, ApplyError> {
    let name = desired.name_any();
    if !known {
        match api.get_opt(&name).await {
            Ok(Some(live)) if !owns(function, &live.metadata) => {
                return Ok(Err(taken("Service", &name, controller(&live.metadata).as_deref())));
            }
            Ok(_) => {}
            Err(error) => return Ok(Err(sort("read", "Service", &name, error)?)),
        }
    }
    let force = PatchParams::apply(names::MANAGER_OPERATOR).force();
    match api.patch(&name, &force, &Patch::Apply(desired)).await {
        Ok(_) => {
            context.metrics.wrote("Service", "apply");
            Ok(Ok(()))
        }
        Err(error) => Ok(Err(sort("apply", "Service", &name, error)?)),
    }
}
