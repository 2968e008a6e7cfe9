//! From a Function's external names to its HTTPRoutes or its Ingress. Pure.
//!
//! What always holds: what is built carries the owner reference and the labels of all that is Pilotlight's, and a digest of itself, by which an
//! object that was built otherwise is known although it has all that this one has.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    IngressTLS, ServiceBackendPort,
};
use kube::api::ObjectMeta;
use pilotlight_crds::status::RouteTag;
use pilotlight_crds::{Function, names};
use serde::Serialize;
use serde_json::{Value, json};

use super::config::IngressRules;
use super::kinds::{HTTPRoute, HttpRouteSpec, ParentRef};
use crate::build::hash::canonical_hash;
use crate::build::{labels, owned_metadata};

/// Annotation with the digest of what was built.
const ANNOTATION_BUILT: &str = "pilotlight.dev/built";
/// Hosts that the Gateway API lets one HTTPRoute have. A Function has one more at most: its own name.
const HOSTS: usize = 16;

/// What of a Function is to be seen from outside.
#[derive(Clone, Debug)]
pub struct Outside<'a> {
    /// The Function.
    pub function: &'a Function,
    /// Port of its Service.
    pub port: u16,
    /// Domain of Functions' own external names, where there is one.
    pub domain: Option<&'a str>,
    /// The host names that it has, of those that its author asks for.
    pub held: &'a [String],
    /// Its revisions with names of their own.
    pub tags: &'a [RouteTag],
}

impl Outside<'_> {
    fn name(&self) -> &str {
        self.function.metadata.name.as_deref().unwrap_or_default()
    }

    /// `<name>.<namespace>.<domain>`.
    fn below_domain(&self, name: &str) -> Option<String> {
        let namespace = self.function.metadata.namespace.as_deref().unwrap_or_default();
        let domain = self.domain.filter(|_| self.function.spec.visibility.is_external());
        domain.map(|domain| format!("{name}.{namespace}.{domain}"))
    }

    /// All names that lead to it from outside, its own first.
    pub fn hosts(&self) -> Vec<String> {
        let own = self.below_domain(self.name());
        let held = self.held.iter().filter(|_| self.function.spec.visibility.is_external());
        own.into_iter().chain(held.cloned()).collect()
    }
}

/// Every HTTPRoute that it should have: one for its hosts (two, where there are more than fit on one), and one for each tag. The first are those of its hosts.
pub fn routes(outside: &Outside<'_>, parents: &[ParentRef]) -> Vec<HTTPRoute> {
    let hosts = outside.hosts();
    let mut all: Vec<_> = hosts
        .chunks(HOSTS)
        .enumerate()
        .map(|(n, hosts)| {
            let name = outside.name();
            let name = if n == 0 { name.to_owned() } else { names::endpoint_slice_name(name) };
            named_route(outside, name, parents, hosts, None)
        })
        .collect();
    all.extend(outside.tags.iter().filter_map(|tag| {
        let host = outside.below_domain(&names::tag_name(&tag.tag, outside.name()))?;
        Some(route(outside, parents, &[host], Some(&tag.tag)))
    }));
    all
}

/// The HTTPRoute of these hosts. Requests through that of a tag are for the entry of `spec.traffic` that has it.
pub fn route(outside: &Outside<'_>, parents: &[ParentRef], hosts: &[String], tag: Option<&str>) -> HTTPRoute {
    let name = outside.name();
    let name = tag.map_or_else(|| name.to_owned(), |tag| names::tag_name(tag, name));
    named_route(outside, name, parents, hosts, tag)
}

fn named_route(
    outside: &Outside<'_>,
    name: String,
    parents: &[ParentRef],
    hosts: &[String],
    tag: Option<&str>,
) -> HTTPRoute {
    let filters: Vec<Value> = tag
        .map(|tag| {
            let set = json!([{"name": names::HEADER_TAG, "value": tag}]);
            json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": set}})
        })
        .into_iter()
        .collect();
    // The API's defaults are spelled out where a difference would matter, so that what somebody else sets there is seen.
    let rule = json!({
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "filters": filters,
        "backendRefs": [{"kind": "Service", "name": outside.name(), "port": outside.port, "weight": 1}],
    });
    let spec = HttpRouteSpec { parent_refs: parents.to_vec(), hostnames: hosts.to_vec(), rules: vec![rule] };
    let mut route = HTTPRoute::new(&name, spec);
    route.metadata = owned_metadata(outside.function, name, labels(outside.name()));
    note_digest(&mut route.metadata, &route.spec);
    route
}

/// The Ingress, where it has any external name. One for a tag there is none: an Ingress cannot set a header.
pub fn ingress(outside: &Outside<'_>, rules: &IngressRules) -> Option<Ingress> {
    let hosts = outside.hosts();
    if hosts.is_empty() {
        return None;
    }
    let path = HTTPIngressPath {
        path: Some("/".to_owned()),
        path_type: "Prefix".to_owned(),
        backend: IngressBackend {
            service: Some(IngressServiceBackend {
                name: outside.name().to_owned(),
                port: Some(ServiceBackendPort { number: Some(i32::from(outside.port)), name: None }),
            }),
            resource: None,
        },
    };
    let rule = |host: &String| IngressRule {
        host: Some(host.clone()),
        http: Some(HTTPIngressRuleValue { paths: vec![path.clone()] }),
    };
    let tls = |secret: &String| vec![IngressTLS { hosts: Some(hosts.clone()), secret_name: Some(secret.clone()) }];
    let spec = IngressSpec {
        ingress_class_name: Some(rules.class.clone()),
        rules: Some(hosts.iter().map(rule).collect()),
        tls: rules.tls_secret.as_ref().map(tls),
        default_backend: None,
    };
    let mut metadata = owned_metadata(outside.function, outside.name().to_owned(), labels(outside.name()));
    metadata.annotations = Some(rules.annotations.clone());
    let digested = json!({"annotations": rules.annotations, "spec": spec});
    note_digest(&mut metadata, &digested);
    Some(Ingress { metadata, spec: Some(spec), status: None })
}

fn note_digest(metadata: &mut ObjectMeta, built: &impl Serialize) {
    let value = serde_json::to_value(built).expect("specs have string keys and no fallible fields");
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_BUILT.to_owned(), canonical_hash(&value));
}
