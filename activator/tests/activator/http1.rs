//! HTTP/1.1 as clients and pods speak it on the wire: connections that stay, chunks, trailers, `Expect`, answers that come early.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{FakePod, World, client, full, h2_request, header_pairs, read, text};
use crate::wire::{Raw, channel, data, echo, h2, raw_pod};

async fn ready(pod: &FakePod) -> World {
    let world = World::with_function(|_| {});
    world.pod(pod);
    world
}

/// Answers with the body that it got.
async fn whole() -> FakePod {
    FakePod::start(
        |request: Request<Incoming>| async move { text(request.into_body().collect().await.unwrap().to_bytes()) },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_many_requests_one_after_the_other_and_in_a_row() {
    let pod = whole().await;
    let world = ready(&pod).await;
    let mut client = Raw::to(&world).await;
    for word in ["one", "two"] {
        client.send(&format!("POST / HTTP/1.1\r\nhost: hello.shop\r\ncontent-length: 3\r\n\r\n{word}")).await;
        assert_eq!(client.answer().await.1, word);
    }
    let three =
        "POST / HTTP/1.1\r\nhost: hello.shop\r\ntransfer-encoding: chunked\r\n\r\n5;ext=\"a;b\"\r\nthree\r\n0\r\n\r\n";
    let four = "POST / HTTP/1.1\r\nhost: hello.shop\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfour";
    client.send(&format!("{three}{four}")).await;
    assert_eq!(client.answer().await.1, "three");
    let (head, body) = client.answer().await;
    assert_eq!(body, "four");
    assert!(head.contains("connection: close"), "{head}");
    assert!(client.is_closed().await);
    let connections = pod.connections.load(std::sync::atomic::Ordering::Relaxed);
    assert!(connections <= 3, "{connections} connections to the pod, one of them the probe's");
}

#[tokio::test(flavor = "multi_thread")]
async fn http10_is_closed_unless_it_asks_to_stay() {
    let pod = whole().await;
    let world = ready(&pod).await;
    let mut client = Raw::to(&world).await;
    client.send("GET / HTTP/1.0\r\nhost: hello.shop\r\nconnection: keep-alive\r\n\r\n").await;
    assert!(client.answer().await.0.contains("connection: keep-alive"));
    client.send("GET / HTTP/1.0\r\nhost: hello.shop\r\n\r\n").await;
    client.answer().await;
    assert!(client.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_both_ways_between_both_protocols() {
    for (pod_h2, client_h2) in [(false, false), (true, true), (true, false), (false, true)] {
        let mut pod = FakePod::start(echo).await;
        if pod_h2 {
            pod = pod.h2c();
        }
        let world = ready(&pod).await;
        let (sender, body) = channel();
        let mut request = world.request("POST", "/", body);
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        request.headers_mut().insert("trailer", HeaderValue::from_static("x-checksum"));
        let feed = tokio::spawn(async move {
            sender.send(data("body")).await.unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", HeaderValue::from_static("42"));
            sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
        });
        let response =
            if client_h2 { h2_request(&world, request).await } else { client().request(request).await.unwrap() };
        let answer = read(response).await;
        feed.await.unwrap();
        assert_eq!(answer.body, "body");
        assert_eq!(answer.trailers["x-checksum"], "42", "pod h2 {pod_h2}, client h2 {client_h2}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_between_the_protocols_is_translated() {
    for pod_h2 in [false, true] {
        let mut pod = FakePod::start(|request: Request<Incoming>| async move {
            let mut seen = header_pairs(request.headers());
            seen.insert("cookies".into(), request.headers().get_all("cookie").iter().count().to_string());
            seen.insert("authority".into(), request.uri().authority().map(ToString::to_string).unwrap_or_default());
            text(serde_json::to_string(&seen).unwrap())
        })
        .await;
        if pod_h2 {
            pod = pod.h2c();
        }
        let world = ready(&pod).await;
        let mut request = world.get("/path?query");
        request.headers_mut().append("cookie", HeaderValue::from_static("a=1"));
        request.headers_mut().append("cookie", HeaderValue::from_static("b=2"));
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        let answer = read(h2_request(&world, request).await).await;
        let seen: std::collections::BTreeMap<String, String> = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((seen["cookie"].as_str(), seen["cookies"].as_str()), ("a=1; b=2", "1"));
        assert_eq!(seen["te"], "trailers");
        let place = if pod_h2 { "authority" } else { "host" };
        assert_eq!(seen[place], "hello.shop", "h2 client, pod h2 {pod_h2}");
        assert!(!seen.contains_key("connection"));

        let mut client = Raw::to(&world).await;
        client
            .send("GET / HTTP/1.1\r\nhost: hello.shop\r\nconnection: keep-alive, te, x-hop\r\nte: trailers, deflate\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nproxy-connection: close\r\n\r\n")
            .await;
        let (head, body) = client.answer().await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let seen: std::collections::BTreeMap<String, String> = serde_json::from_str(&body).unwrap();
        assert_eq!(seen[place], "hello.shop", "h1 client, pod h2 {pod_h2}");
        assert_eq!(seen["te"], "trailers");
        for absent in ["x-hop", "keep-alive", "proxy-connection", "connection"] {
            assert!(!seen.contains_key(absent), "{absent}");
        }
    }
}

const EXPECTING: &str = "POST / HTTP/1.1\r\nhost: hello.shop\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_pod_decides_whether_a_client_that_asks_first_may_send() {
    let willing = whole().await;
    let world = ready(&willing).await;
    let mut client = Raw::to(&world).await;
    client.send(EXPECTING).await;
    assert!(client.head().await.starts_with("http/1.1 100"));
    client.send("body").await;
    assert_eq!(client.answer().await.1, "body");

    let unwilling = raw_pod(|mut raw| async move {
        assert!(raw.head().await.contains("expect: 100-continue"));
        raw.send("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno").await;
        assert!(raw.is_closed().await, "not a byte of the body came");
    })
    .await;
    let world = ready(&unwilling).await;
    let mut client = Raw::to(&world).await;
    client.send(EXPECTING).await;
    let (head, body) = client.answer().await;
    assert!(head.starts_with("http/1.1 401"), "no 100 before: {head}");
    assert_eq!(body, "no");
    assert!(client.is_closed().await, "nobody could tell whether what comes next is the body");
    world.until_load((0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_knows_no_expect_gets_the_body_all_the_same() {
    let pod = raw_pod(|mut raw| async move {
        raw.head().await;
        raw.until("body").await;
        raw.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await;
    })
    .await;
    let world = ready(&pod).await;
    let mut client = Raw::to(&world).await;
    client.send(EXPECTING).await;
    assert!(client.head().await.starts_with("http/1.1 100"));
    client.send("body").await;
    assert_eq!(client.answer().await.1, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_to_continue_while_there_is_no_pod() {
    let world = World::with_function(|_| {});
    let mut client = Raw::to(&world).await;
    client.send(EXPECTING).await;
    world.until_load((0, 1)).await;
    assert!(client.is_silent());
    let pod = whole().await;
    world.pod(&pod);
    assert!(client.head().await.starts_with("http/1.1 100"));
    client.send("body").await;
    assert_eq!(client.answer().await.1, "body");

    let world = World::with_function(|f| f.spec.cold_start.timeout_seconds = 1);
    let mut client = Raw::to(&world).await;
    client.send(EXPECTING).await;
    assert!(client.head().await.starts_with("http/1.1 503"), "refused before a byte was sent");
}

/// Reads the head, answers, and neither reads nor closes.
async fn early(length: usize) -> FakePod {
    raw_pod(move |mut raw| async move {
        raw.head().await;
        let body = "x".repeat(length);
        raw.send(&format!("HTTP/1.1 413 Content Too Large\r\ncontent-length: {length}\r\n\r\n{body}")).await;
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_body_was_read_arrives_whole() {
    const LENGTH: usize = 300_000;
    let pod = early(LENGTH).await;
    let world = ready(&pod).await;
    let mut client = Raw::to(&world).await;
    const UPLOAD: usize = 16 * 1024 * 1024;
    client.send(&format!("POST / HTTP/1.1\r\nhost: hello.shop\r\ncontent-length: {UPLOAD}\r\n\r\n")).await;
    // As a simple client does: it only looks for the answer when it has sent all.
    let chunk = vec![b'x'; 64 * 1024];
    for _ in 0..UPLOAD / chunk.len() {
        client.stream.write_all(&chunk).await.expect("the activator takes it, though nobody wants it");
    }
    let (head, body) = client.answer().await;
    assert!(head.starts_with("http/1.1 413"), "{head}");
    assert_eq!(body.len(), LENGTH);
    world.until_load((0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_ends_the_upload_of_its_own_stream_only() {
    let pod = early(5).await;
    let world = ready(&pod).await;
    let mut sender = h2(&world).await;
    let (upload, body) = channel();
    let mut request = world.request("POST", "/", body);
    request.headers_mut().remove("host");
    *request.uri_mut() = "http://hello.shop/".parse().unwrap();
    upload.send(data("first")).await.unwrap();
    let answer = read(sender.send_request(request).await.unwrap()).await;
    assert_eq!((answer.status, answer.body.as_str()), (413, "xxxxx"));
    world.until_load((0, 0)).await;
    tokio::time::timeout(Duration::from_secs(10), async { while upload.send(data("more")).await.is_ok() {} })
        .await
        .expect("the client hears that nobody reads any more");
    let other = sender.send_request(crate::wire::h2_get("/")).await.unwrap();
    assert_eq!(read(other).await.status, 413, "the connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_has_no_length_ends_with_its_connection() {
    let pod = raw_pod(|mut raw| async move {
        raw.head().await;
        raw.send("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
    })
    .await;
    let world = ready(&pod).await;
    let mut client = Raw::to(&world).await;
    client.send("GET / HTTP/1.1\r\nhost: hello.shop\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    client.until("until the end\r\n0\r\n\r\n").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.stream.read(&mut [0; 1]).await.unwrap(), 0);
    let answer = read(h2_request(&world, world.request("POST", "/", full("x"))).await).await;
    assert_eq!(answer.body, "until the end");
}
