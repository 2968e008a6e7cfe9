//! Promise: a revision can have a name of its own, and requests of a kind; clients stay with the revision that they came to. Whichever activator is
//! asked says the same.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::api::PostParams;
use pilotlight_crds::condition::{NAME_TAKEN, READY, TRAFFIC_READY};
use pilotlight_crds::status::FunctionStatus;
use pilotlight_e2e::exclusive;
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::http::{self, Answer};
use pilotlight_e2e::reach::{ACTIVATORS, Address, SYSTEM_NAMESPACE};
use pilotlight_e2e::stage::{Stage, condition_by};
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

use crate::names::ask_from_a_pod;
use crate::split::{self, activators, until_status};

/// Two revisions that have proved themselves, all traffic at the first, and what else the second gets.
async fn two(prefix: &str, spec: Value, second: Value) -> Result<Stage> {
    let stage = split::two(prefix, spec).await?;
    shared(&stage, &json!([{"revisionName": "hello-1", "percent": 100}, second])).await?;
    Ok(stage)
}

/// Has the traffic so, and waits until it is.
async fn shared(stage: &Stage, traffic: &Value) -> Result<()> {
    stage.functions.patch("hello", json!({"traffic": traffic})).await?;
    let granted = (TRAFFIC_READY, "True");
    condition_by(stage, "hello", granted, (Instant::now(), PATIENCE), |_| true).await?;
    Ok(())
}

/// One request, with these headers.
async fn ask(stage: &Stage, at: &Address, host: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let start = Instant::now();
    let mut request = Request::get(path).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = http::exchange(stage.reach.open(at).await?, request.body(Full::<Bytes>::default())?, start).await?;
    ensure!(answer.status.as_u16() == 200, "{path} {headers:?}: {} {}", answer.status, answer.text());
    Ok(answer)
}

/// Waits until every activator answers such a request by this revision.
async fn leads(stage: &Stage, host: &str, path: &str, headers: &[(&str, &str)], name: &str) -> Result<()> {
    for at in activators(stage).await? {
        let what = format!("{host}{path} {headers:?} to lead to {name}");
        let asked = || async {
            // A host name that an activator has yet to hear of is answered 404.
            Ok(ask(stage, &at, host, path, headers)
                .await
                .map(|answer| split::revision(&answer.text()))
                .unwrap_or_default())
        };
        until(&what, PATIENCE, asked, |revision| revision == name).await?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_tag_has_a_url_of_its_own_and_a_header() -> Result<()> {
    let next = json!({"revisionName": "hello-2", "tag": "next"});
    let stage = two("tags", json!({"scaling": {"idleSeconds": 3}}), next).await?;
    let own = format!("hello.{}.svc", stage.namespace);
    let tagged = format!("next-hello.{}.svc", stage.namespace);
    let route = stage.functions.get("hello").await?.status.and_then(|status| status.route).context("no route")?;
    ensure!(route.tags.len() == 1 && route.tags[0].revision == "hello-2" && route.split.is_empty(), "{route:?}");
    ensure!(route.tags[0].url.starts_with(&format!("http://next-hello.{}.", stage.namespace)), "{route:?}");

    stage.functions.at_zero("hello").await?;
    leads(&stage, &tagged, "/", &[], "hello-2").await?;
    let pods = stage.functions.pods("hello").await?;
    ensure!(pods.iter().all(|pod| pod.name_any().starts_with("hello-2-")), "it wakes its own revision alone");
    leads(&stage, &format!("next-hello.{}.functions.test", stage.namespace), "/", &[], "hello-2").await?;
    for (header, name) in [("next", "hello-2"), ("unknown", "hello-1")] {
        leads(&stage, &own, "/", &[("pilotlight-tag", header)], name).await?;
    }
    leads(&stage, &own, "/", &[], "hello-1").await?;
    ask_from_a_pod(&stage, &stage.namespace, &[format!("next-hello.{}", stage.namespace), tagged.clone()]).await?;

    // Without the tag there is no such name any more.
    shared(&stage, &json!([{"revisionName": "hello-1"}])).await?;
    stage.gone::<Service>("next-hello").await?;
    let activator = activators(&stage).await?.remove(0);
    let asked = || async { Ok(http::get_at(&stage.reach, &activator, &tagged, "/").await?.status.as_u16()) };
    until("the name to lead nowhere", PATIENCE, asked, |status| *status == 404).await?;
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_service_that_has_the_name_of_a_tag_is_left_alone() -> Result<()> {
    let stage = Stage::with_hello("tags-taken", json!({})).await?;
    let theirs =
        json!({"metadata": {"name": "next-hello"}, "spec": {"type": "ExternalName", "externalName": "example.com"}});
    stage.api::<Service>().create(&PostParams::default(), &serde_json::from_value(theirs)?).await?;
    let asked = Instant::now();
    stage.functions.patch("hello", json!({"traffic": [{"latestRevision": true, "tag": "next"}]})).await?;
    for kind in [TRAFFIC_READY, READY] {
        let told =
            condition_by(&stage, "hello", (kind, "False"), (asked, PATIENCE), |c| c.reason == NAME_TAKEN).await?;
        ensure!(told.message.contains("next-hello"), "{}", told.message);
    }
    let service = stage.api::<Service>().get("next-hello").await?;
    ensure!(service.spec.and_then(|spec| spec.external_name).as_deref() == Some("example.com"), "it was touched");
    // By its host name it is led to all the same.
    leads(&stage, &format!("next-hello.{}.svc", stage.namespace), "/", &[], "hello-1").await?;
    stage.functions.patch("hello", json!({"traffic": null})).await?;
    stage.ready("hello").await?;
    ensure!(stage.api::<Service>().get("next-hello").await.is_ok(), "it is not removed either");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn requests_go_where_their_path_headers_cookies_and_query_say() -> Result<()> {
    let second = json!({"revisionName": "hello-2", "matches": [
        {"headers": [{"name": "X-Beta", "value": "yes"}]},
        {"cookies": [{"name": "beta"}], "path": {"value": "/shop"}},
        {"queryParams": [{"name": "beta", "value": "1"}]},
        {"path": {"type": "Exact", "value": "/v2"}},
    ]});
    let stage = two("matches", json!({}), second).await?;
    let host = format!("hello.{}.svc", stage.namespace);
    for (path, headers, name) in [
        ("/", vec![("x-beta", "yes")], "hello-2"),
        ("/", vec![("x-beta", "no")], "hello-1"),
        ("/shop/cart", vec![("cookie", "a=b; beta=; c=d")], "hello-2"),
        ("/shopping", vec![("cookie", "beta=1")], "hello-1"),
        ("/shop", vec![], "hello-1"),
        ("/?a=b&beta=1", vec![], "hello-2"),
        ("/?beta=11", vec![], "hello-1"),
        ("/v2?a=b", vec![], "hello-2"),
        ("/v2/a", vec![], "hello-1"),
        ("/", vec![], "hello-1"),
    ] {
        leads(&stage, &host, path, &headers, name).await?;
    }
    stage.strike().await
}

/// The cookie that an answer gives, as a client sends it back.
fn cookie(answer: &Answer) -> Option<String> {
    let given = answer.header("set-cookie");
    given.split(';').next().filter(|pair| pair.starts_with("who=")).map(str::to_owned)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_client_stays_with_its_revision_whichever_activator_it_asks() -> Result<()> {
    let stage =
        two("sticky", json!({"sticky": {"cookie": {"name": "who"}}}), json!({"revisionName": "hello-2", "percent": 0}))
            .await?;
    let split = |first: u32| json!([{"revisionName": "hello-1", "percent": first}, {"revisionName": "hello-2", "percent": 100 - first}]);
    shared(&stage, &split(50)).await?;
    let (host, activators) = (format!("hello.{}.svc", stage.namespace), activators(&stage).await?);
    // An activator that has heard of the split gives cookies.
    for at in &activators {
        let given = || async { Ok(cookie(&ask(&stage, at, &host, "/", &[]).await?)) };
        until("a cookie", PATIENCE, given, Option::is_some).await?;
    }
    let mut clients = Vec::new();
    for number in 0..40 {
        let answer = ask(&stage, &activators[number % 2], &host, "/", &[]).await?;
        clients.push((cookie(&answer).context("a cookie for everybody")?, split::revision(&answer.text())));
    }
    ensure!(clients.iter().map(|(_, revision)| revision).collect::<BTreeSet<_>>().len() == 2, "{clients:?}");
    for (cookie, known) in &clients {
        for at in activators.iter().cycle().take(4) {
            let answer = ask(&stage, at, &host, "/", &[("cookie", cookie)]).await?;
            ensure!(
                split::revision(&answer.text()) == *known,
                "{cookie} was {known}'s and is {}'s",
                split::revision(&answer.text())
            );
            ensure!(answer.header("set-cookie").is_empty(), "it has one");
        }
    }
    // With a larger share of the second, some go there, and none the other way.
    shared(&stage, &split(20)).await?;
    let moved = || async {
        let mut moved = Vec::new();
        for (number, (cookie, known)) in clients.iter().enumerate() {
            let now =
                split::revision(&ask(&stage, &activators[number % 2], &host, "/", &[("cookie", cookie)]).await?.text());
            ensure!(known == "hello-1" || now == "hello-2", "{cookie} went from {known} to {now}");
            moved.push(now != *known);
        }
        Ok(moved)
    };
    until("some to move", PATIENCE, moved, |moved| moved.contains(&true)).await?;

    // By a header that the client brings along, nothing is given to it.
    stage.functions.patch("hello", json!({"sticky": {"cookie": null, "header": "X-User"}})).await?;
    shared(&stage, &split(50)).await?;
    let mut seen = BTreeSet::new();
    for user in 0..24 {
        let user = user.to_string();
        let steady = || async {
            let mut revisions = BTreeSet::new();
            for at in activators.iter().cycle().take(6) {
                let answer = ask(&stage, at, &host, "/", &[("x-user", &user)]).await?;
                revisions.insert((split::revision(&answer.text()), answer.header("set-cookie").to_owned()));
            }
            Ok(revisions)
        };
        let steady = until("a user's own revision", PATIENCE, steady, |all| {
            all.len() == 1 && all.iter().all(|(_, given)| given.is_empty())
        })
        .await?;
        seen.extend(steady);
    }
    ensure!(seen.len() == 2, "{seen:?}");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn with_a_hard_limit_too_each_activator_leads_to_the_tag() -> Result<()> {
    let mut spec = exclusive::container();
    spec["concurrency"] = json!({"limit": 1});
    let stage = two("tags-limit", spec, json!({"revisionName": "hello-2", "tag": "next"})).await?;
    let tagged = format!("next-hello.{}.svc", stage.namespace);
    for _ in 0..3 {
        leads(&stage, &tagged, "/", &[], "hello-2").await?;
        leads(&stage, &format!("hello.{}.svc", stage.namespace), "/", &[], "hello-1").await?;
    }
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_function_that_is_the_cluster_s_alone_has_no_names_outside_until_it_changes() -> Result<()> {
    let tagged = json!([{"latestRevision": true, "tag": "next"}]);
    let stage = Stage::with_hello("visibility", json!({"visibility": "Cluster", "traffic": tagged})).await?;
    let outside = stage.reach.ready_pods(SYSTEM_NAMESPACE, ACTIVATORS).await?;
    let outside: Vec<Address> = outside.iter().map(|pod| stage.reach.pod_address(pod, 8081)).collect::<Result<_>>()?;
    let host = |name: &str| format!("{name}.{}.functions.test", stage.namespace);
    let status_of =
        async |at: &Address, host: &str| Ok(http::get_at(&stage.reach, at, host, "/").await?.status.as_u16());
    for (visibility, answered) in [("Cluster", 404), ("External", 200), ("Cluster", 404)] {
        stage.functions.patch("hello", json!({"visibility": visibility})).await?;
        for at in &outside {
            for host in [host("hello"), host("next-hello")] {
                let what = format!("{host} to be answered {answered}");
                until(&what, PATIENCE, || status_of(at, &host), |status| *status == answered).await?;
            }
            let inside = format!("hello.{}.svc", stage.namespace);
            assert_eq!(status_of(at, &inside).await?, 404, "a name inside leads nowhere from outside");
        }
        // Its names inside answer either way, and its address is the one that leads to it.
        leads(&stage, &format!("next-hello.{}.svc", stage.namespace), "/", &[], "hello-1").await?;
        stage.ok("hello", "/").await?;
        let ending = if answered == 200 { ".functions.test" } else { ".svc" };
        let addressed = |status: &FunctionStatus| status.url.as_ref().is_some_and(|url| url.ends_with(ending));
        until_status(&stage, "its address", addressed).await?;
    }
    let revision = stage.functions.get("hello").await?.status.and_then(|status| status.latest_created_revision);
    assert_eq!(revision.as_deref(), Some("hello-1"), "no new revision");
    stage.strike().await
}
