//! Promise: a Function is at home in kubectl: get, describe, explain, wait, scale and delete do what users expect.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use kube::api::ListParams;
use pilotlight_crds::Function;
use pilotlight_crds::names::LABEL_FUNCTION;
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::tools::kubectl;
use pilotlight_e2e::wait::until;
use serde_json::json;

/// Columns of a table as kubectl prints it: two spaces or more between them.
fn columns(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn one_line_of_get_tells_the_story() -> Result<()> {
    let stage = Stage::set("kubectl-get").await?;
    let spec = json!({"scaling": {"idleSeconds": 5}});
    stage.functions.create("hello", spec).await?;
    let broken = json!({"image": "127.0.0.1:9/no/such/image:v1"});
    stage.functions.create("broken", broken).await?;
    stage.functions.at_zero("hello").await?;
    stage.functions.condition("broken", "Ready", "False").await?;

    let printed = stage.kubectl_ok(&["get", "functions"]).await?;
    let mut lines = printed.lines();
    let head = columns(lines.next().context("nothing printed")?);
    let expected = ["NAME", "URL", "READY", "REASON", "RUNG", "REPLICAS", "REVISION", "IMAGE", "AGE"];
    assert_eq!(head, expected, "{printed}");
    let broken = columns(lines.next().context("no line for broken")?);
    ensure!(broken[0] == "broken" && broken.contains(&"False") && broken.contains(&"ImagePullFailed"), "{printed}");
    let hello = columns(lines.next().context("no line for hello")?);
    assert_eq!(hello.len(), expected.len(), "an empty cell in: {printed}");
    let url = format!("http://hello.{}", stage.namespace);
    ensure!(
        hello[0] == "hello"
            && hello[1].starts_with(&url)
            && hello[2] == "True"
            && hello[4] == "Zero"
            && hello[5] == "0"
            && hello[6] == "hello-1",
        "{printed}"
    );

    // Both short names, and the whole one.
    for name in ["fn", "plfn", "function", "functions.pilotlight.dev"] {
        let printed = stage.kubectl_ok(&["get", name, "hello", "-o", "name"]).await?;
        assert_eq!(printed.trim(), "function.pilotlight.dev/hello");
    }
    let wide = stage.kubectl_ok(&["get", "fn", "-o", "wide"]).await?;
    ensure!(wide.contains("IMAGE") && wide.contains(&image("hello-go")), "{wide}");
    let all = stage.kubectl_ok(&["get", "all"]).await?;
    ensure!(all.contains("function.pilotlight.dev/hello"), "{all}");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn wait_and_describe_tell_conditions_and_events() -> Result<()> {
    let stage = Stage::set("kubectl-wait").await?;
    let document = format!(
        "apiVersion: pilotlight.dev/v1alpha1\nkind: Function\nmetadata:\n  name: hello\nspec:\n  image: {}\n  \
         scaling:\n    idleSeconds: 5\n",
        image("hello-go")
    );
    stage.apply(&document).await?.success()?;
    let ready = ["wait", "--for=condition=Ready", "--timeout=60s", "fn/hello"];
    stage.kubectl_ok(&ready).await?;
    let idle = ["wait", "--for=condition=Active=False", "--timeout=60s", "fn/hello"];
    stage.kubectl_ok(&idle).await?;

    let described = stage.kubectl_ok(&["describe", "function", "hello"]).await?;
    for word in ["Conditions:", "ScaledToZero", "WorkloadReady", "RouteReady"] {
        ensure!(described.contains(word), "no {word} in:\n{described}");
    }
    let (_, events) = described.rsplit_once("Events:").context("describe shows no events")?;
    ensure!(events.contains("Normal"), "describe shows no events:\n{described}");
    // Applied again, it is the same Function: nothing changes.
    let again = stage.apply(&document).await?.success()?;
    ensure!(again.contains("unchanged"), "{again}");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn explain_has_words_for_every_field() -> Result<()> {
    let printed = kubectl(&["explain", "function.spec.scaling.idleSeconds"]).await?.success()?;
    ensure!(printed.contains("Seconds without a request until"), "{printed}");
    let printed = kubectl(&["explain", "function.spec", "--recursive"]).await?.success()?;
    let fields = [
        "image",
        "env",
        "scaling",
        "minReplicas",
        "concurrency",
        "timeouts",
        "coldStart",
        "pendingBytes",
        "readinessProbe",
        "volumes",
    ];
    for field in fields {
        ensure!(printed.contains(field), "explain does not know {field}");
    }
    for field in ["function", "function.spec", "function.status.conditions"] {
        let printed = kubectl(&["explain", field]).await?.success()?;
        ensure!(!printed.contains("<empty>"), "no words for {field}:\n{printed}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn scale_sets_the_floor() -> Result<()> {
    let stage = Stage::set("kubectl-scale").await?;
    let spec = json!({"scaling": {"idleSeconds": 5}});
    stage.functions.create("hello", spec).await?;
    stage.functions.at_zero("hello").await?;

    stage.kubectl_ok(&["scale", "function/hello", "--replicas=2"]).await?;
    let hello = || stage.functions.get("hello");
    let scaled =
        until("two ready pods", PATIENCE, hello, |hello| hello.status.as_ref().is_some_and(|s| s.ready_replicas == 2))
            .await?;
    assert_eq!(scaled.spec.scaling.min_replicas, 2);
    let printed = stage.kubectl_ok(&["get", "function/hello", "--subresource=scale", "-o", "json"]).await?;
    let scale: serde_json::Value = serde_json::from_str(&printed)?;
    assert_eq!(scale["spec"]["replicas"], 2);
    assert_eq!(scale["status"]["replicas"], 2);
    let selector = scale["status"]["selector"].as_str().unwrap_or_default();
    let selected = stage.api::<Pod>();
    let selected = selected.list(&ListParams::default().labels(selector)).await?;
    assert_eq!(selected.items.len(), 2, "the scale's selector {selector:?} selects the pods");

    stage.kubectl_ok(&["scale", "function/hello", "--replicas=0"]).await?;
    stage.functions.at_zero("hello").await?;
    stage.reachable("hello").await?;
    stage.ok("hello", "/").await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn delete_removes_everything_and_nothing_hangs() -> Result<()> {
    let stage = Stage::set("kubectl-delete").await?;
    let spec = json!({"scaling": {"minReplicas": 1}});
    stage.functions.create("hello", spec).await?;
    stage.ready("hello").await?;
    stage.ok("hello", "/").await?;
    let hello = stage.functions.get("hello").await?;
    ensure!(hello.finalizers().is_empty(), "a finalizer can hang");

    stage.kubectl_ok(&["delete", "function", "hello", "--timeout=30s"]).await?;
    stage.gone::<Function>("hello").await?;
    stage.gone::<Service>("hello").await?;
    stage.gone::<EndpointSlice>("hello-pilotlight").await?;
    stage.gone::<Deployment>("hello-1").await?;
    let pods = || stage.functions.pods("hello");
    until("the pods to be gone", PATIENCE, pods, Vec::is_empty).await?;
    let labelled = ListParams::default().labels(&format!("{LABEL_FUNCTION}=hello"));
    let left = stage.api::<EndpointSlice>().list(&labelled).await?;
    ensure!(left.items.is_empty(), "a slice is left: {left:?}");

    // The name is free again at once.
    stage.functions.create("hello", json!({})).await?;
    stage.ready("hello").await?;
    stage.ok("hello", "/").await?;
    stage.strike().await
}
