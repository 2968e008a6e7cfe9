//! How long a request may take. Knative's `timeoutSeconds` is `timeouts.responseStartSeconds` here: the response has to begin in time, and
//! may then go on. `timeouts.requestSeconds` is about its end.

use anyhow::{Context as _, Result, ensure};
use http_body_util::BodyExt as _;
use pilotlight_e2e::http::Answer;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::stream;
use serde_json::json;

use super::{APP, spec, stage};

/// A response that begins at once and lasts for 15 s, with a piece every 100 ms: what came of it, and whether that was all.
async fn dripped(stage: &Stage) -> Result<(usize, bool)> {
    let mut answer = stream::open(&stage.reach, &stage.namespace, APP, "/drip?seconds=15").await?;
    assert_eq!(answer.response.status().as_u16(), 200);
    let mut bytes = 0;
    while let Some(frame) = answer.response.body_mut().frame().await {
        let Ok(frame) = frame else { return Ok((bytes, false)) };
        bytes += frame.data_ref().map_or(0, |data| data.len());
    }
    Ok((bytes, true))
}

/// Answers after 2 s and after 12 s.
async fn quick_and_slow(stage: &Stage) -> Result<(Answer, Answer)> {
    let answers = futures::try_join!(stage.get(APP, "/wait?seconds=2"), stage.get(APP, "/wait?seconds=12"))?;
    assert_eq!(answers.0.status.as_u16(), 200, "{}", answers.0.text());
    assert_eq!(answers.1.status.as_u16(), 504, "{}", answers.1.text());
    Ok(answers)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_response_that_began_in_time_goes_on_after_it() -> Result<()> {
    let stage = stage("response-start", json!({"timeouts": {"responseStartSeconds": 10}})).await?;
    let ((_, slow), (bytes, whole)) = futures::try_join!(quick_and_slow(&stage), dripped(&stage))?;
    assert_eq!(slow.header("pilotlight-reason"), "ResponseStartTimeout");
    ensure!(whole && bytes == 151, "the response was cut after {bytes} bytes of 151");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_response_has_to_end_in_time_where_its_whole_is_limited() -> Result<()> {
    let stage = stage("request-seconds", json!({"timeouts": {"requestSeconds": 10}})).await?;
    let ((_, slow), (bytes, whole)) = futures::try_join!(quick_and_slow(&stage), dripped(&stage))?;
    assert_eq!(slow.header("pilotlight-reason"), "RequestTimeout");
    ensure!(!whole && bytes > 0, "{bytes} bytes came, the whole: {whole}");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_time_that_a_pod_takes_to_start_does_not_count() -> Result<()> {
    let changes = json!({
        "env": [{"name": "START_SECONDS", "value": "4"}],
        "startupProbe": {"httpGet": {"path": "/started", "port": "http1"}, "periodSeconds": 1, "failureThreshold": 60},
        "timeouts": {"requestSeconds": 3, "responseStartSeconds": 2},
        "scaling": {"idleSeconds": 3},
    });
    let stage = Stage::set("start-time").await?;
    stage.functions.create(APP, spec(changes)).await?;
    stage.functions.at_zero(APP).await?;
    let cold = stage.ok(APP, "/wait?seconds=1").await.context("the cold request")?;
    assert_eq!(cold.header("pilotlight-cold-start"), "true");
    stage.strike().await
}
