//! Raw Kubernetes: a plain Deployment goes from 0 to 1, its pod is watched for an address, and the address is asked until it answers. Nobody
//! without a part of their own on the node or in the pod can answer sooner.
//!
//! The pod is what Kubernetes makes of the same image and security settings. It has no probes, so Kubernetes reports it ready at the first
//! moment that it can.

use std::time::{Duration, Instant};

use crate::cold_start::{REACHABLE, phases};
use crate::fixture::PATIENCE;
use crate::http;
use crate::reach::{Reach, is_ready};
use crate::stage::Stage;
use crate::timeline::{Observer, Subject};
use crate::wait::until;
use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::timeout;

/// Name of the Deployment.
const NAME: &str = "hello";
/// Where the examples listen.
const PORT: u16 = 8080;
/// Name of the pod's container.
const CONTAINER: &str = "app";
/// Between two attempts at an address.
const POLL: Duration = Duration::from_millis(5);
/// How long a connection may take in the cluster's network. One to an address whose interface is not up yet would hang for a second.
const CONNECT: Duration = Duration::from_millis(100);

/// What came of one start.
#[derive(Clone, Debug)]
pub struct FloorStart {
    /// From the beginning until the whole answer was there.
    pub answered: Duration,
    /// Until Kubernetes reported the pod ready.
    pub ready: Duration,
    /// Until each phase before the answer, in order.
    pub moments: Vec<(&'static str, Duration)>,
}

/// Makes the Deployment, at zero.
///
/// # Errors
/// When the API server refuses.
pub async fn create(stage: &Stage, image: &str, runtime_class: Option<&str>) -> Result<()> {
    create_named(stage, NAME, image, runtime_class).await
}

/// Makes a Deployment of this name, at zero; its pods have the name as their label `app`.
///
/// # Errors
/// When the API server refuses.
pub async fn create_named(stage: &Stage, name: &str, image: &str, runtime_class: Option<&str>) -> Result<()> {
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "runtimeClassName": runtime_class,
                    // What the namespace asks for, and a Function's pod has as well.
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": CONTAINER,
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "env": [{"name": "PORT", "value": PORT.to_string()}],
                        "ports": [{"containerPort": PORT}],
                        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                    }],
                },
            },
        },
    }))?;
    stage.api::<Deployment>().create(&PostParams::default(), &deployment).await?;
    Ok(())
}

/// Asks for this many pods.
///
/// # Errors
/// When the API server refuses.
pub async fn scale(stage: &Stage, replicas: u32) -> Result<()> {
    scale_named(stage, NAME, replicas).await
}

/// Asks for this many pods of a Deployment.
///
/// # Errors
/// When the API server refuses.
pub async fn scale_named(stage: &Stage, name: &str, replicas: u32) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    stage.api::<Deployment>().patch_scale(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Waits until no pod is left, those that terminate included.
///
/// # Errors
/// When that takes over [`PATIENCE`].
pub async fn at_zero(stage: &Stage) -> Result<()> {
    let labels = ListParams::default().labels(&format!("app={NAME}"));
    let pods = || async { Ok(stage.api::<Pod>().list(&labels).await?.items) };
    until("the plain Deployment at zero", PATIENCE, pods, Vec::is_empty).await.map(drop)
}

/// Begins to watch.
pub async fn look(stage: &Stage) -> Observer {
    let subject =
        Subject { labels: format!("app={NAME}"), prefix: format!("{NAME}-"), container: CONTAINER.to_owned() };
    let mut observer = Observer::start(&stage.reach.client, &stage.namespace, &subject);
    observer.begun().await;
    observer
}

/// Asks for one pod, and waits for its first answer and until Kubernetes reports it ready.
///
/// # Errors
/// When it does not start, or the API server does not tell of every phase.
pub async fn start(stage: &Stage, mut observer: Observer) -> Result<FloorStart> {
    let begun = Instant::now();
    scale(stage, 1).await?;
    let addressed = observer.pod(begun, |pod| address(pod).is_some());
    let seen = timeout(PATIENCE, addressed).await.context("the pod got no address")?;
    let (pod, _) = seen.context("the watch of pods ended")?;
    let (reachable, answered) = first_answer(&stage.reach, &pod, begun).await?;
    let ready = timeout(PATIENCE, observer.pod(begun, is_ready)).await.context("the pod did not become ready")?;
    let (_, ready) = ready.context("the watch of pods ended")?;
    let mut moments = phases(&mut observer, begun).await?;
    // A port forward is there before anything listens behind it.
    if stage.reach.in_network() {
        moments.push((REACHABLE, reachable));
    }
    Ok(FloorStart { answered, ready: ready - begun, moments })
}

/// The address that Kubernetes tells of the pod.
pub fn address(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref()
}

/// Asks until the answer is there. Returns when the connection was made that it came over, and when it was whole, both from `begun` on.
///
/// # Errors
/// When there is none within [`PATIENCE`].
pub async fn first_answer(reach: &Reach, pod: &Pod, begun: Instant) -> Result<(Duration, Duration)> {
    loop {
        let refused = match attempt(reach, pod, begun).await {
            Ok(answered) => return Ok(answered),
            Err(refused) => refused,
        };
        if begun.elapsed() > PATIENCE {
            bail!(refused.context(format!("no answer within {PATIENCE:?}")));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn attempt(reach: &Reach, pod: &Pod, begun: Instant) -> Result<(Duration, Duration)> {
    let limit = if reach.in_network() { CONNECT } else { PATIENCE };
    let stream = timeout(limit, reach.pod(pod, PORT)).await.context("no connection")??;
    let reachable = begun.elapsed();
    let request = Request::get("/").header("host", NAME).body(Full::<Bytes>::default())?;
    let answer = timeout(PATIENCE, http::exchange(stream, request, begun)).await.context("no answer")??;
    ensure!(answer.status.is_success(), "answered {}: {}", answer.status, answer.text());
    Ok((reachable, answer.took))
}
