//! Bounds: hard concurrency, connections, heads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures::future::join_all;
use http::StatusCode;
use pilotlight_activator::limits::Limits;
use pilotlight_activator::shutdown::DrainSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{FakePod, World, client, eventually, read, send, text};

/// Answers 500 when two requests are at it at once.
async fn exclusive() -> FakePod {
    let busy = Arc::new(AtomicBool::new(false));
    FakePod::start(move |_| {
        let busy = busy.clone();
        async move {
            let overlaps = busy.swap(true, Ordering::SeqCst);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            busy.store(false, Ordering::SeqCst);
            let mut response = text("done");
            if overlaps {
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            response
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_one_never_overlaps() {
    let world = Arc::new(World::with_function(|f| f.spec.concurrency.limit = 1));
    let pods = [exclusive().await, exclusive().await, exclusive().await];
    for pod in &pods {
        world.pod(pod);
    }
    let clients = (0..50).map(|_| {
        let world = world.clone();
        tokio::spawn(async move {
            let client = client();
            for _ in 0..20 {
                let answer = read(client.request(world.get("/")).await.unwrap()).await;
                assert_eq!(answer.status, 200);
            }
        })
    });
    for client in join_all(clients).await {
        client.unwrap();
    }
    world.until_load((0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_finds_no_slot_in_time_is_told_so() {
    let world = World::with_function(|f| {
        f.spec.concurrency.limit = 1;
        f.spec.cold_start.timeout_seconds = 1;
    });
    let pod = FakePod::start(|_| std::future::pending()).await;
    world.pod(&pod);
    let holding = tokio::spawn(client().request(world.get("/")));
    world.until_load((1, 0)).await;
    let answer = send(world.get("/")).await;
    assert_eq!((answer.status, answer.reason()), (503, "NoFreeSlot"));
    assert!(answer.headers.contains_key("retry-after"));
    holding.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn load_spreads_over_pods() {
    let world = World::with_function(|_| {});
    let counts: Vec<Arc<AtomicU32>> = (0..3).map(|_| Arc::default()).collect();
    let mut pods = Vec::new();
    for count in &counts {
        let count = count.clone();
        let pod = FakePod::start(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::pending()
        })
        .await;
        world.pod(&pod);
        pods.push(pod);
    }
    eventually("every pod is used", || {
        counts.iter().all(|count| count.load(Ordering::SeqCst) > 0) || {
            tokio::spawn(client().request(world.get("/")));
            false
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bound_of_connections_accepting_pauses() {
    let limits = Limits { max_connections: 2, ..Limits::default() };
    let world = World::with(limits, DrainSettings::default());
    world.apply(|_| {});
    let pod = FakePod::hello().await;
    world.pod(&pod);
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(TcpStream::connect(world.activator.http).await.unwrap());
    }
    let shared = &world.activator.shared;
    eventually("both are served", || shared.connections.available_permits() == 0).await;
    let third = tokio::spawn(send(world.get("/")));
    let early = tokio::time::timeout(Duration::from_millis(200), async {
        while !third.is_finished() {
            tokio::task::yield_now().await;
        }
    });
    assert!(early.await.is_err(), "the third has to wait");
    held.pop();
    assert_eq!(third.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_and_idle_connections_are_closed() {
    let limits = Limits {
        header_timeout: Duration::from_millis(500),
        idle_timeout: Duration::from_millis(1500),
        ..Limits::default()
    };
    let world = World::with(limits, DrainSettings::default());
    for beginning in ["", "P", "GET / HTTP/1.1\r\nhost: hel", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(world.activator.http).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{beginning:?} is still open");
    }
    eventually("nothing is left", || world.activator.shared.clients.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_are_refused() {
    let world = World::with_function(|_| {});
    for head in [
        format!("GET / HTTP/1.1\r\nhost: hello.shop\r\nx-large: {}\r\n\r\n", "x".repeat(80 * 1024)),
        format!("GET / HTTP/1.1\r\nhost: hello.shop\r\n{}\r\n", "x-many: 1\r\n".repeat(200)),
    ] {
        let mut stream = TcpStream::connect(world.activator.http).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let _ = writer.write_all(head.as_bytes()).await;
        let mut answer = [0; 12];
        reader.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
}
