//! What a Function's author is told of the way in from outside: the condition `GatewayReady`. Pure.
//!
//! What always holds: nothing counts as good before whoever runs the gateway has said so of this very version of the route.

use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use pilotlight_crds::condition;
use std::sync::Arc;

use super::kinds::{HTTPRoute, ParentRef, ParentStatus};

/// The conditions of a route that both have to be true for requests to come in.
const CONDITIONS: [&str; 2] = ["Accepted", "ResolvedRefs"];

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// `None`: nobody knows yet.
    pub status: Option<bool>,
    /// CamelCase.
    pub reason: String,
    /// In words.
    pub message: String,
}

impl Word {
    /// A word.
    pub fn new(status: Option<bool>, reason: &str, message: impl Into<String>) -> Self {
        Self { status, reason: reason.to_owned(), message: message.into() }
    }

    /// The same as before.
    pub fn again(before: &Condition) -> Self {
        let status = match before.status.as_str() {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        };
        Self::new(status, &before.reason, &before.message)
    }
}

/// Of these routes, at all of these gateways: the first refusal, else what is still awaited, else that all is well.
pub fn of_routes(routes: &[Arc<HTTPRoute>], parents: &[ParentRef]) -> Word {
    let words: Vec<_> = routes.iter().flat_map(|route| parents.iter().map(|parent| at_parent(route, parent))).collect();
    let first = |status| words.iter().find(|word| word.status == status).cloned();
    first(Some(false)).or_else(|| first(None)).unwrap_or_else(|| {
        let hosts: Vec<_> = routes.iter().flat_map(|route| route.spec.hostnames.iter().map(String::as_str)).collect();
        let namespace = routes.first().and_then(|route| route.metadata.namespace.as_deref()).unwrap_or_default();
        let gateways: Vec<_> = parents.iter().map(|parent| parent.words(namespace)).collect();
        let leads = if hosts.len() == 1 { "leads" } else { "lead" };
        let message = format!("{} {leads} here through {}", hosts.join(", "), gateways.join(" and "));
        Word::new(Some(true), condition::ROUTE_ACCEPTED, message)
    })
}

fn at_parent(route: &HTTPRoute, parent: &ParentRef) -> Word {
    let name = route.metadata.name.as_deref().unwrap_or_default();
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    let gateway = parent.words(namespace);
    let said: Vec<&ParentStatus> = route
        .status
        .iter()
        .flat_map(|status| &status.parents)
        .filter(|said| said.parent_ref.is_same(parent, namespace))
        .collect();
    let current = |type_: &str| {
        let all = said.iter().flat_map(|said| &said.conditions);
        let about = all.filter(|condition| condition.type_ == type_ && is_current(condition, route));
        about.collect::<Vec<_>>()
    };
    for type_ in CONDITIONS {
        if let Some(no) = current(type_).iter().find(|condition| condition.status == "False") {
            let message = format!("{gateway} says of HTTPRoute {name}: {}={}: {}", no.type_, no.reason, no.message);
            return Word::new(Some(false), &no.reason, message);
        }
    }
    let is_true = |type_: &&str| current(type_).iter().any(|condition| condition.status == "True");
    if CONDITIONS.iter().all(is_true) {
        return Word::new(Some(true), condition::ROUTE_ACCEPTED, String::new());
    }
    let message = format!(
        "No controller has said of HTTPRoute {name} that {gateway} takes it: does the Gateway exist, and does its class's controller run?"
    );
    Word::new(None, condition::ROUTE_PENDING, message)
}

/// Whether it speaks of the route as it is now.
fn is_current(condition: &Condition, route: &HTTPRoute) -> bool {
    match (condition.observed_generation, route.metadata.generation) {
        (Some(observed), Some(generation)) => observed >= generation,
        _ => true,
    }
}

/// Of an Ingress. There is no word that a controller has taken one but the address that many write to it.
pub fn of_ingress(ingress: &Ingress) -> Word {
    let name = ingress.metadata.name.as_deref().unwrap_or_default();
    let spec = ingress.spec.as_ref();
    let class = spec.and_then(|spec| spec.ingress_class_name.as_deref()).unwrap_or_default();
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let addresses: Vec<&str> = status
        .into_iter()
        .flat_map(|balancer| balancer.ingress.iter().flatten())
        .filter_map(|at| at.ip.as_deref().or(at.hostname.as_deref()))
        .collect();
    if addresses.is_empty() {
        let message = format!(
            "Ingress {name} of class {class} is there; its controller has written no address to it yet (some never do): whether it leads here is not known"
        );
        return Word::new(None, condition::INGRESS_CREATED, message);
    }
    let rules = spec.into_iter().flat_map(|spec| spec.rules.iter().flatten());
    let hosts: Vec<_> = rules.filter_map(|rule| rule.host.as_deref()).collect();
    let leads = if hosts.len() == 1 { "leads" } else { "lead" };
    let message = format!("{} {leads} here through Ingress {name}, at {}", hosts.join(", "), addresses.join(", "));
    Word::new(Some(true), condition::INGRESS_PUBLISHED, message)
}
