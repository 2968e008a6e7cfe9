//! Whether a Deployment and a Service can be taken over, and what of them matters then. Pure.
//!
//! What always holds: both belong to an owner who said so, by a label with this Function's name; neither is another object's; the Service leads to the
//! Deployment's pods, and to one TCP port of theirs. What does not fit is named with its remedy.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use pilotlight_crds::{condition, names};
use std::collections::BTreeMap;

use super::note::noted_selector;

/// What of a target matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// The Deployment's selector, as a watch takes it.
    pub selector: String,
    /// Port of the pods, as the Service says it.
    pub target_port: IntOrString,
    /// Port of the pods by its number, as the Deployment's template says it.
    pub pod_port: u16,
}

/// Why a target cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// A CamelCase reason.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
    /// It is about the Deployment, not about the Service.
    pub of_deployment: bool,
    /// The owner has not consented, or not any more.
    pub consent: bool,
}

impl Unfit {
    fn new(reason: &'static str, message: String) -> Self {
        use condition::{SERVICE_NOT_LABELLED, TARGET_CONTROLLED, TARGET_MISSING, TARGET_NOT_LABELLED};
        Self {
            reason,
            message,
            of_deployment: [TARGET_MISSING, TARGET_NOT_LABELLED, TARGET_CONTROLLED].contains(&reason),
            consent: [TARGET_NOT_LABELLED, SERVICE_NOT_LABELLED].contains(&reason),
        }
    }
}

/// Looks at the Deployment named `target` and at the Service of the Function named `function`.
pub fn fit(
    function: &str,
    target: &str,
    deployment: Option<&Deployment>,
    service: Option<&Service>,
) -> Result<Fit, Unfit> {
    let missing = |reason, message| Unfit::new(reason, message);
    let deployment =
        deployment.filter(|deployment| deployment.metadata.deletion_timestamp.is_none()).ok_or_else(|| {
            let message =
                format!("There is no Deployment {target} in this namespace: create it, or correct spec.targetRef.name");
            missing(condition::TARGET_MISSING, message)
        })?;
    consent(function, "deployment", target, &deployment.metadata)
        .map_err(|message| Unfit::new(condition::TARGET_NOT_LABELLED, message))?;
    controlled("Deployment", target, &deployment.metadata)
        .map_err(|message| Unfit::new(condition::TARGET_CONTROLLED, message))?;
    let service = service.filter(|service| service.metadata.deletion_timestamp.is_none()).ok_or_else(|| {
        let message = format!(
            "There is no Service {function} in this namespace: the Service in front of the Deployment must exist and have the Function's name"
        );
        missing(condition::SERVICE_MISSING, message)
    })?;
    consent(function, "service", function, &service.metadata)
        .map_err(|message| Unfit::new(condition::SERVICE_NOT_LABELLED, message))?;
    controlled("Service", function, &service.metadata)
        .map_err(|message| Unfit::new(condition::SERVICE_CONTROLLED, message))?;
    leads(function, deployment, service).map_err(|message| Unfit::new(condition::SERVICE_UNFIT, message))
}

fn consent(function: &str, kind: &str, name: &str, metadata: &ObjectMeta) -> Result<(), String> {
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(names::LABEL_FUNCTION));
    let given = match label {
        Some(label) if label == function => return Ok(()),
        Some(other) => format!("is labelled for the Function {other:?}"),
        None => "has no such label".to_owned(),
    };
    Err(format!(
        "Pilotlight only takes over what its owner has labelled for it, and the {kind} {name} {given}: kubectl label {kind} {name} {}={function} --overwrite",
        names::LABEL_FUNCTION
    ))
}

fn controlled(kind: &str, name: &str, metadata: &ObjectMeta) -> Result<(), String> {
    let mut owners = metadata.owner_references.iter().flatten();
    match owners.find(|owner| owner.controller == Some(true)) {
        None => Ok(()),
        Some(owner) => Err(format!(
            "The {kind} {name} is controlled by {} {}, which would undo what Pilotlight does to it: it cannot be taken over",
            owner.kind, owner.name
        )),
    }
}

fn leads(name: &str, deployment: &Deployment, service: &Service) -> Result<Fit, String> {
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        return Err(format!("The Service {name} is of type ExternalName and has no endpoints: make it ClusterIP"));
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        return Err(format!(
            "The Service {name} is headless, so clients go to pods by themselves: give it a cluster IP (make it anew)"
        ));
    }
    if spec.internal_traffic_policy.as_deref() == Some("Local") {
        return Err(format!(
            "The Service {name} has internalTrafficPolicy Local, and not every node has an activator: set it to Cluster"
        ));
    }
    let [port] = spec.ports.as_deref().unwrap_or_default() else {
        return Err(format!(
            "The Service {name} must have exactly one port: remove the others, or give them a Service of their own"
        ));
    };
    if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
        return Err(format!("The port of the Service {name} must be TCP"));
    }
    let selector = spec.selector.filter(|selector| !selector.is_empty()).or_else(|| noted_selector(service));
    let template = &deployment.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let selector = selector
        .ok_or_else(|| format!("The Service {name} has no selector: give it the one of the Deployment's pods"))?;
    if !is_within(&selector, &labels) {
        return Err(format!(
            "The selector of the Service {name} does not match the pods of Deployment {}: name another Deployment in spec.targetRef.name, or correct the selector",
            deployment.name_any()
        ));
    }
    let (target_port, pod_port) = pod_port(port, deployment).ok_or_else(|| {
        format!("The targetPort of the Service {name} names no port of the Deployment's containers: name one that they have, or give its number")
    })?;
    Ok(Fit {
        selector: deployment.spec.as_ref().map(|spec| written(&spec.selector)).unwrap_or_default(),
        target_port,
        pod_port,
    })
}

fn is_within(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn pod_port(port: &ServicePort, deployment: &Deployment) -> Option<(IntOrString, u16)> {
    let target = match &port.target_port {
        None | Some(IntOrString::Int(0)) => IntOrString::Int(port.port),
        Some(target) => target.clone(),
    };
    let number = match &target {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let spec = deployment.spec.as_ref()?.template.spec.as_ref()?;
            let mut ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
            ports.find(|port| port.name.as_ref() == Some(name))?.container_port
        }
    };
    Some((target, u16::try_from(number).ok().filter(|number| *number > 0)?))
}

/// A selector as a watch takes it.
fn written(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let values = expression.values.clone().unwrap_or_default().join(",");
        let key = &expression.key;
        match expression.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        }
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn deployment() -> Value {
        json!({
            "metadata": {"name": "api", "labels": {"pilotlight.dev/function": "web"}},
            "spec": {
                "replicas": 2,
                "selector": {
                    "matchLabels": {"app": "api"},
                    "matchExpressions": [
                        {"key": "tier", "operator": "In", "values": ["a", "b"]},
                        {"key": "old", "operator": "DoesNotExist"},
                    ],
                },
                "template": {
                    "metadata": {"labels": {"app": "api", "tier": "a"}},
                    "spec": {"containers": [
                        {"name": "app", "ports": [{"name": "web", "containerPort": 3000}]},
                    ]},
                },
            },
        })
    }

    fn service() -> Value {
        json!({
            "metadata": {"name": "web", "labels": {"pilotlight.dev/function": "web"}},
            "spec": {
                "type": "ClusterIP", "clusterIP": "10.0.0.1", "selector": {"app": "api"},
                "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}],
            },
        })
    }

    fn look(deployment: &Value, service: &Value) -> Result<Fit, Unfit> {
        let deployment: Option<Deployment> = serde_json::from_value(deployment.clone()).expect("a Deployment");
        let service: Option<Service> = serde_json::from_value(service.clone()).expect("a Service");
        fit("web", "api", deployment.as_ref(), service.as_ref())
    }

    /// `value` with what `path` leads to replaced.
    fn with(mut value: Value, path: &str, by: Value) -> Value {
        let (parent, field) = path.rsplit_once('/').expect("a path");
        value.pointer_mut(parent).expect("it leads somewhere")[field] = by;
        value
    }

    #[test]
    fn a_plain_deployment_behind_a_plain_service_fits() {
        let fit = look(&deployment(), &service()).expect("it fits");
        assert_eq!(fit.selector, "app=api,tier in (a,b),!old");
        assert_eq!((fit.target_port, fit.pod_port), (IntOrString::String("web".to_owned()), 3000));
        let numbered = with(service(), "/spec/ports", json!([{"port": 8080}]));
        let fit = look(&deployment(), &numbered).expect("it fits");
        assert_eq!((fit.target_port, fit.pod_port), (IntOrString::Int(8080), 8080));
    }

    #[test]
    fn a_service_that_was_taken_over_fits_by_the_selector_that_it_had() {
        let bare = with(service(), "/spec/selector", Value::Null);
        let noted =
            with(bare.clone(), "/metadata/annotations", json!({"pilotlight.dev/selector": "{\"app\":\"api\"}"}));
        assert!(look(&deployment(), &noted).is_ok());
        assert_eq!(look(&deployment(), &bare).unwrap_err().reason, condition::SERVICE_UNFIT);
    }

    #[test]
    fn each_refusal_has_its_reason_and_a_remedy() {
        let other = json!({"pilotlight.dev/function": "other"});
        let owner = json!([{"apiVersion": "v1", "kind": "Rollout", "name": "r", "uid": "u", "controller": true}]);
        let (d, s) = (deployment(), service());
        let table = [
            (Value::Null, s.clone(), condition::TARGET_MISSING, "create it", false),
            (
                with(d.clone(), "/metadata/labels", json!({})),
                s.clone(),
                condition::TARGET_NOT_LABELLED,
                "kubectl label deployment api pilotlight.dev/function=web",
                true,
            ),
            (
                with(d.clone(), "/metadata/labels", other.clone()),
                s.clone(),
                condition::TARGET_NOT_LABELLED,
                "\"other\"",
                true,
            ),
            (
                with(d.clone(), "/metadata/ownerReferences", owner.clone()),
                s.clone(),
                condition::TARGET_CONTROLLED,
                "Rollout r",
                false,
            ),
            (d.clone(), Value::Null, condition::SERVICE_MISSING, "Function's name", false),
            (
                d.clone(),
                with(s.clone(), "/metadata/labels", json!({})),
                condition::SERVICE_NOT_LABELLED,
                "kubectl label service web",
                true,
            ),
            (
                d.clone(),
                with(s.clone(), "/metadata/ownerReferences", owner),
                condition::SERVICE_CONTROLLED,
                "Rollout r",
                false,
            ),
            (
                d.clone(),
                with(s.clone(), "/spec/type", json!("ExternalName")),
                condition::SERVICE_UNFIT,
                "ClusterIP",
                false,
            ),
            (d.clone(), with(s.clone(), "/spec/clusterIP", json!("None")), condition::SERVICE_UNFIT, "headless", false),
            (
                d.clone(),
                with(s.clone(), "/spec/internalTrafficPolicy", json!("Local")),
                condition::SERVICE_UNFIT,
                "Cluster",
                false,
            ),
            (
                d.clone(),
                with(s.clone(), "/spec/ports", json!([{"port": 1}, {"port": 2}])),
                condition::SERVICE_UNFIT,
                "exactly one port",
                false,
            ),
            (
                d.clone(),
                with(s.clone(), "/spec/ports", json!([{"port": 1, "protocol": "UDP"}])),
                condition::SERVICE_UNFIT,
                "TCP",
                false,
            ),
            (
                d.clone(),
                with(s.clone(), "/spec/ports", json!([{"port": 1, "targetPort": "nowhere"}])),
                condition::SERVICE_UNFIT,
                "targetPort",
                false,
            ),
            (
                d.clone(),
                with(s.clone(), "/spec/selector", json!({"app": "b"})),
                condition::SERVICE_UNFIT,
                "does not match",
                false,
            ),
        ];
        for (deployment, service, reason, words, consent) in table {
            let unfit = look(&deployment, &service).unwrap_err();
            assert_eq!((unfit.reason, unfit.consent), (reason, consent), "{}", unfit.message);
            assert!(unfit.message.contains(words), "{}", unfit.message);
        }
    }
}
