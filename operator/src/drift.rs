//! Whether an object on the API server is still what was built.
//!
//! Pure. A desired object leaves out what the API server fills in, so the question is whether everything desired is there, not
//! whether both are equal. What others added to a Deployment's template shows in its managed fields.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use pilotlight_crds::names::{MANAGER_ACTIVATOR, MANAGER_AUTOSCALER, MANAGER_OPERATOR};
use serde::Serialize;
use serde_json::Value;

use crate::build::hash::canonical_hash;

/// Field manager of the POST that creates a Deployment. It is not [`MANAGER_OPERATOR`]: it owns `replicas` until somebody
/// scales, and the operator itself must never own that field.
pub const MANAGER_CREATOR: &str = "pilotlight-create";

/// Annotation that only lives in the operator's cache: somebody else set a field of the Deployment's template. It stands for the
/// managed fields, which the cache drops.
pub const CACHED_FOREIGN_TEMPLATE: &str = "cache.pilotlight.dev/foreign-template";

/// Whether everything in `desired` is in `live`: maps may hold more there, lists may not.
pub fn holds<T: Serialize, U: Serialize>(live: &T, desired: &U) -> bool {
    let (Ok(live), Ok(desired)) = (serde_json::to_value(live), serde_json::to_value(desired)) else {
        return false;
    };
    contains(&live, &desired)
}

fn contains(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(key, wanted)| match live.get(key) {
            Some(found) => contains(found, wanted),
            None => is_empty(wanted),
        }),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len() && live.iter().zip(desired).all(|(live, desired)| contains(live, desired))
        }
        (live, desired) => live == desired,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Whether these are fields that a part of Pilotlight set.
pub fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    let ours = [MANAGER_OPERATOR, MANAGER_CREATOR, MANAGER_AUTOSCALER, MANAGER_ACTIVATOR];
    entry.manager.as_deref().is_some_and(|manager| ours.contains(&manager))
}

/// Whether somebody other than Pilotlight set a field of the pod template.
pub fn foreign_template(managed_fields: &[ManagedFieldsEntry]) -> bool {
    managed_fields
        .iter()
        .filter(|entry| !is_ours(entry))
        .filter_map(|entry| entry.fields_v1.as_ref())
        .any(|fields| fields.0.pointer("/f:spec/f:template").is_some())
}

/// Whether a Deployment differs from what was built, `replicas` aside.
pub fn deployment_drifted(live: &Deployment, desired: &Deployment) -> bool {
    let marked = live.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(CACHED_FOREIGN_TEMPLATE));
    marked || {
        let mut desired = desired.clone();
        if let Some(spec) = &mut desired.spec {
            spec.replicas = None;
        }
        !holds(live, &desired)
    }
}

/// Hash of a Deployment as it is, without what changes in everyday life: replicas, status, resource version.
pub fn fingerprint(live: &Deployment) -> String {
    let mut spec = live.spec.clone();
    if let Some(spec) = &mut spec {
        spec.replicas = None;
    }
    let annotations: std::collections::BTreeMap<_, _> = live
        .metadata
        .annotations
        .iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(pilotlight_crds::names::GROUP) && *key != CACHED_FOREIGN_TEMPLATE)
        .collect();
    canonical_hash(&serde_json::json!({
        "labels": live.metadata.labels,
        "annotations": annotations,
        "owners": live.metadata.owner_references,
        "spec": spec,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
    use serde_json::json;

    #[test]
    fn what_the_api_server_filled_in_is_no_drift() {
        let desired = json!({"a": 1, "list": [{"name": "x"}], "none": null, "empty": []});
        let live = json!({"a": 1, "list": [{"name": "x", "default": true}], "uid": "u"});
        assert!(contains(&live, &desired));
    }

    #[test]
    fn a_changed_value_a_missing_one_and_a_longer_list_are_drift() {
        assert!(!contains(&json!({"a": 2}), &json!({"a": 1})));
        assert!(!contains(&json!({}), &json!({"a": 1})));
        assert!(!contains(&json!({"l": [1, 2]}), &json!({"l": [1]})));
        assert!(!contains(&json!({"l": []}), &json!({"l": [1]})));
    }

    #[test]
    fn a_template_field_that_somebody_else_set_is_foreign_and_a_scale_is_not() {
        let entry = |manager: &str, fields: Value| ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        };
        let template = json!({"f:spec": {"f:template": {"f:spec": {"f:nodeSelector": {}}}}});
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        assert!(foreign_template(&[entry("kubectl-edit", template.clone())]));
        assert!(!foreign_template(&[entry(MANAGER_CREATOR, template.clone())]));
        assert!(!foreign_template(&[entry(MANAGER_OPERATOR, template)]));
        assert!(!foreign_template(&[entry("kubectl", replicas)]));
    }
}
