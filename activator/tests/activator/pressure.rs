//! Failing pods and crowds on real sockets: who is left alone, who is sent again, who is refused and how that looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::join_all;
use http::StatusCode;
use pilotlight_activator::limits::Limits;
use pilotlight_activator::shutdown::DrainSettings;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::harness::{FakePod, World, eventually, full, key, send, text};

/// Reads each request and closes the connection.
async fn broken() -> (FakePod, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pod = FakePod::silent(listener.local_addr().unwrap());
    let seen = Arc::new(AtomicU32::new(0));
    let count = seen.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                if stream.read(&mut [0; 4096]).await.unwrap_or(0) > 0 {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    (pod, seen)
}

fn ejections(world: &World) -> u64 {
    world.activator.registry.get(&key()).unwrap().metrics().balance.ejections.get()
}

async fn until_usable(world: &World, pods: usize) {
    let cell = world.activator.registry.get(&key()).unwrap();
    eventually("pods are ready", || cell.usable() == pods).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_breaks_every_exchange_is_left_alone() {
    let world = World::with_function(|_| {});
    let (bad, seen) = broken().await;
    let good = FakePod::hello().await;
    world.pod(&bad);
    world.pod(&good);
    until_usable(&world, 2).await;
    let mut failed = 0;
    while ejections(&world) == 0 {
        let answer = send(world.request("POST", "/", full("once"))).await;
        assert!(answer.status == 200 || answer.reason() == "PodClosedConnection", "{answer:?}");
        failed += u32::from(answer.status != 200);
        assert!(failed <= 5, "five in a row are enough");
    }
    assert_eq!((failed, seen.load(Ordering::SeqCst)), (5, 5), "none was sent twice");
    assert_eq!(world.activator.registry.get(&key()).unwrap().usable(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_status_ejects_a_pod_and_the_functions_own_errors_do_not() {
    for (status, ejects) in [(StatusCode::BAD_GATEWAY, true), (StatusCode::INTERNAL_SERVER_ERROR, false)] {
        let world = World::with_function(|_| {});
        let failing = FakePod::start(move |_| async move {
            let mut response = text("no");
            *response.status_mut() = status;
            response
        })
        .await;
        let good = FakePod::hello().await;
        world.pod(&failing);
        world.pod(&good);
        until_usable(&world, 2).await;
        let mut failures = 0;
        for _ in 0..200 {
            failures += u32::from(send(world.get("/")).await.status != 200);
            if failures >= 20 || ejections(&world) > 0 {
                break;
            }
        }
        assert_eq!(ejections(&world) > 0, ejects, "{status} after {failures} failures");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_pod_is_used_however_it_fails() {
    let world = World::with_function(|_| {});
    let (bad, seen) = broken().await;
    world.pod(&bad);
    for sent in 1..=20 {
        let answer = send(world.request("POST", "/", full("once"))).await;
        assert_eq!((answer.status, answer.reason()), (502, "PodClosedConnection"));
        assert_eq!(seen.load(Ordering::SeqCst), sent);
    }
    assert_eq!(ejections(&world), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_end_with_their_budget() {
    let world = World::with_function(|_| {});
    let (bad, seen) = broken().await;
    world.pod(&bad);
    let cell = world.activator.registry.get(&key()).unwrap();
    let balance = &cell.metrics().balance;
    let mut requests = 0;
    while balance.exhausted.get() == 0 {
        assert_eq!(send(world.get("/")).await.status, 502);
        requests += 1;
        assert!(requests < 1000, "the budget never ends");
    }
    let replayed = balance.replayed.get();
    assert_eq!(u64::from(seen.load(Ordering::SeqCst)), requests + replayed, "each one is counted");
    assert!(replayed >= 100, "the floor of ten seconds: {replayed}");
    let answer = send(world.request("DELETE", "/", crate::harness::empty())).await;
    assert_eq!((answer.status, answer.reason()), (502, "PodClosedConnection"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_without_a_body_is_repeated_and_a_put_with_one_is_not() {
    for (method, body, sent) in [("DELETE", "", 3), ("PUT", "", 3), ("PUT", "x", 1), ("POST", "", 1), ("PATCH", "", 1)]
    {
        let world = World::with_function(|_| {});
        let (bad, seen) = broken().await;
        world.pod(&bad);
        let answer = send(world.request(method, "/", full(body))).await;
        assert_eq!((answer.status, answer.reason()), (502, "PodClosedConnection"));
        assert_eq!(seen.load(Ordering::SeqCst), sent, "{method} {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flooded_function_is_refused_and_another_is_not() {
    let limits = Limits { max_pending_requests: 9, ..Limits::default() };
    let world = World::with(limits, DrainSettings::default());
    world.apply(|_| {});
    world.apply(|f| f.metadata.name = Some("other".into()));
    let held: Vec<_> = (0..6).map(|_| tokio::spawn(send(world.get("/")))).collect();
    world.until_load((0, 6)).await;
    let refused = send(world.get("/")).await;
    assert_eq!((refused.status, refused.reason()), (503, "FairShareTaken"));
    assert_eq!(refused.headers["retry-after"], "1");
    let mut request = world.get("/");
    request.headers_mut().insert("host", "other.shop".parse().unwrap());
    let other = tokio::spawn(send(request));
    eventually("the other one waits", || world.activator.shared.pending.taken().requests == 7).await;
    other.abort();
    let pod = FakePod::hello().await;
    world.pod(&pod);
    for answer in join_all(held).await {
        assert_eq!(answer.unwrap().status, 200);
    }
}

/// Answers as many requests as it is told to.
#[tokio::test(flavor = "multi_thread")]
async fn every_one_of_a_crowd_reaches_its_first_pod_once_and_not_all_together() {
    let world = World::with_function(|f| f.spec.scaling.target_concurrency = 10);
    let crowd: Vec<_> = (0..200).map(|_| tokio::spawn(send(world.get("/")))).collect();
    world.until_load((0, 200)).await;
    let (seen, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
    let (count, open) = (seen.clone(), gate.clone());
    let pod = FakePod::start(move |_| {
        let (count, open) = (count.clone(), open.clone());
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            let _permit = open.acquire().await.unwrap();
            text("hello")
        }
    })
    .await;
    world.pod(&pod);
    eventually("the first ones arrive", || seen.load(Ordering::SeqCst) >= 10).await;
    assert!(world.load().1 > 0, "others wait for their answers: {:?}", world.load());
    gate.add_permits(Semaphore::MAX_PERMITS);
    for answer in join_all(crowd).await {
        assert_eq!(answer.unwrap().status, 200);
    }
    assert_eq!(seen.load(Ordering::SeqCst), 200, "each one once");
}
