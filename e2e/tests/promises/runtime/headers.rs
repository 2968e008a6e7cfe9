//! What a container learns of a request: all that the caller sent, where it came from in the activator's own words, and nothing that is
//! meant for one hop or for Pilotlight itself.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use pilotlight_e2e::http;
use pilotlight_e2e::reach::{ACTIVATORS, SYSTEM_NAMESPACE, Stream};
use pilotlight_e2e::stage::Stage;
use serde::Deserialize;
use serde_json::json;

use super::{APP, stage};

/// The request as the app got it; its header names are in lower case.
#[derive(Debug, Deserialize)]
struct Came {
    method: String,
    target: String,
    version: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Came {
    /// The one value of a header.
    fn header(&self, name: &str) -> Result<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let value = values.next().with_context(|| format!("no {name} in {:?}", self.headers))?;
        ensure!(values.next().is_none(), "{name} more than once in {:?}", self.headers);
        Ok(value)
    }
}

const KEPT: [(&str, &str); 6] = [
    ("user-agent", "caller/1.0"),
    ("accept", "text/plain;q=0.5"),
    ("authorization", "Bearer for-the-app"),
    ("cookie", "a=1; b=2"),
    ("x-of-the-caller", "kept"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
];

/// What only a trusted proxy may say, and what is Pilotlight's own.
const SPOOFED: [(&str, &str); 8] = [
    ("forwarded", "for=203.0.113.7;proto=https;host=spoofed"),
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "spoofed"),
    ("x-real-ip", "203.0.113.7"),
    ("pilotlight-relay", "spoofed"),
    ("pilotlight-reason", "spoofed"),
    ("proxy-authorization", "Basic c3Bvb2ZlZA=="),
];

async fn exchange(stage: &Stage, connection: Box<dyn Stream>, http2: bool) -> Result<Came> {
    let host = format!("{APP}.{}.svc", stage.namespace);
    let start = Instant::now();
    let path = "/request?a=%20b&c=%2F..%2f";
    let mut request = if http2 {
        Request::post(format!("http://{host}{path}"))
    } else {
        let hop = [("connection", "keep-alive, x-of-this-hop"), ("x-of-this-hop", "1"), ("keep-alive", "timeout=5")];
        hop.into_iter()
            .fold(Request::post(path).header("host", &host), |request, (name, value)| request.header(name, value))
    };
    for (name, value) in KEPT.into_iter().chain(SPOOFED) {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from_static(b"the body")))?;
    let answer = match http2 {
        true => http::exchange_h2c(connection, request, start).await?,
        false => http::exchange(connection, request, start).await?,
    };
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    let came: Came = serde_json::from_str(&answer.text())?;
    assert_eq!(answer.header("x-request-id"), came.header("x-request-id")?, "the caller is told another request id");
    Ok(came)
}

/// The request is the caller's, and all that is said of its origin is the activator's. Returns its id.
fn judge(stage: &Stage, came: &Came, http2: bool) -> Result<String> {
    let host = format!("{APP}.{}.svc", stage.namespace);
    assert_eq!(came.method, "POST");
    assert_eq!(came.target, "/request?a=%20b&c=%2F..%2f", "the target is passed on byte by byte");
    assert_eq!(came.version, "HTTP/1.1");
    assert_eq!(came.body, "the body");
    assert_eq!(came.header("host")?, host);
    for (name, value) in KEPT {
        assert_eq!(came.header(name)?, value, "{name}");
    }
    let caller: IpAddr = came.header("x-forwarded-for")?.parse().context("not the caller's address alone")?;
    ensure!(caller.to_string() != "203.0.113.7", "a caller chose its own address");
    assert_eq!(came.header("forwarded")?, format!("for={caller};proto=http;host=\"{host}\""));
    assert_eq!(came.header("x-forwarded-proto")?, "http");
    assert_eq!(came.header("x-forwarded-host")?, host);
    assert_eq!(came.header("via")?, if http2 { "2 pilotlight" } else { "1.1 pilotlight" });
    let unwanted = |name: &str| {
        name.starts_with("pilotlight-")
            || ["x-of-this-hop", "keep-alive", "x-real-ip", "proxy-authorization", "te", "upgrade"].contains(&name)
    };
    let found: Vec<_> = came.headers.iter().filter(|(name, _)| unwanted(name)).collect();
    ensure!(found.is_empty(), "these are not for the application: {found:?}");
    let id = came.header("x-request-id")?;
    ensure!(!id.is_empty(), "the request id is empty");
    Ok(id.to_owned())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_request_arrives_as_it_was_sent_with_its_origin_in_the_activators_words() -> Result<()> {
    let stage = stage("headers", json!({})).await?;
    let mut ids = BTreeSet::new();
    for http2 in [false, true] {
        let connection = stage.reach.function(&stage.namespace, APP).await?;
        let came = exchange(&stage, connection, http2).await?;
        ids.insert(judge(&stage, &came, http2)?);
    }
    assert_eq!(ids.len(), 2, "two requests have one id");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn it_makes_no_difference_to_a_request_whether_another_activator_sends_it() -> Result<()> {
    let stage = stage("relayed", json!({"concurrency": {"limit": 5}})).await?;
    let route = stage.functions.get(APP).await?.status.and_then(|status| status.route).context("it has no route")?;
    let activators = stage.reach.ready_pods(SYSTEM_NAMESPACE, ACTIVATORS).await?;
    ensure!(activators.len() > 1, "with one activator there is none that hands requests on");
    let mut callers = BTreeSet::new();
    for activator in &activators {
        for http2 in [false, true] {
            let connection = stage.reach.pod(activator, route.port).await?;
            let came = exchange(&stage, connection, http2).await?;
            judge(&stage, &came, http2)?;
            callers.insert(came.header("x-forwarded-for")?.to_owned());
        }
    }
    assert_eq!(callers.len(), 1, "an activator was taken for the caller: {callers:?}");
    stage.strike().await
}
