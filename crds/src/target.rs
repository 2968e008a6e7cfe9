//! An existing Deployment that a Function takes over (`spec.targetRef`), and how its pods look to whoever goes by Pilotlight's labels and names.
//! Pure.
//!
//! What always holds: the pods themselves are never changed for it; a pod is taken for the Function's only if the target's own ReplicaSet
//! controls it. Nothing that strangers wrote on a pod is taken for Pilotlight's own note.

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Function;
use crate::names::{
    ANNOTATION_BOOST, ANNOTATION_CPU, ANNOTATION_IMAGE, ANNOTATION_REQUESTS, BEACON_CONTAINER, CONTAINER,
    LABEL_FUNCTION, LABEL_REVISION, LABEL_RUNG,
};
use crate::workload::Protocol;

/// Label that Kubernetes gives a Deployment's pods; its ReplicaSets' names end with the value.
const LABEL_TEMPLATE_HASH: &str = "pod-template-hash";

/// Annotation that only lives in memory: the pod was made to look like one of a Function's.
const ADOPTED_IN_MEMORY: &str = "cache.pilotlight.dev/adopted";

/// Whether the pod was made, in memory, to look like one of a Function's.
pub(crate) fn is_adopted(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(ADOPTED_IN_MEMORY))
}

/// An existing Deployment of the Function's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// `apps/v1`.
    pub api_version: TargetVersion,
    /// `Deployment`.
    pub kind: TargetKind,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
}

/// API version of what a Function can take over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetVersion {
    /// That of Deployments.
    #[default]
    #[serde(rename = "apps/v1")]
    AppsV1,
}

/// Kind of what a Function can take over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// A Deployment.
    #[default]
    Deployment,
}

impl TargetRef {
    /// The Deployment with this name.
    pub fn deployment(name: &str) -> Self {
        Self { api_version: TargetVersion::AppsV1, kind: TargetKind::Deployment, name: name.to_owned() }
    }

    /// What this Function takes over. `None`: it has Deployments of its own.
    pub fn of(function: &Function) -> Option<&Self> {
        function.spec.target_ref.as_ref()
    }
}

/// What it takes to find and read the pods of a Function that has taken over its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Namespace of the Function, the Deployment and the Service.
    pub namespace: String,
    /// Name of the Function, and of the Service.
    pub function: String,
    /// Name of the Deployment.
    pub deployment: String,
    /// Label selector of the Deployment's pods, as a watch takes it.
    pub selector: String,
    /// Port of the pods that requests go to, by number or by name.
    pub port: IntOrString,
    /// What the pods speak there.
    pub protocol: Protocol,
}

impl Adopted {
    /// `None`: the Function has no target, or has not taken it over.
    pub fn of(function: &Function) -> Option<Self> {
        function.spec.target_ref.as_ref()?;
        let status = function.status.as_ref()?;
        let route = status.route.as_ref()?;
        Some(Self {
            namespace: function.namespace()?,
            function: function.name_any(),
            deployment: route.revision.clone()?,
            selector: status.selector.clone().filter(|selector| !selector.is_empty())?,
            port: route.target_port.clone()?,
            protocol: function.spec.protocol,
        })
    }

    /// Makes of the pod, in memory, one of the Function: with the labels of the Function and its revision, and with the function's container under its name,
    /// whose one port is that which requests go to. Returns false, and leaves the pod as it is, where it is not one of the target's.
    pub fn adopt(&self, pod: &mut Pod) -> bool {
        if pod.metadata.namespace.as_ref() != Some(&self.namespace) || !belongs(pod, &self.deployment) {
            return false;
        }
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.remove(LABEL_RUNG);
        labels.insert(LABEL_FUNCTION.to_owned(), self.function.clone());
        labels.insert(LABEL_REVISION.to_owned(), self.deployment.clone());
        let annotations = pod.metadata.annotations.get_or_insert_default();
        for annotation in [ANNOTATION_BOOST, ANNOTATION_CPU, ANNOTATION_IMAGE, ANNOTATION_REQUESTS] {
            annotations.remove(annotation);
        }
        annotations.insert(ADOPTED_IN_MEMORY.to_owned(), String::new());
        self.name_container(pod);
        true
    }

    fn name_container(&self, pod: &mut Pod) {
        let Some(spec) = &mut pod.spec else { return };
        let serving = spec.containers.iter().enumerate().find_map(|(at, c)| Some((at, resolve(c, &self.port)?)));
        let number = match &self.port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(_) => None,
        };
        let (chosen, port) = serving.map_or((0, number), |(at, port)| (at, Some(port)));
        let mut renamed = Vec::new();
        for (at, container) in spec.containers.iter_mut().enumerate() {
            let name = if at == chosen {
                serve(container, port, self.protocol);
                CONTAINER.to_owned()
            } else if [CONTAINER, BEACON_CONTAINER].contains(&container.name.as_str()) {
                format!("other-{}", container.name)
            } else {
                continue;
            };
            renamed.push((std::mem::replace(&mut container.name, name.clone()), name));
        }
        for status in pod.status.iter_mut().flat_map(|status| status.container_statuses.iter_mut().flatten()) {
            if let Some((_, name)) = renamed.iter().find(|(before, _)| *before == status.name) {
                status.name.clone_from(name);
            }
        }
    }
}

/// The number of the container's port with this number or name.
fn resolve(container: &Container, port: &IntOrString) -> Option<i32> {
    let mut ports = container.ports.iter().flatten();
    let found = match port {
        IntOrString::Int(number) => ports.find(|declared| declared.container_port == *number),
        IntOrString::String(name) => ports.find(|declared| declared.name.as_ref() == Some(name)),
    };
    found.map(|declared| declared.container_port)
}

/// Leaves the container the one port that requests go to. Probes that name another get its number.
fn serve(container: &mut Container, port: Option<i32>, protocol: Protocol) {
    let declared = container.ports.take().unwrap_or_default();
    let number = |named: &mut IntOrString| {
        if let IntOrString::String(name) = named
            && let Some(port) = declared.iter().find(|port| port.name.as_ref() == Some(name))
        {
            *named = IntOrString::Int(port.container_port);
        }
    };
    let probes = [&mut container.startup_probe, &mut container.readiness_probe, &mut container.liveness_probe];
    for Probe { http_get, tcp_socket, .. } in probes.into_iter().flatten() {
        http_get.iter_mut().for_each(|http| number(&mut http.port));
        tcp_socket.iter_mut().for_each(|tcp| number(&mut tcp.port));
    }
    container.ports = port.map(|port| {
        let name = Some(protocol.port_name().to_owned());
        vec![ContainerPort { container_port: port, name, ..ContainerPort::default() }]
    });
}

/// Whether a ReplicaSet of the Deployment with this name controls the pod.
fn belongs(pod: &Pod, deployment: &str) -> bool {
    let Some(hash) = pod.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_TEMPLATE_HASH)) else {
        return false;
    };
    pod.metadata
        .owner_references
        .iter()
        .flatten()
        .filter(|owner| owner.controller == Some(true) && owner.kind == "ReplicaSet")
        .filter_map(|owner| owner.name.strip_prefix(deployment)?.strip_prefix('-'))
        .any(|rest| rest == hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn adopted(port: Value) -> Adopted {
        Adopted {
            namespace: "shop".to_owned(),
            function: "web".to_owned(),
            deployment: "api".to_owned(),
            selector: "app=api".to_owned(),
            port: serde_json::from_value(port).expect("a port"),
            protocol: Protocol::H2C,
        }
    }

    fn pod(replica_set: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "api-5d-x", "namespace": "shop",
                "labels": {"app": "api", "pod-template-hash": "5d", "pilotlight.dev/rung": "Parked"},
                "annotations": {"pilotlight.dev/cpu": "1/2", "other": "stays"},
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": replica_set, "uid": "u", "controller": true},
                ],
            },
            "spec": {"containers": [
                {"name": "function", "ports": [{"name": "metrics", "containerPort": 9000}]},
                {"name": "app", "ports": [{"name": "admin", "containerPort": 9999}, {"name": "web", "containerPort": 3000}],
                 "readinessProbe": {"httpGet": {"path": "/ok", "port": "admin"}}},
            ]},
            "status": {"containerStatuses": [
                {"name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0},
                {"name": "function", "image": "", "imageID": "", "ready": false, "restartCount": 0},
            ]},
        }))
        .expect("a pod")
    }

    #[test]
    fn a_pod_of_the_target_looks_like_one_of_the_function() {
        for port in [json!("web"), json!(3000)] {
            let mut pod = pod("api-5d");
            assert!(adopted(port).adopt(&mut pod));
            let labels = pod.metadata.labels.clone().expect("labels");
            let label = |key: &str| labels.get(key).map(String::as_str);
            assert_eq!((label(LABEL_FUNCTION), label(LABEL_REVISION)), (Some("web"), Some("api")));
            assert_eq!((label("app"), label(LABEL_RUNG)), (Some("api"), None));
            assert!(is_adopted(&pod));
            let annotations = pod.metadata.annotations.expect("annotations");
            assert_eq!(annotations.keys().collect::<Vec<_>>(), [ADOPTED_IN_MEMORY, "other"]);
            let containers = pod.spec.expect("a spec").containers;
            let names: Vec<_> = containers.iter().map(|c| c.name.as_str()).collect();
            assert_eq!(names, ["other-function", "function"]);
            let ports = containers[1].ports.as_ref().expect("ports");
            assert_eq!((ports.len(), ports[0].container_port, ports[0].name.as_deref()), (1, 3000, Some("h2c")));
            let probe = containers[1].readiness_probe.as_ref().and_then(|probe| probe.http_get.as_ref());
            assert_eq!(probe.expect("a probe").port, IntOrString::Int(9999), "by number: its name is gone");
            let statuses = pod.status.expect("a status").container_statuses.expect("statuses");
            let statuses: Vec<_> = statuses.iter().map(|s| (s.name.as_str(), s.ready)).collect();
            assert_eq!(statuses, [("function", true), ("other-function", false)]);
        }
    }

    #[test]
    fn what_keeps_it_from_starting_is_the_deployment_s_to_change() {
        let mut failing = pod("api-5d");
        failing.status = serde_json::from_value(json!({"phase": "Pending", "containerStatuses": [{
            "name": "app", "image": "a", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "InvalidImageName", "message": "couldn't parse image name"}},
        }]}))
        .expect("a status");
        assert!(adopted(json!(3000)).adopt(&mut failing));
        let diagnosis = crate::diagnosis::diagnose(&failing, &[]).expect("it cannot start");
        let words = &diagnosis.message;
        assert!(words.contains("the Deployment's image") && !words.contains("spec."), "{words}");
    }

    #[test]
    fn a_port_that_no_container_declares_is_the_first_one_s() {
        let mut numbered = pod("api-5d");
        assert!(adopted(json!(8080)).adopt(&mut numbered));
        let first = &numbered.spec.expect("a spec").containers[0];
        assert_eq!(first.name, "function");
        assert_eq!(first.ports.as_ref().expect("ports")[0].container_port, 8080);
        let mut named = pod("api-5d");
        assert!(adopted(json!("nowhere")).adopt(&mut named));
        assert_eq!(named.spec.expect("a spec").containers[0].ports, None, "requests cannot go there");
    }

    #[test]
    fn only_the_target_s_own_pods_are_taken() {
        for other in ["api-v2-5d", "api-5d-5d", "ap-5d", "api", "api-6e"] {
            let before = pod(other);
            let mut after = before.clone();
            assert!(!adopted(json!(3000)).adopt(&mut after), "{other}");
            assert_eq!(before, after);
        }
        let mut elsewhere = pod("api-5d");
        elsewhere.metadata.namespace = Some("other".to_owned());
        assert!(!adopted(json!(3000)).adopt(&mut elsewhere));
        let mut bare = pod("api-5d");
        bare.metadata.owner_references = None;
        assert!(!adopted(json!(3000)).adopt(&mut bare));
    }

    #[test]
    fn nothing_is_adopted_before_the_status_says_so() {
        let mut function: Function = serde_json::from_value(json!({
            "apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}, "protocol": "H2C"},
            "status": {"selector": "app=api", "route": {"port": 12000, "revision": "api", "targetPort": "web"}},
        }))
        .expect("a Function");
        assert_eq!(Adopted::of(&function), Some(adopted(json!("web"))));
        assert_eq!(TargetRef::of(&function), Some(&TargetRef::deployment("api")));
        let mut own = function.clone();
        own.spec.target_ref = None;
        assert_eq!(Adopted::of(&own), None, "it has revisions of its own");
        function.status.as_mut().expect("a status").selector = None;
        assert_eq!(Adopted::of(&function), None);
    }
}
