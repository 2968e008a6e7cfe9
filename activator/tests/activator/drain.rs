//! The way out: what was accepted is finished, what comes late is still served, and then nothing listens any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use http_body_util::BodyExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pilotlight_activator::limits::Limits;
use pilotlight_activator::shutdown::DrainSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::harness::{FakePod, World, client, empty, eventually, h2_request, send, text};

fn quick() -> DrainSettings {
    DrainSettings {
        quiet: Duration::from_millis(300),
        quiet_max: Duration::from_secs(2),
        in_flight: Duration::from_secs(20),
    }
}

async fn readyz(world: &World) -> u16 {
    let request = Request::get(format!("http://{}/readyz", world.activator.admin)).body(empty()).unwrap();
    send(request).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_is_in_flight_and_serves_latecomers() {
    let world = Arc::new(World::with(Limits::default(), quick()));
    world.apply(|_| {});
    let go = Arc::new(Notify::new());
    let waits = go.clone();
    let pod = FakePod::start(move |request: Request<_>| {
        let waits = waits.clone();
        async move {
            if request.uri().path() == "/slow" {
                waits.notified().await;
            }
            text("answered")
        }
    })
    .await;
    world.pod(&pod);
    assert_eq!(readyz(&world).await, 200);
    let slow = tokio::spawn(send(world.get("/slow")));
    world.until_load((1, 0)).await;
    let h2 = h2_request(&world, world.get("/fast")).await;
    assert_eq!(h2.into_body().collect().await.unwrap().to_bytes(), "answered");
    let kept = client();
    kept.request(world.get("/fast")).await.unwrap().into_body().collect().await.unwrap();

    let draining = world.clone();
    let drain = tokio::spawn(async move { draining.activator.drain().await });
    eventually("a drain", || world.activator.shared.not_ready_because().is_some()).await;
    assert_eq!(readyz(&world).await, 503);
    assert_eq!(send(world.get("/fast")).await.status, 200, "a latecomer");
    eventually("nobody listens", || std::net::TcpStream::connect(world.activator.http).is_err()).await;
    assert!(!drain.is_finished());
    go.notify_one();
    assert_eq!(slow.await.unwrap().body, "answered");
    let finished = tokio::time::timeout(Duration::from_secs(10), drain).await;
    assert!(finished.unwrap().unwrap(), "everything was finished, idle connections did not hold it up");
    assert!(TcpStream::connect(world.activator.http).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_accepts_as_long_as_a_slice_leads_here_however_quiet_it_is() {
    let settings = DrainSettings { quiet: Duration::from_millis(50), quiet_max: Duration::from_secs(60), ..quick() };
    let world = Arc::new(World::with(Limits::default(), settings));
    world.apply(|_| {});
    let pod = FakePod::hello().await;
    world.pod(&pod);
    let slice: EndpointSlice = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "hello-pilotlight", "namespace": "shop"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.7"]}],
    }))
    .unwrap();
    world.activator.shared.led.apply(&slice, &["10.0.0.7".parse().unwrap()]);
    let draining = world.clone();
    let drain = tokio::spawn(async move { draining.activator.drain().await });
    eventually("a drain", || world.activator.shared.draining()).await;
    let began = Instant::now();
    eventually("many times the quiet", || began.elapsed() > settings.quiet * 20).await;
    let late = send(world.get("/")).await;
    assert_eq!(late.status, 200, "somebody was still led here");
    assert_eq!(late.headers["connection"], "close", "and is told to come back by another connection");
    world.activator.shared.led.delete(&slice);
    // No look at the port meanwhile: each would be a connection that came.
    assert!(tokio::time::timeout(Duration::from_secs(10), drain).await.expect("it goes").unwrap());
    assert!(TcpStream::connect(world.activator.http).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_let_in_last_may_still_say_what_it_wants() {
    let world = Arc::new(World::with(Limits::default(), quick()));
    world.apply(|_| {});
    let pod = FakePod::hello().await;
    world.pod(&pod);
    let mut silent = TcpStream::connect(world.activator.http).await.unwrap();
    let draining = world.clone();
    let drain = tokio::spawn(async move { draining.activator.drain().await });
    eventually("nobody listens", || std::net::TcpStream::connect(world.activator.http).is_err()).await;
    silent.write_all(b"GET / HTTP/1.1\r\nhost: hello.shop\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    silent.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    assert!(drain.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_cuts_what_outlasts_its_limit_and_says_so() {
    let settings =
        DrainSettings { quiet: Duration::ZERO, quiet_max: Duration::ZERO, in_flight: Duration::from_millis(300) };
    let world = World::with(Limits::default(), settings);
    world.apply(|_| {});
    let pod = FakePod::start(|_| std::future::pending()).await;
    world.pod(&pod);
    let stuck = tokio::spawn(client().request(world.get("/")));
    world.until_load((1, 0)).await;
    assert!(!world.activator.drain().await);
    assert!(stuck.await.unwrap().is_err());
    world.until_load((0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_still_wakes_for_who_waits() {
    let world = Arc::new(World::with(Limits::default(), quick()));
    world.apply(|_| {});
    world.scale.set_down(true);
    let held = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    let draining = world.clone();
    let drain = tokio::spawn(async move { draining.activator.drain().await });
    eventually("nobody listens", || std::net::TcpStream::connect(world.activator.http).is_err()).await;
    world.scale.set_down(false);
    eventually("a wake", || world.scale.writes() == [1]).await;
    let pod = FakePod::hello().await;
    world.pod(&pod);
    assert_eq!(held.await.unwrap().body, "hello");
    assert!(drain.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_tells_what_goes_on() {
    let world = World::with_function(|_| {});
    let pod = FakePod::hello().await;
    world.pod(&pod);
    send(world.get("/")).await;
    let get = |path: &str| Request::get(format!("http://{}{path}", world.activator.admin)).body(empty()).unwrap();
    assert_eq!(send(get("/livez")).await.status, 200);
    let metrics = send(get("/metrics")).await.body;
    for line in [
        "pilotlight_activator_requests_total{namespace=\"shop\",function=\"hello\",code_class=\"2xx\"} 1",
        "pilotlight_activator_in_flight_requests{namespace=\"shop\",function=\"hello\"} 0",
        "pilotlight_activator_queued_requests{namespace=\"shop\",function=\"hello\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
}
