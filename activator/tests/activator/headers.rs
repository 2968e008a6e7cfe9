//! What the activator says about a request, to the pod and to the client: where it came from, its id, its place in a trace, how long it took;
//! and that nobody else can say it in the activator's name.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use pilotlight_activator::proxy::forwarded::{Trust, network};
use pilotlight_activator::runtime::Config;
use pilotlight_activator::telemetry::TelemetryConfig;
use pilotlight_activator::telemetry::timing::TimingHeaders;

use crate::harness::{Body, FakePod, World, client, full, h2_request, header_pairs, read, send, text};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Answers with the headers that it got, as JSON.
async fn mirror() -> FakePod {
    FakePod::start(|request: Request<Incoming>| async move {
        text(serde_json::to_string(&header_pairs(request.headers())).unwrap())
    })
    .await
}

fn trusting(networks: &[&str]) -> World {
    let trust = Trust::new(networks.iter().map(|text| network(text).unwrap()).collect());
    let world = World::configured(|config: &mut Config| config.trust = trust);
    world.apply(|_| {});
    world
}

fn with(mut request: Request<Body>, fields: &[(&str, &str)]) -> Request<Body> {
    for (name, value) in fields {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().append(name.parse::<HeaderName>().unwrap(), value);
    }
    request
}

/// What the pod sees of a request with these headers.
async fn seen(world: &World, fields: &[(&str, &str)]) -> BTreeMap<String, String> {
    let answer = send(with(world.get("/"), fields)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

const SPOOFED: [(&str, &str); 7] = [
    ("x-forwarded-for", "203.0.113.9"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "bank.example.com"),
    ("x-forwarded-client-cert", "Hash=1"),
    ("x-real-ip", "203.0.113.9"),
    ("forwarded", "for=203.0.113.9;proto=https"),
    ("x-request-id", "chosen-by-the-client"),
];

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_believed_by_default() {
    let (world, pod) = (trusting(&[]), mirror().await);
    world.pod(&pod);
    let seen = seen(&world, &SPOOFED).await;
    assert_eq!(seen["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen["x-forwarded-proto"], "http");
    assert_eq!(seen["x-forwarded-host"], "hello.shop");
    assert_eq!(seen["forwarded"], "for=127.0.0.1;proto=http;host=\"hello.shop\"");
    for absent in ["x-forwarded-client-cert", "x-real-ip"] {
        assert!(!seen.contains_key(absent), "{absent}");
    }
    assert_ne!(seen["x-request-id"], "chosen-by-the-client");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_is_believed_and_its_chain_continued() {
    let (world, pod) = (trusting(&["127.0.0.0/8"]), mirror().await);
    world.pod(&pod);
    let seen = seen(&world, &[&SPOOFED[..], &[("via", "2 edge")]].concat()).await;
    assert_eq!(seen["x-forwarded-for"], "203.0.113.9, 127.0.0.1");
    assert_eq!(seen["x-forwarded-proto"], "https");
    assert_eq!(seen["x-forwarded-host"], "bank.example.com");
    let chain = "for=203.0.113.9;proto=https, for=127.0.0.1;proto=http;host=\"hello.shop\"";
    assert_eq!(seen["forwarded"], chain);
    assert_eq!(seen["x-real-ip"], "203.0.113.9");
    assert_eq!(seen["x-request-id"], "chosen-by-the-client");
    assert_eq!(seen["via"], "2 edge, 1.1 pilotlight");
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_is_for_the_networks_that_are_named() {
    let (world, pod) = (trusting(&["10.0.0.0/8", "::1/128"]), mirror().await);
    world.pod(&pod);
    assert_eq!(seen(&world, &SPOOFED).await["x-forwarded-for"], "127.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_an_id_that_pod_and_client_see_and_that_is_fit_to_be_logged() {
    let (world, pod) = (trusting(&["127.0.0.1"]), mirror().await);
    world.pod(&pod);
    let mut ids = std::collections::BTreeSet::new();
    let long = "x".repeat(129);
    for unfit in ["", "two words", "a\"b", &long] {
        let answer = send(with(world.get("/"), &[("x-request-id", unfit)])).await;
        let seen: BTreeMap<String, String> = serde_json::from_str(&answer.body).unwrap();
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(seen["x-request-id"], id);
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 4, "no two are alike");
    let fit = send(with(world.get("/"), &[("x-request-id", "f47ac10b-58cc")])).await;
    assert_eq!(fit.headers["x-request-id"], "f47ac10b-58cc");
    let twice = send(with(world.get("/"), &[("x-request-id", "a"), ("x-request-id", "b")])).await;
    assert_eq!(twice.headers["x-request-id"].len(), 32, "two are none");
    let mut stranger = world.get("/");
    stranger.headers_mut().insert("host", HeaderValue::from_static("other.shop"));
    assert_eq!(send(stranger).await.headers["x-request-id"].len(), 32, "refusals have one too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_and_half_a_context_does_not() {
    let (world, pod) = (trusting(&[]), mirror().await);
    world.pod(&pod);
    let whole = seen(&world, &[("traceparent", PARENT), ("tracestate", "a=1,b@c=2")]).await;
    assert_eq!((whole["traceparent"].as_str(), whole["tracestate"].as_str()), (PARENT, "a=1,b@c=2"));
    let bad_state = seen(&world, &[("traceparent", PARENT), ("tracestate", "a=1,a=2")]).await;
    assert_eq!(bad_state["traceparent"], PARENT);
    assert!(!bad_state.contains_key("tracestate"));
    for bad in ["00-00000000000000000000000000000000-00f067aa0ba902b7-01", "nonsense", &PARENT.to_uppercase()] {
        let seen = seen(&world, &[("traceparent", bad), ("tracestate", "a=1")]).await;
        assert!(!seen.contains_key("traceparent") && !seen.contains_key("tracestate"), "{bad}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_fields_stay_on_their_hop() {
    let (world, pod) = (trusting(&[]), mirror().await);
    world.pod(&pod);
    let fields = [
        ("connection", "x-hop, keep-alive, x-forwarded-for"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "gzip;q=0.5, trailers"),
        ("proxy-authorization", "Basic Zm9v"),
        ("proxy-connection", "keep-alive"),
        ("proxy", "http://evil.example.com"),
        ("pilotlight-cold-start", "true"),
        ("pilotlight-reason", "Spoofed"),
        ("authorization", "Bearer for-the-function"),
    ];
    let seen = seen(&world, &fields).await;
    for (absent, _) in fields.iter().filter(|(name, _)| !matches!(*name, "te" | "authorization")) {
        assert!(!seen.contains_key(*absent), "{absent}");
    }
    assert_eq!(seen["te"], "trailers");
    assert_eq!(seen["authorization"], "Bearer for-the-function");
    assert_eq!(seen["x-forwarded-for"], "127.0.0.1", "listing it in Connection does not take it away");
}

/// Says what only the activator may say, in headers and in trailers, and has its own timing.
async fn impostor() -> FakePod {
    FakePod::start(|_| async {
        let mut trailers = HeaderMap::new();
        trailers.insert("pilotlight-reason", HeaderValue::from_static("Spoofed"));
        trailers.insert("content-length", HeaderValue::from_static("99"));
        trailers.insert("x-checksum", HeaderValue::from_static("42"));
        let frames = [Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"hello"))), Ok(Frame::trailers(trailers))];
        let mut response = Response::new(StreamBody::new(futures::stream::iter(frames)).boxed_unsync());
        for (name, value) in [
            ("pilotlight-cold-start", "true"),
            ("pilotlight-reason", "QueueFull"),
            ("pilotlight-anything", "1"),
            ("proxy-authenticate", "Basic"),
            ("server-timing", "db;dur=53"),
            ("via", "1.1 inner"),
            ("x-own", "1"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    })
    .await
    .h2c()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_cannot_speak_in_the_activators_name() {
    let (world, pod) = (trusting(&[]), impostor().await);
    world.pod(&pod);
    assert_eq!(send(world.get("/")).await.status, 200, "found by its probe");
    let answer = read(h2_request(&world, world.get("/")).await).await;
    assert_eq!((answer.body.as_str(), &answer.headers["x-own"]), ("hello", &HeaderValue::from_static("1")));
    for absent in ["pilotlight-cold-start", "pilotlight-reason", "pilotlight-anything", "proxy-authenticate"] {
        assert!(!answer.headers.contains_key(absent), "{absent}");
    }
    assert_eq!(answer.headers["via"], "1.1 inner, 2 pilotlight");
    let trailers: Vec<&str> = answer.trailers.keys().map(HeaderName::as_str).collect();
    assert_eq!(trailers, ["x-checksum"]);
    let timings: Vec<&HeaderValue> = answer.headers.get_all("server-timing").iter().collect();
    assert_eq!(timings[0], "db;dur=53", "the application's own comes first, untouched");
    assert_eq!(names(timings[1]), ["queue", "upstream"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_a_client_are_held_to_the_same_rules() {
    let pod = FakePod::start(|request: Request<Incoming>| async move {
        let collected = request.into_body().collect().await.unwrap();
        text(serde_json::to_string(&header_pairs(collected.trailers().unwrap_or(&HeaderMap::new()))).unwrap())
    })
    .await
    .h2c();
    let world = trusting(&[]);
    world.pod(&pod);
    let mut trailers = HeaderMap::new();
    for (name, value) in [("pilotlight-reason", "Spoofed"), ("x-forwarded-for", "203.0.113.9"), ("x-checksum", "42")] {
        trailers.insert(name, HeaderValue::from_static(value));
    }
    let frames = [Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"body"))), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
    let answer = read(h2_request(&world, world.request("POST", "/", body)).await).await;
    assert_eq!(answer.body, "{\"x-checksum\":\"42\"}");
}

fn names(timing: &HeaderValue) -> Vec<&str> {
    let entries = timing.to_str().unwrap().split(", ");
    entries
        .map(|entry| {
            let (name, duration) = entry.split_once(";dur=").unwrap();
            assert!(duration.parse::<f64>().unwrap() >= 0.0, "{entry}");
            name
        })
        .collect()
}

async fn cold_then_warm(timing: TimingHeaders) -> (HeaderMap, HeaderMap) {
    let telemetry = TelemetryConfig { timing, ..TelemetryConfig::default() };
    let world = World::configured(|config: &mut Config| config.telemetry = telemetry);
    world.apply(|_| {});
    let cold = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    let pod = FakePod::hello().await;
    world.pod(&pod);
    let cold = cold.await.unwrap();
    let warm = send(world.request("POST", "/", full("x"))).await;
    assert_eq!((cold.status, warm.status), (200, 200));
    assert!(cold.headers["pilotlight-cold-start"] == "true" && !warm.headers.contains_key("pilotlight-cold-start"));
    (cold.headers, warm.headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn timing_is_told_as_configured() {
    let (cold, warm) = cold_then_warm(TimingHeaders::All).await;
    assert_eq!(names(&cold["server-timing"]), ["queue", "patched", "pod-seen", "ip-seen", "reachable", "upstream"]);
    assert_eq!(names(&warm["server-timing"]), ["queue", "upstream"]);
    assert!(warm["server-timing"].to_str().unwrap().starts_with("queue;dur=0.000"), "it did not wait: {warm:?}");
    let (cold, warm) = cold_then_warm(TimingHeaders::Cold).await;
    assert!(cold.contains_key("server-timing") && !warm.contains_key("server-timing"));
    let (cold, _) = cold_then_warm(TimingHeaders::Off).await;
    assert!(!cold.contains_key("server-timing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn via_names_the_protocol_of_each_hop() {
    let (world, pod) = (trusting(&[]), mirror().await);
    world.pod(&pod);
    let answer = read(h2_request(&world, world.get("/")).await).await;
    let seen: BTreeMap<String, String> = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(seen["via"], "2 pilotlight");
    assert_eq!(answer.headers["via"], "1.1 pilotlight");
    let refused = client().request(with(world.get("/"), &[("host", "x")])).await.unwrap();
    assert!(!refused.headers().contains_key("via"), "the activator's own answer came by no hop");
}
