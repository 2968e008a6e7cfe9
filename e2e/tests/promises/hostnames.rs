//! Promise: a host name that an author asks for leads to the Function, nobody takes it away, and who cannot have it is told why and what helps.

use std::time::Instant;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::DeleteParams;
use pilotlight_crds::condition::{
    HOSTNAME_NOT_ALLOWED, HOSTNAME_TAKEN, HOSTNAMES_HELD, HOSTNAMES_READY, READY, ROUTE_READY,
};
use pilotlight_crds::{Function, condition};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::stage::{Stage, condition_by};
use pilotlight_e2e::wait::until;
use serde_json::json;

use crate::names::by_host;

/// Waits until a Function's condition of this generation has a reason.
async fn said(stage: &Stage, name: &str, reason: &str) -> Result<Condition> {
    let status = if reason == HOSTNAMES_HELD { "True" } else { "False" };
    let limit = (Instant::now(), PATIENCE);
    condition_by(stage, name, (HOSTNAMES_READY, status), limit, |condition| condition.reason == reason).await
}

/// Waits until a host name leads to the Function of this name.
async fn leads(stage: &Stage, host: &str, name: &str) -> Result<()> {
    let what = format!("{host} to lead to {name}");
    let words = greeting(name);
    until(&what, PATIENCE, || by_host(stage, host), |answer| answer.text() == words).await?;
    Ok(())
}

fn greeting(function: &str) -> String {
    format!("Hello from Go! ({function}-1)\n")
}

/// While `what` goes on, every request to `host` is answered by the Function of this name.
async fn undisturbed<T>(stage: &Stage, host: &str, name: &str, what: impl Future<Output = Result<T>>) -> Result<T> {
    let asks = async {
        let mut asked = 0;
        loop {
            let answer = by_host(stage, host).await?;
            asked += 1;
            ensure!(answer.text() == greeting(name), "request {asked} to {host}: {} {}", answer.status, answer.text());
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        done = what => done,
        failed = asks => failed,
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn who_has_a_name_keeps_it_and_the_next_gets_it_when_it_goes() -> Result<()> {
    let (first, second) = (Stage::set("hostnames-first").await?, Stage::set("hostnames-second").await?);
    let host = format!("www.{}.hostnames.test", first.namespace);
    let asks = json!({"hostnames": [host]});
    // Older, but it asks later.
    second.functions.create("two", json!({})).await?;
    second.ready("two").await?;
    first.functions.create("one", asks.clone()).await?;
    first.ready("one").await?;
    let held = said(&first, "one", HOSTNAMES_HELD).await?;
    ensure!(held.status == "True" && held.message.contains(&host), "{held:?}");
    leads(&first, &host, "one").await?;
    let refused = async {
        second.functions.patch("two", asks.clone()).await?;
        said(&second, "two", HOSTNAME_TAKEN).await
    };
    let refused = undisturbed(&first, &host, "one", refused).await?;
    for part in [&host, "one", &first.namespace] {
        ensure!(refused.message.contains(part), "it names {part}: {}", refused.message);
    }
    let two = second.functions.get("two").await?;
    let conditions = two.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    for ready in [READY, ROUTE_READY] {
        ensure!(condition::get(conditions, ready).is_some_and(|c| c.status == "True"), "{ready} does not depend on it");
    }
    let events = || second.events("Function", "two");
    let warned = |events: &Vec<Event>| events.iter().any(|event| event.reason.as_deref() == Some(HOSTNAME_TAKEN));
    until("an Event about it", PATIENCE, events, warned).await?;

    // What its holder asks for no more is the next one's, and then not the first one's again.
    let other = format!("other.{}.hostnames.test", first.namespace);
    first.functions.patch("one", json!({"hostnames": [other]})).await?;
    said(&second, "two", HOSTNAMES_HELD).await?;
    leads(&second, &host, "two").await?;
    leads(&first, &other, "one").await?;
    let back = async {
        first.functions.patch("one", json!({"hostnames": [host, other]})).await?;
        said(&first, "one", HOSTNAME_TAKEN).await
    };
    undisturbed(&second, &host, "two", back).await?;
    leads(&first, &other, "one").await?;

    let functions: Api<Function> = second.api();
    functions.delete("two", &DeleteParams::default()).await?;
    said(&first, "one", HOSTNAMES_HELD).await?;
    leads(&first, &host, "one").await?;
    first.functions.patch("one", json!({"hostnames": null})).await?;
    let nobody = || by_host(&first, &host);
    until("the name to lead nowhere", PATIENCE, nobody, |answer| answer.status.as_u16() == 404).await?;
    let plain = |function: &Function| {
        let status = function.status.clone().unwrap_or_default();
        status.hostnames.is_empty() && condition::get(&status.conditions, HOSTNAMES_READY).is_none()
    };
    until("nothing to be said of it", PATIENCE, || first.functions.get("one"), plain).await?;
    // No new revision came of it.
    ensure!(first.functions.get("one").await?.status.is_some_and(|status| status.revisions.len() == 1));
    second.strike().await?;
    first.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_name_that_no_rule_gives_is_refused_with_what_helps_and_leads_nowhere() -> Result<()> {
    let stage = Stage::set("hostnames-refused").await?;
    let ns = &stage.namespace;
    let (elsewhere, own) = (format!("{ns}.elsewhere.test"), format!("other.{ns}.functions.test"));
    let good = format!("{ns}.hostnames.test");
    stage.functions.create("hello", json!({"hostnames": [elsewhere, own, good]})).await?;
    stage.ready("hello").await?;
    let said = said(&stage, "hello", HOSTNAME_NOT_ALLOWED).await?;
    let shows = said.message.contains(&format!("{elsewhere} is not this namespace's to have"))
        && said.message.contains("the chart's value hostnames")
        && said.message.contains(&format!("{own} has the form of a Function's own name"));
    ensure!(said.status == "False" && shows, "{said:?}");
    leads(&stage, &good, "hello").await?;
    for host in [&elsewhere, &own] {
        let answer = by_host(&stage, host).await?;
        ensure!(answer.status.as_u16() == 404, "{host}: {} {}", answer.status, answer.text());
    }
    stage.strike().await
}
