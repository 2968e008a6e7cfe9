//! The `Function` resource: what an author writes.

use k8s_openapi::api::core::v1::{
    Affinity, EnvFromSource, EnvVar, LocalObjectReference, PodSecurityContext, Probe,
    ResourceRequirements, SecurityContext, Toleration, TopologySpreadConstraint, VolumeMount,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::policy::{ColdStart, Concurrency, Scaling, Timeouts};
use crate::status::FunctionStatus;
use crate::workload::{FunctionVolume, PodMetadata, Protocol, PullPolicy};

/// A serverless workload: an ordinary container image that runs only while requests need it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "pilotlight.dev",
    version = "v1alpha1",
    kind = "Function",
    namespaced,
    status = "FunctionStatus",
    shortname = "fn",
    shortname = "plfn",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct FunctionSpec {
    /// Container image. It must listen for HTTP on the port in the environment variable `PORT`.
    pub image: String,
    /// Entrypoint, in place of the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments, in place of the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment variables, as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// ConfigMaps and Secrets whose keys become environment variables, as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvFromSource>,
    /// TCP port that the container listens on; also its `PORT`.
    #[serde(default = "default_port")]
    pub port: u16,
    /// What the container speaks on that port.
    #[serde(default)]
    pub protocol: Protocol,
    /// CPU, memory and other resources, as in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Startup probe, as in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
    /// Readiness probe, as in a pod. The activator uses it to find a starting pod ready sooner than Kubernetes does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// Liveness probe, as in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// Volumes: ConfigMap, Secret, emptyDir or PersistentVolumeClaim.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<FunctionVolume>,
    /// Where the container sees the volumes, as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Security context of the container. What is not set here keeps Pod Security's `restricted` defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
    /// Security context of the pod. What is not set here keeps Pod Security's `restricted` defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security_context: Option<PodSecurityContext>,
    /// Service account of the pods; the namespace's `default` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Whether pods get a token of their service account. Off by default: it delays every cold start by some 300 ms and few
    /// functions call the Kubernetes API.
    #[serde(default)]
    pub automount_service_account_token: bool,
    /// Whether pods get environment variables for every Service of the namespace. Off by default: it slows starts.
    #[serde(default)]
    pub enable_service_links: bool,
    /// Secrets for pulling the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// When to pull the image; Kubernetes' own default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Scheduling affinity, as in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How pods spread over nodes and zones, as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Runtime class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
    /// Seconds between SIGTERM and SIGKILL when a pod goes.
    #[serde(default = "default_grace")]
    pub termination_grace_period_seconds: i64,
    /// Labels and annotations for the pods.
    #[serde(default)]
    pub pod_metadata: PodMetadata,
    /// How the number of pods follows load.
    #[serde(default)]
    pub scaling: Scaling,
    /// How many requests a pod may have at once.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// How long a request may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What happens while no pod is ready.
    #[serde(default)]
    pub cold_start: ColdStart,
}

fn default_port() -> u16 {
    8080
}

fn default_grace() -> i64 {
    30
}
