//! Bodies that last: passed on at once, never collected, and never held by a client that does not take them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

use crate::certificates::{Mount, client_config, connect, exchange, make, tls, world as tls_world};
use crate::harness::{FakePod, World, client, h2_request, read, send, text};
use crate::wire::{Raw, channel, data, h2, h2_get, next};

const CHUNK: usize = 64 * 1024;
const LARGE: usize = 100 * 1024 * 1024;
/// What may be on its way: the windows of both connections, and what the kernel buffers on four sockets.
const IN_TRANSIT: usize = 40 * 1024 * 1024;

/// Sends events, each only when told that the one before has arrived.
async fn events(arrived: Arc<Notify>) -> FakePod {
    FakePod::start(move |_| {
        let arrived = arrived.clone();
        async move {
            let (sender, body) = channel();
            tokio::spawn(async move {
                for number in 0..3 {
                    sender.send(data(format!("data: {number}\n\n"))).await.unwrap();
                    arrived.notified().await;
                }
            });
            let mut response = Response::new(body);
            response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
            response
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_passed_on_before_there_is_another() {
    let arrived = Arc::new(Notify::new());
    let made = make(&["hello.shop"]);
    let mount = Mount::new(&made);
    let world = tls_world(tls(&[&mount]));
    let pod = events(arrived.clone()).await;
    world.pod(&pod);
    for way in ["http1", "h2", "http/1.1 over TLS", "h2 over TLS"] {
        let response = match way {
            "http1" => client().request(world.get("/")).await.unwrap(),
            "h2" => h2_request(&world, world.get("/")).await,
            over_tls => {
                let alpn = over_tls.split(' ').next().unwrap();
                let stream = connect(&world, client_config(&[&made], &[alpn]), "hello.shop").await.unwrap();
                exchange(stream, world.get("/")).await
            }
        };
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut body = response.into_body();
        for number in 0..3 {
            let event = tokio::time::timeout(Duration::from_secs(10), next(&mut body)).await;
            assert_eq!(event.expect(way), format!("data: {number}\n\n"), "{way}");
            arrived.notify_one();
        }
        assert!(body.frame().await.is_none_or(|rest| rest.unwrap().into_data().unwrap().is_empty()), "{way}");
    }
}

/// Sends a large body as fast as it is taken, and counts.
async fn fast_sender(sent: Arc<AtomicUsize>) -> FakePod {
    FakePod::start(move |request: Request<Incoming>| {
        let sent = sent.clone();
        async move {
            if request.uri().path() != "/large" {
                return text("small");
            }
            let (sender, body) = channel();
            tokio::spawn(async move {
                let chunk = Bytes::from(vec![b'x'; CHUNK]);
                while sent.load(Ordering::SeqCst) < LARGE && sender.send(data(chunk.clone())).await.is_ok() {
                    sent.fetch_add(CHUNK, Ordering::SeqCst);
                }
            });
            Response::new(body)
        }
    })
    .await
}

/// Waits until a count stands still, which it does when every buffer on the way is full.
async fn stands_still(count: &AtomicUsize) -> usize {
    let mut before = usize::MAX;
    loop {
        let now = count.load(Ordering::SeqCst);
        if now == before && now > 0 {
            return now;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}

async fn take_all(mut body: Incoming) -> usize {
    let mut taken = 0;
    while let Some(frame) = body.frame().await {
        taken += frame.unwrap().into_data().unwrap().len();
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_slows_the_pod_down() {
    for (pod_h2, client_h2) in [(false, false), (true, true), (true, false), (false, true)] {
        let sent = Arc::new(AtomicUsize::new(0));
        let mut pod = fast_sender(sent.clone()).await;
        if pod_h2 {
            pod = pod.h2c();
        }
        let world = World::with_function(|_| {});
        world.pod(&pod);
        let request = world.get("/large");
        let response =
            if client_h2 { h2_request(&world, request).await } else { client().request(request).await.unwrap() };
        let in_transit = stands_still(&sent).await;
        assert!(in_transit <= IN_TRANSIT, "pod h2 {pod_h2}, client h2 {client_h2}: {in_transit} bytes");
        assert_eq!(take_all(response.into_body()).await, LARGE, "and nothing of it is lost");
        world.until_load((0, 0)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_reads_slowly_slows_the_client_down() {
    for (pod_h2, client_h2) in [(false, false), (true, true), (true, false), (false, true)] {
        let read_on = Arc::new(Notify::new());
        let waits = read_on.clone();
        let mut pod = FakePod::start(move |request: Request<Incoming>| {
            let waits = waits.clone();
            async move {
                waits.notified().await;
                text(take_all(request.into_body()).await.to_string())
            }
        })
        .await;
        if pod_h2 {
            pod = pod.h2c();
        }
        let world = World::with_function(|_| {});
        world.pod(&pod);
        let (sender, body) = channel();
        let sent = Arc::new(AtomicUsize::new(0));
        let count = sent.clone();
        let feed = tokio::spawn(async move {
            let chunk = Bytes::from(vec![b'x'; CHUNK]);
            while count.load(Ordering::SeqCst) < LARGE {
                sender.send(data(chunk.clone())).await.unwrap();
                count.fetch_add(CHUNK, Ordering::SeqCst);
            }
        });
        let world = Arc::new(world);
        let asking = world.clone();
        let answer = tokio::spawn(async move {
            let request = asking.request("POST", "/", body);
            read(if client_h2 { h2_request(&asking, request).await } else { client().request(request).await.unwrap() })
                .await
        });
        let in_transit = stands_still(&sent).await;
        assert!(in_transit <= IN_TRANSIT, "pod h2 {pod_h2}, client h2 {client_h2}: {in_transit} bytes");
        read_on.notify_one();
        assert_eq!(answer.await.unwrap().body, LARGE.to_string());
        feed.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_upload_is_taken_while_there_is_no_pod() {
    let world = Arc::new(World::with_function(|_| {}));
    let sent = Arc::new(AtomicUsize::new(0));
    let uploads = (0..8).map(|number| {
        let (world, count) = (world.clone(), sent.clone());
        tokio::spawn(async move {
            let (sender, body) = channel();
            let feed = tokio::spawn(async move {
                for _ in 0..LARGE / 8 / CHUNK {
                    sender.send(data(vec![b'x'; CHUNK])).await.unwrap();
                    count.fetch_add(CHUNK, Ordering::SeqCst);
                }
            });
            let request = world.request("POST", "/", body);
            let response = if number % 2 == 0 {
                client().request(request).await.unwrap()
            } else {
                h2_request(&world, request).await
            };
            feed.await.unwrap();
            read(response).await.body
        })
    });
    let uploads: Vec<_> = uploads.collect();
    world.until_load((0, 8)).await;
    let in_transit = stands_still(&sent).await;
    assert!(in_transit <= 2 * IN_TRANSIT, "{in_transit} bytes of eight uploads");
    let pod = FakePod::start(|request| async move { text(take_all(request.into_body()).await.to_string()) }).await;
    world.pod(&pod);
    for body in join_all(uploads).await {
        assert_eq!(body.unwrap(), (LARGE / 8).to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_its_client_leaves_unread_loses_its_slot_and_no_other_does() {
    let sent = Arc::new(AtomicUsize::new(0));
    let pod = fast_sender(sent.clone()).await;
    let world = World::with_function(|f| {
        f.spec.concurrency.limit = 1;
        f.spec.timeouts.idle_stream_seconds = 3;
    });
    world.pod(&pod);
    let mut client = h2(&world).await;
    let unread = client.send_request(h2_get("/large")).await.unwrap();
    assert_eq!(unread.status(), 200);
    stands_still(&sent).await;
    assert_eq!(world.load(), (1, 0));
    let other = read(client.send_request(h2_get("/small")).await.unwrap()).await;
    assert_eq!(other.body, "small", "on the same connection, in the slot that was taken back");
    world.until_load((0, 0)).await;
    let mut rest = unread.into_body();
    let broken = async {
        loop {
            match rest.frame().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => return true,
                None => return false,
            }
        }
    };
    assert!(broken.await, "the client can tell a cut body from a whole one");
    assert_eq!(read(client.send_request(h2_get("/small")).await.unwrap()).await.body, "small");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_its_limit_also_where_the_client_does_not_read() {
    let sent = Arc::new(AtomicUsize::new(0));
    let pod = fast_sender(sent.clone()).await;
    let world = World::with_function(|f| f.spec.timeouts.request_seconds = 1);
    world.pod(&pod);
    let mut unread = Raw::to(&world).await;
    unread.send("GET /large HTTP/1.1\r\nhost: hello.shop\r\n\r\n").await;
    let mut client = h2(&world).await;
    let also_unread = client.send_request(h2_get("/large")).await.unwrap();
    world.until_load((0, 0)).await;
    assert_eq!(read(client.send_request(h2_get("/small")).await.unwrap()).await.body, "small");
    let mut taken = Vec::new();
    let _ = unread.stream.read_to_end(&mut taken).await;
    assert!(taken.len() < LARGE, "cut");
    drop(also_unread);
    assert_eq!(send(world.get("/small")).await.body, "small");
}
