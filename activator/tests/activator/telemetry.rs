//! What is told of requests beside their answers: metrics, and traces at a real collector.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderValue, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use pilotlight_activator::runtime::Config;
use pilotlight_activator::telemetry::TelemetryConfig;
use pilotlight_activator::telemetry::access_log::AccessLogConfig;
use pilotlight_activator::telemetry::export::TracingConfig;
use pilotlight_activator::telemetry::sampler::Sampler;
use prost::Message;

use crate::harness::{FakePod, World, client, empty, eventually, function, read, send, text};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn metrics(world: &World) -> String {
    let request = Request::get(format!("http://{}/metrics", world.activator.admin)).body(empty()).unwrap();
    send(request).await.body
}

/// The value of a series, by its name and some of its labels; `None` where it does not exist.
fn series(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let prefix = format!("pilotlight_activator_{name}{{");
    let of_it = |line: &&str| line.starts_with(&prefix) && labels.iter().all(|label| line.contains(label));
    text.lines().find(of_it).and_then(|line| line.rsplit(' ').next()).map(|value| value.parse().unwrap())
}

async fn until_series(world: &World, name: &str, labels: &[&str], wanted: f64) {
    for _ in 0..2000 {
        if series(&metrics(world).await, name, labels) == Some(wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("{name} {labels:?} never was {wanted}: {}", metrics(world).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_measured_from_queue_to_end_by_function_and_namespace() {
    let world = World::with_function(|f| f.spec.cold_start.pending_requests = 1);
    let cold = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    let text = metrics(&world).await;
    assert_eq!(series(&text, "http_server_active_requests", &["function=\"hello\"", "namespace=\"shop\""]), Some(1.0));
    assert_eq!(send(world.get("/")).await.reason(), "QueueFull");
    let pod = FakePod::hello().await;
    world.pod(&pod);
    assert_eq!(cold.await.unwrap().status, 200);
    assert_eq!(send(world.get("/")).await.status, 200);
    let ok = ["code_class=\"2xx\"", "function=\"hello\"", "namespace=\"shop\""];
    until_series(&world, "http_server_request_duration_seconds_count", &ok, 2.0).await;
    let text = metrics(&world).await;
    assert_eq!(series(&text, "http_server_request_duration_seconds_count", &["5xx"]), Some(1.0));
    assert_eq!(series(&text, "http_server_request_duration_seconds_count", &["4xx"]), None, "never answered so");
    assert_eq!(series(&text, "upstream_duration_seconds_count", &["hello"]), Some(2.0));
    assert_eq!(series(&text, "queue_duration_seconds_count", &["hello"]), Some(1.0), "only one had to wait");
    assert_eq!(series(&text, "faas_coldstarts_total", &["hello"]), Some(1.0));
    assert_eq!(series(&text, "refused_total", &["reason=\"QueueFull\""]), Some(1.0));
    assert_eq!(series(&text, "requests_total", &["2xx"]), Some(2.0));
    for phase in ["patched", "pod-seen", "ip-seen", "reachable"] {
        let label = format!("phase=\"{phase}\"");
        assert_eq!(series(&text, "cold_start_seconds_count", &[&label]), Some(1.0), "{phase}");
    }
    assert_eq!(series(&text, "http_server_active_requests", &["hello"]), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_and_hosts_without_a_function_are_counted_and_a_deleted_function_leaves_nothing() {
    let world = World::with_function(|_| {});
    let impatient = tokio::spawn(client().request(world.get("/")));
    world.until_load((0, 1)).await;
    impatient.abort();
    until_series(&world, "abandoned_total", &["hello"], 1.0).await;
    let mut stranger = world.get("/");
    stranger.headers_mut().insert("host", HeaderValue::from_static("other.shop"));
    assert_eq!(send(stranger).await.reason(), "UnknownHost");
    assert!(metrics(&world).await.contains("pilotlight_activator_unrouted_requests_total 1\n"));
    world.activator.registry.delete_function(&function(|_| {}));
    let mut left = String::new();
    for _ in 0..2000 {
        left = metrics(&world).await;
        if !left.contains("hello") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("series of a deleted Function: {left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_lists_the_metrics_that_there_are() {
    let tracing = TracingConfig {
        endpoint: "http://127.0.0.1:1/v1/traces".into(),
        sampler: Sampler::default(),
        delay: Duration::from_secs(3600),
    };
    let out = Box::new(std::io::sink());
    let access_log = Some(AccessLogConfig { ratio: 0.0, errors_per_second: 1, out });
    let telemetry = TelemetryConfig { access_log, tracing: Some(tracing), ..TelemetryConfig::default() };
    let world = World::configured(|config: &mut Config| config.telemetry = telemetry);
    world.apply(|f| f.spec.cold_start.pending_requests = 0);
    assert_eq!(send(world.get("/")).await.reason(), "QueueFull");
    world.apply(|_| {});
    let cold = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    let pod = FakePod::hello().await;
    world.pod(&pod);
    assert_eq!(cold.await.unwrap().status, 200);
    until_series(&world, "upstream_duration_seconds_count", &["hello"], 1.0).await;
    let text = metrics(&world).await;
    // Those of TLS are told where there is TLS.
    let plain = |name: &String| !name.starts_with("tls_");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE pilotlight_activator_"));
    let told: BTreeSet<String> = types
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .filter(plain)
        .collect();
    let document = include_str!("../../../docs/observability.md");
    let section = document.split("## Metrics").nth(1).unwrap().split("## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeSet<String> = rows.map(|row| row.split('`').next().unwrap().to_owned()).filter(plain).collect();
    assert_eq!(listed, told, "docs/observability.md (left) has to list what /metrics (right) tells");
}

/// A collector of OTLP over HTTP.
struct Collector {
    server: FakePod,
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    async fn start() -> Self {
        let requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>> = Arc::default();
        let received = requests.clone();
        let server = FakePod::start(move |request: Request<Incoming>| {
            let received = received.clone();
            async move {
                assert_eq!(request.uri().path(), "/v1/traces");
                assert_eq!(request.headers()["content-type"], "application/x-protobuf");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                received.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
                text("")
            }
        })
        .await;
        Self { server, requests }
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.requests.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }
}

fn tracing_to(address: std::net::SocketAddr, sampler: &str, argument: Option<&str>) -> World {
    let tracing = TracingConfig {
        endpoint: format!("http://{address}/v1/traces"),
        sampler: Sampler::from_settings(sampler, argument).unwrap(),
        delay: Duration::from_millis(10),
    };
    let telemetry = TelemetryConfig { tracing: Some(tracing), ..TelemetryConfig::default() };
    let world = World::configured(|config: &mut Config| config.telemetry = telemetry);
    world.apply(|_| {});
    world
}

/// A span's attributes as text.
fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(is) => is.to_string(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value = |any: &opentelemetry_proto::tonic::common::v1::AnyValue| any.value.as_ref().map(text).unwrap();
    span.attributes.iter().map(|pair| (pair.key.as_str(), value(pair.value.as_ref().unwrap()))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A pod that answers with the `traceparent` that it got.
async fn tracing_pod() -> FakePod {
    FakePod::start(|request: Request<Incoming>| async move {
        let parent = request.headers().get("traceparent").map_or("", |value| value.to_str().unwrap());
        text(parent.to_owned())
    })
    .await
}

fn only<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let named: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(named.len(), 1, "{name} among {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
    named[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_is_one_trace_from_the_caller_to_the_pod() {
    let collector = Collector::start().await;
    let world = tracing_to(collector.server.address, "parentbased_always_off", None);
    let mut request = world.get("/secret/path?token=secret");
    request.headers_mut().insert("traceparent", HeaderValue::from_static(PARENT));
    let cold = tokio::spawn(send(request));
    world.until_load((0, 1)).await;
    let pod = tracing_pod().await;
    world.pod(&pod);
    let answer = cold.await.unwrap();
    eventually("the spans arrive", || collector.spans().len() >= 7).await;
    let spans = collector.spans();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == "4bf92f3577b34da6a3ce929d0e0e4736"));
    assert!(!format!("{spans:?}").contains("secret"));

    let request = only(&spans, "GET shop/hello");
    assert_eq!((hex(&request.parent_span_id), request.kind()), ("00f067aa0ba902b7".into(), SpanKind::Server));
    let said = attributes(request);
    assert_eq!((said["faas.coldstart"].as_str(), said["faas.trigger"].as_str()), ("true", "http"));
    assert_eq!(said["faas.invocation_id"], answer.headers["x-request-id"].to_str().unwrap());
    assert_eq!((said["http.response.status_code"].as_str(), said["http.request.method"].as_str()), ("200", "GET"));

    let queue = only(&spans, "queue");
    assert_eq!(queue.parent_span_id, request.span_id);
    for phase in ["wake patched", "wake pod-seen", "wake ip-seen", "wake reachable"] {
        let phase = only(&spans, phase);
        assert_eq!(phase.parent_span_id, queue.span_id);
        assert!(queue.start_time_unix_nano <= phase.start_time_unix_nano);
        assert!(phase.end_time_unix_nano <= queue.end_time_unix_nano);
    }
    let attempt = only(&spans, "GET");
    assert_eq!((attempt.parent_span_id.clone(), attempt.kind()), (request.span_id.clone(), SpanKind::Client));
    assert_eq!(attributes(attempt)["k8s.pod.name"], pod.name);
    let to_pod = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", hex(&attempt.span_id));
    assert_eq!(answer.body, to_pod, "the pod's spans are children of the attempt");
    let resources = collector.requests.lock().unwrap()[0].resource_spans.clone();
    let resource = resources[0].resource.clone().unwrap();
    assert!(resource.attributes.iter().any(|pair| pair.key == "service.name"), "{resource:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_begin_here_where_they_are_recorded_and_the_decision_is_passed_on() {
    let collector = Collector::start().await;
    let world = tracing_to(collector.server.address, "parentbased_traceidratio", Some("1"));
    let pod = tracing_pod().await;
    world.pod(&pod);
    let begun = send(world.get("/")).await.body;
    assert!(begun.starts_with("00-") && begun.ends_with("-03"), "{begun}");
    eventually("its spans", || collector.spans().iter().any(|span| begun.contains(&hex(&span.trace_id)))).await;

    let off = tracing_to(collector.server.address, "parentbased_always_off", None);
    off.pod(&pod);
    let not_recorded = send(off.get("/")).await.body;
    assert!(not_recorded.ends_with("-02"), "nobody below records what nobody here does: {not_recorded}");
    let mut request = off.get("/");
    let unsampled = PARENT.replace("-01", "-00");
    request.headers_mut().insert("traceparent", HeaderValue::from_str(&unsampled).unwrap());
    assert_eq!(send(request).await.body, unsampled);
    off.activator.shared.telemetry.flush(Duration::from_secs(5)).await;
    assert!(collector.spans().iter().all(|span| begun.contains(&hex(&span.trace_id))), "nothing else came");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_its_reason_in_the_trace() {
    let collector = Collector::start().await;
    let world = tracing_to(collector.server.address, "always_on", None);
    let mut request = world.get("/");
    request.headers_mut().insert("host", HeaderValue::from_static("other.shop"));
    assert_eq!(send(request).await.status, 404);
    eventually("a span", || !collector.spans().is_empty()).await;
    assert_eq!(attributes(only(&collector.spans(), "GET"))["error.type"], "UnknownHost");
    world.apply(|f| f.spec.cold_start.timeout_seconds = 1);
    assert_eq!(send(world.get("/")).await.reason(), "NoPod");
    eventually("the wait", || collector.spans().iter().any(|span| span.name == "queue")).await;
    let spans = collector.spans();
    let request = only(&spans, "GET shop/hello");
    assert_eq!(only(&spans, "queue").parent_span_id, request.span_id, "what was waited for in vain is told too");
    let said = attributes(request);
    assert_eq!((said["error.type"].as_str(), said["http.response.status_code"].as_str()), ("NoPod", "503"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_sent_on_the_way_out() {
    let collector = Collector::start().await;
    let tracing = TracingConfig {
        endpoint: format!("http://{}/v1/traces", collector.server.address),
        sampler: Sampler::default(),
        delay: Duration::from_secs(3600),
    };
    let telemetry = TelemetryConfig { tracing: Some(tracing), ..TelemetryConfig::default() };
    let world = World::configured(|config: &mut Config| config.telemetry = telemetry);
    world.apply(|_| {});
    let pod = FakePod::hello().await;
    world.pod(&pod);
    assert_eq!(send(world.get("/")).await.status, 200);
    until_series(&world, "http_server_request_duration_seconds_count", &["2xx"], 1.0).await;
    world.activator.shared.telemetry.flush(Duration::from_secs(10)).await;
    assert_eq!(only(&collector.spans(), "GET shop/hello").kind(), SpanKind::Server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_costs_bounded_memory_and_no_request() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let world = tracing_to(silent.local_addr().unwrap(), "always_on", None);
    let pod = FakePod::hello().await;
    world.pod(&pod);
    let client = client();
    let dropped = || world.activator.shared.telemetry.tracer.as_ref().unwrap().dropped.get();
    for _ in 0..5000 {
        assert_eq!(read(client.request(world.get("/")).await.unwrap()).await.status, 200);
        if dropped() > 0 {
            return;
        }
    }
    panic!("the queue to the collector has no bound");
}
