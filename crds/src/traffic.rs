//! Which revisions get the traffic, as an author says it (`spec.traffic`), in the terms of Knative's Route.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::FunctionSpec;

/// Where requests go: a revision by its name, or whichever is the newest that has proved itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficTarget {
    /// One of the Function's own revisions, `<function>-<number>`, as in `status.revisions`. It gets its requests at once, from zero if need be, and is kept
    /// for as long as it is named here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub revision_name: Option<String>,
    /// `true`: the newest revision that has proved itself, as without `traffic`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub latest_revision: bool,
    /// Its part of the traffic: so many of a hundred requests. All percentages make 100; a single entry has them without saying so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<u32>,
    /// A name of its own for this entry: it answers at `<tag>-<function>.<namespace>`, too, and wherever the Function does to requests with the
    /// header `Pilotlight-Tag: <tag>`, whatever the percentages. With one, `percent` may be left out: then it gets only such requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub tag: Option<String>,
    /// Requests that any of these describes go here, whatever the percentages. Entries are asked in their order. With some, `percent` may be left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub matches: Vec<RequestMatch>,
}

/// What a request must be like: everything that is said here at once. Named as the Gateway API names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestMatch {
    /// Where its path leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Headers that it must have. Names are the same in any case, values are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub headers: Vec<ValueMatch>,
    /// Cookies that it must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub cookies: Vec<ValueMatch>,
    /// Parameters that its query must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub query_params: Vec<ValueMatch>,
}

/// A path to compare with a request's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathMatch {
    /// `PathPrefix` (the default): the path, and all below it; `/v2` is `/v2` and `/v2/a`, not `/v20`. `Exact`: the path alone.
    #[serde(default, rename = "type")]
    pub kind: PathMatchType,
    /// The path as a client sends it, without query.
    #[schemars(length(min = 1, max = 256))]
    pub value: String,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// The path, and all below it.
    #[default]
    PathPrefix,
    /// The path alone.
    Exact,
}

/// A header, cookie or parameter to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValueMatch {
    /// Its name.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// Its value, as a whole and as it is sent. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub value: Option<String>,
}

/// How those who came once are led to the same revision again: by a cookie that they are given, or by a header of theirs. One of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sticky {
    /// A cookie, which a client gets with the first answer and then brings along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<StickyCookie>,
    /// Name of a header that tells who asks: the same value goes to the same revision. Requests without it are drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub header: Option<String>,
}

/// The cookie by which a client is known again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StickyCookie {
    /// Its name.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// Seconds that the client keeps it. 0 (the default): as long as its session.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub max_age_seconds: u32,
}

fn is_zero(seconds: &u32) -> bool {
    *seconds == 0
}

impl FunctionSpec {
    /// Whether the author says which revisions have the traffic, whichever is the newest.
    pub fn names_revisions(&self) -> bool {
        self.named_revisions().next().is_some()
    }

    /// The revisions that the author names in `traffic`.
    pub fn named_revisions(&self) -> impl Iterator<Item = &str> {
        self.traffic.iter().filter_map(|target| target.revision_name.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_names_count() {
        let named = |traffic: serde_json::Value| {
            let spec: FunctionSpec = serde_json::from_value(json!({"image": "a", "traffic": traffic})).unwrap();
            spec.named_revisions().map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(named(json!([])).is_empty());
        assert!(named(json!([{"latestRevision": true}])).is_empty());
        let split = json!([{"revisionName": "hello-3", "percent": 90}, {"latestRevision": true, "percent": 10}]);
        assert_eq!(named(split), ["hello-3"]);
    }
}
