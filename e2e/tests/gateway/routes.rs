//! Promise: where the chart names a Gateway, every external name of a Function leads to it from outside the cluster, from zero, too; the condition says what the
//! Gateway makes of it; and what is somebody else's stays as it is.

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, PostParams};
use pilotlight_crds::Function;
use pilotlight_crds::condition::{GATEWAY_API_MISSING, NAME_TAKEN, READY, ROUTE_ACCEPTED, ROUTE_PENDING};
use pilotlight_crds::names::LABEL_FUNCTION;
use pilotlight_e2e::fixture::{PATIENCE, has_condition};
use pilotlight_e2e::namespace::TestNamespace;
use pilotlight_e2e::reach::{OPERATORS, SYSTEM_NAMESPACE};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::traefik::{Traefik, gateway, gateway_api, routes};
use pilotlight_e2e::wait::until;
use pilotlight_e2e::{chart, existing, tools};
use serde_json::{Value, json};

use crate::{answers_from_zero, leads_nowhere, nothing_said, said};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_request_from_outside_comes_in_by_a_gateway() -> Result<()> {
    let stage = Stage::set("routes").await?;
    let edge = TestNamespace::create(&stage.reach.client, "edge").await?;
    let edge_name = edge.name.clone();
    gateway_api(false).await?;
    let namespace = format!("gateway.parentRefs[0].namespace={edge_name}");
    chart::install(&["gateway.parentRefs[0].name=public", &namespace]).await?;
    let operators = operators(&stage).await?;

    println!("without the Gateway API the condition says what helps, and all else goes on");
    let other = format!("www.{}.hostnames.test", stage.namespace);
    let own = format!("hello.{}.functions.test", stage.namespace);
    let spec = json!({"hostnames": [other], "scaling": {"idleSeconds": 2}});
    stage.functions.create("hello", spec).await?;
    let missing = said(&stage, "hello", "False", GATEWAY_API_MISSING).await?;
    ensure!(missing.message.contains("install the Gateway API"), "{missing:?}");
    stage.ready("hello").await?;

    println!("once it is there the route is made, by the same operator, and nobody has said anything of it");
    gateway_api(true).await?;
    let pending = said(&stage, "hello", "Unknown", ROUTE_PENDING).await?;
    ensure!(pending.message.contains(&format!("Gateway {edge_name}/public")), "{pending:?}");
    ensure!(has_condition(&stage.functions.get("hello").await?, READY, "True"), "Ready does not depend on it");
    ensure!(self::operators(&stage).await? == operators, "an operator was started again");

    println!("a Gateway takes it: requests from outside wake the Function under each of its names");
    let traefik = Traefik::begin(&stage.reach, edge, true).await?;
    gateway(&edge_name, "public").await?;
    let accepted = said(&stage, "hello", "True", ROUTE_ACCEPTED).await?;
    ensure!([&own, &other].iter().all(|host| accepted.message.contains(*host)), "{accepted:?}");
    until("the first name to lead here", PATIENCE, || traefik.get(&own), |answer| answer.status.as_u16() == 200)
        .await?;
    answers_from_zero(&stage, &traefik, "hello", &[&own, &other]).await?;

    println!("nothing is written while nothing changes, and a change by somebody else is undone");
    restored(&stage, &own).await?;

    println!("a name that is given up goes from the route");
    stage.functions.patch("hello", json!({"hostnames": null})).await?;
    let route = routes(&stage.reach.client, &stage.namespace);
    let found = || async { route.get("hello").await.context("looking for the route") };
    until("its own name alone", PATIENCE, found, |route| *hosts(route) == json!([own])).await?;
    leads_nowhere(&traefik, &other).await?;

    println!("a tag has a route of its own, and goes with what may be reached from outside");
    tagged(&stage, &traefik, &own).await?;

    println!("an HTTPRoute of somebody else stays as it is, and the condition names it");
    theirs(&stage, &traefik).await?;

    println!("a Deployment that was taken over is led to, and no more once it was given back");
    adopted(&stage, &traefik).await?;

    println!("the route goes with its Function");
    let functions: Api<Function> = stage.api();
    functions.delete("hello", &DeleteParams::default()).await?;
    leads_nowhere(&traefik, &own).await?;
    gone(&stage, "hello").await?;

    println!("without the value nothing is said of it any more");
    chart::install(&[]).await?;
    nothing_said(&stage, "theirs").await?;
    traefik.end().await?;
    gateway_api(false).await?;
    stage.strike().await
}

/// Names and restarts of the operators' pods.
async fn operators(stage: &Stage) -> Result<Vec<(Option<String>, i32)>> {
    let restarts = |pod: &k8s_openapi::api::core::v1::Pod| {
        let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        containers.map(|container| container.restart_count).sum()
    };
    let pods = stage.reach.ready_pods(SYSTEM_NAMESPACE, OPERATORS).await?;
    let mut all: Vec<_> = pods.iter().map(|pod| (pod.metadata.name.clone(), restarts(pod))).collect();
    all.sort();
    Ok(all)
}

fn hosts(route: &DynamicObject) -> &Value {
    &route.data["spec"]["hostnames"]
}

/// Somebody else's host goes from the Function's route, and the Function's comes back; two requests from zero have left the route as it was.
async fn restored(stage: &Stage, own: &str) -> Result<()> {
    let api = routes(&stage.reach.client, &stage.namespace);
    let before = api.get("hello").await?;
    ensure!(before.metadata.generation == Some(1), "it was written again: {before:?}");
    let change = json!({"spec": {"hostnames": ["elsewhere.example.com"]}}).to_string();
    stage.kubectl_ok(&["patch", "httproute", "hello", "--type=merge", "-p", &change]).await?;
    let back = |route: &DynamicObject| hosts(route)[0] == own;
    until("the route as it was", PATIENCE, || async { Ok(api.get("hello").await?) }, back).await?;
    Ok(())
}

/// A revision with a tag answers at its own host; `visibility: Cluster` takes both away.
async fn tagged(stage: &Stage, traefik: &Traefik, own: &str) -> Result<()> {
    let host = format!("next-{own}");
    let spec = json!({"traffic": [{"latestRevision": true, "tag": "next"}]});
    stage.functions.patch("hello", spec).await?;
    until("the tag's name to lead here", PATIENCE, || traefik.get(&host), |answer| answer.status.as_u16() == 200)
        .await?;
    stage.functions.patch("hello", json!({"visibility": "Cluster"})).await?;
    for host in [&host, own] {
        leads_nowhere(traefik, host).await?;
    }
    for route in ["hello", "next-hello"] {
        gone(stage, route).await?;
    }
    stage.functions.patch("hello", json!({"visibility": "External", "traffic": null})).await?;
    until("its own name to lead here", PATIENCE, || traefik.get(own), |answer| answer.status.as_u16() == 200).await?;
    Ok(())
}

async fn theirs(stage: &Stage, traefik: &Traefik) -> Result<()> {
    let host = format!("theirs.{}.functions.test", stage.namespace);
    let api = routes(&stage.reach.client, &stage.namespace);
    let spec = json!({"hostnames": ["their.example.com"], "rules": [{"backendRefs": [{"name": "hello", "port": 80}]}]});
    let object = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "theirs"}, "spec": spec,
    });
    let made = api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    stage.functions.create("theirs", json!({})).await?;
    let taken = said(stage, "theirs", "False", NAME_TAKEN).await?;
    ensure!(taken.message.contains("HTTPRoute named theirs exists already"), "{taken:?}");
    stage.ready("theirs").await?;
    let still = api.get("theirs").await?;
    ensure!(still.metadata.uid == made.metadata.uid && still.metadata.generation == Some(1), "{still:?}");
    ensure!(still.metadata.labels.is_none() && still.metadata.owner_references.is_none(), "{still:?}");
    // Nor may the operator: what its rights cannot say, the admission policy does.
    let account = format!("--as=system:serviceaccount:{SYSTEM_NAMESPACE}:pilotlight-operator");
    let patch = [
        "patch",
        "httproute",
        "theirs",
        "--type=merge",
        "-p",
        r#"{"metadata":{"labels":{"pilotlight.dev/function":"theirs"}}}"#,
    ];
    let acting =
        [&["--namespace", &stage.namespace, &account, "--as-group=system:authenticated"], patch.as_slice()].concat();
    let printed = tools::kubectl(&acting).await?;
    ensure!(!printed.ok && printed.err.contains("Pilotlight"), "{}{}", printed.out, printed.err);
    // Once it is out of the way the name is free.
    api.delete("theirs", &DeleteParams::default()).await?;
    said(stage, "theirs", "True", ROUTE_ACCEPTED).await?;
    until("the Function to answer", PATIENCE, || traefik.get(&host), |answer| answer.status.as_u16() == 200).await?;
    Ok(())
}

async fn adopted(stage: &Stage, traefik: &Traefik) -> Result<()> {
    stage.api().create(&PostParams::default(), &existing::deployment("shop", "shop", 1)?).await?;
    stage.api().create(&PostParams::default(), &existing::service("shop", "shop")?).await?;
    let function = existing::adopting("shop", "shop", json!({"idleSeconds": 3}));
    stage.apply(&function.to_string()).await?.success()?;
    said(stage, "shop", "True", ROUTE_ACCEPTED).await?;
    stage.functions.at_zero("shop").await?;
    let host = format!("shop.{}.functions.test", stage.namespace);
    let answer = traefik.get(&host).await?;
    ensure!(answer.status.as_u16() == 200, "{} {}", answer.status, answer.text());
    ensure!(answer.header("pilotlight-cold-start") == "true", "it was no cold start");
    stage.kubectl_ok(&["label", "deployment", "shop", &format!("{LABEL_FUNCTION}-")]).await?;
    gone(stage, "shop").await
}

async fn gone(stage: &Stage, name: &str) -> Result<()> {
    let api = routes(&stage.reach.client, &stage.namespace);
    let what = format!("HTTPRoute {name} to be gone");
    let left = || async { api.get_opt(name).await.context("looking for the route") };
    until(&what, PATIENCE, left, Option::is_none).await?;
    Ok(())
}
