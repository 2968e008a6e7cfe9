//! All that the activator ever writes to Kubernetes: a Deployment's `/scale`, and what it gives back to pods that are throttled or parked.

use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use pilotlight_crds::names::MANAGER_ACTIVATOR;
use pilotlight_crds::park::{self, Parking};
use pilotlight_crds::throttle;
use std::time::Duration;

/// A Deployment's `/scale`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// `spec.replicas`.
    pub replicas: i32,
    /// Precondition of the next write.
    pub resource_version: String,
}

/// Why `/scale` could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// Somebody wrote it meanwhile: read it again.
    #[error("/scale was changed meanwhile")]
    Conflict,
    /// There is no such Deployment.
    #[error("the revision's Deployment does not exist; the operator brings it back when it runs")]
    NotFound,
    /// The API server refuses.
    #[error("the API server refuses to let the activator scale the Deployment: {0}")]
    Refused(String),
    /// The API server does not answer.
    #[error("the API server does not answer: {0}")]
    Unavailable(String),
}

impl ScaleError {
    /// CamelCase, for answers and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Conflict => "ScaleConflict",
            Self::NotFound => "DeploymentNotFound",
            Self::Refused(_) => "ScaleRefused",
            Self::Unavailable(_) => "ApiServerUnavailable",
        }
    }
}

/// Reads and writes `/scale`. Tests bring their own.
pub trait ScalePort: Send + Sync + 'static {
    /// Reads it.
    fn get<'a>(&'a self, namespace: &'a str, deployment: &'a str) -> BoxFuture<'a, Result<Scale, ScaleError>>;

    /// Sets `replicas`, on condition that it still has `resource_version`.
    fn set<'a>(
        &'a self,
        namespace: &'a str,
        deployment: &'a str,
        replicas: i32,
        resource_version: &'a str,
    ) -> BoxFuture<'a, Result<(), ScaleError>>;

    /// Gives a throttled pod its CPU back. Once it has returned, the pod has it, and no throttling that was begun before can take it
    /// any more. Nothing to do is no error.
    fn restore<'a>(&'a self, namespace: &'a str, pod: &'a str, uid: &'a str) -> BoxFuture<'a, Result<(), ScaleError>>;

    /// How a pod is parked; `None` where it is not.
    fn parking<'a>(&'a self, namespace: &'a str, pod: &'a str) -> BoxFuture<'a, Result<Option<Parking>, ScaleError>>;

    /// Gives a parked pod its function back, if it is still as it was seen. Once it has returned, no parking that was begun before can happen
    /// any more.
    fn unpark<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        parking: &'a Parking,
    ) -> BoxFuture<'a, Result<(), ScaleError>>;

    /// Lets a pod that has its function request again what it needs. Nothing to do is no error.
    fn regrow<'a>(&'a self, namespace: &'a str, pod: &'a str, uid: &'a str) -> BoxFuture<'a, Result<(), ScaleError>>;
}

/// One call must not hold a wake up for longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// [`ScalePort`] on a real API server.
#[derive(Clone)]
pub struct KubeScale {
    client: kube::Client,
}

impl KubeScale {
    /// Uses this client.
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    fn api(&self, namespace: &str) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

impl ScalePort for KubeScale {
    fn get<'a>(&'a self, namespace: &'a str, deployment: &'a str) -> BoxFuture<'a, Result<Scale, ScaleError>> {
        Box::pin(async move {
            let api = self.api(namespace);
            let scale = within(api.get_scale(deployment)).await?;
            Ok(Scale {
                replicas: scale.spec.and_then(|spec| spec.replicas).unwrap_or(0),
                resource_version: scale.metadata.resource_version.unwrap_or_default(),
            })
        })
    }

    fn set<'a>(
        &'a self,
        namespace: &'a str,
        deployment: &'a str,
        replicas: i32,
        resource_version: &'a str,
    ) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move {
            let api = self.api(namespace);
            let params = by_activator();
            let patch = serde_json::json!({
                "metadata": { "resourceVersion": resource_version },
                "spec": { "replicas": replicas },
            });
            within(api.patch_scale(deployment, &params, &Patch::Merge(&patch))).await?;
            Ok(())
        })
    }

    fn restore<'a>(&'a self, namespace: &'a str, pod: &'a str, uid: &'a str) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
            let params = by_activator();
            // First the mark: from then on a resize that was sent for it fails. The answer tells what is left to be done.
            let unmarked = Patch::Strategic(throttle::unmark(uid));
            let found = within(api.patch(pod, &params, &unmarked)).await?;
            if let Some(cpu) = throttle::to_give_back(&found) {
                let resize = Patch::Strategic(cpu.resize(uid, None));
                within(api.patch_subresource("resize", pod, &params, &resize)).await?;
            }
            Ok(())
        })
    }

    fn parking<'a>(&'a self, namespace: &'a str, pod: &'a str) -> BoxFuture<'a, Result<Option<Parking>, ScaleError>> {
        Box::pin(async move {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
            Ok(Parking::of(&within(api.get(pod)).await?))
        })
    }

    fn unpark<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        parking: &'a Parking,
    ) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
            let params = by_activator();
            within(api.patch(pod, &params, &Patch::Strategic(parking.end()))).await.map(drop)
        })
    }

    fn regrow<'a>(&'a self, namespace: &'a str, pod: &'a str, uid: &'a str) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
            let found = within(api.get(pod)).await?;
            let Some(requests) = park::to_regrow(&found) else { return Ok(()) };
            let patch = Patch::Strategic(requests.resize(uid, None));
            within(api.patch_subresource("resize", pod, &by_activator(), &patch)).await.map(drop)
        })
    }
}

fn by_activator() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER_ACTIVATOR.to_owned()), ..PatchParams::default() }
}

async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, ScaleError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => Err(match status.code {
            404 => ScaleError::NotFound,
            409 => ScaleError::Conflict,
            code if code == 429 || code >= 500 => ScaleError::Unavailable(status.message.clone()),
            _ => ScaleError::Refused(status.message.clone()),
        }),
        Ok(Err(error)) => Err(ScaleError::Unavailable(error.to_string())),
        Err(_) => Err(ScaleError::Unavailable(format!("no answer within {} s", CALL_TIMEOUT.as_secs()))),
    }
}
