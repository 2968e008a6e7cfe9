//! The Deployments of revisions: created once at 0 replicas, restored where somebody changed them, deleted where a revision is
//! given up.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use pilotlight_crds::{Function, names};

use super::{ApplyError, Refusal, controller, sort, taken};
use crate::build::beacon::{choose, recorded};
use crate::build::deployment::{Revision, deployment, restoring_patch, revision_number};
use crate::build::owns;
use crate::cache::Packed;
use crate::context::Context;
use crate::drift::{MANAGER_CREATOR, deployment_drifted, fingerprint};
use crate::observe::Observed;
use crate::revisions::RevisionPlan;

const KIND: &str = "Deployment";

pub(super) async fn apply(
    context: &Context,
    function: &Function,
    observed: &Observed,
    plan: &RevisionPlan,
) -> Result<Result<(), Refusal>, ApplyError> {
    let api: Api<Deployment> =
        Api::namespaced(context.client.clone(), function.metadata.namespace.as_deref().unwrap_or_default());
    let uid = function.metadata.uid.as_deref().unwrap_or_default();
    let mut refused = None;
    // Oldest first: whoever counts Deployments meets them in the order of their numbers.
    for revision in plan.wanted.iter().rev() {
        match ensure(context, function, observed, &api, revision).await? {
            Ok(()) => remember_revision(context, uid, revision),
            Err(refusal) => refused = Some(refusal),
        }
    }
    for number in &plan.discarded {
        discard(context, function, observed, &api, *number).await?;
    }
    Ok(match refused {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    })
}

async fn ensure(
    context: &Context,
    function: &Function,
    observed: &Observed,
    api: &Api<Deployment>,
    revision: &Revision,
) -> Result<Result<(), Refusal>, ApplyError> {
    let (name, of) = (revision.name(&function.name_any()), function.name_any());
    let live = observed.deployment(&name);
    let wanted = context.pilot.wanted(&of, &function.spec, &name, &revision.template);
    let beacon = choose(wanted, live.map(AsRef::as_ref));
    let desired = deployment(function, revision, beacon.as_ref());
    match live {
        Some(live) if recorded(live) != beacon => renew(context, function, api, live, &desired).await,
        Some(live) => restore(context, function, api, live, &desired).await,
        None => create(context, function, api, &desired).await,
    }
}

/// Gives a Deployment at rest another beacon, or none. Only as it was seen: one that is woken meanwhile keeps what its pods have.
async fn renew(
    context: &Context,
    function: &Function,
    api: &Api<Deployment>,
    live: &Deployment,
    desired: &Deployment,
) -> Result<Result<(), Refusal>, ApplyError> {
    let name = desired.name_any();
    let mut patch = restoring_patch(desired);
    patch["metadata"]["resourceVersion"] = serde_json::json!(live.metadata.resource_version);
    let by_operator = PatchParams { field_manager: Some(names::MANAGER_OPERATOR.to_owned()), ..PatchParams::default() };
    match api.patch(&name, &by_operator, &Patch::Strategic(patch)).await {
        Ok(renewed) => {
            context.metrics.wrote(KIND, "renew");
            remember(context, function, &renewed);
            Ok(Ok(()))
        }
        // Its news is on its way here, and brings the next reconcile.
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(Ok(())),
        Err(error) => Ok(Err(sort("renew", KIND, &name, error)?)),
    }
}

async fn create(
    context: &Context,
    function: &Function,
    api: &Api<Deployment>,
    desired: &Deployment,
) -> Result<Result<(), Refusal>, ApplyError> {
    let name = desired.name_any();
    let by_creator = PostParams { field_manager: Some(MANAGER_CREATOR.to_owned()), ..PostParams::default() };
    match api.create(&by_creator, desired).await {
        Ok(created) => {
            context.metrics.wrote(KIND, "create");
            tracing::info!(
                function = function.name_any(),
                namespace = function.namespace().unwrap_or_default(),
                revision = name,
                "created the Deployment of a revision"
            );
            remember(context, function, &created);
            Ok(Ok(()))
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => adopt(context, function, api, desired).await,
        Err(error) => Ok(Err(sort("create", KIND, &name, error)?)),
    }
}

/// The Deployment exists though the cache does not have it: it was only just made, lost its labels, or is somebody else's.
async fn adopt(
    context: &Context,
    function: &Function,
    api: &Api<Deployment>,
    desired: &Deployment,
) -> Result<Result<(), Refusal>, ApplyError> {
    let name = desired.name_any();
    match api.get_opt(&name).await {
        Ok(Some(live)) if owns(function, &live.metadata) => restore(context, function, api, &live, desired).await,
        Ok(Some(live)) => Ok(Err(taken(KIND, &name, controller(&live.metadata).as_deref()))),
        // It went in between; the next reconcile creates it.
        Ok(None) => Ok(Ok(())),
        Err(error) => Ok(Err(sort("read", KIND, &name, error)?)),
    }
}

async fn restore(
    context: &Context,
    function: &Function,
    api: &Api<Deployment>,
    live: &Deployment,
    desired: &Deployment,
) -> Result<Result<(), Refusal>, ApplyError> {
    // One that is on its way out cannot be held; it is made again once it is gone.
    if live.metadata.deletion_timestamp.is_some() {
        return Ok(Ok(()));
    }
    let uid = function.metadata.uid.as_deref().unwrap_or_default();
    let live_uid = live.metadata.uid.clone().unwrap_or_default();
    let print = fingerprint(live);
    let verified = context.with_memory(uid, |memory| memory.verified.get(&live_uid) == Some(&print));
    if verified {
        return Ok(Ok(()));
    }
    let seen_before = context.with_memory(uid, |memory| memory.verified.contains_key(&live_uid));
    if !seen_before && !deployment_drifted(live, desired) {
        remember(context, function, live);
        return Ok(Ok(()));
    }
    let name = desired.name_any();
    let by_operator = PatchParams { field_manager: Some(names::MANAGER_OPERATOR.to_owned()), ..PatchParams::default() };
    let patch = Patch::Strategic(restoring_patch(desired));
    match api.patch(&name, &by_operator, &patch).await {
        Ok(restored) => {
            context.metrics.wrote(KIND, "restore");
            // Where the write changed nothing, the cache was behind, or somebody set what it was set to already.
            if restored.metadata.generation != live.metadata.generation
                || restored.metadata.labels != live.metadata.labels
            {
                tracing::info!(
                    function = function.name_any(),
                    namespace = function.namespace().unwrap_or_default(),
                    revision = name,
                    "restored the Deployment of a revision, which somebody had changed"
                );
            }
            remember(context, function, &restored);
            Ok(Ok(()))
        }
        Err(error) => Ok(Err(sort("restore", KIND, &name, error)?)),
    }
}

/// Remembers a revision as it was made.
fn remember_revision(context: &Context, uid: &str, revision: &Revision) {
    let known = context.with_memory(uid, |memory| memory.revisions.contains_key(&revision.number));
    if known {
        return;
    }
    match Packed::new(revision) {
        Ok(packed) => context.with_memory(uid, |memory| {
            memory.revisions.insert(revision.number, packed);
        }),
        Err(error) => {
            let revision = revision.number;
            tracing::error!(uid, revision, %error, "cannot remember a Function's revision; it is read from its Deployment");
        }
    }
}

/// Remembers that this Deployment is as it should.
fn remember(context: &Context, function: &Function, live: &Deployment) {
    let uid = function.metadata.uid.as_deref().unwrap_or_default();
    let live_uid = live.metadata.uid.clone().unwrap_or_default();
    let print = fingerprint(live);
    context.with_memory(uid, |memory| {
        memory.verified.insert(live_uid, print);
    });
}

async fn discard(
    context: &Context,
    function: &Function,
    observed: &Observed,
    api: &Api<Deployment>,
    number: u64,
) -> Result<(), ApplyError> {
    let uid = function.metadata.uid.as_deref().unwrap_or_default();
    let doomed = observed.deployments.iter().filter(|deployment| revision_number(deployment) == Some(number));
    for live in doomed {
        let name = live.name_any();
        // Only as it was seen: at zero.
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: live.metadata.uid.clone(),
            resource_version: live.metadata.resource_version.clone(),
        });
        match api.delete(&name, &params).await {
            Ok(_) => {
                context.metrics.wrote(KIND, "delete");
                tracing::info!(
                    function = function.name_any(),
                    namespace = function.namespace().unwrap_or_default(),
                    revision = name,
                    "deleted a revision that is no longer kept"
                );
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => {
                return Err(ApplyError { operation: "delete", kind: KIND, name, source: Box::new(error) });
            }
        }
    }
    context.with_memory(uid, |memory| memory.revisions.remove(&number));
    Ok(())
}
