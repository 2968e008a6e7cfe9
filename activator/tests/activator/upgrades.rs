//! WebSocket and other upgrades, from HTTP/1.1 and HTTP/2 clients; they follow the idle rule alone.

use std::time::{Duration, Instant};

use base64::Engine as _;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Body, FakePod, World, read, text};
use crate::wire::{Raw, h2, h2_get};

fn accept(key: &str) -> String {
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// Speaks in capitals over a WebSocket's handshake; answers other requests as usual, and refuses, ignores or misunderstands by path.
async fn shouting(mut request: Request<Incoming>) -> Response<Body> {
    match request.uri().path() {
        "/plain" | "/ignores" => return text("plain"),
        "/refuses" => {
            let mut response = text("no");
            *response.status_mut() = StatusCode::FORBIDDEN;
            return response;
        }
        _ => {}
    }
    assert_eq!(request.method(), Method::GET);
    assert_eq!(request.headers()["connection"], "upgrade");
    assert_eq!(request.headers()["upgrade"], "websocket");
    assert_eq!(request.headers()["sec-websocket-version"], "13");
    let key = request.headers()["sec-websocket-key"].to_str().unwrap().to_owned();
    let mut response = text("");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    response.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
    let echoed = if request.uri().path() == "/misunderstands" { accept("another key") } else { accept(&key) };
    response.headers_mut().insert("sec-websocket-accept", echoed.parse().unwrap());
    response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut io = TokioIo::new(upgraded);
        let mut buffer = [0; 64];
        while let Ok(read @ 1..) = io.read(&mut buffer).await {
            if io.write_all(&buffer[..read].to_ascii_uppercase()).await.is_err() {
                return;
            }
        }
    });
    response
}

/// A connection whose settings have arrived.
async fn settled(world: &World) -> SendRequest<Body> {
    let mut client = h2(world).await;
    assert_eq!(read(client.send_request(h2_get("/plain")).await.unwrap()).await.body, "plain");
    client
}

fn connect(path: &str) -> Request<Body> {
    let mut request = h2_get(path);
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("13"));
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_over_http2_reaches_a_pod_that_speaks_http1() {
    let pod = FakePod::start(shouting).await;
    let world = World::with_function(|_| {});
    world.pod(&pod);
    let mut client = settled(&world).await;
    let mut tunnels = Vec::new();
    for _ in 0..2 {
        let response = client.send_request(connect("/chat")).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        for absent in ["sec-websocket-accept", "upgrade", "connection"] {
            assert!(!response.headers().contains_key(absent), "{absent}");
        }
        tunnels.push(TokioIo::new(hyper::upgrade::on(response).await.unwrap()));
    }
    assert_eq!(world.load(), (2, 0));
    let mut buffer = [0; 5];
    for tunnel in &mut tunnels {
        tunnel.write_all(b"hello").await.unwrap();
        tunnel.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"HELLO");
    }
    assert_eq!(read(client.send_request(h2_get("/plain")).await.unwrap()).await.body, "plain", "beside them");
    drop(tunnels.pop());
    world.until_load((1, 0)).await;
    let mut last = tunnels.pop().unwrap();
    last.write_all(b"still").await.unwrap();
    last.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"STILL");
    last.shutdown().await.unwrap();
    assert_eq!(last.read(&mut buffer).await.unwrap(), 0, "the pod ended its side as well");
    world.until_load((0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_websocket_is_never_taken_for_one() {
    let pod = FakePod::start(shouting).await;
    let world = World::with_function(|_| {});
    world.pod(&pod);
    let mut client = settled(&world).await;
    for (path, status, reason) in
        [("/refuses", 403, ""), ("/ignores", 502, "InvalidResponse"), ("/misunderstands", 502, "InvalidResponse")]
    {
        let answer = read(client.send_request(connect(path)).await.unwrap()).await;
        assert_eq!((answer.status, answer.reason()), (status, reason), "{path}");
        world.until_load((0, 0)).await;
    }
    let mut plain = connect("/chat");
    plain.extensions_mut().clear();
    *plain.uri_mut() = "hello.shop:80".parse().unwrap();
    let answer = read(client.send_request(plain).await.unwrap()).await;
    assert_eq!((answer.status, answer.reason()), (405, "MethodNotSupported"), "CONNECT without a protocol");
}

async fn chat(world: &World) -> Raw {
    let mut client = Raw::to(world).await;
    client
        .send("GET /chat HTTP/1.1\r\nhost: hello.shop\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        .await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_outlives_every_limit_of_requests_but_the_idle_one() {
    let pod = FakePod::start(shouting).await;
    let world = World::with_function(|f| {
        f.spec.timeouts.request_seconds = 1;
        f.spec.timeouts.response_start_seconds = 1;
        f.spec.timeouts.idle_stream_seconds = 2;
    });
    world.pod(&pod);
    let mut client = chat(&world).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        client.send("ping").await;
        client.until("PING").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.load(), (1, 0));
    assert!(client.is_closed().await, "nothing moves any more");
    world.until_load((0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_has_said_all_can_still_listen() {
    let pod = crate::wire::raw_pod(|mut raw| async move {
        raw.head().await;
        raw.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: lines\r\n\r\n").await;
        let mut heard = String::new();
        raw.until("end\n").await;
        raw.stream.read_to_string(&mut heard).await.unwrap();
        raw.send("heard it all\n").await;
    })
    .await;
    let world = World::with_function(|_| {});
    world.pod(&pod);
    let mut client = Raw::to(&world).await;
    client.send("GET / HTTP/1.1\r\nhost: hello.shop\r\nconnection: upgrade\r\nupgrade: lines\r\n\r\n").await;
    client.head().await;
    client.send("the end\n").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.until("\n").await, "heard it all\n");
}
