//! What clients read when the activator answers instead of the function.

use http::HeaderValue;
use pilotlight_activator::limits::Limits;
use pilotlight_activator::shutdown::DrainSettings;

use crate::harness::{World, full, h2_request, read, send};

/// A Function whose queue is full already: whatever comes is refused at once.
async fn full_queue() -> (World, tokio::task::JoinHandle<crate::harness::Read>) {
    let world = World::with_function(|f| f.spec.cold_start.pending_requests = 1);
    let held = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    (world, held)
}

async fn refused(world: &World, accept: &'static str) -> crate::harness::Read {
    let mut request = world.get("/");
    request.headers_mut().insert("accept", HeaderValue::from_static(accept));
    send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_for_those_who_ask_for_it_and_has_the_members_of_problem_details() {
    let (world, held) = full_queue().await;
    for (accept, content_type) in [
        ("application/problem+json", "application/problem+json"),
        ("application/json, text/plain;q=0.9", "application/json"),
    ] {
        let answer = refused(&world, accept).await;
        assert_eq!((answer.status, answer.reason()), (503, "QueueFull"));
        assert_eq!(answer.headers["content-type"], content_type);
        let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["type"], "tag:pilotlight.dev,2026:errors/QueueFull");
        assert_eq!((&problem["status"], &problem["title"]), (&503.into(), &"Service Unavailable".into()));
        assert_eq!((&problem["reason"], &problem["function"]), (&"QueueFull".into(), &"hello".into()));
        assert_eq!(problem["namespace"], "shop");
        assert!(problem["detail"].as_str().unwrap().contains("spec.coldStart.pendingRequests"), "{problem}");
    }
    held.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_else_reads_plain_words_and_when_to_come_back() {
    let (world, held) = full_queue().await;
    for accept in ["*/*", "text/plain, application/json;q=0.5", "text/html,*/*;q=0.8"] {
        let answer = refused(&world, accept).await;
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8", "{accept}");
        assert!(answer.body.starts_with("QueueFull: 1 requests wait"), "{}", answer.body);
        assert_eq!(answer.headers["retry-after"], "1");
    }
    held.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_clients_learn_status_words_and_when_to_retry_without_a_body() {
    let (world, held) = full_queue().await;
    let mut request = world.request("POST", "/Service/Method", full("request"));
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc+proto"));
    request.headers_mut().insert("accept", HeaderValue::from_static("application/json"));
    let answer = read(h2_request(&world, request).await).await;
    assert_eq!((answer.status, answer.reason(), answer.body.as_str()), (200, "QueueFull", ""));
    assert_eq!(answer.headers["content-type"], "application/grpc+proto");
    assert_eq!(answer.headers["grpc-status"], "14");
    assert_eq!(answer.headers["grpc-retry-pushback-ms"], "1000");
    assert!(answer.headers["grpc-message"].to_str().unwrap().starts_with("QueueFull: 1 requests wait"));
    held.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_activator_says_so() {
    let limits = Limits { max_pending_requests: 1, ..Limits::default() };
    let world = World::with(limits, DrainSettings::default());
    world.apply(|_| {});
    let held = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    let answer = send(world.get("/")).await;
    assert_eq!((answer.status, answer.reason()), (503, "ActivatorFull"));
    assert_eq!(answer.headers["retry-after"], "1");
    held.abort();
}
