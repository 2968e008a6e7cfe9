//! `operator release`: leaves plain working Deployments and Services behind, before Pilotlight is uninstalled.
//!
//! What always holds: it takes the leader's Lease and keeps it for a while after it ends, so that no operator undoes it; a
//! Service leads to its pods before the way over the activators is taken away; to run it again changes nothing.

use anyhow::{Context as _, bail};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use pilotlight_crds::{Function, names};
use serde_json::json;
use std::time::{Duration, Instant};

use crate::apply::release_selector;
use crate::build::{owns, revision_selector};
use crate::cli::ReleaseArgs;
use crate::leader::{Election, RENEW_DEADLINE};

/// For how long no operator may begin after the release has ended: Helm deletes the operator's Deployment next.
const KEPT_AFTERWARDS: Duration = Duration::from_secs(45);
/// Between two looks at pods that are not ready yet.
const POLL: Duration = Duration::from_millis(500);
/// Functions that are released at once.
const CONCURRENCY: usize = 16;

/// Releases every Function.
///
/// Errors when a Function could not be released; the others are, and it may be run again.
pub async fn release(args: ReleaseArgs) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("cannot find the cluster: run in a pod, or set KUBECONFIG")?;
    let timeout = Duration::from_secs(args.timeout_seconds);
    let common = &args.common;
    let election = Election::new(client.clone(), &common.namespace, &common.lease_name, "release");
    election.seize(timeout + RENEW_DEADLINE * 2).await.context("cannot take the leader's Lease")?;
    // By then the former leader has noticed, or given up because it could not renew.
    tokio::time::sleep(RENEW_DEADLINE).await;

    let functions =
        Api::<Function>::all(client.clone()).list(&ListParams::default()).await.context("cannot list Functions")?;
    let deadline = Instant::now() + timeout;
    let count = functions.items.len();
    let failed: usize = stream::iter(functions.items)
        .map(|function| release_or_log(client.clone(), function, deadline))
        .buffer_unordered(CONCURRENCY)
        .map(|released| usize::from(!released))
        .fold(0, |sum, failed| std::future::ready(sum + failed))
        .await;
    election.seize(KEPT_AFTERWARDS).await.context("cannot keep the leader's Lease")?;
    if failed > 0 {
        bail!("{failed} of {count} Functions could not be released; see the log, and run `operator release` again");
    }
    tracing::info!(functions = count, "released every Function");
    Ok(())
}

async fn release_or_log(client: Client, function: Function, deadline: Instant) -> bool {
    if function.metadata.deletion_timestamp.is_some() {
        return true;
    }
    match release_one(client, &function, deadline).await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(
                function = function.name_any(),
                namespace = function.namespace().unwrap_or_default(),
                error = format!("{error:#}"),
                "cannot release a Function"
            );
            false
        }
    }
}

async fn release_one(client: Client, function: &Function, deadline: Instant) -> anyhow::Result<()> {
    let name = function.name_any();
    let namespace = function.namespace().unwrap_or_default();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let Some(revision) = active_revision(function) else {
        tracing::info!(function = name, namespace, "this Function never had a revision; there is nothing to release");
        return Ok(());
    };
    let Some(deployment) = deployments.get_opt(&revision).await? else {
        bail!("its revision {revision} has no Deployment");
    };
    if !owns(function, &deployment.metadata) {
        bail!("the Deployment {revision} is not the Function's");
    }
    scale_to_one(&deployments, &revision).await?;
    let ready = wait_until_ready(&deployments, &revision, deadline).await?;
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    if let Some(service) = services.get_opt(&name).await?
        && !owns(function, &service.metadata)
    {
        bail!("the Service {name} is not the Function's");
    }
    let protocol = function.spec.protocol;
    release_selector(&services, function, protocol, revision_selector(&name, &revision))
        .await
        .context("cannot give the Service its selector")?;
    if ready {
        wait_until_led(&client, &namespace, &name, deadline).await?;
    } else {
        tracing::warn!(
            function = name,
            namespace,
            revision,
            "no pod became ready in time; the Service leads to them once they are"
        );
    }
    let slices: Api<EndpointSlice> = Api::namespaced(client, &namespace);
    let slice = names::endpoint_slice_name(&name);
    match slices.delete(&slice, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        Err(error) => return Err(error).context("cannot delete the EndpointSlice"),
    }
    tracing::info!(function = name, namespace, revision, "released a Function");
    Ok(())
}

/// The revision with traffic, or the newest.
fn active_revision(function: &Function) -> Option<String> {
    let status = function.status.as_ref()?;
    let routed = status.route.as_ref().and_then(|r| r.revision.clone());
    routed.or_else(|| status.latest_created_revision.clone())
}

/// At least one replica. The version that was read goes along, so that a wake at the same moment is not undone.
async fn scale_to_one(deployments: &Api<Deployment>, revision: &str) -> anyhow::Result<()> {
    loop {
        let scale = deployments.get_scale(revision).await?;
        let replicas = scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
        if replicas > 0 {
            return Ok(());
        }
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": scale.metadata.resource_version},
            "spec": {"replicas": 1},
        }));
        let by_operator =
            PatchParams { field_manager: Some(names::MANAGER_AUTOSCALER.to_owned()), ..PatchParams::default() };
        match deployments.patch_scale(revision, &by_operator, &patch).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => return Err(error).context("cannot scale its Deployment"),
        }
    }
}

async fn wait_until_ready(deployments: &Api<Deployment>, revision: &str, deadline: Instant) -> anyhow::Result<bool> {
    loop {
        let status = deployments.get(revision).await?.status.unwrap_or_default();
        if status.ready_replicas.unwrap_or(0) > 0 {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until Kubernetes' own slice of the Service has a ready address.
async fn wait_until_led(client: &Client, namespace: &str, service: &str, deadline: Instant) -> anyhow::Result<()> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let of_service = ListParams::default().labels(&format!(
        "{}={service},{}!={}",
        names::LABEL_SERVICE_NAME,
        names::LABEL_SLICE_MANAGED_BY,
        names::SLICE_MANAGED_BY
    ));
    while Instant::now() < deadline {
        let leads = slices.list(&of_service).await?.items.iter().any(|slice| {
            slice.endpoints.iter().any(|endpoint| {
                let conditions = endpoint.conditions.as_ref();
                conditions.and_then(|c| c.ready).unwrap_or(true)
            })
        });
        if leads {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    tracing::warn!(
        service,
        namespace,
        at = %Timestamp::now(),
        "Kubernetes has not made the Service's endpoints in time"
    );
    Ok(())
}
