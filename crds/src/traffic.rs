//! Which revision gets the traffic, as an author says it (`spec.traffic`), in the terms of Knative's Route.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::FunctionSpec;

/// Where requests go: one revision by its name, or whichever is the newest that has proved itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficTarget {
    /// One of the Function's own revisions, `<function>-<number>`, as in `status.revisions`. It gets all requests at once, from zero if need be, and is kept
    /// for as long as it is named here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub revision_name: Option<String>,
    /// `true`: the newest revision that has proved itself, as without `traffic`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub latest_revision: bool,
}

impl FunctionSpec {
    /// The revision that the author wants to have the traffic, whichever is the newest.
    pub fn pinned_revision(&self) -> Option<&str> {
        self.traffic.iter().find_map(|target| target.revision_name.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_name_pins() {
        let pinned = |traffic: serde_json::Value| {
            let spec: FunctionSpec = serde_json::from_value(json!({"image": "a", "traffic": traffic})).unwrap();
            spec.pinned_revision().map(str::to_owned)
        };
        assert_eq!(pinned(json!([])), None);
        assert_eq!(pinned(json!([{"latestRevision": true}])), None);
        assert_eq!(pinned(json!([{"revisionName": "hello-3"}])).as_deref(), Some("hello-3"));
    }
}
