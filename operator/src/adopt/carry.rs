//! Carries one step out.
//!
//! What always holds: a write to an object that is not Pilotlight's names the version that was read, so that nobody's change is undone unseen; one that
//! meets another version, or nothing, is no error: the next look decides anew.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use pilotlight_crds::Function;
use pilotlight_crds::names::{FINALIZER_RELEASE, MANAGER_AUTOSCALER, MANAGER_OPERATOR};
use serde_json::{Value, json};

use super::next::Step;
use super::note::{no_note, note};
use super::seen::{Seen, target_of};
use crate::apply::ApplyError;

impl Step {
    /// Kind of what it writes and what it does, for metrics and errors. `None`: it writes nothing.
    pub fn writes(&self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::Bind => ("Function", "bind"),
            Self::Note(..) => ("Service", "note"),
            Self::Lead => ("EndpointSlice", "apply"),
            Self::Unselect => ("Service", "unselect"),
            Self::Clear => ("EndpointSlice", "clear"),
            Self::Scale(_) => ("Deployment", "scale"),
            Self::Select(_) => ("Service", "select"),
            Self::Unlead => ("EndpointSlice", "delete"),
            Self::Forget => ("Service", "forget"),
            Self::Unbind => ("Function", "unbind"),
            Self::Rest(_) => return None,
        })
    }
}

/// Carries out `step`, which was decided on what was `seen`. `slice`: Pilotlight's slice as it should be.
pub async fn carry(client: &Client, seen: &Seen, step: &Step, slice: Option<&EndpointSlice>) -> Result<(), ApplyError> {
    let Some((kind, operation)) = step.writes() else {
        return Ok(());
    };
    let done = write(client, seen, step, slice).await;
    match done {
        Ok(()) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(()),
        Err(error) => {
            let name = seen.function.name_any();
            Err(ApplyError { operation, kind, name, source: Box::new(error) })
        }
    }
}

async fn write(client: &Client, seen: &Seen, step: &Step, slice: Option<&EndpointSlice>) -> kube::Result<()> {
    match step {
        Step::Bind => finalizers(client, &seen.function, true).await,
        Step::Unbind => finalizers(client, &seen.function, false).await,
        Step::Note(selector, replicas) => annotate(client, seen, note(selector, *replicas)).await,
        Step::Forget => annotate(client, seen, no_note()).await,
        Step::Unselect => patch_service(client, seen, json!({"spec": {"selector": null}})).await,
        Step::Select(selector) => patch_service(client, seen, json!({"spec": {"selector": selector}})).await,
        Step::Lead => lead(client, seen, slice).await,
        Step::Clear => clear(client, seen).await,
        Step::Unlead => match &seen.slice {
            Some(slice) => delete_slice(client, seen, &slice.name_any()).await,
            None => Ok(()),
        },
        Step::Scale(replicas) => scale(client, seen, *replicas).await,
        Step::Rest(_) => Ok(()),
    }
}

fn namespace(seen: &Seen) -> String {
    seen.function.namespace().unwrap_or_default()
}

fn by(manager: &str) -> PatchParams {
    PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() }
}

async fn finalizers(client: &Client, function: &Function, bound: bool) -> kube::Result<()> {
    let others = function.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER_RELEASE).cloned();
    let wanted: Vec<String> = others.chain(bound.then(|| FINALIZER_RELEASE.to_owned())).collect();
    let api: Api<Function> = Api::namespaced(client.clone(), &function.namespace().unwrap_or_default());
    let patch = json!({"metadata": {"resourceVersion": function.resource_version(), "finalizers": wanted}});
    api.patch(&function.name_any(), &by(MANAGER_OPERATOR), &Patch::Merge(patch)).await.map(drop)
}

async fn annotate(client: &Client, seen: &Seen, annotations: Value) -> kube::Result<()> {
    patch_service(client, seen, json!({"metadata": {"annotations": annotations}})).await
}

async fn patch_service(client: &Client, seen: &Seen, mut patch: Value) -> kube::Result<()> {
    let Some(service) = &seen.service else {
        return Ok(());
    };
    patch["metadata"]["resourceVersion"] = json!(service.resource_version());
    let api: Api<Service> = Api::namespaced(client.clone(), &namespace(seen));
    api.patch(&service.name_any(), &by(MANAGER_OPERATOR), &Patch::Merge(patch)).await.map(drop)
}

async fn lead(client: &Client, seen: &Seen, slice: Option<&EndpointSlice>) -> kube::Result<()> {
    let Some(desired) = slice else {
        return Ok(());
    };
    let name = desired.name_any();
    // The family of addresses is immutable.
    if seen.slice.as_ref().is_some_and(|live| live.address_type != desired.address_type) {
        delete_slice(client, seen, &name).await?;
    }
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &namespace(seen));
    api.patch(&name, &PatchParams::apply(MANAGER_OPERATOR).force(), &Patch::Apply(desired)).await.map(drop)
}

/// Kubernetes leaves the slices and Endpoints of a Service that loses its selector where they are, and mirrors the latter.
async fn clear(client: &Client, seen: &Seen) -> kube::Result<()> {
    let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), &namespace(seen));
    gone(endpoints.delete(&seen.function.name_any(), &DeleteParams::default()).await)?;
    for slice in &seen.others {
        delete_slice(client, seen, &slice.name_any()).await?;
    }
    Ok(())
}

async fn delete_slice(client: &Client, seen: &Seen, name: &str) -> kube::Result<()> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &namespace(seen));
    gone(api.delete(name, &DeleteParams::default()).await)
}

fn gone<T>(result: kube::Result<T>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// Raises the Deployment's replicas; one that was woken further meanwhile keeps what it has.
async fn scale(client: &Client, seen: &Seen, replicas: u32) -> kube::Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), &namespace(seen));
    let name = target_of(&seen.function);
    let scale = api.get_scale(name).await?;
    let now = scale.spec.as_ref().and_then(|spec| spec.replicas).and_then(|now| u32::try_from(now).ok()).unwrap_or(0);
    if now >= replicas {
        return Ok(());
    }
    let patch = json!({
        "metadata": {"resourceVersion": scale.metadata.resource_version},
        "spec": {"replicas": replicas},
    });
    api.patch_scale(name, &by(MANAGER_AUTOSCALER), &Patch::Merge(patch)).await.map(drop)
}
