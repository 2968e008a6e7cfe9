//! Connections served by threads of their own, as the program does it: nothing is lost between lanes, and a drain waits for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::harness::{FakePod, World, eventually, function, h2_request, read, send, text};

async fn with_lanes(lanes: usize, pod: &FakePod, limit: u32) -> World {
    let world = World::configured(|config| {
        config.lanes = lanes;
        config.drain.quiet = Duration::ZERO;
    });
    world.activator.registry.apply_function(&function(|f| f.spec.concurrency.limit = limit));
    world.pod(pod);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_on_every_lane_is_answered() {
    let pod = FakePod::hello().await;
    let world = Arc::new(with_lanes(3, &pod, 0).await);
    let clients = (0..24).map(|_| {
        let world = world.clone();
        tokio::spawn(async move {
            // Each call of `send` has a client, and so a connection, of its own.
            for _ in 0..20 {
                assert_eq!(send(world.get("/")).await.status, 200);
            }
            assert_eq!(read(h2_request(&world, world.get("/")).await).await.status, 200);
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    world.until_load((0, 0)).await;
    assert!(world.activator.drain().await, "nothing was in flight");
}

/// The Function's own state is one for all lanes.
#[tokio::test(flavor = "multi_thread")]
async fn a_concurrency_limit_counts_over_all_lanes() {
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let seen = (now.clone(), most.clone());
    let pod = FakePod::start(move |_| {
        let (now, most) = seen.clone();
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            text("done")
        }
    })
    .await;
    let world = Arc::new(with_lanes(4, &pod, 2).await);
    let requests: Vec<_> = (0..60).map(|_| tokio::spawn(send(world.get("/")))).collect();
    for request in requests {
        assert_eq!(request.await.unwrap().status, 200);
    }
    assert!(most.load(Ordering::SeqCst) <= 2, "{} at once", most.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_requests_on_lanes() {
    let release = Arc::new(tokio::sync::Notify::new());
    let held = release.clone();
    let pod = FakePod::start(move |_| {
        let held = held.clone();
        async move {
            held.notified().await;
            text("late")
        }
    })
    .await;
    let world = Arc::new(with_lanes(2, &pod, 0).await);
    let requests: Vec<_> = (0..4).map(|_| tokio::spawn(send(world.get("/")))).collect();
    world.until_load((4, 0)).await;
    let draining = world.clone();
    let drain = tokio::spawn(async move { draining.activator.drain().await });
    eventually("the drain begins", || world.activator.shared.not_ready_because().is_some()).await;
    assert!(!drain.is_finished());
    release.notify_waiters();
    for request in requests {
        assert_eq!(request.await.unwrap().body, "late");
    }
    assert!(drain.await.unwrap());
}
