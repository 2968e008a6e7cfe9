//! Each of a Function's timeouts, and that the cold start counts to none of them.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::{FakePod, World, client, send, text};

/// Sends one frame and then nothing, with the body open.
async fn stalling() -> FakePod {
    FakePod::start(|_| async {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
        tokio::spawn(async move {
            let _ = sender.send(Ok(Frame::data(Bytes::from_static(b"first")))).await;
            sender.closed().await;
        });
        Response::new(StreamBody::new(ReceiverStream::new(receiver)).boxed_unsync())
    })
    .await
}

async fn breaks_off(world: &World) -> Duration {
    let response = client().request(world.get("/")).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    let began = Instant::now();
    assert!(body.frame().await.unwrap().is_err(), "the client can tell a cut body from a whole one");
    world.until_load((0, 0)).await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_does_not_begin_in_time() {
    let world = World::with_function(|f| f.spec.timeouts.response_start_seconds = 1);
    let pod = FakePod::start(|_| std::future::pending()).await;
    world.pod(&pod);
    let answer = send(world.get("/")).await;
    assert_eq!((answer.status, answer.reason()), (504, "ResponseStartTimeout"));
    world.until_load((0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_before_its_response() {
    let world = World::with_function(|f| f.spec.timeouts.request_seconds = 1);
    let pod = FakePod::start(|_| std::future::pending()).await;
    world.pod(&pod);
    let answer = send(world.get("/")).await;
    assert_eq!((answer.status, answer.reason()), (504, "RequestTimeout"));
    assert!(answer.body.contains("spec.timeouts.requestSeconds"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_in_its_response() {
    let world = World::with_function(|f| f.spec.timeouts.request_seconds = 1);
    let pod = stalling().await;
    world.pod(&pod);
    assert!(breaks_off(&world).await < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_stands_still() {
    let world = World::with_function(|f| f.spec.timeouts.idle_stream_seconds = 1);
    let pod = stalling().await;
    world.pod(&pod);
    assert!(breaks_off(&world).await < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cold_start_does_not_count() {
    let world = World::with_function(|f| {
        f.spec.timeouts.response_start_seconds = 1;
        f.spec.timeouts.request_seconds = 1;
    });
    let request = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let pod = FakePod::start(|_| async { text("late and fine") }).await;
    world.pod(&pod);
    assert_eq!(request.await.unwrap().body, "late and fine");
}
