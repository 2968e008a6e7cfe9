//! A request's way through one Function: admit, send, and try elsewhere what surely never reached a pod, until there is a response
//! or a reason why not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode, Version, request};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use pilotlight_crds::names::HEADER_COLD_START;
use tracing::warn;

use super::body::{Body, Held, Lease, PodBody};
use super::request_body::{Exchange, RequestBody};
use super::send::{SendError, send};
use super::upgrade::{self, Tunnel};
use super::{Client, headers};
use crate::endpoint::connect::ConnectError;
use crate::error::Refusal;
use crate::function::outlier;
use crate::function::trace::WakeTrace;
use crate::function::{Admitted, FunctionCell, Slot};
use crate::index::FunctionConfig;
use crate::listen::conn::ActiveRequest;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// How often one request that is idempotent (RFC 9110, section 9.2.2) and has no body is sent again after a pod broke the connection, as
/// far as the Function's budget goes. A body is never sent twice: the connection takes it as it writes the head.
const REPLAYS: u32 = 2;

/// What is known of a request besides itself.
pub struct Arrival {
    /// Who sent it.
    pub client: Client,
    /// When.
    pub at: Instant,
    /// The host that it was sent to.
    pub host: String,
    /// Keeps the client's connection counted as busy.
    pub active: ActiveRequest,
}

/// Sends a request to a pod of the Function and gives the response.
///
/// # Errors
/// Why there is none.
pub async fn forward(
    cell: &Arc<FunctionCell>,
    mut request: Request<Incoming>,
    arrival: Arrival,
) -> Result<Response<Body>, Refusal> {
    let upgrade = headers::upgrade_protocol(request.version(), request.headers());
    let client_upgrade = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let (mut parts, incoming) = request.into_parts();
    parts.extensions.clear();
    let bytes = headers::head_bytes(parts.uri.path(), &parts.headers);
    headers::strip(&mut parts.headers);
    headers::forward(&mut parts.headers, arrival.client, &arrival.host, parts.version);
    if parts.version == Version::HTTP_2 {
        headers::join_cookies(&mut parts.headers);
    }
    if let Some(protocol) = &upgrade {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, protocol.clone());
    }
    let upload = (!incoming.is_end_stream()).then(|| arrival.active.hold_upload());
    let admitted = cell.admit(bytes, arrival.at).await?;
    drop(upload);
    let queued = arrival.at.elapsed();
    let config = admitted.config.clone();
    let exchange = Arc::new(Exchange::new(config.idle_stream_timeout));
    let body = RequestBody::new(incoming, &exchange);
    let mut attempts = Attempts {
        cell,
        config: &config,
        exchange: &exchange,
        bytes,
        arrived: arrival.at,
        cold: None,
        started: Instant::now(),
    };
    let (response, slot, lease) = attempts.run(admitted, parts, body).await?;
    let answered = Answered {
        cold: attempts.cold.map(|trace| trace.server_timing(arrival.at, queued)),
        deadline: config.request_timeout.map(|limit| attempts.started + limit),
        exchange: exchange.clone(),
        held: Held { slot, lease },
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let client = client_upgrade.ok_or(Refusal::InvalidResponse)?;
        return Ok(switch(cell, response, answered, client, arrival.active));
    }
    Ok(respond(response, answered, arrival.active))
}

struct Attempts<'a> {
    cell: &'a Arc<FunctionCell>,
    config: &'a FunctionConfig,
    exchange: &'a Arc<Exchange>,
    bytes: u64,
    arrived: Instant,
    cold: Option<WakeTrace>,
    started: Instant,
}

impl Attempts<'_> {
    async fn run(
        &mut self,
        admitted: Admitted,
        parts: request::Parts,
        body: RequestBody,
    ) -> Result<(Response<Incoming>, Slot, Lease), Refusal> {
        let replayable = body.is_empty() && parts.method.is_idempotent() && !parts.headers.contains_key(UPGRADE);
        let copy = replayable.then(|| parts.clone());
        let mut request = Request::from_parts(parts, body);
        let mut replays = 0;
        let Admitted { mut slot, seq, cold, config: _ } = admitted;
        self.cold = cold;
        loop {
            self.started = Instant::now();
            let limits = &self.cell.shared().limits;
            let sending = send(slot.upstream(), request, replayable, replays > 0, limits);
            let error = match self.in_time(sending).await {
                Ok(Ok((response, lease))) => {
                    note_answer(&mut slot, response.status());
                    return Ok((response, slot, lease));
                }
                Ok(Err(error)) => error,
                Err(late) => {
                    if self.exchange.request_done() {
                        slot.failed();
                    }
                    return Err(late);
                }
            };
            let pod = slot.upstream().pod.clone();
            request = match error {
                SendError::NotSent { cause: ConnectError::Local(error), .. } => {
                    warn!(function = %self.cell.key.name, namespace = %self.cell.key.namespace, %error, "no socket for a connection to a pod");
                    return Err(Refusal::NoSocket);
                }
                SendError::NotSent { request, .. } => {
                    self.cell.metrics.balance.unsent.inc();
                    *request
                }
                SendError::Broken(error) => {
                    if !self.exchange.request_failed() {
                        slot.failed();
                    }
                    match &copy {
                        Some(copy) if replays < REPLAYS && !error.is_parse() && self.cell.may_replay() => {
                            replays += 1;
                            Request::from_parts(copy.clone(), RequestBody::Empty)
                        }
                        _ => return Err(self.refusal(&error, &pod)),
                    }
                }
            };
            let again = self.cell.readmit(slot, seq, self.bytes, self.arrived).await?;
            self.cold = self.cold.or(again.cold);
            slot = again.slot;
        }
    }

    /// The head of the response has to come within both limits; time spent waiting for a pod does not count.
    async fn in_time<T>(&self, sending: impl Future<Output = T>) -> Result<T, Refusal> {
        let start = self.config.response_start_timeout;
        let total = self.config.request_timeout;
        let Some(limit) = start.into_iter().chain(total).min() else { return Ok(sending.await) };
        tokio::time::timeout(limit, sending).await.map_err(|_| {
            let seconds = limit.as_secs();
            if total.is_some_and(|total| total <= limit) && start != Some(limit) {
                Refusal::RequestTimeout { seconds }
            } else {
                Refusal::ResponseStartTimeout { seconds }
            }
        })
    }

    fn refusal(&self, error: &hyper::Error, pod: &str) -> Refusal {
        if self.exchange.request_failed() {
            return Refusal::RequestBodyFailed;
        }
        warn!(function = %self.cell.key.name, namespace = %self.cell.key.namespace, pod, %error, "a pod broke an exchange");
        if error.is_parse() { Refusal::InvalidResponse } else { Refusal::PodClosedConnection }
    }
}

fn note_answer(slot: &mut Slot, status: StatusCode) {
    slot.answered();
    if outlier::is_gateway_failure(status) {
        slot.failed();
    } else {
        slot.succeeded();
    }
}

struct Answered {
    cold: Option<String>,
    deadline: Option<Instant>,
    exchange: Arc<Exchange>,
    held: Held,
}

fn respond(response: Response<Incoming>, answered: Answered, active: ActiveRequest) -> Response<Body> {
    let (mut parts, incoming) = response.into_parts();
    parts.extensions.clear();
    parts.version = Version::HTTP_11;
    headers::strip(&mut parts.headers);
    note_cold_start(&mut parts.headers, answered.cold);
    let pod = PodBody::new(incoming, answered.exchange, answered.deadline, answered.held);
    let mut body = Body::pod(pod);
    body.set_active(active);
    Response::from_parts(parts, body)
}

fn switch(
    cell: &Arc<FunctionCell>,
    mut response: Response<Incoming>,
    answered: Answered,
    client: OnUpgrade,
    active: ActiveRequest,
) -> Response<Body> {
    let pod = hyper::upgrade::on(&mut response);
    let protocol = response.headers().get(UPGRADE).cloned();
    let (mut parts, _) = response.into_parts();
    parts.extensions.clear();
    headers::strip(&mut parts.headers);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        parts.headers.insert(UPGRADE, protocol);
    }
    note_cold_start(&mut parts.headers, answered.cold);
    let idle = answered.exchange.idle.unwrap_or(Duration::MAX);
    let tunnel = Tunnel { client, pod, held: answered.held, active, idle };
    cell.shared().tasks.spawn(upgrade::run(tunnel, cell.shared().force_close.clone()));
    Response::from_parts(parts, Body::empty())
}

fn note_cold_start(headers: &mut HeaderMap, timing: Option<String>) {
    let Some(timing) = timing else { return };
    headers.insert(HEADER_COLD_START, HeaderValue::from_static("true"));
    if let Ok(timing) = HeaderValue::from_str(&timing) {
        headers.append(SERVER_TIMING, timing);
    }
}
