//! Probes: the author's are honoured, at the start and later, and nothing else is asked of a container.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use http_body_util::Full;
use hyper::Request;
use k8s_openapi::api::core::v1::Pod;
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::http;
use pilotlight_e2e::load::Load;
use pilotlight_e2e::reach::{ACTIVATORS, is_ready};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

use super::super::metrics::{scrape, sum};
use super::{APP, asked, spec, stage};

fn probe(path: &str) -> Value {
    // Often, and patient: a busy machine starts an app more slowly, and a probe that fails then would end it.
    json!({"httpGet": {"path": path, "port": "http1"}, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 3})
}

async fn seen(stage: &Stage) -> Result<Vec<(String, String)>> {
    asked(stage, "/seen").await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn nothing_but_callers_and_the_authors_probes_reaches_a_container() -> Result<()> {
    let probes = json!({
        "startupProbe": probe("/started?kind=startup"),
        "readinessProbe": probe("/ready?kind=readiness"),
        "livenessProbe": probe("/health?kind=liveness"),
    });
    let stage = stage("probes", probes).await?;
    stage.ok(APP, "/request").await?;
    let mut missing = BTreeSet::from(["/started?kind=startup", "/ready?kind=readiness", "/health?kind=liveness"]);
    let all = |seen: &Vec<(String, String)>| {
        missing.retain(|path| !seen.iter().any(|(seen, agent)| seen == path && agent.starts_with("kube-probe/")));
        missing.is_empty()
    };
    let seen = until("kubelet to ask all three probes", PATIENCE, || seen(&stage), all).await?;
    for (path, agent) in &seen {
        let of_kubelet = agent.starts_with("kube-probe/") && path.contains("?kind=");
        // The activator's own look at a pod that starts: never at the liveness probe, which is kubelet's alone.
        let of_activator =
            agent.starts_with("pilotlight-probe/") && path.contains("?kind=") && !path.contains("liveness");
        let of_caller = agent.is_empty() && path == "/request";
        ensure!(of_kubelet || of_activator || of_caller, "{agent:?} asked for {path}");
    }
    assert_eq!(seen.iter().filter(|(path, _)| path == "/request").count(), 1, "the one request came more than once");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_container_without_probes_sees_requests_only() -> Result<()> {
    let stage = stage("no-probes", json!({})).await?;
    for _ in 0..3 {
        stage.ok(APP, "/request").await?;
    }
    let seen = seen(&stage).await?;
    ensure!(seen.iter().all(|(path, agent)| path == "/request" && agent.is_empty()), "not from a caller: {seen:?}");
    assert_eq!(seen.len(), 3, "{seen:?}");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_container_is_not_asked_before_its_startup_probe_says_so() -> Result<()> {
    let changes = json!({
        "env": [{"name": "START_SECONDS", "value": "3"}],
        "startupProbe": {"httpGet": {"path": "/started", "port": "http1"}, "periodSeconds": 1, "failureThreshold": 60},
        "scaling": {"idleSeconds": 3},
    });
    let stage = Stage::set("startup").await?;
    stage.functions.create(APP, spec(changes)).await?;
    stage.functions.at_zero(APP).await?;
    // It listens at once and answers 503 while it starts: a single request let through early would show.
    try_join_all((0..10).map(|_| stage.ok(APP, "/request"))).await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_pod_that_is_not_ready_any_more_gets_no_request_until_it_is() -> Result<()> {
    let stage = stage("unready", json!({"readinessProbe": probe("/ready")})).await?;
    stage.ok(APP, "/unready").await?;
    let pods = || stage.functions.pods(APP);
    let pods = until("the pod not to be ready", PATIENCE, pods, |pods| !pods.iter().any(is_ready)).await?;
    let pod = pods.first().context("the pod has gone")?;

    // The app answers 503 itself as long as it is asked while it is not ready.
    let answered = stage.answers(APP);
    let heals = async {
        let namespace = format!("namespace=\"{}\"", stage.namespace);
        let waits = || async {
            let pages = scrape(&stage, ACTIVATORS).await?;
            Ok(sum(&pages, "pilotlight_activator_queued_requests", &[&namespace]))
        };
        until("the request to be held", PATIENCE, waits, |waits| *waits == 1.0).await?;
        let connection = stage.reach.pod(pod, 8080).await?;
        let request = Request::get("/ready-again").header("host", "app").body(Full::default())?;
        http::exchange(connection, request, Instant::now()).await
    };
    futures::try_join!(answered, heals)?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_container_that_is_not_alive_is_started_again_and_fails_no_request() -> Result<()> {
    let stage = stage("liveness", json!({"livenessProbe": probe("/health")})).await?;
    let load = Load::start(&stage.reach, &stage.namespace, &[APP], 3).await?;
    stage.ok(APP, "/unhealthy").await?;
    let again = |pods: &Vec<Pod>| pods.iter().any(|pod| is_ready(pod) && restarts(pod) == 1);
    until("the container to be started again", PATIENCE, || stage.functions.pods(APP), again).await?;
    let enough = load.sent() + 50;
    until("the load to go on", PATIENCE, || async { Ok(load.sent()) }, |sent| *sent >= enough).await?;
    load.end_without_failure().await?;
    stage.strike().await
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).sum()
}
