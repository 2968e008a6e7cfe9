//! From a Function to the objects that it owns. Pure: the same input gives the same object, byte for byte.
//!
//! What always holds: no object built here carries `replicas` other than the 0 of a Deployment's creation, every one
//! carries the owner reference and the four labels, and a selector holds nothing that changes.

pub mod beacon;
pub mod deployment;
pub mod hash;
pub mod pod;
pub mod security;
pub mod service;
pub mod slice;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::api::ObjectMeta;
use pilotlight_crds::{Function, names};
use std::collections::BTreeMap;

/// The reference that makes `function` the controlling owner. `blockOwnerDeletion` is left out: it would need the right to
/// update finalizers, and Pilotlight has none.
pub fn owner_reference(function: &Function) -> OwnerReference {
    OwnerReference {
        api_version: Function::api_version(&()).into_owned(),
        kind: Function::kind(&()).into_owned(),
        name: function.metadata.name.clone().unwrap_or_default(),
        uid: function.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// Labels of everything that belongs to the Function named `function`.
pub fn labels(function: &str) -> BTreeMap<String, String> {
    [(names::LABEL_APP_NAME, function), (names::LABEL_MANAGED_BY, names::MANAGED_BY), (names::LABEL_FUNCTION, function)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Labels of everything that belongs to one revision of the Function named `function`.
pub fn revision_labels(function: &str, revision: &str) -> BTreeMap<String, String> {
    let mut labels = labels(function);
    labels.insert(names::LABEL_REVISION.to_owned(), revision.to_owned());
    labels
}

/// The selector of a revision's pods: function and revision and nothing else.
pub fn revision_selector(function: &str, revision: &str) -> BTreeMap<String, String> {
    [(names::LABEL_FUNCTION, function), (names::LABEL_REVISION, revision)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Metadata of an object named `name` that `function` owns.
pub fn owned_metadata(function: &Function, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: function.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(vec![owner_reference(function)]),
        ..ObjectMeta::default()
    }
}

/// Whether `function` is the controlling owner of the object with this metadata. Names are not compared: a Function that was
/// deleted and made again does not own what its predecessor left.
pub fn owns(function: &Function, metadata: &ObjectMeta) -> bool {
    let uid = function.metadata.uid.as_deref();
    uid.is_some()
        && metadata
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.controller == Some(true) && Some(owner.uid.as_str()) == uid)
}

#[cfg(test)]
mod tests;
