//! `HTTPRoute` of the Gateway API, as far as Pilotlight writes and reads it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What requests it is about, and where they go.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    plural = "httproutes",
    namespaced,
    status = "HttpRouteStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// The gateways that it is for.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// The hosts.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// Where they lead; whatever there is, so that a comparison sees what others add.
    #[serde(default)]
    pub rules: Vec<Value>,
}

/// A gateway, or what else a route can be attached to. Names stand for what the Gateway API's defaults say where they are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Its API group; `gateway.networking.k8s.io` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its kind; `Gateway` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its namespace; that of the route where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// One of its listeners; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// The listeners of this port; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// What gateways make of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HttpRouteStatus {
    /// Each gateway's word.
    #[serde(default)]
    pub parents: Vec<ParentStatus>,
}

/// What one controller says of a route at one of its gateways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// The gateway.
    pub parent_ref: ParentRef,
    /// Who says it.
    #[serde(default)]
    pub controller_name: String,
    /// `Accepted`, `ResolvedRefs` and others.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl ParentRef {
    /// Whether both name the same, from a route in `namespace`.
    pub fn is_same(&self, other: &Self, namespace: &str) -> bool {
        let whole = |parent: &Self| {
            let or = |text: &Option<String>, default: &str| text.as_deref().unwrap_or(default).to_owned();
            (
                or(&parent.group, "gateway.networking.k8s.io"),
                or(&parent.kind, "Gateway"),
                or(&parent.namespace, namespace),
                parent.name.clone(),
                parent.section_name.clone(),
                parent.port,
            )
        };
        whole(self) == whole(other)
    }

    /// `Gateway edge/public`, as messages name it.
    pub fn words(&self, namespace: &str) -> String {
        let kind = self.kind.as_deref().unwrap_or("Gateway");
        let listener = self.section_name.as_deref().map(|name| format!(", listener {name}")).unwrap_or_default();
        format!("{kind} {}/{}{listener}", self.namespace.as_deref().unwrap_or(namespace), self.name)
    }
}
