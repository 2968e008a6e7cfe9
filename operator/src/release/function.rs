//! The release of one Function: a pod at least, then a selector for its Service, then Pilotlight's own EndpointSlice goes.

use anyhow::{Context as _, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, Patch};
use kube::{Client, ResourceExt};
use pilotlight_crds::park::{self, Parking};
use pilotlight_crds::workload::Protocol;
use pilotlight_crds::{Function, names, throttle};
use serde_json::json;
use std::time::{Duration, Instant};

use crate::apply::release_selector;
use crate::autoscaler::parking::can_end;
use crate::build::pod::port_name;
use crate::build::{owns, revision_selector};
use crate::cpu::{by_autoscaler, end_boost, give_back};

/// Between two looks at what Kubernetes made of a selector; it takes a moment.
const LOOK: Duration = Duration::from_millis(100);
/// Longest wait for functions that come back in parked pods.
const COMING_BACK: Duration = Duration::from_secs(20);

/// A Function whose Deployment has been given a replica, and whose Service does not lead past the activators yet.
pub(super) struct Releasing {
    client: Client,
    function: Function,
    namespace: String,
    revision: String,
    protocol: Protocol,
}

impl Releasing {
    /// Sees to it that the Deployment wants at least one pod. `None`: there is nothing to release.
    ///
    /// Errors are logged.
    pub(super) async fn begin(client: Client, function: Function) -> anyhow::Result<Option<Self>> {
        let (name, namespace) = (function.name_any(), function.namespace().unwrap_or_default());
        let begun = Self::scale(client, function).await;
        begun.inspect_err(|error| log(&name, &namespace, error))
    }

    async fn scale(client: Client, function: Function) -> anyhow::Result<Option<Self>> {
        let namespace = function.namespace().unwrap_or_default();
        let Some(revision) = active_revision(&function) else {
            let name = function.name_any();
            // Without activators its Service must refuse connections, rather than lead to addresses where nobody answers.
            delete_slice(&client, &namespace, &name).await?;
            tracing::info!(
                function = name,
                namespace,
                "this Function never had a revision; there is nothing to release"
            );
            return Ok(None);
        };
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
        let Some(deployment) = deployments.get_opt(&revision).await? else {
            bail!("its revision {revision} has no Deployment");
        };
        if !owns(&function, &deployment.metadata) {
            bail!("the Deployment {revision} is not the Function's");
        }
        scale_to_one(&deployments, &revision).await?;
        bring_back(&client, &namespace, &function.name_any(), Duration::ZERO)
            .await
            .context("cannot give its idle pods back what they had")?;
        let protocol = spoken(&deployment).unwrap_or(function.spec.protocol);
        Ok(Some(Self { client, function, namespace, revision, protocol }))
    }

    /// Namespace and name of its Deployment.
    pub(super) fn deployment(&self) -> (String, String) {
        (self.namespace.clone(), self.revision.clone())
    }

    /// Leads the Service to the pods, and then no longer to activators.
    ///
    /// Errors are logged.
    pub(super) async fn finish(self, ready: bool, deadline: Instant) -> anyhow::Result<()> {
        let name = self.function.name_any();
        let switched = self.switch(&name, ready, deadline).await;
        switched.inspect_err(|error| log(&name, &self.namespace, error))
    }

    async fn switch(&self, name: &str, ready: bool, deadline: Instant) -> anyhow::Result<()> {
        let (function, namespace, revision) = (&self.function, &self.namespace, &self.revision);
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        if let Some(service) = services.get_opt(name).await?
            && !owns(function, &service.metadata)
        {
            bail!("the Service {name} is not the Function's");
        }
        bring_back(&self.client, namespace, name, COMING_BACK)
            .await
            .context("cannot give its parked pods their function back")?;
        release_selector(&services, function, self.protocol, revision_selector(name, revision))
            .await
            .context("cannot give the Service its selector")?;
        if ready {
            wait_until_led(&self.client, namespace, name, deadline).await?;
        } else {
            tracing::warn!(
                function = name,
                namespace,
                revision,
                "no pod became ready in time; the Service leads to them once they are"
            );
        }
        delete_slice(&self.client, namespace, name).await?;
        tracing::info!(function = name, namespace, revision, "released a Function");
        Ok(())
    }
}

/// Deletes the EndpointSlice that Pilotlight made.
async fn delete_slice(client: &Client, namespace: &str, function: &str) -> anyhow::Result<()> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    match slices.delete(&names::endpoint_slice_name(function), &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error).context("cannot delete the EndpointSlice"),
    }
}

fn log(function: &str, namespace: &str, error: &anyhow::Error) {
    tracing::error!(function, namespace, error = format!("{error:#}"), "cannot release a Function");
}

/// What the revision's pods speak, which may differ from the newest spec's.
fn spoken(deployment: &Deployment) -> Option<Protocol> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let port = pod.containers.first()?.ports.as_ref()?.first()?.name.as_deref()?;
    [Protocol::HTTP1, Protocol::H2C].into_iter().find(|protocol| port_name(*protocol) == port)
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
        match deployments.patch_scale(revision, &by_autoscaler(), &patch).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => return Err(error).context("cannot scale its Deployment"),
        }
    }
}

/// Nobody would give a Function's pods their CPU, their function or their requests back any more when requests come, nor take CPU from those that
/// have started.
///
/// `patience`: how long to wait until functions run again.
async fn bring_back(client: &Client, namespace: &str, function: &str, patience: Duration) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_function = ListParams::default().labels(&format!("{}={function}", names::LABEL_FUNCTION));
    let give_up = Instant::now() + patience;
    loop {
        let listed = pods.list(&of_function).await?.items;
        let live = || listed.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let last = Instant::now() >= give_up && !patience.is_zero();
        for pod in live() {
            if throttle::to_give_back(pod).is_some() {
                give_back(client.clone(), namespace, pod).await?;
            }
            end_boost(client.clone(), namespace, pod).await?;
            // In the end kubelet sorts it out by itself, however long that takes: no placeholder may stay.
            if let Some(parking) = Parking::of(pod).filter(|parking| last || can_end(parking)) {
                unpark(&pods, &pod.name_any(), &parking).await?;
            }
            if let Some(requests) = park::to_regrow(pod)
                && let Err(error) = regrow(&pods, pod, &requests).await
            {
                tracing::warn!(function, namespace, pod = %pod.name_any(), %error, "a pod that was parked requests less than it should");
            }
        }
        let asleep = live().any(|pod| Parking::of(pod).is_some());
        // What Kubernetes calls ready may be the placeholder.
        if !asleep && live().all(|pod| park::turn(pod) == 0 || park::function_runs(pod)) {
            return Ok(());
        }
        if Instant::now() >= give_up && (patience.is_zero() || !asleep) {
            if !patience.is_zero() {
                tracing::warn!(function, namespace, "a pod that was parked does not run its function yet");
            }
            return Ok(());
        }
        if Instant::now() >= give_up + patience {
            bail!("its parked pods were changed again and again; run the release once more");
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn regrow(pods: &Api<Pod>, pod: &Pod, requests: &park::Requests) -> kube::Result<()> {
    let patch = Patch::Strategic(requests.resize(&pod.uid().unwrap_or_default(), None));
    pods.patch_subresource("resize", &pod.name_any(), &by_autoscaler(), &patch).await.map(drop)
}

/// If it is still as it was seen; else the next look tells.
async fn unpark(pods: &Api<Pod>, name: &str, parking: &Parking) -> kube::Result<()> {
    match pods.patch(name, &by_autoscaler(), &Patch::Strategic(parking.end())).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(()),
        Err(error) => Err(error),
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
        tokio::time::sleep(LOOK).await;
    }
    tracing::warn!(service, namespace, "Kubernetes has not made the Service's endpoints in time");
    Ok(())
}
