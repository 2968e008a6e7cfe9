//! Other pods in the place of Pilotlight's own, as an upgrade brings them. kubelet waits longer before each restart of a container that ended, so
//! tests that kill begin with pods in which nothing has ended yet.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use crate::fixture::PATIENCE;
use crate::reach::{Reach, SYSTEM_NAMESPACE};
use crate::tools;
use crate::wait::until;

/// Rolls the Deployment that `selector` selects, until its new pods are ready and the old ones are told to go.
///
/// # Errors
/// When there is none, or it does not roll in time.
pub async fn renew(reach: &Reach, selector: &str) -> Result<()> {
    let selected = ListParams::default().labels(selector);
    let deployments: Api<Deployment> = Api::namespaced(reach.client.clone(), SYSTEM_NAMESPACE);
    let found = deployments.list(&selected).await?;
    let name = found.items.first().with_context(|| format!("{selector} selects no Deployment"))?.name_any();
    let pods: Api<Pod> = Api::namespaced(reach.client.clone(), SYSTEM_NAMESPACE);
    let old: HashSet<_> = pods.list(&selected).await?.iter().filter_map(|pod| pod.uid()).collect();
    deployments.restart(&name).await?;
    let what = format!("deployment/{name}");
    let status = ["rollout", "status", what.as_str(), "--namespace", SYSTEM_NAMESPACE, "--timeout=120s"];
    tools::kubectl(&status).await?.success()?;
    let gone = |pod: &Pod| pod.metadata.deletion_timestamp.is_some() || pod.uid().is_none_or(|uid| !old.contains(&uid));
    let all = || async { Ok(pods.list(&selected).await?.items) };
    until("the pods from before to be told to go", PATIENCE, all, |pods| pods.iter().all(gone)).await?;
    Ok(())
}
