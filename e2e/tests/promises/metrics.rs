//! Promise: what happened to a Function's requests can be read from `/metrics`, by function and namespace.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use http_body_util::Full;
use hyper::Request;
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::http;
use pilotlight_e2e::reach::{ACTIVATORS, OPERATORS, SYSTEM_NAMESPACE};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;

/// The metrics of every ready pod that `selector` selects, one page after the other.
pub(crate) async fn scrape(stage: &Stage, selector: &str) -> Result<String> {
    let mut all = String::new();
    for pod in stage.reach.ready_pods(SYSTEM_NAMESPACE, selector).await? {
        let connection = stage.reach.pod(&pod, 9090).await?;
        let request = Request::get("/metrics").header("host", "metrics").body(Full::default())?;
        let page = http::exchange(connection, request, Instant::now()).await?;
        ensure!(page.status.as_u16() == 200, "/metrics answered {}", page.status);
        all.push_str(&page.text());
    }
    Ok(all)
}

/// The sum over all series of a metric whose labels contain all of `labels`.
pub(crate) fn sum(pages: &str, metric: &str, labels: &[&str]) -> f64 {
    pages
        .lines()
        .filter_map(|line| line.strip_prefix(metric))
        .filter(|line| line.starts_with(['{', ' ']) && labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn requests_wakes_and_the_phases_of_a_cold_start_are_counted() -> Result<()> {
    let stage = Stage::set("metrics").await?;
    stage.functions.create("hello", json!({"scaling": {"idleSeconds": 5}})).await?;
    stage.functions.at_zero("hello").await?;
    for _ in 0..3 {
        stage.ok("hello", "/").await?;
    }

    let namespace = format!("namespace=\"{}\"", stage.namespace);
    let hello = [namespace.as_str(), "function=\"hello\""];
    let with = |label: &'static str| [hello[0], hello[1], label];
    let pages = || scrape(&stage, ACTIVATORS);
    // A request is counted when its response has ended, which its caller may see a moment before.
    let pages = until("three answers to be counted", PATIENCE, pages, |pages| {
        sum(pages, "pilotlight_activator_requests_total", &with("code_class=\"2xx\"")) >= 3.0
    })
    .await?;
    let of = |metric: &str, labels: &[&str]| sum(&pages, metric, labels);
    assert_eq!(of("pilotlight_activator_requests_total", &hello), 3.0, "requests");
    assert_eq!(of("pilotlight_activator_wakes_total", &hello), 1.0, "wakes");
    assert_eq!(of("pilotlight_activator_queued_requests", &hello), 0.0, "requests that wait");
    assert_eq!(of("pilotlight_activator_in_flight_requests", &hello), 0.0, "requests at pods");
    for phase in ["phase=\"patched\"", "phase=\"reachable\""] {
        assert_eq!(of("pilotlight_activator_cold_start_seconds_count", &with(phase)), 1.0, "{phase}");
    }
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn exactly_one_operator_leads_and_every_page_can_be_parsed() -> Result<()> {
    let stage = Stage::set("leader").await?;
    let pages = scrape(&stage, OPERATORS).await?;
    assert_eq!(sum(&pages, "pilotlight_operator_leader", &[]), 1.0, "leaders");
    ensure!(sum(&pages, "pilotlight_operator_activators", &[]) >= 1.0, "the leader hears no activator");

    let activators = scrape(&stage, ACTIVATORS).await?;
    for line in pages.lines().chain(activators.lines()).filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').with_context(|| format!("no value in {line:?}"))?;
        ensure!(value.parse::<f64>().is_ok(), "the value of {line:?} is no number");
        ensure!(series.starts_with("pilotlight_") || series.starts_with("process_"), "another prefix: {line:?}");
    }
    stage.strike().await
}
