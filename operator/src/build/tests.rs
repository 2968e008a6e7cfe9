//! What is built, as snapshots: a diff of one of them is a diff of what users get.

use insta::assert_yaml_snapshot;
use k8s_openapi::api::core::v1::{
    Capabilities, EnvVar, PodSecurityContext, SecretVolumeSource, SecurityContext, VolumeMount,
};
use pilotlight_crds::workload::{FunctionVolume, Protocol};
use pilotlight_crds::{Function, FunctionSpec};
use serde_json::json;

use super::deployment::{Revision, deployment, restoring_patch};
use super::hash::revision_hash;
use super::pod::template;
use super::service::service;
use super::slice::{Address, Target, slice};
use super::{owns, revision_selector};

fn spec(value: serde_json::Value) -> FunctionSpec {
    serde_json::from_value(value).unwrap()
}

fn hello(spec: FunctionSpec) -> Function {
    let mut function = Function::new("hello", spec);
    function.metadata.namespace = Some("shop".to_owned());
    function.metadata.uid = Some("uid-hello".to_owned());
    function
}

fn minimal() -> Function {
    hello(spec(json!({"image": "example.com/hello:1"})))
}

fn revision(function: &Function) -> Revision {
    Revision { number: 3, hash: revision_hash(&function.spec), template: template("hello", "hello-3", &function.spec) }
}

#[test]
fn deployment_of_a_function_with_an_image_alone() {
    let function = minimal();
    let built = deployment(&function, &revision(&function), None);
    assert_eq!(Revision::from_deployment(&built), Some(revision(&function)));
    assert_yaml_snapshot!(built);
}

#[test]
fn pods_of_a_function_that_sets_much() {
    let mut function = hello(spec(json!({
        "image": "example.com/hello:2",
        "command": ["/app"], "args": ["--port", "$(PORT)"],
        "port": 9000, "protocol": "H2C",
        "env": [{"name": "A", "value": "1"}],
        "podMetadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 9000}},
        "nodeSelector": {"disk": "ssd"},
        "serviceAccountName": "hello", "automountServiceAccountToken": true,
        "imagePullPolicy": "IfNotPresent", "terminationGracePeriodSeconds": 5,
    })));
    function.spec.volumes = vec![FunctionVolume {
        name: "keys".to_owned(),
        secret: Some(SecretVolumeSource { secret_name: Some("keys".to_owned()), ..SecretVolumeSource::default() }),
        ..FunctionVolume::default()
    }];
    function.spec.volume_mounts =
        vec![VolumeMount { name: "keys".to_owned(), mount_path: "/keys".to_owned(), ..VolumeMount::default() }];
    assert_yaml_snapshot!(template("hello", "hello-1", &function.spec));
}

#[test]
fn the_contract_s_variables_win_over_the_author_s() {
    let mut function = minimal();
    function.spec.env = vec![EnvVar { name: "PORT".to_owned(), value: Some("1".to_owned()), ..EnvVar::default() }];
    let env = template("hello", "hello-1", &function.spec).spec.unwrap().containers.remove(0).env.unwrap();
    let ports: Vec<_> = env.iter().filter(|v| v.name == "PORT").collect();
    assert_eq!(ports.len(), 1);
    assert_eq!(ports[0].value.as_deref(), Some("8080"));
}

#[test]
fn what_restores_a_deployment_never_mentions_replicas() {
    let function = minimal();
    let patch = restoring_patch(&deployment(&function, &revision(&function), None));
    assert_eq!(patch.pointer("/spec/replicas"), None);
    assert_eq!(patch.pointer("/spec/selector"), None);
    assert_eq!(patch["spec"]["template"]["$patch"], "replace");
    assert_eq!(patch["spec"]["strategy"]["$patch"], "replace");
}

#[test]
fn an_author_widens_security_field_by_field() {
    let root = PodSecurityContext { run_as_user: Some(0), ..PodSecurityContext::default() };
    let pod = super::security::pod(Some(&root));
    assert_eq!((pod.run_as_user, pod.run_as_non_root), (Some(0), None));
    assert_eq!(pod.seccomp_profile.unwrap().type_, "RuntimeDefault");

    let adds = SecurityContext {
        capabilities: Some(Capabilities { add: Some(vec!["NET_BIND_SERVICE".to_owned()]), drop: None }),
        ..SecurityContext::default()
    };
    let container = super::security::container(Some(&adds));
    let capabilities = container.capabilities.unwrap();
    assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(capabilities.add, Some(vec!["NET_BIND_SERVICE".to_owned()]));
    assert_eq!(container.allow_privilege_escalation, Some(false));

    let privileged = SecurityContext { privileged: Some(true), ..SecurityContext::default() };
    let container = super::security::container(Some(&privileged));
    // The API server refuses both together.
    assert_eq!(container.allow_privilege_escalation, None);
}

#[test]
fn service_with_and_without_a_selector() {
    let function = minimal();
    assert_yaml_snapshot!("service", service(&function, Protocol::HTTP1, None));
    let selector = revision_selector("hello", "hello-3");
    let released = service(&function, Protocol::H2C, Some(selector));
    assert_yaml_snapshot!("service_released", released);
}

#[test]
fn slice_of_activators() {
    let address = |ip: &str| Address { ip: ip.parse().unwrap(), node: Some("node-1".to_owned()), pod: None };
    let target = Target { port: 12_345, addresses: vec![address("10.0.0.2"), address("10.0.0.1"), address("fd00::1")] };
    assert_yaml_snapshot!(slice(&minimal(), Protocol::HTTP1, &target));
}

#[test]
fn the_hash_knows_what_shapes_pods_and_nothing_else() {
    let base = revision_hash(&minimal().spec);
    let same = [
        json!({"image": "example.com/hello:1", "port": 8080}),
        json!({"image": "example.com/hello:1", "scaling": {"minReplicas": 3}}),
        json!({"image": "example.com/hello:1", "concurrency": {"limit": 7}}),
        json!({"image": "example.com/hello:1", "timeouts": {"requestSeconds": 7}}),
        json!({"image": "example.com/hello:1", "coldStart": {"timeoutSeconds": 7}}),
        json!({"image": "example.com/hello:1", "hostnames": ["www.example.com"]}),
        json!({"image": "example.com/hello:1", "traffic": [{"revisionName": "hello-3"}]}),
        json!({"image": "example.com/hello:1", "sticky": {"header": "x-user"}}),
        json!({"image": "example.com/hello:1", "rollout": {"strategy": "Gradual"}}),
        json!({"image": "example.com/hello:1", "visibility": "Cluster"}),
        json!({"image": "example.com/hello:1", "env": []}),
    ];
    for value in same {
        assert_eq!(revision_hash(&spec(value.clone())), base, "{value}");
    }
    let other = [
        json!({"image": "example.com/hello:2"}),
        json!({"image": "example.com/hello:1", "port": 8081}),
        json!({"image": "example.com/hello:1", "env": [{"name": "A", "value": "1"}]}),
        json!({"image": "example.com/hello:1", "podMetadata": {"labels": {"a": "b"}}}),
    ];
    for value in other {
        assert_ne!(revision_hash(&spec(value.clone())), base, "{value}");
    }
    // The names of running revisions depend on it: it must not change with a new version.
    assert_yaml_snapshot!("hash_of_an_image_alone", base);
}

#[test]
fn a_namesake_s_objects_are_not_owned() {
    let function = minimal();
    let mine = deployment(&function, &revision(&function), None);
    assert!(owns(&function, &mine.metadata));
    let mut again = minimal();
    again.metadata.uid = Some("uid-again".to_owned());
    assert!(!owns(&again, &mine.metadata));
}
