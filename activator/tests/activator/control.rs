//! The control protocol over its socket: who may speak, samples, and the step-down hand-shake against requests at every moment.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use pilotlight_crds::control::SampleBatch;
use serde_json::json;

use crate::harness::{FakePod, TOKEN, World, client, control, empty, eventually, key, send, text};

fn drain(id: &str, ttl: u64) -> serde_json::Value {
    json!({"namespace": "shop", "name": "hello", "handshake": id, "scope": {"all": {"revision": "hello-1"}}, "ttlMillis": ttl})
}

fn release(id: &str, outcome: &str) -> serde_json::Value {
    json!({"namespace": "shop", "name": "hello", "handshake": id, "outcome": outcome})
}

async fn drained(world: &World, id: &str, ttl: u64) -> bool {
    let answer = control(world, "/v1/drain", TOKEN, &drain(id, ttl)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body == "\"drained\""
}

async fn released(world: &World, id: &str, outcome: &str) {
    assert_eq!(control(world, "/v1/release", TOKEN, &release(id, outcome)).await.status, 204);
}

/// A pod that has answered. No request of it had to wait, so none has looked at `/scale`.
async fn warm() -> (World, FakePod) {
    let world = World::with_function(|_| {});
    world.scale.write(1);
    let pod = FakePod::hello().await;
    world.pod(&pod);
    let cell = world.activator.registry.get(&key()).unwrap();
    eventually("the pod is ready", || cell.usable() == 1).await;
    assert_eq!(send(world.get("/")).await.status, 200);
    world.until_load((0, 0)).await;
    (world, pod)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_token_nothing_is_answered() {
    let (world, _pod) = warm().await;
    for path in ["/v1/drain", "/v1/release"] {
        assert_eq!(control(&world, path, "guess", &drain("h", 1000)).await.status, 401);
    }
    let samples = Request::get(format!("http://{}/v1/samples", world.activator.control)).body(empty()).unwrap();
    assert_eq!(client().request(samples).await.unwrap().status(), 401);
    assert_eq!(send(world.get("/")).await.status, 200, "nothing was drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_function_is_never_reported_drained() {
    let (world, _pod) = warm().await;
    let mut other = drain("h", 1000);
    other["name"] = json!("other");
    assert_eq!(control(&world, "/v1/drain", TOKEN, &other).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_with_a_request_in_flight_or_waiting_is_busy() {
    let world = World::with_function(|_| {});
    let waiting = tokio::spawn(client().request(world.get("/")));
    world.until_load((0, 1)).await;
    assert!(!drained(&world, "a", 1000).await);
    let pod = FakePod::start(|_| std::future::pending()).await;
    world.pod(&pod);
    world.until_load((1, 0)).await;
    assert!(!drained(&world, "b", 1000).await);
    waiting.abort();
    world.until_load((0, 0)).await;
    assert!(drained(&world, "c", 60_000).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_step_lets_the_same_pods_answer() {
    let (world, _pod) = warm().await;
    assert!(drained(&world, "h", 60_000).await);
    let request = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    released(&world, "h", "aborted").await;
    assert_eq!(request.await.unwrap().body, "hello");
    assert_eq!(world.scale.writes(), [] as [i32; 0], "no wake was needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_step_wakes_for_who_waits_and_never_uses_the_old_pod() {
    let (world, old) = warm().await;
    assert!(drained(&world, "h", 60_000).await);
    let request = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    world.scale.write(0);
    released(&world, "h", "committed").await;
    eventually("a wake", || world.scale.writes() == [1]).await;
    world.activator.registry.delete_pod(&old.object(|_| {}));
    let new = FakePod::start(|_| async { text("new") }).await;
    world.pod(&new);
    assert_eq!(request.await.unwrap().body, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_outlives_a_committed_step_is_used_again() {
    let (world, _pod) = warm().await;
    assert!(drained(&world, "h", 60_000).await);
    world.scale.write(0);
    released(&world, "h", "committed").await;
    assert_eq!(send(world.get("/")).await.body, "hello");
    assert_eq!(world.scale.writes(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_never_released_is_fenced_before_its_pods_are_used_again() {
    let (world, _pod) = warm().await;
    let version = world.scale.version();
    assert!(drained(&world, "h", 50).await);
    let answer = send(world.get("/")).await;
    assert_eq!(answer.body, "hello");
    assert_eq!(world.scale.writes(), [2], "one more replica: a new version");
    assert!(!world.scale.write_if(0, version), "the late step fails by conflict");
    released(&world, "h", "committed").await;
    assert_eq!(send(world.get("/")).await.body, "hello", "a late release changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_happened_without_a_release_becomes_an_ordinary_wake() {
    let (world, old) = warm().await;
    let version = world.scale.version();
    assert!(drained(&world, "h", 50).await);
    assert!(world.scale.write_if(0, version));
    world.activator.registry.delete_pod(&old.object(|_| {}));
    let request = tokio::spawn(send(world.get("/")));
    eventually("a wake", || world.scale.writes() == [1]).await;
    let new = FakePod::start(|_| async { text("new") }).await;
    world.pod(&new);
    assert_eq!(request.await.unwrap().body, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_step_without_requests_writes_nothing() {
    let (world, _pod) = warm().await;
    assert!(drained(&world, "h", 1).await);
    let mut second =
        world.activator.shared.publisher.subscribe(&world.activator.registry, world.activator.shared.epoch);
    for _ in 0..2 {
        second.lines.recv().await.unwrap();
    }
    assert_eq!(world.scale.writes(), [] as [i32; 0]);
    assert_eq!(world.scale.reads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn some_pods_can_be_drained_while_the_others_go_on() {
    let (world, first) = warm().await;
    let second = FakePod::start(|_| async { text("second") }).await;
    let mut scope = drain("h", 60_000);
    scope["scope"] = json!({"pods": {"uids": [format!("uid-{}", first.name)]}});
    assert_eq!(control(&world, "/v1/drain", TOKEN, &scope).await.body, "\"drained\"");
    world.pod(&second);
    for _ in 0..20 {
        assert_eq!(send(world.get("/")).await.body, "second");
    }
}

/// Drain of one pod that may take `wait` ms.
async fn linger(world: &World, pod: &FakePod, wait: u64) -> String {
    let mut request = drain("h", 60_000);
    request["scope"] = json!({"pods": {"uids": [format!("uid-{}", pod.name)]}});
    request["waitMillis"] = json!(wait);
    control(world, "/v1/drain", TOKEN, &request).await.body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_pod_gets_nothing_new_until_its_requests_have_ended() {
    let world = Arc::new(World::with_function(|_| {}));
    let end = Arc::new(tokio::sync::Notify::new());
    let ended = end.clone();
    let busy = FakePod::start(move |_| {
        let ended = ended.clone();
        async move {
            ended.notified().await;
            text("busy")
        }
    })
    .await;
    world.pod(&busy);
    let request = tokio::spawn(send(world.get("/")));
    world.until_load((1, 0)).await;
    let free = FakePod::start(|_| async { text("free") }).await;
    let name = busy.name.clone();
    let asker = world.clone();
    let asked = tokio::spawn(async move { linger(&asker, &busy, 30_000).await });
    let cell = world.activator.registry.get(&crate::harness::key()).unwrap();
    eventually("the pod to be left alone", || cell.usable() == 0).await;
    world.pod(&free);
    for _ in 0..20 {
        assert_eq!(send(world.get("/")).await.body, "free", "nothing new may go to {name}");
    }
    assert!(!asked.is_finished(), "its request has not ended");
    end.notify_one();
    assert_eq!(request.await.unwrap().body, "busy");
    assert_eq!(asked.await.unwrap(), "\"drained\"");
    for _ in 0..20 {
        assert_eq!(send(world.get("/")).await.body, "free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_requests_do_not_end_in_time_is_used_again() {
    let world = World::with_function(|_| {});
    let first = std::sync::atomic::AtomicBool::new(true);
    let pod = FakePod::start(move |_| {
        let hangs = first.swap(false, std::sync::atomic::Ordering::Relaxed);
        async move { if hangs { std::future::pending().await } else { text("again") } }
    })
    .await;
    world.pod(&pod);
    let hanging = tokio::spawn(client().request(world.get("/")));
    world.until_load((1, 0)).await;
    assert!(linger(&world, &pod, 50).await.contains("busy"));
    assert_eq!(send(world.get("/")).await.body, "again");
    hanging.abort();
}

/// Requests begin at every moment around a step to zero and back. The pod dies at the very moment the step is committed; every request
/// is answered all the same, and none by a pod that was drained.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_at_every_moment_around_a_step_is_answered() {
    let world = Arc::new(World::with_function(|_| {}));
    for round in 0..60u64 {
        let pod = FakePod::hello().await;
        world.scale.write(1);
        world.pod(&pod);
        assert_eq!(send(world.get("/")).await.status, 200);
        world.until_load((0, 0)).await;
        let (version, writes) = (world.scale.version(), world.scale.writes().len());
        let id = format!("h{round}");
        let sender = world.clone();
        let request = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(round * 100)).await;
            send(sender.get("/")).await
        });
        let object = pod.object(|_| {});
        let mut gone = false;
        if drained(&world, &id, 60_000).await {
            gone = world.scale.write_if(0, version);
            if gone {
                drop(pod);
            }
            released(&world, &id, if gone { "committed" } else { "aborted" }).await;
        }
        if gone {
            world.activator.registry.delete_pod(&object);
            let woke = || world.scale.writes().len() > writes || request.is_finished();
            eventually("a wake, or an answer from before the step", woke).await;
            let new = FakePod::hello().await;
            world.pod(&new);
            assert_eq!(request.await.unwrap().status, 200, "round {round}");
            world.activator.registry.delete_pod(&new.object(|_| {}));
        } else {
            assert_eq!(request.await.unwrap().status, 200, "round {round}");
            world.activator.registry.delete_pod(&object);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_begin_with_the_routes_then_history_then_every_second() {
    let (world, _pod) = warm().await;
    let shared = &world.activator.shared;
    let mut seconds = shared.publisher.subscribe(&world.activator.registry, shared.epoch);
    while !seconds.lines.recv().await.unwrap().contains("\"poke\":false") {}
    let request = Request::get(format!("http://{}/v1/samples", world.activator.control))
        .header("authorization", format!("Bearer {TOKEN}"))
        .body(empty())
        .unwrap();
    let mut body = client().request(request).await.unwrap().into_body();
    let mut text = String::new();
    while text.lines().count() < 4 {
        let frame = body.frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
    let batches: Vec<SampleBatch> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(batches[0].full && batches[0].poke);
    assert!(batches[1..].iter().all(|batch| !batch.full));
    let seen: u32 = batches.iter().flat_map(|batch| &batch.functions).map(|f| f.arrivals).sum();
    assert_eq!(seen, 1, "the one request, once: {text}");
    assert!(batches[1].age_millis > 0 || !batches[1].functions.is_empty());
    send(world.get("/")).await;
    while !text.lines().last().unwrap().contains("hello") {
        let frame = body.frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_slot_pokes_at_once() {
    let world = World::with_function(|_| {});
    let shared = &world.activator.shared;
    let mut lines = shared.publisher.subscribe(&world.activator.registry, shared.epoch).lines;
    let request = tokio::spawn(client().request(world.get("/")));
    let poke = loop {
        let batch: SampleBatch = serde_json::from_str(&lines.recv().await.unwrap()).unwrap();
        if batch.poke {
            break batch;
        }
    };
    assert_eq!((poke.functions[0].name.as_str(), poke.functions[0].queued), ("hello", 1));
    request.abort();
}
