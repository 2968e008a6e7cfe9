//! `operator release`: leaves plain working Deployments and Services behind, before Pilotlight is uninstalled.
//!
//! What always holds: it takes the leader's Lease and keeps it for a while after it ends, so that no operator undoes it; while it
//! works it looks after the EndpointSlices and the owners of limited Functions itself; a Service leads to its pods before the way over
//! the activators is taken away; to run it again changes nothing.

mod function;
mod keep;
mod owners;

use anyhow::{Context as _, bail};
use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use pilotlight_crds::{Function, names};
use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::adopt::release::give_back;
use crate::cli::ReleaseArgs;
use crate::leader::{Election, RENEW_DEADLINE};
use function::Releasing;

/// For how long no operator may begin after the release has ended: Helm deletes the operator's Deployment next.
const KEPT_AFTERWARDS: Duration = Duration::from_secs(45);
/// Between two looks at pods that are not ready yet.
const POLL: Duration = Duration::from_millis(500);
/// Functions that are written at once.
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
    let (failed, count) = tokio::select! {
        released = release_all(&client, timeout) => released?,
        () = keep::keep(client.clone(), &common.namespace, &common.activator_selector) => unreachable!("it has no end"),
    };
    election.seize(KEPT_AFTERWARDS).await.context("cannot keep the leader's Lease")?;
    if failed > 0 {
        bail!("{failed} of {count} Functions could not be released; see the log, and run `operator release` again");
    }
    tracing::info!(functions = count, "released every Function");
    Ok(())
}

/// How many failed, and how many there are.
async fn release_all(client: &Client, timeout: Duration) -> anyhow::Result<(usize, usize)> {
    // By then the former leader has noticed, or given up because it could not renew.
    tokio::time::sleep(RENEW_DEADLINE).await;
    let functions =
        Api::<Function>::all(client.clone()).list(&ListParams::default()).await.context("cannot list Functions")?;
    let deadline = Instant::now() + timeout;
    let count = functions.items.len();
    let (adopted, own): (Vec<_>, Vec<_>) =
        functions.items.into_iter().partition(|function| function.spec.target_ref.is_some());
    let given_back = stream::iter(adopted)
        .map(|function| async move { give_back(client, &function, deadline).await })
        .buffer_unordered(CONCURRENCY)
        .filter(|given| std::future::ready(given.is_err()))
        .count();
    let (kept, released) = tokio::join!(given_back, release_own(client, own, deadline));
    Ok((kept + released?, count))
}

/// How many of these Functions, all with Deployments of their own, could not be released.
async fn release_own(client: &Client, functions: Vec<Function>, deadline: Instant) -> anyhow::Result<usize> {
    // All of them get their pods before any is waited for: one that never becomes ready must not keep others waiting.
    let scaled: Vec<anyhow::Result<Option<Releasing>>> = stream::iter(functions)
        .filter(|function| std::future::ready(function.metadata.deletion_timestamp.is_none()))
        .map(|function| Releasing::begin(client.clone(), function))
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    let mut failed = scaled.iter().filter(|begun| begun.is_err()).count();
    let mut waiting: Vec<Releasing> = scaled.into_iter().filter_map(|begun| begun.ok().flatten()).collect();
    while !waiting.is_empty() {
        let over = Instant::now() >= deadline;
        let ready = match ready_deployments(client).await {
            Ok(ready) => ready,
            Err(error) if !over => {
                tracing::warn!(%error, "cannot look at the Deployments");
                HashSet::new()
            }
            Err(error) => return Err(error).context("cannot look at the Deployments"),
        };
        let (now, later) = waiting.into_iter().partition(|releasing| over || ready.contains(&releasing.deployment()));
        waiting = later;
        failed += stream::iter::<Vec<Releasing>>(now)
            .map(|releasing| {
                let is_ready = ready.contains(&releasing.deployment());
                releasing.finish(is_ready, deadline)
            })
            .buffer_unordered(CONCURRENCY)
            .filter(|finished| std::future::ready(finished.is_err()))
            .count()
            .await;
        if !waiting.is_empty() {
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(failed)
}

/// Namespace and name of every Deployment of Pilotlight's that has a ready pod.
async fn ready_deployments(client: &Client) -> kube::Result<HashSet<(String, String)>> {
    let ours = ListParams::default().labels(&format!("{}={}", names::LABEL_MANAGED_BY, names::MANAGED_BY));
    let all = Api::<Deployment>::all(client.clone()).list(&ours).await?;
    let ready = |deployment: &Deployment| {
        deployment.status.as_ref().and_then(|status| status.ready_replicas).is_some_and(|ready| ready > 0)
    };
    let ready = all.items.into_iter().filter(ready);
    Ok(ready.map(|deployment| (deployment.namespace().unwrap_or_default(), deployment.name_any())).collect())
}
