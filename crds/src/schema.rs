//! The CustomResourceDefinition as it is installed: what the types say, made fit for a Kubernetes API server, with the rules.
//!
//! What always holds: every list, map and string of the spec is bounded; no field of the spec is nullable, so that `null` means
//! "not set" as it does for Kubernetes' own types; only formats that the API server knows are used.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::Function;
use crate::rules::{self, FieldRule};

/// What a list may hold where neither the type nor Kubernetes says it.
const MAX_ITEMS: u64 = 128;
/// How many keys a map may have where neither the type nor Kubernetes says it.
const MAX_PROPERTIES: u64 = 64;
/// Characters of a string where neither the type nor Kubernetes says it.
const MAX_LENGTH: u64 = 32_768;
/// The CustomResourceDefinition of `Function`. (`Function::crd()` lacks the rules and some bounds.)
pub fn crd() -> CustomResourceDefinition {
    let mut crd = serde_json::to_value(Function::crd()).expect("a derived CRD is plain data");
    if let Some(root) = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        finish(root);
    }
    serde_json::from_value(crd).expect("what was added are fields of a CRD")
}

fn finish(root: &mut Value) {
    walk(root, &mut known_formats);
    walk(root, &mut plain_descriptions);
    if let Some(spec) = root.pointer_mut("/properties/spec") {
        walk(spec, &mut |schema| drop(schema.remove("nullable")));
        kubernetes_types(spec);
        walk(spec, &mut bounded);
    }
    not_observed_yet(root);
    for rule in rules::all() {
        add_rule(root, &rule);
    }
}

/// What the status of a Function says until the operator has looked at it. With no status at all, tools that wait (kstatus, and so Flux)
/// would take a Function that was just created for one that is done: nothing says that anything is still to come.
fn not_observed_yet(root: &mut Value) {
    extend(root.pointer_mut("/properties/status"), json!({"default": {"observedGeneration": -1}}));
}

/// Calls `f` on `schema` and on every schema below it.
fn walk(schema: &mut Value, f: &mut dyn FnMut(&mut Map<String, Value>)) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    f(schema);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|p| walk(p, f));
    }
    for below in ["items", "additionalProperties"] {
        if let Some(below) = schema.get_mut(below) {
            walk(below, f);
        }
    }
}

/// The API server warns of formats that it does not know, such as `uint32`.
fn known_formats(schema: &mut Map<String, Value>) {
    let known = match schema.get("format").and_then(Value::as_str) {
        Some("uint8" | "uint16" | "int16") => "int32",
        Some("uint32" | "uint64" | "uint") => "int64",
        _ => return,
    };
    schema.insert("format".into(), known.into());
    // 0 in place of 0.0, as schemars writes it.
    for bound in ["minimum", "maximum"] {
        if let Some(whole) = schema.get(bound).and_then(Value::as_f64) {
            schema.insert(bound.into(), json!(whole));
        }
    }
}

/// `kubectl explain` wraps lines itself; only a paragraph's end is kept.
fn plain_descriptions(schema: &mut Map<String, Value>) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        let paragraphs: Vec<String> =
            text.split("\n\n").map(|p| p.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        *text = paragraphs.join("\n\n");
    }
}

fn bounded(schema: &mut Map<String, Value>) {
    let (bound, most) = match schema.get("type").and_then(Value::as_str) {
        Some("array") => ("maxItems", MAX_ITEMS),
        Some("string") if !schema.contains_key("enum") => ("maxLength", MAX_LENGTH),
        Some("object") if schema.contains_key("additionalProperties") => ("maxProperties", MAX_PROPERTIES),
        _ => return,
    };
    schema.entry(bound).or_insert(most.into());
}

/// What Kubernetes checks and defaults in its own types, but their published schema does not say.
fn kubernetes_types(spec: &mut Value) {
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let Some(probe) = property(spec, probe) else {
            continue;
        };
        for (field, default, least) in [
            ("initialDelaySeconds", 0, 0),
            ("periodSeconds", 10, 1),
            ("timeoutSeconds", 1, 1),
            ("successThreshold", 1, 1),
            ("failureThreshold", 3, 1),
        ] {
            extend(property(probe, field), json!({"default": default, "minimum": least, "maximum": 86_400}));
        }
        extend(property(probe, "terminationGracePeriodSeconds"), json!({"minimum": 1, "maximum": 86_400}));
        if let Some(http) = property(probe, "httpGet") {
            extend(property(http, "path"), json!({"default": "/"}));
            extend(property(http, "scheme"), json!({"default": "HTTP", "enum": ["HTTP", "HTTPS"]}));
        }
        if let Some(grpc) = property(probe, "grpc") {
            extend(property(grpc, "port"), json!({"minimum": 1, "maximum": 65_535}));
        }
    }
    if let Some(resources) = property(spec, "resources") {
        // Claims name an entry of the pod's resourceClaims, which a Function cannot have.
        remove_property(resources, "claims");
    }
    for (text, max) in [
        ("env[].name", 256),
        ("volumeMounts[].mountPath", 1024),
        ("volumeMounts[].name", 63),
        ("imagePullSecrets[].name", 253),
        ("nodeSelector{}", 63),
        ("podMetadata.labels{}", 63),
        ("resources.limits{}", 64),
        ("resources.requests{}", 64),
        ("volumes[].emptyDir.sizeLimit", 64),
    ] {
        extend(at(spec, text), json!({"maxLength": max}));
    }
    // The key of a list must not be left out.
    extend(at(spec, "imagePullSecrets[]"), json!({"required": ["name"]}));
}

fn extend(schema: Option<&mut Value>, with: Value) {
    if let (Some(Value::Object(schema)), Value::Object(with)) = (schema, with) {
        schema.extend(with);
    }
}

fn property<'a>(schema: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    schema.get_mut("properties")?.get_mut(name)
}

fn remove_property(schema: &mut Value, name: &str) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove(name);
    }
}

/// The schema at a path such as `volumes[].configMap` or `nodeSelector{}`, the values of a map.
fn at<'a>(root: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').filter(|part| !part.is_empty()).try_fold(root, |schema, part| {
        if let Some(list) = part.strip_suffix("[]") {
            property(schema, list)?.get_mut("items")
        } else if let Some(map) = part.strip_suffix("{}") {
            property(schema, map)?.get_mut("additionalProperties")
        } else {
            property(schema, part)
        }
    })
}

fn add_rule(root: &mut Value, rule: &FieldRule) {
    let schema = at(root, rule.path)
        .and_then(Value::as_object_mut)
        .expect("a rule's path is one of the schema, which a test shows");
    let rules = schema.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
    if let Some(rules) = rules.as_array_mut() {
        rules.push(json!({"rule": rule.rule, "message": rule.message}));
    }
}
