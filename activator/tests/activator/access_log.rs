//! The access log: who, what and how long, for a share of the requests and for errors, and nothing that could be a secret.

use std::io::Write;
use std::sync::{Arc, Mutex};

use http::{HeaderValue, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pilotlight_activator::runtime::Config;
use pilotlight_activator::telemetry::TelemetryConfig;
use pilotlight_activator::telemetry::access_log::AccessLogConfig;

use crate::harness::{FakePod, World, client, eventually, full, h2_request, read, send, text};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Lines as they are written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn all(&self) -> Vec<serde_json::Value> {
        let bytes = self.0.lock().unwrap().clone();
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

fn logging(ratio: f64, errors_per_second: u32) -> (World, Lines) {
    let lines = Lines::default();
    let out = Box::new(lines.clone());
    let access_log = Some(AccessLogConfig { ratio, errors_per_second, out });
    let telemetry = TelemetryConfig { access_log, ..TelemetryConfig::default() };
    (World::configured(|config: &mut Config| config.telemetry = telemetry), lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_tells_who_what_and_how_long_and_no_secrets() {
    let (world, lines) = logging(1.0, 0);
    world.apply(|_| {});
    let pod = FakePod::start(|request: Request<Incoming>| async move {
        let _ = request.into_body().collect().await;
        text("secret answer")
    })
    .await;
    world.pod(&pod);
    let cell = world.activator.registry.get(&crate::harness::key()).unwrap();
    eventually("the pod to be found ready", || cell.usable() == 1).await;
    let mut request = world.request("POST", "/secret?secret=1", full("secret body"));
    for (name, value) in
        [("authorization", "Bearer secret"), ("cookie", "secret"), ("traceparent", PARENT), ("x-own", "secret")]
    {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let answer = send(request).await;
    eventually("a line", || !lines.all().is_empty()).await;
    let line = lines.all().remove(0);
    assert_eq!(line["requestId"], answer.headers["x-request-id"].to_str().unwrap());
    assert_eq!(line["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!((&line["namespace"], &line["function"]), (&"shop".into(), &"hello".into()));
    assert_eq!((&line["method"], &line["protocol"], &line["status"]), (&"POST".into(), &"1.1".into(), &200.into()));
    assert_eq!((&line["receivedBytes"], &line["sentBytes"]), (&11.into(), &13.into()));
    assert_eq!((&line["outcome"], &line["coldStart"]), (&"complete".into(), &false.into()));
    assert!(line["durationMs"].as_f64().unwrap() >= line["upstreamMs"].as_f64().unwrap());
    assert!(!line.to_string().contains("secret"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_logged_whatever_the_share_and_bounded() {
    let (world, lines) = logging(0.0, 1);
    world.apply(|f| f.spec.cold_start.pending_requests = 1);
    let held = tokio::spawn(client().request(world.get("/")));
    world.until_load((0, 1)).await;
    assert_eq!(send(world.get("/")).await.reason(), "QueueFull");
    eventually("a line", || !lines.all().is_empty()).await;
    let line = lines.all().remove(0);
    assert_eq!((&line["reason"], &line["status"]), (&"QueueFull".into(), &503.into()));
    let began = world.activator.shared.epoch.elapsed().as_secs();
    for _ in 0..50 {
        assert_eq!(send(world.get("/")).await.status, 503);
    }
    let pod = FakePod::hello().await;
    world.pod(&pod);
    assert_eq!(held.await.unwrap().unwrap().status(), 200);
    assert_eq!(send(world.get("/")).await.status, 200);
    let seconds = usize::try_from(world.activator.shared.epoch.elapsed().as_secs() - began).unwrap();
    let logged = lines.all();
    assert!(logged.len() <= seconds + 2, "{} lines in {seconds} s", logged.len());
    assert!(logged.iter().all(|line| line["status"] == 503), "{logged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_request_ended_is_told() {
    let (world, lines) = logging(1.0, 0);
    world.apply(|_| {});
    let impatient = tokio::spawn(client().request(world.get("/")));
    world.until_load((0, 1)).await;
    impatient.abort();
    eventually("the client's leaving", || lines.all().len() == 1).await;
    let line = lines.all().remove(0);
    assert_eq!((&line["outcome"], &line["status"]), (&"clientGone".into(), &serde_json::Value::Null));
    let pod = FakePod::start(|_| async {
        let mut response = text("");
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("7"));
        response
    })
    .await
    .h2c();
    world.pod(&pod);
    let mut request = world.request("POST", "/Service/Method", full("x"));
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    assert_eq!(read(h2_request(&world, request).await).await.status, 200);
    eventually("the call", || lines.all().len() == 2).await;
    let line = lines.all().remove(1);
    assert_eq!(
        (&line["grpcStatus"], &line["protocol"], &line["outcome"]),
        (&7.into(), &"2".into(), &"complete".into())
    );
}
