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

/// As Knative's runtime contract has it for `timeoutSeconds`, with a fifth of its seconds.
#[tokio::test(flavor = "multi_thread")]
async fn what_counts_is_whether_the_response_begins_in_time() {
    let limit = |f: &mut pilotlight_crds::Function| f.spec.timeouts.response_start_seconds = 2;
    for (first_byte, last_byte, status) in [(400, 400, 200), (2400, 2400, 504), (0, 2400, 200)] {
        let world = World::with_function(limit);
        let pod = FakePod::start(move |_| async move {
            tokio::time::sleep(Duration::from_millis(first_byte)).await;
            let (sender, body) = crate::wire::channel();
            tokio::spawn(async move {
                let _ = sender.send(crate::wire::data("first, ")).await;
                tokio::time::sleep(Duration::from_millis(last_byte - first_byte)).await;
                let _ = sender.send(crate::wire::data("last")).await;
            });
            Response::new(body)
        })
        .await;
        world.pod(&pod);
        let answer = send(world.get("/")).await;
        assert_eq!(answer.status, status, "first byte after {first_byte} ms of 2 s");
        if status == 200 {
            assert_eq!(answer.body, "first, last", "all of it, whenever it ends");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stands_still() {
    for pod_reads in [true, false] {
        let world = World::with_function(|f| {
            f.spec.timeouts.request_seconds = 0;
            f.spec.timeouts.idle_stream_seconds = 1;
        });
        let pod = crate::wire::raw_pod(move |mut raw| async move {
            raw.head().await;
            if pod_reads {
                let _ = tokio::io::copy(&mut raw.stream, &mut tokio::io::sink()).await;
            }
            std::future::pending().await
        })
        .await;
        world.pod(&pod);
        let (sender, body) = crate::wire::channel();
        let feed = tokio::spawn(async move {
            if pod_reads {
                sender.send(crate::wire::data("some of it")).await.unwrap();
                return sender.closed().await;
            }
            let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
            while sender.send(crate::wire::data(chunk.clone())).await.is_ok() {}
        });
        let answer = send(world.request("POST", "/", body)).await;
        let wanted = if pod_reads { (400, "RequestBodyFailed") } else { (504, "StreamIdle") };
        assert_eq!((answer.status, answer.reason()), wanted, "pod reads: {pod_reads}");
        world.until_load((0, 0)).await;
        feed.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_body_may_think_for_as_long_as_it_likes() {
    let world = World::with_function(|f| {
        f.spec.timeouts.request_seconds = 0;
        f.spec.timeouts.idle_stream_seconds = 1;
    });
    let pod = FakePod::start(|_| async {
        tokio::time::sleep(Duration::from_millis(1600)).await;
        text("thought of it")
    })
    .await;
    world.pod(&pod);
    assert_eq!(send(world.get("/")).await.body, "thought of it");
    assert_eq!(send(world.request("POST", "/", crate::harness::full("question"))).await.body, "thought of it");
}

/// A listener whose queue is full takes no connection and refuses none.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_takes_no_connection() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let world = World::with_function(|f| f.spec.cold_start.timeout_seconds = 2);
    let pod = FakePod::silent(address);
    world.pod(&pod);
    let (accepted, _) = listener.accept().await.unwrap();
    drop(accepted);
    let mut crowd = Vec::new();
    while let Ok(Ok(one)) =
        tokio::time::timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(address)).await
    {
        crowd.push(one);
    }
    let answer = send(world.get("/")).await;
    assert_eq!((answer.status, answer.reason()), (503, "PodNotAnswering"));
    world.until_load((0, 0)).await;
}
