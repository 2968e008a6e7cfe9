//! Functions that the API server takes as they stand, read by the types: nothing may be lost on the way.

use std::path::Path;

use pilotlight_crds::{Function, crd};
use serde_json::Value;

fn document(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/tests/data/valid");
    let text = std::fs::read_to_string(folder.join(name)).expect("a file of e2e/tests/data/valid");
    serde_saphyr::from_str(&text).expect("it is YAML")
}

#[test]
fn one_document_has_every_field_of_the_spec() {
    let definition = serde_json::to_value(crd()).expect("plain data");
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let known = definition.pointer(schema).and_then(Value::as_object);
    let written = document("everything.yaml");
    // It takes the place of an image.
    assert!(!document("target.yaml")["spec"]["targetRef"].is_null());
    for (field, schema) in known.expect("the spec has fields").iter().filter(|(field, _)| *field != "targetRef") {
        let value = &written["spec"][field];
        assert!(!value.is_null(), "everything.yaml does not set spec.{field}");
        // Of Pilotlight's own groups of fields every one, too.
        let groups = ["scaling", "concurrency", "timeouts", "coldStart", "podMetadata"];
        if groups.contains(&field.as_str()) {
            let inner = schema["properties"].as_object().expect("a group of fields");
            for name in inner.keys() {
                assert!(!value[name].is_null(), "everything.yaml does not set spec.{field}.{name}");
            }
        }
    }
}

#[test]
fn the_types_lose_nothing() {
    let mut written = document("everything.yaml");
    let typed: Function = serde_json::from_value(written.clone()).expect("the types read it");
    let read = serde_json::to_value(&typed).expect("plain data");
    // A quantity may be written as a number; the types keep it as text.
    written["spec"]["resources"]["limits"]["cpu"] = "1".into();
    written["spec"]["resources"]["requests"]["memory"] = read["spec"]["resources"]["requests"]["memory"].clone();
    assert_eq!(read, written);
}

#[test]
fn null_is_not_set() {
    let mut nulls = document("nulls.yaml");
    // The API server drops them before it stores the object.
    drop_nulls(&mut nulls);
    let typed: Function = serde_json::from_value(nulls).expect("the types read it");
    let alone: Function = serde_json::from_value(document("image-alone.yaml")).expect("the types read it");
    assert_eq!(typed.spec.scaling, alone.spec.scaling);
    assert_eq!((typed.spec.port, typed.spec.command), (8080, Vec::new()));
}

fn drop_nulls(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
        object.values_mut().for_each(drop_nulls);
    }
}
