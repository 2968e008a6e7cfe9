//! Several threads serve requests of one Function: what is promised of one holds of all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pilotlight_activator::limits::Limits;
use tokio::sync::Semaphore;

use crate::harness::*;

const LANES: usize = 3;

fn world() -> World {
    World::configured(|config| config.limits = Limits { threads: LANES, ..Limits::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_on_any_lane_are_answered_once_when_a_pod_comes() {
    let world = world();
    world.apply(|_| {});
    let seen = Arc::new(AtomicU32::new(0));
    let waiting: Vec<_> = (0..60).map(|_| tokio::spawn(send(world.get("/")))).collect();
    world.until_load((0, 60)).await;
    let count = seen.clone();
    let pod = FakePod::start(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async { text("hello") }
    })
    .await;
    world.pod(&pod);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().status, 200);
    }
    assert_eq!(seen.load(Ordering::SeqCst), 60);
    world.until_load((0, 0)).await;
    assert_eq!(world.scale.writes(), [1], "one wake for all lanes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_one_is_exact_over_all_lanes() {
    let world = world();
    world.apply(|function| function.spec.concurrency.limit = 1);
    let room = Arc::new(Semaphore::new(1));
    let pod = FakePod::start(move |_| {
        let room = room.clone();
        async move {
            match room.try_acquire() {
                Ok(_alone) => {
                    tokio::task::yield_now().await;
                    text("alone")
                }
                Err(_) => text("together"),
            }
        }
    })
    .await;
    world.pod(&pod);
    let clients: Vec<_> = (0..30).map(|_| tokio::spawn(send(world.get("/")))).collect();
    for client in clients {
        let answer = client.await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "alone"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_keeps_its_connections_to_a_pod_to_itself() {
    for protocol in ["http1", "h2c"] {
        let world = world();
        world.apply(|_| {});
        let mut pod = FakePod::hello().await;
        pod.protocol = protocol;
        world.pod(&pod);
        // Each keeps its connection, and each connection has a lane of its own.
        let clients: Vec<_> = (0..LANES).map(|_| client()).collect();
        for _ in 0..5 {
            for client in &clients {
                let answer = read(client.request(world.get("/")).await.unwrap()).await;
                assert_eq!(answer.status, 200);
            }
        }
        assert_eq!(world.activator.shared.clients.len(), LANES, "{protocol}");
        // The probe has one, too.
        let opened = pod.connections.load(Ordering::Relaxed) as usize;
        assert!((LANES..=LANES + 1).contains(&opened), "{protocol}: {opened}, whoever asks how often");
    }
}
