//! How requests reach a Function: what the operator decided, and the activators go by.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::traffic::RequestMatch;

/// How requests reach a Function.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// The TCP port on every activator that is this Function's alone.
    pub port: u16,
    /// The revision that gets the traffic, or the largest part of it. Its Deployment has the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// How the traffic is shared where several revisions get some, `revision` among them, the largest part first; else absent. The percentages make 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub split: Vec<RouteShare>,
    /// The revisions that have a name of their own (`tag` in `spec.traffic`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["tag"]))]
    pub tags: Vec<RouteTag>,
    /// The requests that go to a revision whatever the percentages (`matches` in `spec.traffic`), in the order in which they are asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub matches: Vec<RouteMatch>,
    /// Port of the pods, by number or name, where the Function took over a Deployment (`spec.targetRef`); else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<IntOrString>,
    /// Who may send requests to the pods. Absent while the Function never had a hard concurrency limit: every activator may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<RouteOwner>,
}

/// A revision's part of the traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteShare {
    /// The revision. Its Deployment has the same name.
    pub revision: String,
    /// Of a hundred requests.
    pub percent: u32,
}

/// A revision that has a name of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteTag {
    /// The tag.
    pub tag: String,
    /// The revision that it names.
    pub revision: String,
    /// Where that answers.
    pub url: String,
}

/// Requests that go to a revision whatever the percentages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// The revision.
    pub revision: String,
    /// Those that any of these describes.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub matches: Vec<RequestMatch>,
}

impl RouteStatus {
    /// The revisions that get any requests, each once, the one with the largest part of the traffic first.
    pub fn revisions(&self) -> Vec<&str> {
        let shares = self.split.iter().map(|share| &share.revision);
        let tags = self.tags.iter().map(|tag| &tag.revision);
        let matches = self.matches.iter().map(|rule| &rule.revision);
        let mut all = Vec::new();
        for revision in self.revision.iter().chain(shares).chain(tags).chain(matches) {
            if !all.contains(&revision.as_str()) {
                all.push(revision.as_str());
            }
        }
        all
    }
}

/// Who may send requests to the pods of a Function with a hard concurrency limit (`spec.concurrency.limit`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteOwner {
    /// Grows with every change of who may send, and never goes back.
    pub epoch: i64,
    /// The one activator that may send; the others hand their requests to it. Absent: see `everyone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activator: Option<ActivatorRef>,
    /// Without `activator`: whether every activator may send (the limit was taken away), or none yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub everyone: bool,
    /// The other activators that ran when the epoch began and still run. Before it sends, the owner asks each of them what it
    /// still has at the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<ActivatorRef>,
}

/// An activator.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActivatorRef {
    /// Name of its pod.
    pub pod: String,
    /// Uid of its pod.
    pub uid: String,
    /// IP address of its pod.
    pub address: String,
}
