//! What may be sent again and what must not: only bytes that surely reached no pod, or a request that is safe to repeat
//! (invariant 6).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{FakePod, World, eventually, full, send, text};
use crate::ports::free_port;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_stops_listening_loses_its_requests_to_another() {
    let world = World::with_function(|_| {});
    let dying = FakePod::hello().await;
    world.pod(&dying);
    assert_eq!(send(world.get("/")).await.status, 200);
    drop(dying);
    let request = tokio::spawn(send(world.request("POST", "/", full("whole"))));
    let healthy = FakePod::start(|request| async move {
        use http_body_util::BodyExt as _;
        text(request.into_body().collect().await.unwrap().to_bytes())
    })
    .await;
    world.pod(&healthy);
    let answer = request.await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "whole"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_does_not_listen_yet_is_probed_until_it_does() {
    let world = World::with_function(|_| {});
    let address = SocketAddr::from(([127, 0, 0, 1], free_port([])));
    let pod = FakePod::silent(address);
    world.pod(&pod);
    let request = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = [0; 1024];
                if stream.read(&mut head).await.unwrap_or(0) > 0 {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate";
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    assert_eq!(request.await.unwrap().body, "late");
}

/// Reads a request, then closes the connection without an answer, the first `broken` times; then answers.
async fn breaking(broken: u32) -> (FakePod, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pod = FakePod::silent(listener.local_addr().unwrap());
    let seen = Arc::new(AtomicU32::new(0));
    let count = seen.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(break_or_answer(stream, count.clone(), broken));
        }
    });
    (pod, seen)
}

async fn break_or_answer(mut stream: TcpStream, seen: Arc<AtomicU32>, broken: u32) {
    let mut head = [0; 4096];
    if stream.read(&mut head).await.unwrap_or(0) == 0 {
        return;
    }
    if seen.fetch_add(1, Ordering::SeqCst) >= broken {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_may_have_been_read_is_not_repeated() {
    let world = World::with_function(|_| {});
    let (pod, seen) = breaking(u32::MAX).await;
    world.pod(&pod);
    let answer = send(world.request("POST", "/", full("charge my card"))).await;
    assert_eq!((answer.status, answer.reason()), (502, "PodClosedConnection"));
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    world.until_load((0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_safe_request_is_repeated_and_not_for_ever() {
    let world = World::with_function(|_| {});
    let (pod, seen) = breaking(1).await;
    world.pod(&pod);
    let answer = send(world.get("/")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert_eq!(seen.load(Ordering::SeqCst), 2);

    let world = World::with_function(|_| {});
    let (pod, seen) = breaking(u32::MAX).await;
    world.pod(&pod);
    let answer = send(world.get("/")).await;
    assert_eq!((answer.status, answer.reason()), (502, "PodClosedConnection"));
    assert_eq!(seen.load(Ordering::SeqCst), 3, "once, and two repeats");
}

/// Answers one request on each connection, then closes it, as a server does whose keep-alive has run out.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_pod_closed_while_idle_cost_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pod = FakePod::silent(listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(break_or_answer(stream, Arc::default(), 0));
        }
    });
    let world = World::with_function(|_| {});
    world.pod(&pod);
    for round in 0..200 {
        let answer = send(world.get("/")).await;
        assert_eq!(answer.status, 200, "round {round}: {}", answer.reason());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_http_is_told_from_a_closed_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pod = FakePod::silent(listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = [0; 1024];
                if stream.read(&mut head).await.unwrap_or(0) > 0 {
                    stream.write_all(b"220 mail.example.com ESMTP\r\n").await.unwrap();
                }
            });
        }
    });
    let world = World::with_function(|_| {});
    world.pod(&pod);
    let answer = send(world.get("/")).await;
    assert_eq!((answer.status, answer.reason()), (502, "InvalidResponse"));
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_traffic_goes_on_while_the_api_server_is_away() {
    let world = World::with_function(|_| {});
    let pod = FakePod::hello().await;
    world.pod(&pod);
    assert_eq!(send(world.get("/")).await.status, 200);
    world.scale.set_down(true);
    for _ in 0..20 {
        assert_eq!(send(world.get("/")).await.status, 200);
    }
    eventually("nothing is left", || world.load() == (0, 0)).await;
}
