//! The `Function` resource: what an author writes.

#![allow(clippy::duplicated_attributes, reason = "each printer column says its own type and path")]

use k8s_openapi::api::core::v1::{
    Affinity, EnvFromSource, EnvVar, LocalObjectReference, PodSecurityContext, Probe, ResourceRequirements,
    SecurityContext, Toleration, TopologySpreadConstraint, VolumeMount,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::policy::{ColdStart, Concurrency, Scaling, Timeouts};
use crate::rollout::Rollout;
use crate::routing::Visibility;
use crate::status::FunctionStatus;
use crate::target::TargetRef;
use crate::traffic::{Sticky, TrafficTarget};
use crate::workload::{FunctionVolume, PodMetadata, Protocol, PullPolicy};

/// A serverless workload: an ordinary container image that runs only while requests need it. `image` alone is enough; `targetRef`
/// takes over an existing Deployment instead.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "pilotlight.dev",
    version = "v1alpha1",
    kind = "Function",
    namespaced,
    status = "FunctionStatus",
    shortname = "fn",
    shortname = "plfn",
    category = "all",
    category = "pilotlight",
    derive = "Default",
    derive = "PartialEq",
    doc = "Function is a serverless workload: an ordinary container image behind http://<name>.<namespace> that runs only while requests need it.",
    scale(
        spec_replicas_path = ".spec.scaling.minReplicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Rung", type_ = "string", json_path = ".status.rung"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.route.revision"),
    printcolumn(name = "Saved %", type_ = "integer", json_path = ".status.idle.cost.savedPercent", priority = "1"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct FunctionSpec {
    /// Container image, for example `registry.example.com/team/app:1.0`. It must listen for HTTP on the port in the environment
    /// variable `PORT`. Either this or `targetRef`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub image: String,
    /// An existing Deployment that Pilotlight takes over in place of an image: its replicas and the endpoints of the Service that has the Function's
    /// name, and nothing else. Deployment and Service must carry the label `pilotlight.dev/function` with the Function's name. What shapes pods is
    /// the Deployment's then: of such fields only those may be set that say what Pilotlight could not know. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Entrypoint, in place of the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = 32_768)))]
    pub command: Vec<String>,
    /// Arguments, in place of the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 32_768)))]
    pub args: Vec<String>,
    /// Environment variables, as in a pod. `PORT`, `K_SERVICE`, `K_REVISION` and `K_CONFIGURATION` are Pilotlight's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// ConfigMaps and Secrets whose keys become environment variables, as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub env_from: Vec<EnvFromSource>,
    /// TCP port that the container listens on; also its `PORT`. Default 8080. Any port will do: no sidecar takes one. Beside `targetRef` the Service says which.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
    /// What the container speaks on that port: `HTTP1` (the default), or `H2C` for HTTP/2 without TLS, as gRPC servers do.
    #[serde(default)]
    pub protocol: Protocol,
    /// CPU, memory and other resources, as in a pod. Requests above limits are refused when the operator creates the
    /// revision's Deployment: the condition Stalled then has the API server's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Startup probe, as in a pod. While there is no readiness probe, the activator uses it to find a starting pod ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
    /// Readiness probe, as in a pod. The activator uses it, too, and so finds a starting pod ready sooner than Kubernetes does
    /// (HTTP and TCP; with `exec`, `grpc` or HTTPS it waits for Kubernetes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// Liveness probe, as in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// Volumes: ConfigMap, Secret, emptyDir or PersistentVolumeClaim.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub volumes: Vec<FunctionVolume>,
    /// Where the container sees the volumes, as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["mountPath"]))]
    pub volume_mounts: Vec<VolumeMount>,
    /// Security context of the container. What is not set here keeps Pod Security's `restricted` defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
    /// Security context of the pod. What is not set here keeps Pod Security's `restricted` defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security_context: Option<PodSecurityContext>,
    /// Service account of the pods; the namespace's `default` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service_account_name: Option<String>,
    /// Whether pods get a token of their service account. Off by default: it delays every cold start by some 300 ms, and few
    /// functions call the Kubernetes API.
    #[serde(default)]
    pub automount_service_account_token: bool,
    /// Whether pods get environment variables for every Service of the namespace. Off by default: it slows starts.
    #[serde(default)]
    pub enable_service_links: bool,
    /// Secrets of the namespace for pulling the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// When to pull the image: `Always`, `IfNotPresent` or `Never`. Where absent, Kubernetes' own default: `Always` for the tag
    /// `latest` or none, else `IfNotPresent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,
    /// Scheduling affinity, as in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How pods spread over nodes and zones, as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["topologyKey", "whenUnsatisfiable"]
    ))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Runtime class of the pods; the cluster's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub runtime_class_name: Option<String>,
    /// Seconds between SIGTERM and SIGKILL when a pod goes. Default 30.
    #[serde(default = "default_grace")]
    #[schemars(range(min = 1, max = 86_400))]
    pub termination_grace_period_seconds: i64,
    /// Labels and annotations for the pods.
    #[serde(default)]
    pub pod_metadata: PodMetadata,
    /// From where requests reach the Function: `External` (the default), or `Cluster`: then its names outside the cluster lead nowhere, and no gateway,
    /// Ingress or load balancer reaches it. Its names inside the cluster answer either way. A change makes no new revision.
    #[serde(default)]
    pub visibility: Visibility,
    /// Further host names under which requests from outside reach the Function, such as `www.example.com`. Whoever runs Pilotlight says which
    /// namespace may have which domain (the chart's value `hostnames`), and a name that another Function has stays with it: `status.hostnames` tells those
    /// that lead here, and the condition HostnamesReady why others do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub hostnames: Vec<String>,
    /// Which revisions get the traffic: absent, the newest that has proved itself. Name an older one to go back to it, at once and whatever the spec says
    /// else, or several with a `percent` each; a new revision still starts and proves itself meanwhile. The condition TrafficReady tells whether it is so,
    /// `status.route` who gets what. A change makes no new revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub traffic: Vec<TrafficTarget>,
    /// Who came once comes to the same revision again, while several share the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// How traffic moves to a new revision, where `traffic` names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
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

impl Default for FunctionSpec {
    /// What the API server would make of a spec that says nothing.
    fn default() -> Self {
        Self {
            image: String::new(),
            target_ref: None,
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            env_from: Vec::new(),
            port: default_port(),
            protocol: Protocol::default(),
            resources: None,
            startup_probe: None,
            readiness_probe: None,
            liveness_probe: None,
            volumes: Vec::new(),
            volume_mounts: Vec::new(),
            security_context: None,
            pod_security_context: None,
            service_account_name: None,
            automount_service_account_token: false,
            enable_service_links: false,
            image_pull_secrets: Vec::new(),
            image_pull_policy: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            topology_spread_constraints: Vec::new(),
            runtime_class_name: None,
            termination_grace_period_seconds: default_grace(),
            pod_metadata: PodMetadata::default(),
            visibility: Visibility::default(),
            hostnames: Vec::new(),
            traffic: Vec::new(),
            sticky: None,
            rollout: None,
            scaling: Scaling::default(),
            concurrency: Concurrency::default(),
            timeouts: Timeouts::default(),
            cold_start: ColdStart::default(),
        }
    }
}

fn default_port() -> u16 {
    8080
}

fn default_grace() -> i64 {
    30
}
