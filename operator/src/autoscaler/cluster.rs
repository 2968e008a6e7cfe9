//! The few calls to the API server that scaling makes, behind a trait so that the hand-shake is tested without one.
//!
//! What always holds: a write to `/scale` carries the resource version that was read, and the caller learns whether it was
//! refused for certain or may yet be carried out.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use pilotlight_crds::control::CONTROL_PORT;
use pilotlight_crds::names::{ANNOTATION_DELETION_COST, LABEL_REVISION, MANAGER_AUTOSCALER};
use pilotlight_crds::park::is_swapped;
use serde_json::{Value, json};

use crate::cache::AdoptedPods;
use crate::cpu::{NO_RESIZE, give_back};
use crate::observe::may_run;

/// Time for one call.
const CALL: Duration = Duration::from_secs(3);

/// A Deployment's scale as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScaleRead {
    /// `spec.replicas`.
    pub(super) replicas: u32,
    /// The version that a write must name.
    pub(super) resource_version: String,
}

/// An activator that can be asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Peer {
    /// Uid of its pod.
    pub(super) uid: String,
    /// Name of its pod.
    pub(super) pod: String,
    /// Its control port. `None`: it runs but has no address yet.
    pub(super) address: Option<SocketAddr>,
}

/// How likely Kubernetes removes a pod, most likely first: it removes pods without a node, then pending ones, then those that are
/// not ready, and only among equals looks at the deletion cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RemovalClass {
    /// No node yet.
    Unassigned,
    /// On a node, not running.
    Pending,
    /// Running, not ready.
    NotReady,
    /// Ready.
    Ready,
}

/// A pod of a revision that may be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodRead {
    /// Its uid.
    pub(super) uid: String,
    /// Its name.
    pub(super) name: String,
    /// How likely Kubernetes removes it.
    pub(super) class: RemovalClass,
    /// A placeholder is in its function's place.
    pub(super) parked: bool,
    /// Its deletion cost.
    pub(super) cost: i32,
    /// When it was made, in seconds since 1970.
    pub(super) created: i64,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClusterError {
    /// The object changed since it was read.
    #[error("the Deployment changed in between")]
    Conflict,
    /// The object is gone.
    #[error("the Deployment is gone")]
    Gone,
    /// The API server refuses, and nothing was changed.
    #[error("the API server refuses ({code}): {message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// The API server's words.
        message: String,
    },
    /// Nobody knows whether the call was, or will yet be, carried out.
    #[error("no certain answer from the API server: {0}")]
    Uncertain(String),
}

/// The calls that scaling makes.
pub(super) trait Cluster: Send + Sync + 'static {
    /// Reads a Deployment's scale.
    fn read_scale(
        &self,
        namespace: &str,
        deployment: &str,
    ) -> impl Future<Output = Result<ScaleRead, ClusterError>> + Send;

    /// Writes a Deployment's scale, if it still has the version that was read.
    fn write_scale(
        &self,
        namespace: &str,
        deployment: &str,
        read: &ScaleRead,
        replicas: u32,
    ) -> impl Future<Output = Result<(), ClusterError>> + Send;

    /// The activators that run, asked from the API server itself.
    fn activators(&self) -> impl Future<Output = Result<Vec<Peer>, ClusterError>> + Send;

    /// The pods of a revision that aren't being deleted, asked from the API server itself.
    fn pods(&self, namespace: &str, revision: &str) -> impl Future<Output = Result<Vec<PodRead>, ClusterError>> + Send;

    /// Sets a pod's deletion cost.
    fn set_deletion_cost(
        &self,
        namespace: &str,
        pod: &str,
        cost: i32,
    ) -> impl Future<Output = Result<(), ClusterError>> + Send;

    /// The pods of a revision with all that the API server knows of them.
    fn whole_pods(
        &self,
        namespace: &str,
        revision: &str,
    ) -> impl Future<Output = Result<Vec<Pod>, ClusterError>> + Send;

    /// Changes a pod's metadata; gives the pod as it is then.
    fn patch_pod(
        &self,
        namespace: &str,
        pod: &str,
        patch: Value,
    ) -> impl Future<Output = Result<Pod, ClusterError>> + Send;

    /// Changes the resources of a running pod.
    fn resize_pod(
        &self,
        namespace: &str,
        pod: &str,
        patch: Value,
    ) -> impl Future<Output = Result<(), ClusterError>> + Send;

    /// Gives a throttled pod its CPU back; see [`give_back`].
    fn give_back(&self, namespace: &str, pod: &Pod) -> impl Future<Output = Result<bool, ClusterError>> + Send;
}

/// The real API server.
#[derive(Clone)]
pub(super) struct KubeCluster {
    pub(super) client: kube::Client,
    /// How the pods of Deployments that Functions took over are found.
    pub(super) adopted: AdoptedPods,
    /// Where the activators run.
    pub(super) namespace: String,
    /// Their labels.
    pub(super) activator_selector: String,
}

impl KubeCluster {
    /// The pods of a revision.
    async fn list(&self, namespace: &str, revision: &str) -> Result<Vec<Pod>, ClusterError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let adopted = self.adopted.by_deployment(namespace, revision);
        let labelled = || format!("{LABEL_REVISION}={revision}");
        let selector = adopted.as_ref().map_or_else(labelled, |adopted| adopted.selector.clone());
        let mut pods = within(api.list(&ListParams::default().labels(&selector))).await?.items;
        if let Some(adopted) = adopted {
            pods.retain_mut(|pod| adopted.adopt(pod));
        }
        Ok(pods)
    }
}

impl Cluster for KubeCluster {
    async fn read_scale(&self, namespace: &str, name: &str) -> Result<ScaleRead, ClusterError> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let scale = within(api.get_scale(name)).await?;
        read(&scale)
    }

    async fn write_scale(
        &self,
        namespace: &str,
        name: &str,
        read: &ScaleRead,
        replicas: u32,
    ) -> Result<(), ClusterError> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams { field_manager: Some(MANAGER_AUTOSCALER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": read.resource_version },
            "spec": { "replicas": replicas },
        }));
        within(api.patch_scale(name, &params, &patch)).await.map(drop)
    }

    async fn activators(&self) -> Result<Vec<Peer>, ClusterError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = ListParams::default().labels(&self.activator_selector);
        let pods = within(api.list(&params)).await?;
        let peers = pods.items.iter().filter_map(|pod| peer(pod, CONTROL_PORT));
        Ok(peers.collect())
    }

    async fn pods(&self, namespace: &str, revision: &str) -> Result<Vec<PodRead>, ClusterError> {
        let pods = self.list(namespace, revision).await?;
        Ok(pods.iter().filter_map(pod_read).collect())
    }

    async fn set_deletion_cost(&self, namespace: &str, pod: &str, cost: i32) -> Result<(), ClusterError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams { field_manager: Some(MANAGER_AUTOSCALER.to_owned()), ..PatchParams::default() };
        let annotations = BTreeMap::from([(ANNOTATION_DELETION_COST, cost.to_string())]);
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        within(api.patch_metadata(pod, &params, &patch)).await.map(drop)
    }

    async fn whole_pods(&self, namespace: &str, revision: &str) -> Result<Vec<Pod>, ClusterError> {
        self.list(namespace, revision).await
    }

    async fn patch_pod(&self, namespace: &str, pod: &str, patch: Value) -> Result<Pod, ClusterError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        within(api.patch(pod, &by_autoscaler(), &Patch::Strategic(patch))).await
    }

    async fn resize_pod(&self, namespace: &str, pod: &str, patch: Value) -> Result<(), ClusterError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let resized = within(api.patch_subresource("resize", pod, &by_autoscaler(), &Patch::Strategic(patch))).await;
        // Neither the pod nor the subresource: where the pod is still there, it is the latter.
        if matches!(resized, Err(ClusterError::Gone)) && within(api.get_metadata(pod)).await.is_ok() {
            return Err(ClusterError::Refused { code: 404, message: NO_RESIZE.to_owned() });
        }
        resized.map(drop)
    }

    async fn give_back(&self, namespace: &str, pod: &Pod) -> Result<bool, ClusterError> {
        within(give_back(self.client.clone(), namespace, pod)).await
    }
}

fn by_autoscaler() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER_AUTOSCALER.to_owned()), ..PatchParams::default() }
}

async fn within<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ClusterError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(classify(error)),
        Err(_) => Err(ClusterError::Uncertain(format!("nothing within {} s", CALL.as_secs()))),
    }
}

/// A status below 500 is a certain no. Anything else may yet be carried out.
fn classify(error: kube::Error) -> ClusterError {
    match error {
        kube::Error::Api(status) => match status.code {
            404 => ClusterError::Gone,
            409 => ClusterError::Conflict,
            code @ 400..500 => ClusterError::Refused { code, message: status.message },
            _ => ClusterError::Uncertain(status.message),
        },
        other => ClusterError::Uncertain(other.to_string()),
    }
}

fn read(scale: &Scale) -> Result<ScaleRead, ClusterError> {
    let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    let resource_version = scale.metadata.resource_version.clone();
    Ok(ScaleRead {
        replicas: u32::try_from(replicas).unwrap_or(0),
        resource_version: resource_version
            .ok_or_else(|| ClusterError::Uncertain("a scale without a resource version".to_owned()))?,
    })
}

/// The activator in a pod, if its process may be running.
pub(super) fn peer(pod: &Pod, port: u16) -> Option<Peer> {
    let status = pod.status.as_ref().filter(|_| may_run(pod))?;
    let ip: Option<IpAddr> = status.pod_ip.as_deref().and_then(|ip| ip.parse().ok());
    Some(Peer {
        uid: pod.metadata.uid.clone()?,
        pod: pod.metadata.name.clone().unwrap_or_default(),
        address: ip.map(|ip| SocketAddr::new(ip, port)),
    })
}

fn pod_read(pod: &Pod) -> Option<PodRead> {
    let status = pod.status.as_ref()?;
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if over || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let assigned = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let class = match (assigned, status.phase.as_deref()) {
        (None | Some(""), _) => RemovalClass::Unassigned,
        (_, Some("Running")) if is_ready(pod) => RemovalClass::Ready,
        (_, Some("Running")) => RemovalClass::NotReady,
        _ => RemovalClass::Pending,
    };
    let annotations = pod.metadata.annotations.as_ref();
    let cost = annotations
        .and_then(|annotations| annotations.get(ANNOTATION_DELETION_COST))
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0);
    let created = pod.metadata.creation_timestamp.as_ref();
    Some(PodRead {
        uid: pod.metadata.uid.clone()?,
        name: pod.metadata.name.clone()?,
        class,
        parked: is_swapped(pod),
        cost,
        created: created.map_or(0, |time| time.0.as_second()),
    })
}

/// Whether Kubernetes calls the pod ready.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref());
    conditions.unwrap_or_default().iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
