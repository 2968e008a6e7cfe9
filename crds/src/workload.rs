//! Parts of a Function's spec that shape its pods and are not Kubernetes' own types.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, SecretVolumeSource,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a container speaks on its port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    HTTP1,
    /// HTTP/2 without TLS and with prior knowledge, as gRPC servers do.
    H2C,
}

impl Protocol {
    /// Name of a port that speaks it.
    pub fn port_name(self) -> &'static str {
        match self {
            Self::HTTP1 => "http1",
            Self::H2C => "h2c",
        }
    }
}

/// When to pull the image: `Always`, `IfNotPresent` or `Never`. Where absent, Kubernetes' own default: `Always` for the tag
/// `latest` or none, else `IfNotPresent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Ask the registry at each start.
    Always,
    /// Only where the node has it not.
    IfNotPresent,
    /// Never; the node must have it.
    Never,
}

/// A volume from exactly one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunctionVolume {
    /// Name that `volumeMounts` refer to; unique among the Function's volumes.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Keys of a ConfigMap as files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolumeSource>,
    /// Keys of a Secret as files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolumeSource>,
    /// Scratch space that lives as long as the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirVolumeSource>,
    /// A PersistentVolumeClaim of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
}

/// Labels and annotations for pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMetadata {
    /// Labels, besides Pilotlight's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Annotations, for example those that a service mesh or a metrics scraper reads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}
