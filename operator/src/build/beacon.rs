//! The beacon beside a function: the container that announces the pod's address.
//!
//! What always holds: it comes last, so that it delays nothing; it is no part of a revision, so that a new version of Pilotlight rolls no
//! pod; and a Deployment gets another one only while it is at rest, with no pod that a new template would replace.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, EnvVarSource, ObjectFieldSelector, PodTemplateSpec, ResourceRequirements,
    SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pilotlight_crds::names;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Annotation on a pod: the container that `kubectl logs` and `kubectl exec` mean where none is named.
const ANNOTATION_DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// User of the pilot's image.
const USER: i64 = 65_532;
/// Sleeping, it uses less. A runtime needs more for the moment in which it starts a container.
const MEMORY_REQUEST: &str = "2Mi";
const MEMORY_LIMIT: &str = "16Mi";
const CPU_REQUEST: &str = "1m";
/// Where limits of CPU are the custom: enough that its start is not throttled for long.
const CPU_LIMIT: &str = "100m";

/// What all beacons are built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pilot {
    /// The pilot's image.
    pub image: String,
    /// As in a pod.
    pub pull_policy: String,
    /// Where activators listen for beacons: a Service's addresses. Never empty.
    pub activators: Vec<SocketAddr>,
}

/// Which beacon is wanted for a revision's pods.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// This one.
    This(Box<Container>),
    /// None.
    None,
    /// It is not known where activators listen: whatever is there stays.
    Unknown,
}

/// The beacon's container in the pods of `revision`, whose template is `template`.
pub fn container(pilot: &Pilot, function: &str, revision: &str, template: &PodTemplateSpec) -> Container {
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path: path.to_owned() }),
            ..EnvVarSource::default()
        }),
    };
    let value = |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), value_from: None };
    let activators: Vec<String> = pilot.activators.iter().map(SocketAddr::to_string).collect();
    Container {
        name: names::BEACON_CONTAINER.to_owned(),
        image: Some(pilot.image.clone()),
        image_pull_policy: Some(pilot.pull_policy.clone()),
        args: Some(vec!["beacon".to_owned()]),
        env: Some(vec![
            field("POD_NAMESPACE", "metadata.namespace"),
            field("POD_UID", "metadata.uid"),
            field("POD_IP", "status.podIP"),
            value("PILOTLIGHT_FUNCTION", function.to_owned()),
            value("PILOTLIGHT_REVISION", revision.to_owned()),
            value("PILOTLIGHT_ACTIVATORS", activators.join(",")),
        ]),
        resources: Some(resources(template)),
        security_context: Some(security(template)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// The pod's class of service stays the one that its author chose, and so does whether it has limits of CPU (a quota may ask for them of
/// every container).
fn resources(template: &PodTemplateSpec) -> ResourceRequirements {
    let function = function_of(template).and_then(|container| container.resources.as_ref());
    let limits = function.and_then(|resources| resources.limits.as_ref());
    let requests = function.and_then(|resources| resources.requests.as_ref());
    let limit = |name: &str| limits.and_then(|limits| limits.get(name));
    // A request that is left out is the limit.
    let is_whole = |name: &str| {
        limit(name).is_some_and(|limit| requests.and_then(|r| r.get(name)).is_none_or(|request| request == limit))
    };
    let guaranteed = is_whole("cpu") && is_whole("memory");
    let quantities = |all: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
        all.iter().map(|(name, quantity)| ((*name).to_owned(), Quantity((*quantity).to_owned()))).collect()
    };
    let (request, bound) = match (guaranteed, limit("cpu").is_some()) {
        (true, _) => {
            let all = quantities(&[("cpu", CPU_LIMIT), ("memory", MEMORY_LIMIT)]);
            (all.clone(), all)
        }
        (false, limited) => {
            let mut bound = quantities(&[("memory", MEMORY_LIMIT)]);
            if limited {
                bound.extend(quantities(&[("cpu", CPU_LIMIT)]));
            }
            (quantities(&[("cpu", CPU_REQUEST), ("memory", MEMORY_REQUEST)]), bound)
        }
    };
    ResourceRequirements { requests: Some(request), limits: Some(bound), claims: None }
}

/// Pod Security's `restricted`, whatever the author widened for the function. The image's own user is left to it, because some
/// platforms give out users themselves; only an author's root is not taken over.
fn security(template: &PodTemplateSpec) -> SecurityContext {
    let pod = template.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let root = pod.is_some_and(|pod| pod.run_as_user == Some(0));
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: root.then_some(USER),
        run_as_group: root.then_some(USER),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..SecurityContext::default()
    }
}

fn function_of(template: &PodTemplateSpec) -> Option<&Container> {
    template.spec.as_ref()?.containers.iter().find(|container| container.name == names::CONTAINER)
}

/// `template` with the beacon after its other containers; whoever names no container still means the function's.
pub fn beside(mut template: PodTemplateSpec, beacon: Option<&Container>) -> PodTemplateSpec {
    if let (Some(beacon), Some(spec)) = (beacon, template.spec.as_mut()) {
        spec.containers.push(beacon.clone());
        let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
        annotations.entry(ANNOTATION_DEFAULT_CONTAINER.to_owned()).or_insert_with(|| names::CONTAINER.to_owned());
    }
    template
}

/// The beacon that a Deployment's pods have.
pub fn recorded(live: &Deployment) -> Option<Container> {
    let annotations = live.metadata.annotations.as_ref()?;
    serde_json::from_str(annotations.get(names::ANNOTATION_BEACON)?).ok()
}

/// Which beacon a Deployment should have: what is wanted where it is yet to be made or at rest, else the one that it has.
pub fn choose(wanted: Wanted, live: Option<&Deployment>) -> Option<Container> {
    match (wanted, live) {
        (Wanted::This(beacon), None) => Some(*beacon),
        (Wanted::None | Wanted::Unknown, None) => None,
        (Wanted::This(beacon), Some(live)) if at_rest(live) => Some(*beacon),
        (Wanted::None, Some(live)) if at_rest(live) => None,
        (_, Some(live)) => recorded(live),
    }
}

/// Whether it has no pods and asks for none.
fn at_rest(live: &Deployment) -> bool {
    let asked = live.spec.as_ref().and_then(|spec| spec.replicas);
    let there = live.status.as_ref().and_then(|status| status.replicas);
    asked == Some(0) && there.unwrap_or(0) == 0
}

#[cfg(test)]
mod tests;
