//! The schema as a whole: what `kubectl explain` shows, what the API server fills in, and that every rule and bound has a bad
//! example for the end-to-end test, which applies each to a real API server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pilotlight_crds::{FunctionSpec, crd, rules};
use serde_json::{Map, Value, json};

fn schema_of(crd: &impl serde::Serialize, part: &str) -> Value {
    let crd = serde_json::to_value(crd).expect("a definition is plain data");
    let root = crd.pointer("/spec/versions/0/schema/openAPIV3Schema");
    root.and_then(|root| root.get("properties")?.get(part)).cloned().expect("the definition has a schema")
}

/// Calls `f` with the path (`[0]` for items, `{}` for a map's values) of every schema at and below `schema`.
fn walk(schema: &Value, path: &str, f: &mut dyn FnMut(&str, &Map<String, Value>)) {
    let Some(object) = schema.as_object() else {
        return;
    };
    f(path, object);
    for (name, property) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), f);
    }
    if let Some(items) = object.get("items") {
        walk(items, &format!("{path}[0]"), f);
    }
    if let Some(values) = object.get("additionalProperties") {
        walk(values, &format!("{path}{{}}"), f);
    }
}

/// What each bad example expects to read, by file name.
fn expectations() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/tests/data/invalid");
    let mut found = BTreeMap::new();
    for file in std::fs::read_dir(&folder).expect("the folder of bad examples") {
        let path = file.expect("an entry").path();
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).expect("a text file");
        let expect = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# expect: "))
            .unwrap_or_else(|| panic!("{name} does not open with `# expect: `"));
        found.insert(name, expect.to_owned());
    }
    found
}

#[test]
fn a_function_that_nobody_looked_at_says_so() {
    assert_eq!(schema_of(&crd(), "status")["default"], json!({"observedGeneration": -1}));
}

#[test]
fn every_rule_has_a_bad_example() {
    let expected: BTreeSet<String> = expectations().into_values().collect();
    // A rule about a change has its example in the end-to-end test.
    for rule in rules::all().into_iter().filter(|rule| !rule.rule.contains("oldSelf")) {
        assert!(expected.contains(&rule.message), "no file in e2e/tests/data/invalid expects {:?}", rule.message);
    }
}

#[test]
fn every_bound_has_a_bad_example() {
    let expected: BTreeSet<String> = expectations().into_values().collect();
    let mut missing = Vec::new();
    let mut bounds = 0;
    let mut want = |words: String| {
        bounds += 1;
        if !expected.iter().any(|e| e.starts_with(&words)) {
            missing.push(words);
        }
    };
    walk(&schema_of(&crd(), "spec"), "spec", &mut |path, field| {
        let whole = |bound: &str| field.get(bound).and_then(Value::as_f64);
        if let Some(least) = whole("minimum") {
            want(format!("{path} in body should be greater than or equal to {least}"));
        }
        if let Some(most) = whole("maximum") {
            want(format!("{path} in body should be less than or equal to {most}"));
        }
        if field.contains_key("enum") {
            want(format!("{path}: Unsupported value"));
        }
        // Below Pilotlight's own fields are Kubernetes' types, whose lists and strings share one general bound each.
        let own = path.matches('.').count() == 1 || path.contains("podMetadata") || path.starts_with("spec.scaling");
        if own && let Some(most) = field.get("maxItems").or(field.get("maxProperties")) {
            let most = most.as_u64().expect("a count");
            want(format!("{path}: Too many: {}", most + 1));
        }
        if own && field.contains_key("maxLength") {
            want(format!("{}: Too long", path.replace("{}", ".key")));
        }
    });
    assert!(bounds > 100, "the schema lost its bounds: {bounds}");
    assert!(missing.is_empty(), "no file in e2e/tests/data/invalid expects: {missing:#?}");
}

fn find<'a>(spec: &'a Value, path: &str) -> Option<&'a Map<String, Value>> {
    let mut schema = spec;
    for part in path.split('.').skip(1) {
        let name = part.trim_end_matches("[0]").trim_end_matches("{}");
        schema = schema.get("properties")?.get(name)?;
        if part.ends_with("[0]") {
            schema = schema.get("items")?;
        }
        if part.ends_with("{}") {
            schema = schema.get("additionalProperties")?;
        }
    }
    schema.as_object()
}

#[test]
fn every_expectation_names_a_rule_or_a_field() {
    let spec = schema_of(&crd(), "spec");
    let rules: BTreeSet<String> = rules::all().into_iter().map(|r| r.message).collect();
    for (file, expect) in expectations() {
        let path = expect.split([' ', ':']).next().unwrap_or_default();
        let path = path.replace("[1]", "[0]").replace(".key", "{}");
        let path = path.replace("limits.cpu", "limits{}").replace("requests.cpu", "requests{}");
        assert!(
            rules.contains(&expect) || (path.starts_with("spec.") && find(&spec, &path).is_some()),
            "{file} expects {expect:?}, which neither a rule nor a field of the schema can say"
        );
    }
}

#[test]
fn every_field_is_described_and_bounded_and_none_is_nullable() {
    let mut wrong = Vec::new();
    walk(&schema_of(&crd(), "spec"), "spec", &mut |path, schema| {
        let item = path.ends_with("[0]") || path.ends_with("{}");
        if !item && schema.get("description").is_none_or(|d| d == "") {
            wrong.push(format!("{path} has no description"));
        }
        if schema.contains_key("nullable") {
            wrong.push(format!("{path} is nullable"));
        }
        let bound = match schema.get("type").and_then(Value::as_str) {
            Some("array") => "maxItems",
            Some("string") if !schema.contains_key("enum") => "maxLength",
            Some("object") if schema.contains_key("additionalProperties") => "maxProperties",
            _ => return,
        };
        if !schema.contains_key(bound) {
            wrong.push(format!("{path} has no {bound}"));
        }
    });
    walk(&schema_of(&crd(), "status"), "status", &mut |path, schema| {
        if !path.ends_with("[0]") && schema.get("description").is_none_or(|d| d == "") {
            wrong.push(format!("{path} has no description"));
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What the API server adds to `value` from the defaults of `schema`.
fn default_in(schema: &Value, value: &mut Value) {
    let Some(value) = value.as_object_mut() else {
        return;
    };
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if let (None, Some(default)) = (value.get(name), property.get("default")) {
            value.insert(name.clone(), default.clone());
        }
        if let Some(value) = value.get_mut(name) {
            default_in(property, value);
        }
    }
}

#[test]
fn the_api_server_fills_in_what_the_types_do() {
    let spec = schema_of(&crd(), "spec");
    let image = json!({"image": "registry.example.com/team/app:1.0"});
    let mut filled = image.clone();
    default_in(&spec, &mut filled);
    let typed: FunctionSpec = serde_json::from_value(image).expect("an image is enough");
    assert_eq!(serde_json::to_value(&typed).expect("plain data"), filled);

    let mut partly = json!({"image": "a", "scaling": {"minReplicas": 2}});
    default_in(&spec, &mut partly);
    assert_eq!(partly["scaling"]["maxReplicas"], 100, "one field must not undo the others' defaults");
}

#[test]
fn a_field_that_is_not_set_is_not_written() {
    let spec = serde_json::to_value(FunctionSpec::default()).expect("plain data");
    let names: Vec<&String> = spec.as_object().expect("an object").keys().collect();
    let mut always = vec![
        "automountServiceAccountToken",
        "coldStart",
        "concurrency",
        "enableServiceLinks",
        "podMetadata",
        "port",
        "protocol",
        "scaling",
        "terminationGracePeriodSeconds",
        "timeouts",
        "visibility",
    ];
    always.sort_unstable();
    let mut names: Vec<&str> = names.iter().map(|n| n.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, always);
}

#[test]
fn scale_and_columns_point_at_fields_that_exist() {
    let definition = serde_json::to_value(crd()).expect("plain data");
    let version = &definition["spec"]["versions"][0];
    let root = &version["schema"]["openAPIV3Schema"];
    let scale = version["subresources"]["scale"].as_object().expect("a scale subresource");
    let columns = version["additionalPrinterColumns"].as_array().expect("columns");
    let paths = scale.values().chain(columns.iter().map(|c| &c["jsonPath"]));
    let mut seen = 0;
    for path in paths.filter_map(Value::as_str).filter(|p| !p.starts_with(".metadata")) {
        let plain = path.split("[?").next().unwrap_or(path);
        let found = plain
            .split('.')
            .filter(|p| !p.is_empty())
            .try_fold(root, |schema, part| schema.get("properties")?.get(part));
        assert!(found.is_some(), "{path} leads nowhere");
        seen += 1;
    }
    assert_eq!(seen, 11);
}
