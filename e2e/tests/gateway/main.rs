//! What Pilotlight promises of requests from outside the cluster, shown with a real gateway and a real ingress controller: Traefik. Each test upgrades the
//! chart with values of its own, so they run one after the other and apart from all others.

mod ingress;
mod routes;

use std::time::Instant;

use anyhow::{Result, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use pilotlight_crds::condition::GATEWAY_READY;
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::http::Answer;
use pilotlight_e2e::stage::{Stage, condition, condition_by};
use pilotlight_e2e::traefik::Traefik;
use pilotlight_e2e::wait::until;

/// Waits until a Function's condition about the way in has this status and reason.
async fn said(stage: &Stage, name: &str, status: &str, reason: &str) -> Result<Condition> {
    let limit = (Instant::now(), PATIENCE);
    condition_by(stage, name, (GATEWAY_READY, status), limit, |condition| condition.reason == reason).await
}

/// Waits until there is nothing to be said of the way in.
async fn nothing_said(stage: &Stage, name: &str) -> Result<()> {
    let function = || stage.functions.get(name);
    let silent = |function: &_| condition(function, GATEWAY_READY).is_none();
    until("no condition about the way in", PATIENCE, function, silent).await?;
    Ok(())
}

/// The Function, at zero, answers a request from outside under each of these names, the first of them by a cold start.
async fn answers_from_zero(stage: &Stage, traefik: &Traefik, name: &str, hosts: &[&str]) -> Result<()> {
    for host in hosts {
        stage.functions.at_zero(name).await?;
        let answer = traefik.get(host).await?;
        let greeting = format!("Hello from Go! ({name}-1)\n");
        ensure!(
            answer.status.as_u16() == 200 && answer.text() == greeting,
            "{host}: {} {}",
            answer.status,
            answer.text()
        );
        ensure!(answer.header("pilotlight-cold-start") == "true", "{host}: it was no cold start");
    }
    Ok(())
}

/// Waits until a name leads nowhere any more: Traefik itself has no answer to it.
async fn leads_nowhere(traefik: &Traefik, host: &str) -> Result<()> {
    let what = format!("{host} to lead nowhere");
    let nobody = |answer: &Answer| answer.status.as_u16() == 404 && answer.header("pilotlight-reason").is_empty();
    until(&what, PATIENCE, || traefik.get(host), nobody).await?;
    Ok(())
}
