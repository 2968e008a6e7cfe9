//! The rung Parked as it stands on a pod: which image its function's container has, which it had, and what to ask for. Pure.
//!
//! What always holds: a pod carries the function's image with its digest from before the placeholder takes its place, and for good; so whoever
//! finds it, after whatever crash, can bring the function back. Every swap names the image by a tag that was never used on that pod, because
//! kubelet counts restarts of the same reference and makes them wait; the runtime goes by the digest alone.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use serde_json::{Value, json};

use crate::names::{ANNOTATION_IMAGE, ANNOTATION_REQUESTS, BEACON_CONTAINER, CONTAINER, LABEL_RUNG, RUNG_PARKED};

mod reserve;
mod shape;

pub use reserve::{Requests, requests_to_note, reserves, to_regrow, to_shrink};
pub use shape::{ENV_PROBE_PORTS, PORT, probe_ports, unfit};

/// Line that a placeholder writes to whoever connects to [`PORT`].
pub const GREETING: &str = "pilotlight-placeholder\n";

/// What it takes to park a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The function's image with its digest, for the annotation.
    pub function: String,
    /// The placeholder's image, as it is to be written.
    pub image: String,
    /// What the function requests, for the annotation.
    pub requests: Option<String>,
}

/// A pod that is parked, or about to be, or about to be no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parking {
    /// The pod's uid.
    pub uid: String,
    /// The version in which it is so; whatever is done about it holds only for that.
    pub resource_version: String,
    /// How often its image was swapped.
    pub turn: u64,
    /// Its container's image is the placeholder's. `false`: a mark alone.
    pub swapped: bool,
    /// Kubernetes says that the placeholder runs, so that nothing is left of the function's process.
    pub placeholder_runs: bool,
    function: String,
}

impl Parking {
    /// What a pod shows; `None` for one that has its function and is not about to lose it.
    pub fn of(pod: &Pod) -> Option<Self> {
        let swapped = is_swapped(pod);
        if !swapped && !is_marked(pod) {
            return None;
        }
        let function = recorded(pod)?.to_owned();
        Some(Self {
            uid: pod.metadata.uid.clone()?,
            resource_version: pod.metadata.resource_version.clone()?,
            turn: turn(pod),
            swapped,
            placeholder_runs: swapped && runs(pod).is_some_and(|running| digest(running) != digest(&function)),
            function,
        })
    }

    /// Which turn it is once the function is back.
    pub fn turn_after(&self) -> u64 {
        self.turn + u64::from(self.swapped)
    }

    /// The patch that brings the function back and takes the mark away, for the very version that was seen.
    pub fn end(&self) -> Value {
        let mut patch = json!({ "metadata": {
            "uid": self.uid,
            "resourceVersion": self.resource_version,
            "labels": { LABEL_RUNG: null },
        } });
        if self.swapped {
            patch["spec"] = image_of_function(&tagged(&self.function, self.turn_after()));
        }
        patch
    }
}

/// What it takes to park a pod, or why it cannot be.
///
/// # Errors
/// Why not, for a person, and what helps.
pub fn plan(pod: &Pod) -> Result<Plan, String> {
    let container = function_of(pod).ok_or("it has no container named function")?;
    if let Some(unfit) = unfit(container) {
        return Err(unfit);
    }
    if container.image_pull_policy.as_deref() == Some("Always") {
        return Err("its imagePullPolicy is Always, and a registry would be asked at every wake; set spec.imagePullPolicy to IfNotPresent".to_owned());
    }
    let function = recorded(pod).or_else(|| status_of(pod, CONTAINER).map(|status| status.image_id.as_str()));
    let function = function.filter(|image| is_reference(image)).ok_or(
        "the container runtime tells no digest of its image; pull it from a registry rather than loading it onto the node by hand",
    )?;
    let pilot =
        status_of(pod, BEACON_CONTAINER).map(|status| status.image_id.as_str()).filter(|image| is_reference(image));
    let pilot = pilot.ok_or(
        "it has no beacon whose image could take its place; leave spec.coldStart.beacon at Enabled, and the pilot's image in a registry",
    )?;
    let requests = requests_to_note(pod).map(|requests| requests.record());
    Ok(Plan { function: function.to_owned(), image: tagged(pilot, turn(pod) + 1), requests })
}

/// The patch of a pod that says it is to be parked, which image it has and what it requests: always written before the image is swapped.
pub fn mark(uid: &str, plan: &Plan) -> Value {
    let mut annotations = json!({ ANNOTATION_IMAGE: plan.function });
    if let Some(requests) = &plan.requests {
        annotations[ANNOTATION_REQUESTS] = json!(requests);
    }
    json!({ "metadata": { "uid": uid, "labels": { LABEL_RUNG: RUNG_PARKED }, "annotations": annotations } })
}

/// The patch that swaps the image, for the very version that was marked.
pub fn swap(uid: &str, resource_version: &str, plan: &Plan) -> Value {
    json!({
        "metadata": { "uid": uid, "resourceVersion": resource_version },
        "spec": image_of_function(&plan.image),
    })
}

/// Whether a pod says that it is, or is about to be, parked.
pub fn is_marked(pod: &Pod) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_RUNG)).is_some_and(|rung| rung == RUNG_PARKED)
}

/// Whether the container's image is the placeholder's.
pub fn is_swapped(pod: &Pod) -> bool {
    let image = function_of(pod).and_then(|container| container.image.as_deref());
    let (Some(image), Some(function)) = (image, recorded(pod)) else { return false };
    turn_of(image) > 0 && digest(image) != digest(function)
}

/// How often a pod's image was swapped, there and back.
pub fn turn(pod: &Pod) -> u64 {
    function_of(pod).and_then(|container| container.image.as_deref()).map_or(0, turn_of)
}

/// Whether Kubernetes says that a pod's function runs, rather than a placeholder.
pub fn function_runs(pod: &Pod) -> bool {
    !is_swapped(pod)
        && runs(pod).is_some_and(|running| recorded(pod).is_none_or(|function| digest(running) == digest(function)))
}

/// The image that the function's container runs at the moment, as the runtime names it.
fn runs(pod: &Pod) -> Option<&str> {
    let status = status_of(pod, CONTAINER)?;
    status.state.as_ref()?.running.as_ref()?;
    Some(&status.image_id)
}

fn recorded(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(ANNOTATION_IMAGE).map(String::as_str)
}

fn function_of(pod: &Pod) -> Option<&Container> {
    pod.spec.as_ref()?.containers.iter().find(|container| container.name == CONTAINER)
}

fn status_of<'p>(pod: &'p Pod, container: &str) -> Option<&'p ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|status| status.name == container)
}

fn image_of_function(image: &str) -> Value {
    json!({ "containers": [{ "name": CONTAINER, "image": image }] })
}

/// Whether this is `repository@sha256:…`, which a kubelet can be asked for.
fn is_reference(image: &str) -> bool {
    !image.contains("://")
        && image.split_once('@').is_some_and(|(name, digest)| !name.is_empty() && digest.starts_with("sha256:"))
}

fn digest(image: &str) -> &str {
    image.split_once('@').map_or("", |(_, digest)| digest)
}

/// `repository:w<turn>@sha256:…`.
fn tagged(reference: &str, turn: u64) -> String {
    match reference.split_once('@') {
        Some((repository, digest)) => format!("{repository}:w{turn}@{digest}"),
        None => reference.to_owned(),
    }
}

fn turn_of(image: &str) -> u64 {
    let name = image.split_once('@').map(|(name, _)| name);
    name.and_then(|name| name.rsplit_once(":w")).and_then(|(_, turn)| turn.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
