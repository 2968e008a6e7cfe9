//! Promise: a request takes no longer than its Function allows; one that is cut off is seen to be cut off, and holds no pod.

use anyhow::{Context as _, Result, ensure};
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::http;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::stream;
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

/// Opens a stream of the example `sse` that would go on for ever, and reads until it is cut off; the events that came.
async fn events_until_cut_off(stage: &Stage, timeouts: Value, path: &str) -> Result<usize> {
    let spec = json!({"image": image("sse"), "scaling": {"idleSeconds": 5}, "timeouts": timeouts});
    stage.functions.create("sse", spec).await?;
    stage.ready("sse").await?;
    let mut stream = stream::open(&stage.reach, &stage.namespace, "sse", path).await?;
    let mut events = 0;
    let reading = async {
        loop {
            match stream.event().await {
                Ok(Some(_)) => events += 1,
                Ok(None) => anyhow::bail!("the stream was ended as if it were complete"),
                Err(_) => return Ok(()),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.context("the stream was not cut off")??;
    Ok(events)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_request_ends_with_its_time_and_its_pod_goes() -> Result<()> {
    let stage = Stage::set("request-time").await?;
    let timeouts = json!({"requestSeconds": 2, "responseStartSeconds": 2});
    let events = events_until_cut_off(&stage, timeouts, "/?interval=100ms&count=0").await?;
    ensure!(events > 0, "not even the first event came");
    // The in-flight guard was dropped with it, or the Function could never step down.
    stage.functions.at_zero("sse").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_stream_that_stands_still_is_cut_off() -> Result<()> {
    let stage = Stage::set("idle-stream").await?;
    let timeouts = json!({"requestSeconds": 0, "idleStreamSeconds": 2});
    // One event at once, the next an hour later.
    let events = events_until_cut_off(&stage, timeouts, "/?interval=1h&count=0").await?;
    assert_eq!(events, 1);
    stage.functions.at_zero("sse").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_request_that_waits_is_answered_when_its_function_is_deleted() -> Result<()> {
    let stage = Stage::set("deleted").await?;
    // No pod of it can ever start, and nobody is answered for its sake within the test's time.
    let spec = json!({
        "nodeSelector": {"pilotlight.dev/no-such-label": "true"},
        "scaling": {"initialReplicas": 0},
        "coldStart": {"timeoutSeconds": 3600},
    });
    stage.functions.create("hello", spec).await?;
    stage.ready("hello").await?;
    let waits = http::get(&stage.reach, &stage.namespace, "hello", "/");
    let deletes = async {
        let woken = || stage.functions.replicas("hello");
        until("the request to wait", PATIENCE, woken, |replicas| *replicas > 0).await?;
        stage.kubectl_ok(&["delete", "function", "hello"]).await
    };
    let (answer, deleted) = futures::join!(tokio::time::timeout(PATIENCE, waits), deletes);
    deleted?;
    let answer = answer.context("the request still waits for a Function that is gone")??;
    assert_eq!(answer.status.as_u16(), 503, "{}", answer.text());
    assert_eq!(answer.header("pilotlight-reason"), "FunctionDeleted");
    stage.strike().await
}
