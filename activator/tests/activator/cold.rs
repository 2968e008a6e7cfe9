//! Requests while no pod is ready: held, woken for, answered; or told why not.

use std::time::Duration;

use futures::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{FakePod, World, client, eventually, function, send};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_held_requests_need_one_wake_and_get_a_hundred_answers() {
    let world = World::with_function(|_| {});
    let requests: Vec<_> = (0..100).map(|_| tokio::spawn(send(world.get("/")))).collect();
    world.until_load((0, 100)).await;
    eventually("a wake", || world.scale.writes() == [1]).await;
    let pod = FakePod::hello().await;
    world.pod(&pod);
    for answer in join_all(requests).await {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
        assert_eq!(answer.headers["pilotlight-cold-start"], "true");
        let timing = answer.headers["server-timing"].to_str().unwrap();
        for phase in ["queue", "patched", "pod-seen", "ip-seen", "reachable"] {
            assert!(timing.contains(phase), "{timing}");
        }
    }
    assert_eq!(world.scale.writes(), [1], "one wake");
    world.until_load((0, 0)).await;
    let warm = send(world.get("/")).await;
    assert!(!warm.headers.contains_key("pilotlight-cold-start"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_is_asserted_until_the_api_server_answers() {
    let world = World::with_function(|_| {});
    world.scale.set_down(true);
    let request = tokio::spawn(send(world.get("/")));
    eventually("retries", || world.scale.reads() >= 3).await;
    assert_eq!(world.load(), (0, 1));
    world.scale.set_down(false);
    eventually("a wake", || world.scale.writes() == [1]).await;
    let pod = FakePod::hello().await;
    world.pod(&pod);
    assert_eq!(request.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_that_somebody_undoes_is_asserted_again() {
    let world = World::with_function(|_| {});
    let request = tokio::spawn(send(world.get("/")));
    eventually("a wake", || world.scale.writes() == [1]).await;
    world.scale.write(0);
    eventually("another wake", || world.scale.writes() == [1, 1]).await;
    let pod = FakePod::hello().await;
    world.pod(&pod);
    assert_eq!(request.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_long_is_told_the_best_known_cause() {
    let world = World::with_function(|f| f.spec.cold_start.timeout_seconds = 1);
    let answer = send(world.get("/")).await;
    assert_eq!((answer.status, answer.reason()), (503, "NoPod"));
    assert!(answer.body.contains("spec.coldStart.timeoutSeconds"), "{}", answer.body);
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(world.load(), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cause_that_does_not_heal_is_told_at_once() {
    let world = World::with_function(|_| {});
    let waiting = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    let pod = FakePod::silent("127.0.0.1:9".parse().unwrap());
    let broken = pod.object(|pod| {
        pod["status"] = serde_json::json!({"phase": "Pending", "containerStatuses": [{
            "name": "function", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"waiting": {"reason": "InvalidImageName", "message": "couldn't parse image name \"BAD\""}},
        }]});
    });
    world.activator.registry.apply_pod(&broken);
    for answer in [waiting.await.unwrap(), send(world.get("/")).await] {
        assert_eq!((answer.status, answer.reason()), (503, "InvalidImageName"));
        assert!(answer.body.contains("BAD"), "the container's own words: {}", answer.body);
    }
    world.activator.registry.delete_pod(&broken);
    let healed = tokio::spawn(send(world.get("/")));
    let pod = FakePod::hello().await;
    world.pod(&pod);
    assert_eq!(healed.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reported_cause_is_told_after_the_wake_was_tried() {
    let world = World::with_function(|f| {
        let condition = serde_json::from_value(serde_json::json!({
            "type": "WorkloadReady", "status": "False", "reason": "QuotaExceeded", "message": "exceeded quota: tiny",
            "lastTransitionTime": "2024-01-01T00:00:00Z",
        }));
        f.status.as_mut().unwrap().conditions = vec![condition.unwrap()];
    });
    let answer = send(world.get("/")).await;
    assert_eq!((answer.status, answer.reason()), (503, "QuotaExceeded"));
    assert_eq!(world.scale.writes(), [1], "the wake was tried: the quota may have been raised since");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_the_queue_at_once() {
    let world = World::with_function(|_| {});
    let impatient = tokio::spawn(client().request(world.get("/")));
    world.until_load((0, 1)).await;
    impatient.abort();
    world.until_load((0, 0)).await;
    assert_eq!(world.activator.shared.pending.taken().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_amid_its_upload_leaves_the_queue_too() {
    let world = World::with_function(|_| {});
    let mut stream = TcpStream::connect(world.activator.http).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: hello.shop\r\ncontent-length: 1000000\r\n\r\nthe first bytes";
    stream.write_all(head.as_bytes()).await.unwrap();
    world.until_load((0, 1)).await;
    stream.write_all(&[b'x'; 10_000]).await.unwrap();
    drop(stream);
    world.until_load((0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() {
    let world = World::with_function(|f| f.spec.cold_start.pending_requests = 2);
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(send(world.get("/")))).collect();
    world.until_load((0, 2)).await;
    let refused = tokio::time::timeout(Duration::from_secs(1), send(world.get("/"))).await.unwrap();
    assert_eq!((refused.status, refused.reason()), (503, "QueueFull"));
    assert_eq!(refused.headers["retry-after"], "1");
    let pod = FakePod::hello().await;
    world.pod(&pod);
    for answer in join_all(held).await {
        assert_eq!(answer.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_waiting_bytes_are_refused() {
    let world = World::with_function(|f| f.spec.cold_start.pending_bytes = 2000);
    let held = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    let mut request = world.get("/");
    request.headers_mut().insert("x-large", "x".repeat(3000).parse().unwrap());
    let refused = send(request).await;
    assert_eq!((refused.status, refused.reason()), (503, "QueueBytesFull"));
    held.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_deleted_lets_nobody_wait() {
    let world = World::with_function(|_| {});
    let held = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    world.activator.registry.delete_function(&function(|_| {}));
    let answer = held.await.unwrap();
    assert_eq!((answer.status, answer.reason()), (503, "FunctionDeleted"));
    let answer = send(world.get("/")).await;
    assert_eq!((answer.status, answer.reason()), (404, "UnknownHost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_hosts_learn_nothing_of_others() {
    let world = World::with_function(|_| {});
    let mut request = world.get("/");
    request.headers_mut().insert("host", "other.shop".parse().unwrap());
    request.headers_mut().insert("accept", "application/json".parse().unwrap());
    let answer = send(request).await;
    assert_eq!((answer.status, answer.reason()), (404, "UnknownHost"));
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["reason"], "UnknownHost");
    assert!(!answer.body.contains("hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_revision_takes_over_when_it_answers() {
    let world = World::with_function(|_| {});
    let old = FakePod::start(|_| async { crate::harness::text("old") }).await;
    world.pod(&old);
    assert_eq!(send(world.get("/")).await.body, "old");
    world.apply(|f| f.status.as_mut().unwrap().route.as_mut().unwrap().revision = Some("hello-2".into()));
    assert_eq!(send(world.get("/")).await.body, "old", "the new one has no pod yet");
    let mut new = FakePod::start(|_| async { crate::harness::text("new") }).await;
    new.revision = "hello-2".into();
    world.pod(&new);
    for _ in 0..500 {
        if send(world.get("/")).await.body == "new" {
            break;
        }
    }
    for _ in 0..20 {
        assert_eq!(send(world.get("/")).await.body, "new");
    }
}
