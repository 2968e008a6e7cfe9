//! When a Deployment gets which beacon, and what the beacon may take.

use super::*;
use crate::build::pod::template;
use insta::assert_yaml_snapshot;
use k8s_openapi::api::apps::v1::{DeploymentSpec, DeploymentStatus};
use pilotlight_crds::FunctionSpec;
use serde_json::{Value, json};

fn pilot(image: &str) -> Pilot {
    Pilot {
        image: image.to_owned(),
        pull_policy: "IfNotPresent".to_owned(),
        activators: vec!["10.96.0.9:9092".parse().unwrap(), "[fd00::9]:9092".parse().unwrap()],
    }
}

fn built(changes: &Value) -> (PodTemplateSpec, Container) {
    let mut spec = json!({"image": "example.com/hello:1"});
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let spec: FunctionSpec = serde_json::from_value(spec).unwrap();
    let template = template("hello", "hello-3", &spec);
    let beacon = container(&pilot("example.com/pilot:1"), "hello", "hello-3", &template);
    (template, beacon)
}

fn beacon(image: &str) -> Container {
    container(&pilot(image), "hello", "hello-3", &built(&json!({})).0)
}

fn deployment(asked: i32, there: i32, has: Option<&Container>) -> Deployment {
    let mut live = Deployment {
        spec: Some(DeploymentSpec { replicas: Some(asked), ..DeploymentSpec::default() }),
        status: Some(DeploymentStatus { replicas: Some(there), ..DeploymentStatus::default() }),
        ..Deployment::default()
    };
    if let Some(has) = has {
        let text = serde_json::to_string(has).unwrap();
        live.metadata.annotations = Some([(names::ANNOTATION_BEACON.to_owned(), text)].into());
    }
    live
}

#[test]
fn the_beacon_comes_last_and_the_function_is_still_meant() {
    let (template, beacon) = built(&json!({}));
    assert_yaml_snapshot!(beside(template, Some(&beacon)));
}

#[test]
fn without_one_the_template_is_the_revision_s() {
    let (template, _) = built(&json!({}));
    assert_eq!(beside(template.clone(), None), template);
}

#[test]
fn an_author_s_default_container_stays() {
    let annotations = json!({"podMetadata": {"annotations": {ANNOTATION_DEFAULT_CONTAINER: "mesh"}}});
    let (template, beacon) = built(&annotations);
    let annotations = beside(template, Some(&beacon)).metadata.unwrap().annotations.unwrap();
    assert_eq!(annotations[ANNOTATION_DEFAULT_CONTAINER], "mesh");
}

#[test]
fn running_pods_keep_their_beacon_and_resting_ones_get_what_is_wanted() {
    let (old, new) = (beacon("pilot:1"), beacon("pilot:2"));
    let this = || Wanted::This(Box::new(new.clone()));
    let at_zero = deployment(0, 0, Some(&old));
    let running = deployment(1, 1, Some(&old));
    let ending = deployment(0, 1, Some(&old));
    let woken = deployment(1, 0, Some(&old));
    let rows = [
        ("a new Deployment", this(), None, Some(&new)),
        ("a new one where it is off", Wanted::None, None, None),
        ("a new one while it is not known", Wanted::Unknown, None, None),
        ("at rest", this(), Some(&at_zero), Some(&new)),
        ("at rest where it is off", Wanted::None, Some(&at_zero), None),
        ("at rest while it is not known", Wanted::Unknown, Some(&at_zero), Some(&old)),
        ("running", this(), Some(&running), Some(&old)),
        ("running where it is off", Wanted::None, Some(&running), Some(&old)),
        ("with its last pod ending", this(), Some(&ending), Some(&old)),
        ("just woken", this(), Some(&woken), Some(&old)),
    ];
    for (name, wanted, live, expected) in rows {
        assert_eq!(choose(wanted, live).as_ref(), expected, "{name}");
    }
    let before_beacons = deployment(1, 1, None);
    assert_eq!(choose(this(), Some(&before_beacons)), None, "an upgrade replaces no pod");
}

#[test]
fn the_pod_s_class_of_service_stays_the_author_s() {
    let resources = |resources: Value| {
        let (_, beacon) = built(&json!({"resources": resources}));
        serde_json::to_value(beacon.resources.unwrap()).unwrap()
    };
    let tiny = json!({"requests": {"cpu": "1m", "memory": "2Mi"}, "limits": {"memory": "16Mi"}});
    let limited = json!({"requests": {"cpu": "1m", "memory": "2Mi"}, "limits": {"cpu": "100m", "memory": "16Mi"}});
    let whole = json!({"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "16Mi"}});
    for (given, expected) in [
        (json!({}), &tiny),
        (json!({"requests": {"cpu": "1", "memory": "1Gi"}}), &tiny),
        (json!({"limits": {"memory": "1Gi"}}), &tiny),
        (json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}), &limited),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), &whole),
        (json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}), &whole),
    ] {
        assert_eq!(resources(given.clone()), *expected, "{given}");
    }
}

#[test]
fn a_function_that_runs_as_root_has_a_beacon_that_does_not() {
    let (_, beacon) = built(&json!({"podSecurityContext": {"runAsUser": 0}}));
    let context = beacon.security_context.unwrap();
    assert_eq!((context.run_as_user, context.run_as_non_root), (Some(USER), Some(true)));
    assert_eq!(built(&json!({})).1.security_context.unwrap().run_as_user, None);
}
