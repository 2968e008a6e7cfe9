//! What the caches forget: whatever no part of the operator reads. It is most of an object's size.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ObjectMeta;
use pilotlight_crds::Function;

use crate::drift::{CACHED_FOREIGN_TEMPLATE, foreign_template};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.self_link = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

pub(super) fn function(function: &mut Function) {
    metadata(&mut function.metadata);
}

/// Keeps what a diagnosis and the autoscaler read.
pub(super) fn pod(pod: &mut Pod) {
    metadata(&mut pod.metadata);
    let Some(spec) = &mut pod.spec else { return };
    spec.volumes = None;
    spec.tolerations = None;
    spec.affinity = None;
    spec.topology_spread_constraints = None;
    spec.init_containers = None;
    for container in &mut spec.containers {
        container.env = None;
        container.env_from = None;
        container.volume_mounts = None;
        container.security_context = None;
    }
}

pub(super) fn deployment(deployment: &mut Deployment) {
    let foreign = deployment.metadata.managed_fields.as_deref().is_some_and(foreign_template);
    metadata(&mut deployment.metadata);
    if foreign {
        deployment
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(CACHED_FOREIGN_TEMPLATE.to_owned(), String::new());
    }
}

pub(super) fn service(service: &mut Service) {
    metadata(&mut service.metadata);
}

pub(super) fn slice(slice: &mut EndpointSlice) {
    metadata(&mut slice.metadata);
}
