//! What runs in a cluster before anybody thought of Pilotlight, and Functions that take it over.

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use pilotlight_crds::names::LABEL_FUNCTION;
use serde_json::{Value, json};

use crate::fixture::image;

/// A Function that takes over the Deployment `target`.
pub fn adopting(name: &str, target: &str, scaling: Value) -> Value {
    json!({
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": name},
        "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}, "scaling": scaling},
    })
}

/// A Deployment that nobody made for Pilotlight, whose owner lets the Function `function` have it.
///
/// # Errors
/// Never: it is a Deployment.
pub fn deployment(name: &str, function: &str, replicas: i32) -> Result<Deployment> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {LABEL_FUNCTION: function}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front", "back"]}]},
            "template": {
                "metadata": {"labels": {"app": name, "tier": "front"}},
                "spec": {
                    "automountServiceAccountToken": false,
                    "containers": [{
                        "name": "app",
                        "image": image("hello-go"),
                        "imagePullPolicy": "IfNotPresent",
                        "ports": [{"name": "web", "containerPort": 8080}],
                        "readinessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1},
                        "securityContext": {
                            "runAsNonRoot": true,
                            "allowPrivilegeEscalation": false,
                            "capabilities": {"drop": ["ALL"]},
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                    }],
                },
            },
        },
    }))?)
}

/// The same with another application: image and command as in `container`, and a probe that only connects.
///
/// # Errors
/// When `container` is none.
pub fn deployment_of(container: &Value, name: &str, function: &str, replicas: i32) -> Result<Deployment> {
    let mut deployment = serde_json::to_value(deployment(name, function, replicas)?)?;
    let app = &mut deployment["spec"]["template"]["spec"]["containers"][0];
    for key in ["image", "command"] {
        app[key] = container[key].clone();
    }
    app["readinessProbe"] = json!({"tcpSocket": {"port": "web"}, "periodSeconds": 1});
    Ok(serde_json::from_value(deployment)?)
}

/// A Service of the Deployment `target`, whose owner lets the Function of its name have it.
///
/// # Errors
/// Never: it is a Service.
pub fn service(name: &str, target: &str) -> Result<Service> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {LABEL_FUNCTION: name}, "annotations": {"example.com/note": "stays"}},
        "spec": {"selector": {"app": target}, "ports": [{"port": 80, "targetPort": "web"}]},
    }))?)
}
