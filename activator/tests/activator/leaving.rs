//! A drain as clients see it: they are told to go elsewhere before anything closes, and what lasts long lives on until it ends or the drain's own
//! limit is over.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pilotlight_activator::limits::Limits;
use pilotlight_activator::shutdown::DrainSettings;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::harness::{FakePod, World, empty, eventually};
use crate::wire::{Frames, Raw, channel, data, h2_get, next};

/// A pod whose answers are fed by the test, or upgraded to an echo.
async fn fed() -> (FakePod, tokio::sync::mpsc::UnboundedReceiver<Frames>) {
    let (open, opened) = tokio::sync::mpsc::unbounded_channel();
    let pod = FakePod::start(move |mut request| {
        let open = open.clone();
        async move {
            let (sender, body) = channel();
            if request.headers().contains_key("upgrade") {
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                });
                let mut response = crate::harness::text("");
                *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
                for (name, value) in [("connection", "upgrade"), ("upgrade", "echo")] {
                    response.headers_mut().insert(name, value.parse().unwrap());
                }
                return response;
            }
            open.send(sender).unwrap();
            http::Response::new(body)
        }
    })
    .await;
    (pod, opened)
}

fn settings(in_flight: Duration) -> DrainSettings {
    DrainSettings { quiet: Duration::from_millis(500), quiet_max: Duration::from_secs(5), in_flight }
}

async fn upgraded(world: &World) -> Raw {
    let mut tunnel = Raw::to(world).await;
    tunnel.send("GET / HTTP/1.1\r\nhost: hello.shop\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    assert!(tunnel.head().await.starts_with("http/1.1 101"));
    tunnel
}

#[tokio::test(flavor = "multi_thread")]
async fn long_streams_and_tunnels_live_on_and_nothing_new_comes_to_their_connections() {
    let world = Arc::new(World::with(Limits::default(), settings(Duration::from_secs(60))));
    world.apply(|_| {});
    let (pod, mut opened) = fed().await;
    world.pod(&pod);
    let mut tunnel = upgraded(&world).await;

    let stream = TcpStream::connect(world.activator.http).await.unwrap();
    let (mut h2, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let h2_connection = tokio::spawn(connection);
    let mut over_h2 = h2.send_request(h2_get("/")).await.unwrap().into_body();
    let feed_h2 = opened.recv().await.unwrap();

    let mut over_h1 = Raw::to(&world).await;
    let get = "GET / HTTP/1.1\r\nhost: hello.shop\r\n\r\n";
    over_h1.send(get).await;
    let feed_h1 = opened.recv().await.unwrap();
    over_h1.head().await;
    let mut kept = Raw::to(&world).await;
    kept.send(get).await;
    drop(opened.recv().await.unwrap());
    assert!(!kept.until("0\r\n\r\n").await.to_lowercase().contains("connection: close"));

    let draining = world.clone();
    let drain = tokio::spawn(async move { draining.activator.drain().await });
    eventually("a drain", || world.activator.shared.not_ready_because().is_some()).await;
    kept.send(get).await;
    let late = opened.recv().await.unwrap();
    assert!(kept.head().await.contains("connection: close"), "the next request has to go elsewhere");
    drop(late);
    kept.until("0\r\n\r\n").await;
    assert!(kept.is_closed().await);
    while h2.send_request(h2_get("/")).await.is_ok() {
        drop(opened.recv().await);
    }
    eventually("nobody listens", || std::net::TcpStream::connect(world.activator.http).is_err()).await;

    feed_h2.send(data("over h2")).await.unwrap();
    assert_eq!(next(&mut over_h2).await, "over h2");
    feed_h1.send(data("over h1")).await.unwrap();
    over_h1.until("over h1").await;
    tunnel.send("over a tunnel").await;
    tunnel.until("over a tunnel").await;
    assert!(!drain.is_finished());

    drop((feed_h1, feed_h2));
    over_h1.until("0\r\n\r\n").await;
    assert!(over_h1.is_closed().await);
    assert!(over_h2.frame().await.is_none_or(|rest| rest.is_ok()), "whole");
    h2_connection.await.unwrap().unwrap();
    assert!(!drain.is_finished(), "the tunnel is still open");
    drop(tunnel);
    let finished = tokio::time::timeout(Duration::from_secs(10), drain).await;
    assert!(finished.unwrap().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlasts_the_drains_limit_is_cut_for_all_to_see() {
    let limit = Duration::from_millis(700);
    let world = World::with(Limits::default(), settings(limit));
    world.apply(|_| {});
    let (pod, mut opened) = fed().await;
    world.pod(&pod);
    let mut tunnel = upgraded(&world).await;
    let mut stream = Raw::to(&world).await;
    stream.send("GET / HTTP/1.1\r\nhost: hello.shop\r\n\r\n").await;
    let feed = opened.recv().await.unwrap();
    feed.send(data("first")).await.unwrap();
    stream.until("first").await;
    assert!(!world.activator.drain().await, "it says that it could not finish");
    let mut rest = Vec::new();
    let _ = stream.stream.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("0\r\n\r\n"), "no whole body is pretended");
    assert!(tunnel.is_closed().await);
    world.until_load((0, 0)).await;
    drop(feed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_comes_late_is_served_and_leaves_after_its_answer() {
    let world = Arc::new(World::with(Limits::default(), settings(Duration::from_secs(60))));
    world.apply(|_| {});
    let pod = FakePod::hello().await;
    world.pod(&pod);
    let draining = world.clone();
    let drain = tokio::spawn(async move { draining.activator.drain().await });
    eventually("a drain", || world.activator.shared.not_ready_because().is_some()).await;
    let mut late = Raw::to(&world).await;
    late.send("POST / HTTP/1.1\r\nhost: hello.shop\r\ncontent-length: 0\r\n\r\n").await;
    let (head, body) = late.answer().await;
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(body, "hello");
    assert!(late.is_closed().await);
    let mut h2 = crate::wire::h2(&world).await;
    let request = http::Request::get("http://hello.shop/").body(empty()).unwrap();
    assert_eq!(h2.send_request(request).await.unwrap().status(), 200);
    drop(h2);
    assert!(drain.await.unwrap());
}
