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
