//! The pod template of a revision.
//!
//! What always holds: the container contract (name, `PORT`, `K_SERVICE`, `K_REVISION`, `K_CONFIGURATION`, a port named after
//! the protocol) wins over what the author wrote, everything else of the author's stays; and a pod always has a readiness
//! probe, so that `Ready` means that something listens.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, PodSpec, PodTemplateSpec, Probe, TCPSocketAction, Volume,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;
use pilotlight_crds::park;
use pilotlight_crds::policy::IdleRung;
use pilotlight_crds::workload::{FunctionVolume, Protocol, PullPolicy};
use pilotlight_crds::{FunctionSpec, names};
use std::collections::BTreeMap;

use super::{revision_labels, security};

/// Environment variables of the container contract; an author cannot set them.
pub const RESERVED_ENV: [&str; 4] = ["PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"];

/// Name of the container's port, and of the Service's, for `protocol`.
pub fn port_name(protocol: Protocol) -> &'static str {
    protocol.port_name()
}

/// The pod template of `revision` of the Function named `function`.
pub fn template(function: &str, revision: &str, spec: &FunctionSpec) -> PodTemplateSpec {
    let mut labels = spec.pod_metadata.labels.clone();
    labels.extend(revision_labels(function, revision));
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: non_empty_map(&spec.pod_metadata.annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(function, revision, spec)),
    }
}

fn pod_spec(function: &str, revision: &str, spec: &FunctionSpec) -> PodSpec {
    PodSpec {
        containers: vec![container(function, revision, spec)],
        volumes: non_empty(spec.volumes.iter().map(volume).collect()),
        service_account_name: spec.service_account_name.clone(),
        automount_service_account_token: Some(spec.automount_service_account_token),
        enable_service_links: Some(spec.enable_service_links),
        image_pull_secrets: non_empty(spec.image_pull_secrets.clone()),
        node_selector: non_empty_map(&spec.node_selector),
        tolerations: non_empty(spec.tolerations.clone()),
        affinity: spec.affinity.clone(),
        topology_spread_constraints: non_empty(spec.topology_spread_constraints.clone()),
        runtime_class_name: spec.runtime_class_name.clone(),
        security_context: Some(security::pod(spec.pod_security_context.as_ref())),
        termination_grace_period_seconds: Some(spec.termination_grace_period_seconds),
        ..PodSpec::default()
    }
}

fn container(function: &str, revision: &str, spec: &FunctionSpec) -> Container {
    let mut container = bare(function, revision, spec);
    // Whoever holds the function's place has to answer its probes, and knows no more than its environment.
    let ports: Vec<_> = park::probe_ports(&container).iter().map(u16::to_string).collect();
    if !ports.is_empty() {
        let (name, value) = (park::ENV_PROBE_PORTS.to_owned(), Some(ports.join(",")));
        container.env.get_or_insert_default().push(EnvVar { name, value, value_from: None });
    }
    container
}

fn bare(function: &str, revision: &str, spec: &FunctionSpec) -> Container {
    Container {
        name: names::CONTAINER.to_owned(),
        image: Some(spec.image.clone()),
        image_pull_policy: spec.image_pull_policy.or_else(|| pinned(spec)).map(pull_policy),
        command: non_empty(spec.command.clone()),
        args: non_empty(spec.args.clone()),
        env: Some(env(function, revision, spec)),
        env_from: non_empty(spec.env_from.clone()),
        ports: Some(vec![ContainerPort {
            name: Some(port_name(spec.protocol).to_owned()),
            container_port: i32::from(spec.port),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: spec.resources.clone(),
        startup_probe: spec.startup_probe.clone(),
        readiness_probe: Some(spec.readiness_probe.clone().unwrap_or_else(|| default_readiness_probe(spec))),
        liveness_probe: spec.liveness_probe.clone(),
        volume_mounts: non_empty(spec.volume_mounts.clone()),
        security_context: Some(security::container(spec.security_context.as_ref())),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn is_ours(variable: &str) -> bool {
    RESERVED_ENV.contains(&variable) || variable == park::ENV_PROBE_PORTS
}

/// Ours come first, so that the author's may refer to them as `$(PORT)`.
fn env(function: &str, revision: &str, spec: &FunctionSpec) -> Vec<EnvVar> {
    let port = spec.port.to_string();
    let values = [port.as_str(), function, revision, function];
    RESERVED_ENV
        .iter()
        .zip(values)
        .map(|(name, value)| EnvVar { name: (*name).to_owned(), value: Some(value.to_owned()), value_from: None })
        .chain(spec.env.iter().filter(|variable| !is_ours(&variable.name)).cloned())
        .collect()
}

/// Whether something listens, asked every second. It costs a pod nothing and delays nobody: the activator never waits for it.
fn default_readiness_probe(spec: &FunctionSpec) -> Probe {
    Probe {
        tcp_socket: Some(TCPSocketAction {
            port: IntOrString::String(port_name(spec.protocol).to_owned()),
            host: None,
        }),
        period_seconds: Some(1),
        ..Probe::default()
    }
}

/// A parked pod's function comes back without a registry's help, and the policy of a running pod cannot be changed.
fn pinned(spec: &FunctionSpec) -> Option<PullPolicy> {
    spec.scaling.states(IdleRung::Parked).then_some(PullPolicy::IfNotPresent)
}

fn pull_policy(policy: PullPolicy) -> String {
    match policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    }
    .to_owned()
}

fn volume(volume: &FunctionVolume) -> Volume {
    Volume {
        name: volume.name.clone(),
        config_map: volume.config_map.clone(),
        secret: volume.secret.clone(),
        empty_dir: volume.empty_dir.clone(),
        persistent_volume_claim: volume.persistent_volume_claim.clone(),
        ..Volume::default()
    }
}

fn non_empty<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

fn non_empty_map(map: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then(|| map.clone())
}
