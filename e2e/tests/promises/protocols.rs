//! Promise: whatever an application speaks over HTTP passes through unchanged, from zero pods too: HTTP/1.1, HTTP/2 with gRPC and its
//! trailers, Server-Sent Events one by one, WebSocket.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use pilotlight_e2e::fixture::image;
use pilotlight_e2e::http::{self, Answer};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::stream;
use pilotlight_e2e::websocket::WebSocket;
use serde_json::json;

/// A length-prefixed gRPC message that holds a `google.protobuf.StringValue`.
fn grpc_string(text: &str) -> Result<Bytes> {
    let length = u8::try_from(text.len())?;
    ensure!(length < 126, "longer lengths need a second byte");
    let mut message = vec![0, 0, 0, 0, length + 2, 0x0a, length];
    message.extend_from_slice(text.as_bytes());
    Ok(message.into())
}

/// Calls a method of the example `grpc`.
async fn call(stage: &Stage, function: &str, method: &str, name: &str) -> Result<Answer> {
    let start = Instant::now();
    let connection = stage.reach.function(&stage.namespace, function).await?;
    let uri = format!("http://{function}.{}.svc/pilotlight.examples.v1.Hello/{method}", stage.namespace);
    let request = Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(grpc_string(name)?))?;
    http::exchange_h2c(connection, request, start).await
}

/// Has the example `grpc` greet somebody.
pub(crate) async fn say(stage: &Stage, function: &str, name: &str) -> Result<Answer> {
    call(stage, function, "Say", name).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_grpc_call_at_zero_is_answered_with_its_trailers() -> Result<()> {
    let stage = Stage::set("grpc").await?;
    let spec = json!({
        "image": image("grpc"),
        "protocol": "H2C",
        "scaling": {"idleSeconds": 5},
    });
    stage.functions.create("grpc", spec).await?;
    stage.functions.at_zero("grpc").await?;

    for name in ["cold", "warm"] {
        let answer = say(&stage, "grpc", name).await?;
        assert_eq!(answer.status.as_u16(), 200, "{name}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/grpc");
        let greeting = format!("Hello, {name}! (grpc-1)");
        ensure!(answer.text().ends_with(&greeting), "{:?} is not {greeting:?}", answer.text());
        let status = answer.trailers.get("grpc-status").context("the trailer grpc-status was lost")?;
        assert_eq!(status, "0");
    }
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_grpc_method_that_does_not_exist_says_so_itself() -> Result<()> {
    let stage = Stage::set("grpc-error").await?;
    let spec = json!({"image": image("grpc"), "protocol": "H2C"});
    stage.functions.create("grpc", spec).await?;
    stage.ready("grpc").await?;

    let answer = call(&stage, "grpc", "Shout", "x").await?;
    // A gRPC error may come as trailers only, which are then the headers.
    let status = answer
        .trailers
        .get("grpc-status")
        .or_else(|| answer.headers.get("grpc-status"))
        .context("the status was lost")?;
    assert_eq!(status, "12", "UNIMPLEMENTED");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_client_of_http2_may_call_a_function_of_http1() -> Result<()> {
    let stage = Stage::set("h2c").await?;
    let spec = json!({"scaling": {"idleSeconds": 5}});
    stage.functions.create("hello", spec).await?;
    stage.functions.at_zero("hello").await?;
    let start = Instant::now();
    let connection = stage.reach.function(&stage.namespace, "hello").await?;
    let uri = format!("http://hello.{}.svc/", stage.namespace);
    let request = Request::get(uri).body(Full::default())?;
    let answer = http::exchange_h2c(connection, request, start).await?;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    assert_eq!(answer.text(), "Hello from Go! (hello-1)\n");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn events_of_an_endless_stream_arrive_one_by_one() -> Result<()> {
    let stage = Stage::set("sse").await?;
    let spec = json!({
        "image": image("sse"),
        "scaling": {"idleSeconds": 5},
    });
    stage.functions.create("sse", spec).await?;
    stage.functions.at_zero("sse").await?;

    // The stream has no end: to see any event at all, it must be passed on before the answer is complete.
    let mut stream = stream::open(&stage.reach, &stage.namespace, "sse", "/?interval=200ms&count=0").await?;
    assert_eq!(stream.response.status().as_u16(), 200);
    assert_eq!(stream.response.headers()["content-type"], "text/event-stream");
    for id in 1..=5 {
        let event = stream.event().await?.context("the stream ended")?;
        ensure!(event.starts_with(&format!("id: {id}\n")), "event {id} is {event:?}");
    }
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_websocket_at_zero_is_opened_and_echoes() -> Result<()> {
    let stage = Stage::set("websocket").await?;
    let spec = json!({
        "image": image("websocket"),
        "scaling": {"idleSeconds": 5},
    });
    stage.functions.create("websocket", spec).await?;
    stage.functions.at_zero("websocket").await?;
    echo(&stage, "websocket").await?;
    stage.strike().await
}

/// Opens a WebSocket, has two messages echoed, and closes it properly.
pub(crate) async fn echo(stage: &Stage, function: &str) -> Result<()> {
    let mut socket = WebSocket::open(&stage.reach, &stage.namespace, function).await?;
    for message in ["first", "second"] {
        socket.send(message).await?;
        assert_eq!(socket.receive().await?, message);
    }
    socket.close().await
}
