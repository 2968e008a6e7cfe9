//! What passes through: bodies, trailers, upgrades, both protocols, and what is added and taken away.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::{Body, FakePod, World, client, eventually, full, h2_request, read, send, text};

pub(crate) type Frames = tokio::sync::mpsc::Sender<Result<Frame<Bytes>, Infallible>>;

pub(crate) fn channel() -> (Frames, Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    (sender, StreamBody::new(ReceiverStream::new(receiver)).boxed_unsync())
}

pub(crate) fn data(text: &'static str) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

/// Answers at once and sends back whatever comes, frame by frame, trailers too.
pub(crate) async fn echo(request: Request<Incoming>) -> Response<Body> {
    let trailer = request.headers().get("trailer").cloned();
    let (sender, body) = channel();
    let mut incoming = request.into_body();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = incoming.frame().await {
            if sender.send(Ok(frame)).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(body);
    if let Some(trailer) = trailer {
        response.headers_mut().insert("trailer", trailer);
    }
    response
}

async fn ready(pod: &FakePod) -> World {
    let world = World::with_function(|_| {});
    world.pod(pod);
    world
}

pub(crate) async fn next_text(body: &mut Incoming) -> String {
    let frame = body.frame().await.unwrap().unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways_while_both_are_open() {
    for (pod_h2, client_h2) in [(false, false), (true, true), (true, false), (false, true)] {
        let mut pod = FakePod::start(echo).await;
        if pod_h2 {
            pod = pod.h2c();
        }
        let world = ready(&pod).await;
        let (sender, body) = channel();
        let request = world.request("POST", "/", body);
        let response =
            if client_h2 { h2_request(&world, request).await } else { client().request(request).await.unwrap() };
        assert_eq!(response.status(), 200, "pod h2 {pod_h2}, client h2 {client_h2}");
        let mut incoming = response.into_body();
        for part in ["one", "two", "three"] {
            sender.send(data(part)).await.unwrap();
            assert_eq!(next_text(&mut incoming).await, part);
            assert_eq!(world.load(), (1, 0));
        }
        drop(sender);
        while let Some(frame) = incoming.frame().await {
            let rest = frame.unwrap().into_data().unwrap();
            assert!(rest.is_empty(), "pod h2 {pod_h2}, client h2 {client_h2}: {rest:?}");
        }
        world.until_load((0, 0)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_whole() {
    let pod = FakePod::start(echo).await;
    let world = ready(&pod).await;
    let large = "0123456789abcdef".repeat(256 * 1024);
    let answer = send(world.request("POST", "/", full(large.clone()))).await;
    assert!(answer.body == large, "4 MiB there and back");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_over_http1() {
    let pod = FakePod::start(echo).await;
    let world = ready(&pod).await;
    let (sender, body) = channel();
    let mut request = world.request("POST", "/", body);
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    request.headers_mut().insert("trailer", HeaderValue::from_static("x-checksum"));
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("42"));
    sender.send(data("body")).await.unwrap();
    sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
    drop(sender);
    let answer = read(client().request(request).await.unwrap()).await;
    assert_eq!(answer.body, "body");
    assert_eq!(answer.trailers["x-checksum"], "42");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_trailers_pass_over_h2c() {
    let pod = FakePod::start(|request: Request<Incoming>| async move {
        assert_eq!(request.version(), Version::HTTP_2);
        assert_eq!(request.headers()["te"], "trailers");
        let (sender, body) = channel();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        sender.send(data("message")).await.unwrap();
        sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
        let mut response = Response::new(body);
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        response
    })
    .await
    .h2c();
    let world = World::with_function(|f| f.status.as_mut().unwrap().route.as_mut().unwrap().port = 0);
    world.pod(&pod);
    let mut request = world.request("POST", "/Service/Method", full("request"));
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let answer = read(h2_request(&world, request).await).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "message"));
    assert_eq!(answer.trailers["grpc-status"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_callers_get_refusals_as_grpc_statuses() {
    let world = World::with_function(|f| f.spec.cold_start.timeout_seconds = 1);
    let mut request = world.request("POST", "/Service/Method", full("request"));
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let answer = read(h2_request(&world, request).await).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["grpc-status"], "14");
    assert_eq!(answer.reason(), "NoPod");
}

async fn upgrading(mut request: Request<Incoming>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrade.await.unwrap());
        let mut buffer = [0; 64];
        while let Ok(read @ 1..) = io.read(&mut buffer).await {
            io.write_all(&buffer[..read].to_ascii_uppercase()).await.unwrap();
        }
    });
    let mut response = text("");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    response.headers_mut().insert("upgrade", request.headers()["upgrade"].clone());
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_pass_through_and_count_as_in_flight_until_they_end() {
    let pod = FakePod::start(upgrading).await;
    let world = ready(&pod).await;
    let mut stream = TcpStream::connect(world.activator.http).await.unwrap();
    let head = "GET /chat HTTP/1.1\r\nhost: hello.shop\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nearly";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while !seen.ends_with("EARLY") {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "closed after {seen:?}");
        seen.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    assert!(seen.starts_with("HTTP/1.1 101"), "{seen}");
    assert!(seen.to_lowercase().contains("upgrade: websocket"), "{seen}");
    assert_eq!(world.load(), (1, 0));
    stream.write_all(b"more").await.unwrap();
    let read = stream.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..read], b"MORE");
    drop(stream);
    world.until_load((0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_frees_its_slot_and_the_pod_hears_of_it() {
    let (gone, mut heard) = tokio::sync::mpsc::channel::<()>(1);
    let pod = FakePod::start(move |_| {
        let gone = gone.clone();
        async move {
            let (sender, body) = channel();
            tokio::spawn(async move {
                while sender.send(data("tick")).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let _ = gone.send(()).await;
            });
            Response::new(body)
        }
    })
    .await;
    let world = World::with_function(|f| f.spec.concurrency.limit = 1);
    world.pod(&pod);
    let response = client().request(world.get("/")).await.unwrap();
    let mut body = response.into_body();
    assert_eq!(next_text(&mut body).await, "tick");
    assert_eq!(world.load(), (1, 0));
    drop(body);
    world.until_load((0, 0)).await;
    tokio::time::timeout(Duration::from_secs(10), heard.recv()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_before_the_head_frees_its_slot() {
    let pod = FakePod::start(|_| std::future::pending()).await;
    let world = ready(&pod).await;
    let request = tokio::spawn(client().request(world.get("/")));
    world.until_load((1, 0)).await;
    request.abort();
    world.until_load((0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_port_serves_its_function_whatever_the_host_says() {
    let port = crate::ports::free_port([]);
    let world = World::with_function(|f| f.status.as_mut().unwrap().route.as_mut().unwrap().port = port);
    let pod = FakePod::hello().await;
    world.pod(&pod);
    eventually("the port is acknowledged", || world.activator.shared.publisher.routes().len() == 1).await;
    let request = Request::get(format!("http://127.0.0.1:{port}/")).body(crate::harness::empty()).unwrap();
    assert_eq!(send(request).await.body, "hello");
    world.apply(|f| f.status.as_mut().unwrap().route.as_mut().unwrap().port = 0);
    eventually("the port is closed", || std::net::TcpStream::connect(("127.0.0.1", port)).is_err()).await;
    assert!(world.activator.shared.publisher.routes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_requests_never_reach_a_pod() {
    let pod = FakePod::hello().await;
    let world = ready(&pod).await;
    for head in [
        "POST / HTTP/1.0\r\nhost: hello.shop\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: hello.shop\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: hello.shop\r\nhost: other.shop\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: hello.shop\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        "GET / HTTP/1.1\r\nhost: hello.shop\r\nx: a\r\n b\r\n\r\n",
        "CONNECT hello.shop:80 HTTP/1.1\r\nhost: hello.shop\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(world.activator.http).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 4"), "{head:?}: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(pod.connections.load(std::sync::atomic::Ordering::Relaxed), 1, "only the probe's");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_share_one_connection_to_an_h2c_pod() {
    let pod = FakePod::start(|_| async { text("hello") }).await.h2c();
    let world = ready(&pod).await;
    let client = client();
    let answers = futures::stream::iter(0..500)
        .map(|_| {
            let request = client.request(world.get("/"));
            async move { read(request.await.unwrap()).await.body }
        })
        .buffer_unordered(50)
        .collect::<Vec<_>>()
        .await;
    assert!(answers.iter().all(|body| body == "hello"));
    let connections = pod.connections.load(std::sync::atomic::Ordering::Relaxed);
    assert!(connections <= 2, "{connections} connections, one of them the probe's");
}
