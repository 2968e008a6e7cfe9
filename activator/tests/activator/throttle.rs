//! Requests at throttled pods: forwarded at once, with the CPU asked for beside them; and the hand-shake of a throttling against requests
//! at every moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotlight_crds::throttle::{LIMIT, is_marked};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::harness::{FakePod, TOKEN, World, control, eventually, key, send, text};

/// The pod object as the API server would show it: marked or not, with all of its CPU or next to none.
fn show(world: &World, pod: &FakePod, marked: bool, cpu: (&str, &str)) {
    let object = pod.object(|object| {
        object["metadata"]["annotations"] = json!({"pilotlight.dev/cpu": "50m/500m"});
        if marked {
            object["metadata"]["labels"]["pilotlight.dev/rung"] = json!("Throttled");
        }
        object["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu.0}, "limits": {"cpu": cpu.1}});
    });
    assert_eq!(is_marked(&object), marked);
    world.activator.registry.apply_pod(&object);
}

const FULL: (&str, &str) = ("50m", "500m");
const LITTLE: (&str, &str) = ("1m", LIMIT);

async fn ready(world: &World) {
    let cell = world.activator.registry.get(&key()).unwrap();
    eventually("the pod is ready", || cell.usable() == 1).await;
}

fn drain(pod: &FakePod, ttl: u64) -> Value {
    let uids = [format!("uid-{}", pod.name)];
    json!({
        "namespace": "shop", "name": "hello", "handshake": "t", "scope": {"pods": {"uids": uids}},
        "purpose": "throttle", "ttlMillis": ttl,
    })
}

async fn released(world: &World, outcome: &str) {
    let release = json!({"namespace": "shop", "name": "hello", "handshake": "t", "outcome": outcome});
    assert_eq!(control(world, "/v1/release", TOKEN, &release).await.status, 204);
}

async fn drained(world: &World, pod: &FakePod, ttl: u64) {
    assert_eq!(control(world, "/v1/drain", TOKEN, &drain(pod, ttl)).await.body, "\"drained\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_to_a_throttled_pod_at_once_and_its_cpu_is_asked_for_beside_it() {
    let world = World::with_function(|_| {});
    world.scale.write(1);
    let go_on = Arc::new(Semaphore::new(0));
    let gate = go_on.clone();
    let pod = FakePod::start(move |_| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            text("hello")
        }
    })
    .await;
    show(&world, &pod, true, LITTLE);
    ready(&world).await;
    assert!(world.scale.restored().is_empty(), "nobody asked anything of it");
    let request = tokio::spawn(send(world.get("/")));
    // The pod has the request and cannot get on; its CPU is asked for nevertheless.
    world.until_load((1, 0)).await;
    eventually("its CPU is asked for", || world.scale.restored() == [pod.name.clone()]).await;
    show(&world, &pod, false, FULL);
    go_on.add_permits(1);
    assert_eq!(request.await.unwrap().body, "hello");
    assert!(world.scale.writes().is_empty(), "no replica was asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_comes_late_is_answered_while_the_request_is_there() {
    let world = World::with_function(|_| {});
    world.scale.write(1);
    let pod = FakePod::start(|_| std::future::pending()).await;
    show(&world, &pod, false, FULL);
    ready(&world).await;
    let request = tokio::spawn(send(world.get("/")));
    world.until_load((1, 0)).await;
    assert!(world.scale.restored().is_empty());
    show(&world, &pod, false, LITTLE);
    eventually("its CPU is asked for", || !world.scale.restored().is_empty()).await;
    request.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn cpu_is_asked_for_again_until_it_is_there() {
    let world = World::with_function(|_| {});
    world.scale.write(1);
    let pod = FakePod::start(|_| std::future::pending()).await;
    show(&world, &pod, true, LITTLE);
    ready(&world).await;
    world.scale.set_down(true);
    let request = tokio::spawn(send(world.get("/")));
    eventually("it is asked for again", || world.scale.restored().len() >= 3).await;
    world.scale.set_down(false);
    let so_far = world.scale.restored().len();
    eventually("it is asked for once more", || world.scale.restored().len() > so_far).await;
    request.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_pod_is_used_the_moment_the_hand_shake_is_over() {
    let world = World::with_function(|_| {});
    world.scale.write(1);
    let pod = FakePod::hello().await;
    show(&world, &pod, true, FULL);
    ready(&world).await;
    drained(&world, &pod, 60_000).await;
    let request = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    show(&world, &pod, true, LITTLE);
    assert!(world.scale.restored().is_empty(), "no request is at it yet");
    released(&world, "committed").await;
    assert_eq!(request.await.unwrap().body, "hello");
    eventually("its CPU is asked for", || !world.scale.restored().is_empty()).await;
    assert!(world.scale.writes().is_empty(), "it was not taken for gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttling_that_is_never_released_is_fenced_at_the_pod_and_not_by_another_replica() {
    let world = World::with_function(|_| {});
    world.scale.write(1);
    let pod = FakePod::hello().await;
    show(&world, &pod, false, FULL);
    ready(&world).await;
    drained(&world, &pod, 50).await;
    assert_eq!(send(world.get("/")).await.body, "hello");
    assert_eq!(
        world.scale.restored(),
        std::slice::from_ref(&pod.name),
        "the mark is taken away before the pod is used"
    );
    assert!(world.scale.writes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_fence_fails_requests_wait() {
    let world = World::with_function(|_| {});
    world.scale.write(1);
    let pod = FakePod::hello().await;
    show(&world, &pod, true, FULL);
    ready(&world).await;
    world.scale.set_down(true);
    drained(&world, &pod, 50).await;
    let request = tokio::spawn(send(world.get("/")));
    eventually("the fence is tried again", || world.scale.restored().len() >= 2).await;
    assert_eq!(world.load(), (0, 1));
    world.scale.set_down(false);
    assert_eq!(request.await.unwrap().body, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_a_moment_ago_is_heard_of_before_a_pod_loses_its_cpu() {
    let world = World::with_function(|_| {});
    world.scale.write(1);
    let pod = FakePod::hello().await;
    show(&world, &pod, false, FULL);
    ready(&world).await;
    assert_eq!(send(world.get("/")).await.status, 200);
    world.until_load((0, 0)).await;
    let asked = async || control(&world, "/v1/drain", TOKEN, &drain(&pod, 60_000)).await.body;
    let first = asked().await;
    assert!(first.contains("busy"), "the operator cannot know of it yet: {first}");
    let began = Instant::now();
    while asked().await != "\"drained\"" {
        assert!(began.elapsed() < Duration::from_secs(10), "it has told of that second long ago");
    }
}
