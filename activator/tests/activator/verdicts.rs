//! What samples tell of the requests of each revision: how many ended, how many of them failed at the pod, how many were slow there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use hyper::body::Incoming;
use pilotlight_crds::control::SampleBatch;
use serde_json::json;
use tokio::sync::{Notify, broadcast};

use crate::directions::{ask, tags};
use crate::fleet::{Fleet, owned_by};
use crate::harness::{Body, FakePod, World, empty, eventually, full, key, read, send, text};
use crate::wire::{Raw, channel, data, h2, raw_pod};

/// Requests of one revision: ended, failed, slow.
type Told = (u32, u32, u32);

/// What one activator tells.
struct Samples {
    lines: broadcast::Receiver<Arc<str>>,
    seen: BTreeMap<String, Told>,
}

impl Samples {
    fn of(world: &World) -> Self {
        let (shared, registry) = (&world.activator.shared, &world.activator.registry);
        Self { lines: shared.publisher.subscribe(registry, shared.epoch).lines, seen: BTreeMap::new() }
    }

    /// Waits until so many requests of a revision have ended, and gives what was told of them.
    async fn until(&mut self, revision: &str, completed: u32) -> Told {
        loop {
            let told = self.seen.get(revision).copied().unwrap_or_default();
            assert!(told.0 <= completed && told.1 <= told.0 && told.2 <= told.0, "{revision}: {told:?}");
            if told.0 == completed {
                return told;
            }
            let batch: SampleBatch = serde_json::from_str(&self.lines.recv().await.unwrap()).unwrap();
            for sample in batch.functions.into_iter().filter(|_| !batch.poke) {
                let told = self.seen.entry(sample.revision.unwrap_or_default()).or_default();
                *told = (told.0 + sample.completed, told.1 + sample.errors, told.2 + sample.slow);
            }
        }
    }
}

/// `hello-1` has the traffic, `hello-2` answers by a tag; a head is late after so many seconds.
fn world(slow_after: f64) -> World {
    let world = World::new();
    apply(&world, slow_after, |_| {});
    world
}

fn apply(world: &World, slow_after: f64, edit: impl FnOnce(&mut pilotlight_crds::Function)) {
    world.apply(|function| {
        let rollout = json!({"strategy": "Gradual", "abortOn": {"latencyP99Seconds": slow_after}});
        function.spec.rollout = serde_json::from_value(rollout).unwrap();
        let route = function.status.as_mut().unwrap().route.as_mut().unwrap();
        route.tags = serde_json::from_value(tags(&[("new", "hello-2")])).unwrap();
        edit(function);
    });
}

fn of(revision: &str, mut pod: FakePod) -> FakePod {
    pod.revision = revision.to_owned();
    pod
}

/// Answers with the status that is the path, and never to others.
async fn statuses(revision: &str) -> FakePod {
    let serve = |request: Request<Incoming>| async move {
        let Ok(status) = request.uri().path()[1..].parse::<u16>() else { return std::future::pending().await };
        let mut response = text("answered");
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    };
    of(revision, FakePod::start(serve).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_5xx_are_errors_of_their_revision_and_who_leaves_is_none() {
    let world = world(3600.0);
    let pods = [statuses("hello-1").await, statuses("hello-2").await];
    pods.iter().for_each(|pod| world.pod(pod));
    let mut samples = Samples::of(&world);
    for status in [200, 404, 429, 500, 503] {
        assert_eq!(ask(&world, false, "hello.shop", &format!("/{status}"), &[]).await.status, status);
    }
    for status in [200, 501] {
        assert_eq!(ask(&world, true, "new-hello.shop", &format!("/{status}"), &[]).await.status, status);
    }
    let gone = tokio::spawn(send(world.get("/never")));
    world.until_load((1, 0)).await;
    gone.abort();
    world.until_load((0, 0)).await;
    let mut breaks_off = Raw::to(&world).await;
    breaks_off.send("POST /never HTTP/1.1\r\nhost: hello.shop\r\ncontent-length: 10\r\n\r\nhalf ").await;
    world.until_load((1, 0)).await;
    drop(breaks_off);
    assert_eq!(samples.until("hello-1", 7).await, (7, 2, 0));
    assert_eq!(samples.until("hello-2", 2).await, (2, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_time_limit_is_an_error_and_refusals_are_not_even_counted() {
    let world = world(3600.0);
    let pods = [statuses("hello-1").await, statuses("hello-2").await];
    pods.iter().for_each(|pod| world.pod(pod));
    apply(&world, 3600.0, |function| function.spec.timeouts.request_seconds = 1);
    let mut samples = Samples::of(&world);
    assert_eq!(send(world.get("/never")).await.reason(), "RequestTimeout");
    assert_eq!(samples.until("hello-1", 1).await, (1, 1, 0));
    apply(&world, 3600.0, |function| {
        (function.spec.concurrency.limit, function.spec.cold_start.pending_requests) = (1, 0);
    });
    let held = tokio::spawn(send(world.get("/never")));
    world.until_load((1, 0)).await;
    assert_eq!(send(world.get("/200")).await.reason(), "QueueFull");
    held.abort();
    world.until_load((0, 0)).await;
    assert_eq!(send(world.get("/200")).await.status, 200);
    assert_eq!(samples.until("hello-1", 3).await, (3, 1, 0));
}

/// Ends each call with the status that is its method's name: in the headers alone, or in trailers.
async fn calls(request: Request<Incoming>) -> Response<Body> {
    let (_, method) = request.uri().path().rsplit_once('/').unwrap();
    let Some((place, status)) = method.split_once('-') else { return std::future::pending().await };
    let status = HeaderValue::from_str(status).unwrap();
    let mut response = Response::new(full(""));
    if place == "trailers" {
        let (sender, body) = channel();
        response = Response::new(body);
        tokio::spawn(async move {
            sender.send(data("message")).await.unwrap();
            let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), status)]);
            sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
        });
    } else {
        response.headers_mut().insert("grpc-status", status);
    }
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_statuses_that_blame_the_server_are_errors_in_headers_trailers_or_by_the_callers_deadline() {
    let world = world(3600.0);
    let pods = [statuses("hello-1").await, of("hello-2", FakePod::start(calls).await.h2c())];
    pods.iter().for_each(|pod| world.pod(pod));
    let mut samples = Samples::of(&world);
    let mut connection = h2(&world).await;
    let mut call = async |method: &str, timeout: Option<&'static str>| {
        let mut request = Request::post(format!("http://new-hello.shop/shop.Till/{method}")).body(full("")).unwrap();
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        request
            .headers_mut()
            .extend(timeout.map(|t| (http::HeaderName::from_static("grpc-timeout"), HeaderValue::from_static(t))));
        read(connection.send_request(request).await.unwrap()).await
    };
    for place in ["headers", "trailers"] {
        for status in [0, 1, 2, 3, 4, 5, 7, 12, 13, 14, 15, 16] {
            let answer = call(&format!("{place}-{status}"), None).await;
            let told = if place == "headers" { &answer.headers } else { &answer.trailers };
            assert_eq!(told["grpc-status"], status.to_string());
        }
    }
    assert_eq!(samples.until("hello-2", 24).await, (24, 10, 0));
    let late = call("never", Some("50m")).await;
    assert_eq!((late.headers["grpc-status"].to_str().unwrap(), late.reason()), ("4", "DeadlineExceeded"));
    assert_eq!(samples.until("hello-2", 25).await, (25, 11, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_pod_breaks_is_one_error_however_often_it_was_tried() {
    let world = world(3600.0);
    let first = of("hello-1", raw_pod(|mut raw| async move { drop(raw.head().await) }).await);
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf ";
    let second = raw_pod(move |mut raw| async move {
        let _ = raw.head().await;
        raw.send(head).await;
    });
    let second = of("hello-2", second.await);
    [&first, &second].into_iter().for_each(|pod| world.pod(pod));
    let mut samples = Samples::of(&world);
    assert_eq!(send(world.get("/")).await.reason(), "PodClosedConnection");
    assert_eq!(send(world.request("POST", "/", full("body"))).await.reason(), "PodClosedConnection");
    assert_eq!(samples.until("hello-1", 2).await, (2, 2, 0));
    let mut request = world.get("/");
    request.headers_mut().insert("pilotlight-tag", HeaderValue::from_static("new"));
    let half = crate::harness::client().request(request).await.unwrap();
    assert!(http_body_util::BodyExt::collect(half.into_body()).await.is_err(), "it breaks in the middle");
    assert_eq!(samples.until("hello-2", 1).await, (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_is_an_error() {
    for answer in
        ["no HTTP at all\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"]
    {
        let world = world(3600.0);
        let pod = raw_pod(move |mut raw| async move {
            let _ = raw.head().await;
            raw.send(answer).await;
            std::future::pending().await
        });
        let pod = pod.await;
        world.pod(&pod);
        let mut samples = Samples::of(&world);
        assert_eq!(send(world.get("/")).await.reason(), "InvalidResponse", "{answer}");
        assert_eq!(samples.until("hello-1", 1).await, (1, 1, 0), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_takes_longer_than_it_may_is_slow_whether_it_comes_or_not() {
    let world = world(0.001);
    let mut samples = Samples::of(&world);
    let (came, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tells, waits) = (came.clone(), go.clone());
    let late = FakePod::start(move |_| {
        let (tells, waits) = (tells.clone(), waits.clone());
        async move {
            tells.notify_one();
            waits.notified().await;
            text("late")
        }
    });
    let late = late.await;
    world.pod(&late);
    let until_late = async || {
        came.notified().await;
        let began = Instant::now();
        eventually("more than a millisecond is over", || began.elapsed() > Duration::from_millis(2)).await;
    };
    let answered = tokio::spawn(send(world.get("/")));
    until_late().await;
    go.notify_one();
    assert_eq!(answered.await.unwrap().body, "late");
    assert_eq!(samples.until("hello-1", 1).await, (1, 0, 1));
    let gone = tokio::spawn(send(world.get("/")));
    until_late().await;
    gone.abort();
    assert_eq!(samples.until("hello-1", 2).await, (2, 0, 2), "who gave up after that had waited for as long");
    apply(&world, 3600.0, |_| {});
    go.notify_one();
    assert_eq!(send(world.get("/")).await.body, "late");
    assert_eq!(samples.until("hello-1", 3).await, (3, 0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relayed_request_is_counted_by_the_owner_alone() {
    let mut fleet = Fleet::new(2);
    fleet.add_pod(statuses("hello-1").await);
    fleet.add_pod(statuses("hello-2").await);
    for n in 0..2 {
        fleet.tell_with(n, Some(&owned_by(1, 1, &[0])), |function| {
            let route = function.status.as_mut().unwrap().route.as_mut().unwrap();
            route.tags = serde_json::from_value(tags(&[("new", "hello-2")])).unwrap();
        });
    }
    fleet.until_open().await;
    let mut samples = fleet.within(1, Samples::of);
    for (path, tag) in [("/200", false), ("/500", false), ("/500", true)] {
        let mut request = fleet.request(0, true, "GET", path, empty());
        if tag {
            request.headers_mut().insert("pilotlight-tag", HeaderValue::from_static("new"));
        }
        assert_eq!(send(request).await.status.to_string(), path[1..]);
    }
    assert_eq!(samples.until("hello-1", 2).await, (2, 1, 0));
    assert_eq!(samples.until("hello-2", 1).await, (1, 1, 0));
    let relay = fleet.within(0, |world| {
        let now = Instant::now() + Duration::from_secs(1);
        let last = world.activator.shared.epoch.elapsed().as_secs();
        let cells = world.activator.registry.cells(&key());
        (0..=last).flat_map(|s| cells.iter().filter_map(move |cell| cell.sample(now, s)).collect::<Vec<_>>()).count()
    });
    assert_eq!(relay, 0, "the one that relays has seen nothing");
}
