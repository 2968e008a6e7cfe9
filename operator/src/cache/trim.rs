//! What the caches forget: whatever no part of the operator reads. It is most of an object's size.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ObjectMeta;
use pilotlight_crds::Function;

use crate::contention::{Field, to_cache};
use crate::drift::{CACHED_FOREIGN_TEMPLATE, foreign_template};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub(super) fn metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.self_link = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

/// Whether it has no pods, by its status.
pub(super) fn without_pods(function: &Function) -> bool {
    function.status.as_ref().is_none_or(|status| status.replicas == 0)
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

/// Keeps what the managed fields tell of others' writes; `before` is the Deployment as the cache has it.
pub(super) fn deployment(deployment: &mut Deployment, before: Option<&Deployment>) {
    let managed = deployment.metadata.managed_fields.take().unwrap_or_default();
    metadata(&mut deployment.metadata);
    let annotations = &mut deployment.metadata.annotations;
    if foreign_template(&managed) {
        annotations.get_or_insert_default().insert(CACHED_FOREIGN_TEMPLATE.to_owned(), String::new());
    }
    // A Deployment of the same name that was made anew is another.
    let before = before.filter(|before| before.metadata.uid == deployment.metadata.uid);
    if let Some(write) = to_cache(Field::Replicas, &managed, before, Timestamp::now()) {
        annotations.get_or_insert_default().insert(Field::Replicas.cached().to_owned(), write);
    }
}

/// Whether nothing of it runs, and nobody wants it to.
pub(super) fn at_zero(deployment: &Deployment) -> bool {
    let asked = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    let there = deployment.status.as_ref().and_then(|status| status.replicas);
    asked == Some(0) && there.unwrap_or(0) == 0
}

/// What the managed fields tell of others' writes, for a Service.
pub(super) fn service(service: &mut Service, before: Option<&Service>) {
    let managed = service.metadata.managed_fields.take().unwrap_or_default();
    metadata(&mut service.metadata);
    let before = before.filter(|before| before.metadata.uid == service.metadata.uid);
    if let Some(write) = to_cache(Field::Selector, &managed, before, Timestamp::now()) {
        let annotations = service.metadata.annotations.get_or_insert_default();
        annotations.insert(Field::Selector.cached().to_owned(), write);
    }
}

pub(super) fn slice(slice: &mut EndpointSlice) {
    metadata(&mut slice.metadata);
}
