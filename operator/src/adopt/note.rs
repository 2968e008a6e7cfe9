//! What is noted on a Service that was taken over: all that it takes to give it and its Deployment back. Pure.

use k8s_openapi::api::core::v1::Service;
use pilotlight_crds::names;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Labels that select pods.
pub type Selector = BTreeMap<String, String>;

/// The selector that the Service had.
pub fn noted_selector(service: &Service) -> Option<Selector> {
    let text = service.metadata.annotations.as_ref()?.get(names::ANNOTATION_SELECTOR)?;
    serde_json::from_str(text).ok().filter(|selector: &Selector| !selector.is_empty())
}

/// The replicas that the Deployment had, at least 1.
pub fn noted_replicas(service: &Service) -> Option<u32> {
    let text = service.metadata.annotations.as_ref()?.get(names::ANNOTATION_REPLICAS)?;
    text.parse().ok().map(|replicas: u32| replicas.max(1))
}

/// Whether there is any such note.
pub fn is_noted(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    [names::ANNOTATION_SELECTOR, names::ANNOTATION_REPLICAS]
        .iter()
        .any(|key| annotations.is_some_and(|annotations| annotations.contains_key(*key)))
}

/// The annotations that note this.
pub fn note(selector: &Selector, replicas: u32) -> Value {
    json!({ names::ANNOTATION_SELECTOR: json!(selector).to_string(), names::ANNOTATION_REPLICAS: replicas.to_string() })
}

/// The change of annotations that takes the note away.
pub fn no_note() -> Value {
    json!({ names::ANNOTATION_SELECTOR: null, names::ANNOTATION_REPLICAS: null })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_can_be_read() {
        let selector = Selector::from([("app".to_owned(), "api".to_owned())]);
        let mut service: Service =
            serde_json::from_value(json!({"metadata": {"annotations": note(&selector, 3)}})).expect("a Service");
        assert_eq!((noted_selector(&service), noted_replicas(&service)), (Some(selector), Some(3)));
        assert!(is_noted(&service));
        service.metadata.annotations = serde_json::from_value(json!({names::ANNOTATION_REPLICAS: "0"})).ok();
        assert_eq!((noted_selector(&service), noted_replicas(&service)), (None, Some(1)));
        service.metadata.annotations = None;
        assert!(!is_noted(&service));
    }
}
