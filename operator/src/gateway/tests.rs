//! What is built of a Function's external names, what is said of it, and what flags are understood.

use super::*;
use clap::Parser;
use k8s_openapi::api::networking::v1::Ingress;
use pilotlight_crds::routing::Visibility;
use pilotlight_crds::status::RouteTag;
use pilotlight_crds::{Function, FunctionSpec, condition};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::build::owns;
use crate::drift::holds;

fn function() -> Function {
    let mut function = Function::new("hello", FunctionSpec::default());
    function.metadata.namespace = Some("shop".to_owned());
    function.metadata.uid = Some("u1".to_owned());
    function
}

fn parents() -> Vec<ParentRef> {
    serde_json::from_value(json!([{"name": "public", "namespace": "edge"}])).expect("they are")
}

fn outside<'a>(
    function: &'a Function,
    domain: Option<&'a str>,
    held: &'a [String],
    tags: &'a [RouteTag],
) -> Outside<'a> {
    Outside { function, port: 80, domain, held, tags }
}

fn json_of(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).expect("it has a form in JSON")
}

#[test]
fn a_route_has_all_of_the_function_s_names_and_leads_to_its_service() {
    let (function, held) = (function(), ["www.example.com".to_owned()]);
    let all = routes(&outside(&function, Some("fn.test"), &held, &[]), &parents());
    let [route] = all.as_slice() else { panic!("one: {all:?}") };
    assert!(owns(&function, &route.metadata));
    let built = json_of(route);
    assert_eq!(built["apiVersion"], "gateway.networking.k8s.io/v1");
    assert_eq!((&built["kind"], &built["metadata"]["name"]), (&json!("HTTPRoute"), &json!("hello")));
    assert_eq!(built["metadata"]["labels"]["pilotlight.dev/function"], "hello");
    assert_eq!(built["spec"]["parentRefs"], json!([{"name": "public", "namespace": "edge"}]));
    assert_eq!(built["spec"]["hostnames"], json!(["hello.shop.fn.test", "www.example.com"]));
    let rule = &built["spec"]["rules"][0];
    assert_eq!(rule["backendRefs"], json!([{"kind": "Service", "name": "hello", "port": 80, "weight": 1}]));
    assert_eq!(rule["filters"], json!([]));
}

#[test]
fn without_an_external_name_there_is_nothing() {
    let function = function();
    let nothing = outside(&function, None, &[], &[]);
    assert!(routes(&nothing, &parents()).is_empty());
    assert_eq!(ingress(&nothing, &IngressRules::default()), None);
}

#[test]
fn a_function_that_is_the_cluster_s_alone_has_none() {
    let (mut function, held) = (function(), ["www.example.com".to_owned()]);
    function.spec.visibility = Visibility::Cluster;
    let tags = [RouteTag { tag: "next".to_owned(), revision: "hello-2".to_owned(), url: String::new() }];
    let hidden = outside(&function, Some("fn.test"), &held, &tags);
    assert!(routes(&hidden, &parents()).is_empty());
    assert_eq!(ingress(&hidden, &IngressRules::default()), None);
}

#[test]
fn a_tag_has_a_route_of_its_own_that_names_it_in_a_header() {
    let function = function();
    let tags = [RouteTag { tag: "next".to_owned(), revision: "hello-2".to_owned(), url: String::new() }];
    let all = routes(&outside(&function, Some("fn.test"), &[], &tags), &parents());
    assert_eq!(all.len(), 2);
    let built = json_of(&all[1]);
    assert_eq!(built["metadata"]["name"], "next-hello");
    assert_eq!(built["metadata"]["labels"]["pilotlight.dev/function"], "hello");
    assert_eq!(built["spec"]["hostnames"], json!(["next-hello.shop.fn.test"]));
    let rule = &built["spec"]["rules"][0];
    let header = json!({"set": [{"name": "pilotlight-tag", "value": "next"}]});
    assert_eq!(rule["filters"], json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": header}]));
    assert_eq!(rule["backendRefs"][0]["name"], "hello");
    let held = ["www.example.com".to_owned()];
    let without_domain = routes(&outside(&function, None, &held, &tags), &parents());
    assert_eq!(without_domain.len(), 1, "a tag has no name without the domain");
}

#[test]
fn as_many_hosts_as_a_function_can_have_fit() {
    let function = function();
    let held: Vec<_> = (0..16).map(|n| format!("h{n}.example.com")).collect();
    let all = routes(&outside(&function, Some("fn.test"), &held, &[]), &parents());
    let hosts: Vec<_> = all.iter().map(|route| route.spec.hostnames.len()).collect();
    assert_eq!(hosts, [16, 1]);
    assert_ne!(all[0].metadata.name, all[1].metadata.name);
}

#[test]
fn what_the_api_fills_in_is_no_difference_and_what_somebody_changes_is() {
    let function = function();
    let wanted = route(&outside(&function, Some("fn.test"), &[], &[]), &parents(), &["a.test".to_owned()], None);
    let stored = |change: &dyn Fn(&mut Value)| {
        let mut object = json_of(&wanted);
        object["spec"]["parentRefs"][0]["kind"] = json!("Gateway");
        object["spec"]["rules"][0]["backendRefs"][0]["group"] = json!("");
        object["metadata"]["resourceVersion"] = json!("7");
        change(&mut object);
        serde_json::from_value::<HTTPRoute>(object).expect("it is one")
    };
    assert!(holds(&stored(&|_| {}), &wanted));
    let changes: [&dyn Fn(&mut Value); 5] = [
        &|object| object["spec"]["hostnames"] = json!(["a.test", "b.test"]),
        &|object| object["spec"]["rules"][0]["filters"] = json!([{"type": "URLRewrite"}]),
        &|object| object["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!(0),
        &|object| object["spec"]["parentRefs"][0]["name"] = json!("other"),
        &|object| object["metadata"]["labels"] = json!({}),
    ];
    for change in changes {
        assert!(!holds(&stored(change), &wanted));
    }
}

#[test]
fn an_ingress_has_a_rule_for_each_host_and_tls_where_there_is_a_secret() {
    let (function, held) = (function(), ["www.example.com".to_owned()]);
    let outside = outside(&function, Some("fn.test"), &held, &[]);
    let rules = IngressRules {
        class: "traefik".to_owned(),
        annotations: [("a/b".to_owned(), "c".to_owned())].into(),
        tls_secret: Some("wildcard".to_owned()),
    };
    let made = ingress(&outside, &rules).expect("it has names");
    let built = json_of(&made);
    assert_eq!(built["spec"]["ingressClassName"], "traefik");
    assert_eq!(built["metadata"]["annotations"]["a/b"], "c");
    let hosts = json!(["hello.shop.fn.test", "www.example.com"]);
    assert_eq!(built["spec"]["tls"], json!([{"hosts": hosts, "secretName": "wildcard"}]));
    let paths =
        json!([{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "hello", "port": {"number": 80}}}}]);
    assert_eq!(built["spec"]["rules"][1], json!({"host": "www.example.com", "http": {"paths": paths}}));
    let plain = IngressRules { tls_secret: None, annotations: Default::default(), ..rules };
    let plain = ingress(&outside, &plain).expect("it has names");
    assert!(!holds(&made, &plain), "what the chart asks for no more goes, although maps may have more");
}

/// The word on a route of which gateways say this.
fn said(parents_said: Value) -> Word {
    let function = function();
    let mut route = route(&outside(&function, Some("fn.test"), &[], &[]), &parents(), &["a.test".to_owned()], None);
    route.metadata.generation = Some(3);
    route.status = serde_json::from_value(json!({"parents": parents_said})).expect("a status");
    of_routes(&[Arc::new(route)], &parents())
}

fn condition_of(type_: &str, status: &str, reason: &str, generation: i64) -> Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": "words", "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

fn at(namespace: &str, conditions: &[Value]) -> Value {
    let parent =
        json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": namespace});
    json!({"parentRef": parent, "controllerName": "example.com/controller", "conditions": conditions})
}

#[test]
fn a_route_is_good_once_its_gateway_said_both_of_this_version() {
    let accepted = condition_of("Accepted", "True", "Accepted", 3);
    let resolved = condition_of("ResolvedRefs", "True", "ResolvedRefs", 3);
    let good = said(json!([at("edge", &[accepted.clone(), resolved.clone()])]));
    assert_eq!((good.status, good.reason.as_str()), (Some(true), condition::ROUTE_ACCEPTED));
    assert_eq!(good.message, "a.test leads here through Gateway edge/public");
    let old = condition_of("ResolvedRefs", "True", "ResolvedRefs", 2);
    for pending in [
        json!([]),
        json!([at("edge", std::slice::from_ref(&accepted))]),
        json!([at("edge", &[accepted.clone(), old])]),
        json!([at("other", &[accepted.clone(), resolved])]),
    ] {
        let word = said(pending);
        assert_eq!((word.status, word.reason.as_str()), (None, condition::ROUTE_PENDING), "{word:?}");
        assert!(word.message.contains("Gateway edge/public"), "{word:?}");
    }
}

#[test]
fn a_refusal_has_the_gateway_s_own_reason_and_words() {
    let no = condition_of("Accepted", "False", "NotAllowedByListeners", 3);
    let resolved = condition_of("ResolvedRefs", "True", "ResolvedRefs", 3);
    let word = said(json!([at("edge", &[no, resolved])]));
    assert_eq!((word.status, word.reason.as_str()), (Some(false), "NotAllowedByListeners"));
    for part in ["Gateway edge/public", "HTTPRoute hello", "words"] {
        assert!(word.message.contains(part), "{part}: {}", word.message);
    }
}

#[test]
fn an_ingress_is_good_once_it_has_an_address_and_before_nobody_knows() {
    let function = function();
    let rules = IngressRules { class: "traefik".to_owned(), ..IngressRules::default() };
    let mut made: Ingress = ingress(&outside(&function, Some("fn.test"), &[], &[]), &rules).expect("it has a name");
    let word = of_ingress(&made);
    assert_eq!((word.status, word.reason.as_str()), (None, condition::INGRESS_CREATED));
    made.status =
        serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}})).expect("a status");
    let word = of_ingress(&made);
    assert_eq!((word.status, word.reason.as_str()), (Some(true), condition::INGRESS_PUBLISHED));
    assert!(word.message.contains("hello.shop.fn.test leads here") && word.message.contains("192.0.2.1"), "{word:?}");
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    gateway: GatewayArgs,
}

#[test]
fn flags_say_what_is_in_front_and_never_both() {
    let front = |flags: &[&str]| Flags::parse_from([&["operator"], flags].concat()).gateway.front();
    assert_eq!(front(&[]).expect("nothing"), None);
    assert_eq!(front(&["--ingress-class=", "--ingress-tls-secret="]).expect("nothing"), None);
    let parent = r#"--gateway-parent-ref={"name":"public","namespace":"edge"}"#;
    assert_eq!(front(&[parent]).expect("a gateway"), Some(Front::Gateway(parents())));
    let ingress = ["--ingress-class=nginx", "--ingress-annotation=a/b=c=d", "--ingress-tls-secret=s"];
    let rules = IngressRules {
        class: "nginx".to_owned(),
        annotations: [("a/b".to_owned(), "c=d".to_owned())].into(),
        tls_secret: Some("s".to_owned()),
    };
    assert_eq!(front(&ingress).expect("an Ingress"), Some(Front::Ingress(rules)));
    assert!(front(&[parent, "--ingress-class=nginx"]).is_err());
}
