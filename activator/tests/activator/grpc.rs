//! gRPC as it is on the wire: length-prefixed messages in HTTP/2 streams, statuses in trailers, deadlines in `grpc-timeout`.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::harness::{Body, FakePod, World, full, read};
use crate::wire::{Frames, channel, data, h2, next};

fn message(text: &str) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(text.len()).unwrap());
    framed.put_slice(text.as_bytes());
    framed.freeze()
}

fn status(code: &'static str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers.insert("grpc-message", HeaderValue::from_static("as the pod says"));
    Frame::trailers(trailers)
}

fn grpc(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn call(method: &str, timeout: Option<&'static str>, body: Body) -> Request<Body> {
    let mut request = Request::post(format!("http://hello.shop/shop.Till/{method}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(body)
        .unwrap();
    if let Some(timeout) = timeout {
        request.headers_mut().insert("grpc-timeout", HeaderValue::from_static(timeout));
    }
    request
}

/// Adds up, repeats, or talks back, by the method's name.
async fn till(request: Request<Incoming>) -> Response<Body> {
    assert_eq!(request.headers()["te"], "trailers");
    let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
    let mut incoming = request.into_body();
    let (sender, body) = channel();
    tokio::spawn(async move {
        if method == "Talk" {
            while let Some(frame) = incoming.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                if !piece.is_empty() {
                    sender.send(data(piece)).await.unwrap();
                }
            }
        } else {
            let whole = incoming.collect().await.unwrap().to_bytes();
            let times = if method == "Repeat" { 3 } else { 1 };
            for _ in 0..times {
                sender.send(data(whole.clone())).await.unwrap();
            }
        }
        sender.send(Ok(status("7"))).await.unwrap();
    });
    grpc(body)
}

async fn served() -> (World, FakePod) {
    let pod = FakePod::start(till).await.h2c();
    let world = World::with_function(|_| {});
    world.pod(&pod);
    (world, pod)
}

#[tokio::test(flavor = "multi_thread")]
async fn unary_and_both_one_way_streams_end_with_the_pods_status() {
    let (world, _pod) = served().await;
    let mut client = h2(&world).await;
    let (sender, stream) = channel();
    tokio::spawn(async move {
        for text in ["a", "b", "c"] {
            sender.send(data(message(text))).await.unwrap();
        }
    });
    let whole = [message("a"), message("b"), message("c")].concat();
    for (method, body, wanted) in [
        ("Add", full(message("a")), message("a").to_vec()),
        ("Repeat", full(message("a")), message("a").repeat(3)),
        ("Add", stream, whole),
    ] {
        let answer = read(client.send_request(call(method, None, body)).await.unwrap()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "application/grpc");
        assert_eq!(answer.body.as_bytes(), wanted, "{method}");
        assert_eq!(answer.trailers["grpc-status"], "7", "{method}");
        assert_eq!(answer.trailers["grpc-message"], "as the pod says");
    }
    world.until_load((0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_stream_at_once_message_by_message() {
    let (world, _pod) = served().await;
    let mut client = h2(&world).await;
    let (sender, body) = channel();
    let response = client.send_request(call("Talk", Some("1M"), body)).await.unwrap();
    let mut incoming = response.into_body();
    for text in ["who", "is", "there"] {
        sender.send(data(message(text))).await.unwrap();
        assert_eq!(next(&mut incoming).await, message(text), "before the next one is sent");
    }
    drop(sender);
    let trailers = incoming.collect().await.unwrap().trailers().cloned().unwrap();
    assert_eq!(trailers["grpc-status"], "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_counts_while_no_pod_is_there() {
    let world = World::with_function(|_| {});
    let mut client = h2(&world).await;
    let answer = read(client.send_request(call("Add", Some("200m"), full(message("a")))).await.unwrap()).await;
    assert_eq!(answer.headers["grpc-status"], "4");
    assert_eq!(answer.reason(), "DeadlineExceeded");
    world.until_load((0, 0)).await;

    let waiting = tokio::spawn(client.send_request(call("Add", Some("1H"), full(message("a")))));
    world.until_load((0, 1)).await;
    let pod = FakePod::start(|request| async move {
        let timeout = request.headers()["grpc-timeout"].clone();
        let (sender, body) = channel();
        tokio::spawn(async move {
            sender.send(data(Bytes::copy_from_slice(timeout.as_bytes()))).await.unwrap();
            sender.send(Ok(status("0"))).await.unwrap();
        });
        grpc(body)
    })
    .await
    .h2c();
    world.pod(&pod);
    let answer = read(waiting.await.unwrap().unwrap()).await;
    let left: u64 = answer.body.strip_suffix('m').expect(&answer.body).parse().unwrap();
    assert!((3_500_000..3_600_000).contains(&left), "the pod is told what is left of it: {left} ms");
    assert_eq!(answer.trailers["grpc-status"], "0");
}

/// A pod that says what happens to its calls, and never ends one by itself.
fn endless(gone: tokio::sync::mpsc::UnboundedSender<&'static str>) -> impl Future<Output = FakePod> {
    FakePod::start(move |request: Request<Incoming>| {
        let gone = gone.clone();
        async move {
            let silent = request.uri().path().ends_with("Silent");
            let mut incoming = request.into_body();
            let upload = gone.clone();
            tokio::spawn(async move {
                while let Some(Ok(_)) = incoming.frame().await {}
                upload.send("upload").unwrap();
            });
            if silent {
                let _told = Told(gone, "call");
                return std::future::pending().await;
            }
            let (sender, body) = channel();
            tokio::spawn(stream(sender, gone));
            grpc(body)
        }
    })
}

async fn stream(sender: Frames, gone: tokio::sync::mpsc::UnboundedSender<&'static str>) {
    sender.send(data(message("first"))).await.unwrap();
    sender.closed().await;
    gone.send("call").unwrap();
}

struct Told(tokio::sync::mpsc::UnboundedSender<&'static str>, &'static str);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

async fn both_ends(heard: &mut tokio::sync::mpsc::UnboundedReceiver<&'static str>) {
    let mut ends = Vec::new();
    while ends.len() < 2 {
        let end = tokio::time::timeout(Duration::from_secs(10), heard.recv()).await;
        ends.push(end.unwrap_or_else(|_| panic!("the pod only heard of the end of {ends:?}")).unwrap());
    }
    ends.sort_unstable();
    assert_eq!(ends, ["call", "upload"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exceeded_deadline_is_a_status_and_cancels_the_call_at_the_pod() {
    for method in ["Silent", "Stream"] {
        let (gone, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let pod = endless(gone).await.h2c();
        let world = World::with_function(|_| {});
        world.pod(&pod);
        let mut client = h2(&world).await;
        let (upload, body) = channel();
        upload.send(data(message("and I go on"))).await.unwrap();
        let answer = read(client.send_request(call(method, Some("400m"), body)).await.unwrap()).await;
        assert_eq!(answer.status, 200);
        let said = if method == "Silent" { &answer.headers } else { &answer.trailers };
        assert_eq!(said["grpc-status"], "4", "{method}");
        assert!(said["grpc-message"].to_str().unwrap().contains("grpc-timeout"));
        both_ends(&mut heard).await;
        world.until_load((0, 0)).await;
        drop(upload);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_its_caller_cancels_is_cancelled_at_the_pod() {
    let (gone, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let pod = endless(gone).await.h2c();
    let world = World::with_function(|_| {});
    world.pod(&pod);
    let mut client = h2(&world).await;
    let (upload, body) = channel();
    upload.send(data(message("hello"))).await.unwrap();
    let response = client.send_request(call("Stream", None, body)).await.unwrap();
    let mut incoming = response.into_body();
    assert_eq!(next(&mut incoming).await, message("first"));
    drop((incoming, upload));
    both_ends(&mut heard).await;
    world.until_load((0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_own_limit_ends_a_stream_with_a_status_too() {
    let (gone, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let pod = endless(gone).await.h2c();
    let world = World::with_function(|f| f.spec.timeouts.request_seconds = 1);
    world.pod(&pod);
    let mut client = h2(&world).await;
    let answer = read(client.send_request(call("Stream", Some("1H"), full(message("a")))).await.unwrap()).await;
    assert_eq!(answer.body.as_bytes(), message("first"));
    assert_eq!(answer.trailers["grpc-status"], "4");
    both_ends(&mut heard).await;
}
