//! The I/O of probing one endpoint: runs its checks again and again until they pass or nobody wants to know any more.

use std::sync::Weak;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use pilotlight_crds::names::HEADER_PLACEHOLDER;

use super::connect::connect;
use super::pace::{FIRST, Pace};
use super::placeholder::{self, Answer};
use super::stream::Dial;
use super::{ProbeTarget, Upstream};
use crate::function::FunctionCell;
use crate::index::ProbeCheck;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);
/// A failing check becomes the named cause only after so long: the first ones fail in every start.
const STARTS_WITHIN: Duration = Duration::from_millis(2_500);

/// Probes an endpoint until it is ready, gone, or its Function is.
pub async fn run(cell: Weak<FunctionCell>, target: ProbeTarget) {
    if target.ejected {
        tokio::time::sleep(FIRST).await;
    }
    let began = Instant::now();
    let Some(mut pace) = cell.upgrade().map(|alive| Pace::within(&alive.shared().probed)) else { return };
    loop {
        let Some(alive) = cell.upgrade() else { return };
        if !alive.keep_probing(target.index, target.id) {
            return;
        }
        drop(alive);
        let outcome = check_all(&target).await;
        let Some(alive) = cell.upgrade() else { return };
        match outcome {
            Ok(()) => {
                if alive.probe_passed(target.index, target.id) {
                    return;
                }
            }
            Err(trouble) if began.elapsed() >= STARTS_WITHIN => alive.note_probe_trouble(trouble),
            Err(_) => {}
        }
        drop(alive);
        let _ = tokio::time::timeout(pace.pause(began.elapsed()), target.upstream.nudged()).await;
    }
}

async fn check_all(target: &ProbeTarget) -> Result<(), String> {
    let turned = target.upstream.turned();
    if turned > 0 {
        no_placeholder(&target.upstream).await?;
    }
    for check in &target.checks {
        run_check(&target.upstream, check).await?;
    }
    if target.upstream.turned() == turned { Ok(()) } else { Err("the pod was parked meanwhile".to_owned()) }
}

/// Comes first wherever there could be one: whoever answers afterwards is the function.
async fn no_placeholder(upstream: &Upstream) -> Result<(), String> {
    match placeholder::ask(&upstream.dial, upstream.address.ip()).await {
        Answer::Nobody => Ok(()),
        // Something keeps the question from it: then Kubernetes' word counts, which comes later.
        Answer::Silence if upstream.function_runs() => Ok(()),
        Answer::Silence => Err("the pod was parked, and Kubernetes does not say yet that its function runs".to_owned()),
        Answer::Placeholder => Err("the pod's placeholder has not ended yet".to_owned()),
    }
}

async fn run_check(upstream: &Upstream, check: &ProbeCheck) -> Result<(), String> {
    let mut address = upstream.address;
    match check {
        ProbeCheck::Kubernetes if upstream.kubernetes_ready() => Ok(()),
        ProbeCheck::Kubernetes => Err("the pod's Ready condition is not true yet".to_owned()),
        ProbeCheck::Tcp { port } => {
            address.set_port(*port);
            connect(&upstream.dial, address, CONNECT_TIMEOUT)
                .await
                .map(drop)
                .map_err(|error| format!("TCP port {port} does not answer: {error}"))
        }
        ProbeCheck::Http { port, path, headers, timeout } => {
            address.set_port(*port);
            let get = http_get(&upstream.dial, address, path, headers);
            match tokio::time::timeout(*timeout, get).await {
                Ok(Ok(status)) if (200..400).contains(&status) => Ok(()),
                Ok(Ok(status)) => Err(format!("GET {path} on port {port} answers {status}")),
                Ok(Err(error)) => Err(format!("GET {path} on port {port} fails: {error}")),
                Err(_) => Err(format!("GET {path} on port {port} does not answer within {} s", timeout.as_secs())),
            }
        }
    }
}

async fn http_get(
    dial: &Dial,
    address: std::net::SocketAddr,
    path: &str,
    headers: &[(String, String)],
) -> Result<u16, String> {
    let stream = connect(dial, address, CONNECT_TIMEOUT).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let mut request = Request::get(path);
    let mut has_host = false;
    for (name, value) in headers {
        has_host |= name.eq_ignore_ascii_case("host");
        request = request.header(name, value);
    }
    if !has_host {
        request = request.header(header::HOST, address.to_string());
    }
    let request = request
        .header(header::USER_AGENT, "pilotlight-probe/1")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    let task = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    task.abort();
    let response = answer.map_err(|e| e.to_string())?;
    if response.headers().contains_key(HEADER_PLACEHOLDER) {
        return Err("the answer is a placeholder's".to_owned());
    }
    Ok(response.status().as_u16())
}
