//! A request's way through one Function: admit, send, and try elsewhere what surely never reached a pod, until there is a response
//! or a reason why not.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use http::header::{HOST, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode, Version, request, response};
use hyper::body::{Body as _, Incoming};
use tracing::warn;

use super::body::{Body, Held, Lease, PodBody};
use super::forwarded::{self, Peer};
use super::request_body::{Exchange, RequestBody};
use super::send::{SendError, send};
use super::switch::Wanted;
use super::upgrade::Tunnel;
use super::{expect, grpc, headers};
use crate::endpoint::connect::ConnectError;
use crate::error::Refusal;
use crate::function::outlier;
use crate::function::{Admitted, FunctionCell, Slot};
use crate::index::FunctionConfig;
use crate::listen::conn::ActiveRequest;
use crate::relay;
use crate::telemetry::record::Record;

/// How often one request that is idempotent (RFC 9110, section 9.2.2) and has no body is sent again after a pod broke the connection, as
/// far as the Function's budget goes. A body is never sent twice: the connection takes it as it writes the head.
const REPLAYS: u32 = 2;

/// What is known of a request besides itself.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    /// Who sent it.
    pub peer: &'a Peer,
    /// When.
    pub at: Instant,
    /// The host that it was sent to.
    pub host: &'a HeaderValue,
    /// Keeps the client's connection counted as busy.
    pub active: &'a ActiveRequest,
    /// Another activator has relayed it, and has told where it came from.
    pub relayed: bool,
}

/// What becomes of a request that reached a pod.
pub enum Answer {
    /// A response.
    Whole(Response<Body>),
    /// Another protocol, between client and pod.
    Switched(Response<Body>, Box<Tunnel>),
}

/// Sends a request to a pod of the Function and gives the response.
///
/// # Errors
/// Why there is none.
pub async fn forward(
    cell: &Arc<FunctionCell>,
    mut request: Request<Incoming>,
    arrival: Arrival<'_>,
    record: &mut Record,
) -> Result<Answer, Refusal> {
    let wanted = Wanted::of(&mut request);
    let (mut parts, incoming) = request.into_parts();
    parts.extensions.clear();
    let bytes = headers::head_bytes(parts.uri.path(), &parts.headers);
    headers::strip_request(&mut parts.headers, arrival.peer.trusted);
    if parts.uri.authority().is_none() && !parts.headers.contains_key(HOST) {
        // HTTP/1.0 may come without; HTTP/1.1 must not go without.
        let host = format!("{}.{}", cell.key.name, cell.key.namespace);
        parts.headers.extend(HeaderValue::try_from(host).ok().map(|host| (HOST, host)));
    }
    if !arrival.relayed {
        forwarded::forward(&mut parts.headers, arrival.peer, arrival.host, parts.version);
    }
    if parts.version == Version::HTTP_2 {
        headers::join_cookies(&mut parts.headers);
    }
    if let Some(wanted) = &wanted {
        wanted.ask(&mut parts.headers);
    }
    let due = grpc::deadline(&parts.headers, arrival.at);
    let exchange = pin!(exchange(cell, parts, incoming, arrival, Intent { bytes, wanted, due }, record));
    match due {
        None => exchange.await,
        Some(due) => tokio::time::timeout_at(due.into(), exchange).await.unwrap_or(Err(Refusal::DeadlineExceeded)),
    }
}

/// What a request is about, besides what the pod gets.
struct Intent {
    bytes: u64,
    wanted: Option<Wanted>,
    /// When its caller gives up (gRPC).
    due: Option<Instant>,
}

async fn exchange(
    cell: &Arc<FunctionCell>,
    mut parts: request::Parts,
    incoming: Incoming,
    arrival: Arrival<'_>,
    intent: Intent,
    record: &mut Record,
) -> Result<Answer, Refusal> {
    let Intent { bytes, wanted, due } = intent;
    let upload = (!incoming.is_end_stream()).then(|| arrival.active.hold_upload());
    let mut admitted = cell.admit(bytes, arrival.at).await?;
    if admitted.waited {
        // Many were let in at the same time.
        cell.take_turn(Instant::now()).await;
    }
    admitted.slot.speak(spoken(&parts));
    drop(upload);
    let config = admitted.config.clone();
    if let Some(due) = due {
        grpc::pass_on(&mut parts.headers, due, Instant::now());
    }
    let exchange = Arc::new(Exchange::new(None));
    let (parts, body) =
        expect::arrange(parts, RequestBody::new(incoming, &exchange), admitted.slot.upstream().protocol);
    let mut attempts = Attempts {
        cell,
        config: &config,
        exchange: &exchange,
        bytes,
        arrived: arrival.at,
        record,
        due,
        started: Instant::now(),
    };
    let (response, slot, lease) = attempts.run(admitted, parts, body).await?;
    // Pods may answer a crowd all at once.
    cell.take_turn(Instant::now()).await;
    let here = slot.line().is_none();
    let deadline = config.request_timeout.filter(|_| here).map(|limit| attempts.started + limit);
    let answered = Answered {
        deadline: deadline.into_iter().chain(due).min(),
        exchange: exchange.clone(),
        held: Held { slot, lease },
    };
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    match wanted {
        Some(wanted) if switches => {
            let (response, tunnel) = wanted.switch(response, answered.exchange.idle(), answered.held)?;
            Ok(Answer::Switched(response, Box::new(tunnel)))
        }
        Some(wanted) if wanted.is_connect() && response.status().is_success() => Err(answered.into_no_answer()),
        None if switches => Err(answered.into_no_answer()),
        _ => Ok(Answer::Whole(respond(response, answered))),
    }
}

struct Attempts<'a> {
    cell: &'a Arc<FunctionCell>,
    config: &'a FunctionConfig,
    exchange: &'a Arc<Exchange>,
    bytes: u64,
    arrived: Instant,
    record: &'a mut Record,
    /// When its caller gives up (gRPC).
    due: Option<Instant>,
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
        let client = spoken(&parts);
        let mut request = Request::from_parts(parts, body);
        let mut replays = 0;
        let Admitted { mut slot, seq, waited, cold, config: _ } = admitted;
        self.record.admitted(self.started, waited, cold);
        loop {
            self.prepare(&mut slot, &mut request, client);
            self.record.attempt(request.headers_mut(), slot.upstream(), self.started);
            let limits = &self.cell.shared().limits;
            let sent = {
                // Pinned once: every function that it was handed through by value would keep room for a copy.
                let sending = pin!(send(slot.upstream(), request, replayable, replays > 0, limits));
                if slot.line().is_some() { Ok(sending.await) } else { self.in_time(sending).await }
            };
            request = match sent {
                Ok(Ok((response, _))) if slot.line().is_some() && relay::is_misdirected(&response) => match &copy {
                    Some(copy) => Request::from_parts(copy.clone(), RequestBody::Empty),
                    None => return Err(Refusal::OwnerChanged),
                },
                Ok(Ok((response, lease))) => {
                    let now = Instant::now();
                    self.record.answered(now, self.exchange.clone());
                    note_answer(&mut slot, now, &response);
                    return Ok((response, slot, lease));
                }
                Ok(Err(error)) => {
                    self.record.attempt_failed(error.kind());
                    self.again(error, &mut slot, copy.as_ref(), &mut replays)?
                }
                Err(late) => {
                    if self.exchange.request_done() {
                        slot.failed();
                    }
                    if late != Refusal::RequestBodyFailed && !self.exchange.awaits_client() {
                        slot.blame();
                    }
                    return Err(late);
                }
            };
            let again = Box::pin(self.cell.readmit(slot, seq, self.bytes, self.arrived)).await?;
            self.started = Instant::now();
            self.record.admitted(self.started, again.waited, again.cold);
            slot = again.slot;
        }
    }

    /// To the owner, a request carries a mark and the revision that was chosen, and only the owner keeps time limits.
    fn prepare(&mut self, slot: &mut Slot, request: &mut Request<RequestBody>, client: Version) {
        slot.speak(client);
        self.record.relay(slot.line().is_some());
        if request.headers_mut().remove(relay::HEADER_RELAY).is_some() {
            request.headers_mut().remove(relay::HEADER_REVISION);
        }
        let Some(line) = slot.line() else {
            self.exchange.set_idle(self.config.idle_stream_timeout);
            return slot.begin(self.started, self.config.slow_after, self.due);
        };
        self.exchange.set_idle(None);
        if let Some(mark) = line.mark() {
            request.headers_mut().insert(relay::HEADER_RELAY, mark.clone());
            // Else it would be chosen anew there, where neither the host that it came by nor its tag is known.
            let chosen = self.config.revision.as_deref().filter(|_| !self.config.split.is_empty());
            if let Some(revision) = chosen.and_then(|revision| HeaderValue::from_str(revision).ok()) {
                request.headers_mut().insert(relay::HEADER_REVISION, revision);
            }
        }
    }

    /// The request to send again after an attempt that failed.
    fn again(
        &self,
        error: SendError,
        slot: &mut Slot,
        copy: Option<&request::Parts>,
        replays: &mut u32,
    ) -> Result<Request<RequestBody>, Refusal> {
        Ok(match error {
            SendError::NotSent { cause: ConnectError::Local(error), .. } => {
                warn!(function = %self.cell.key.name, namespace = %self.cell.key.namespace, %error, "no socket for a connection to a pod");
                return Err(Refusal::NoSocket);
            }
            SendError::NotSent { request, .. } => {
                if slot.line().is_none() {
                    self.cell.metrics().balance.unsent.inc();
                }
                *request
            }
            SendError::Broken(error) => {
                if !self.exchange.request_failed() {
                    slot.failed();
                    // Where it is sent again, that attempt is what counts.
                    slot.blame();
                }
                // An owner that has ended breaks many at once, and says nothing against the pods: no budget for that.
                let budgeted = || slot.line().is_some() || self.cell.may_replay();
                match copy {
                    Some(copy) if *replays < REPLAYS && !error.is_parse() && budgeted() => {
                        *replays += 1;
                        Request::from_parts(copy.clone(), RequestBody::Empty)
                    }
                    _ => return Err(self.refusal(&error, slot)),
                }
            }
        })
    }

    /// The head of the response has to come within both limits; time spent waiting for a pod does not count.
    async fn in_time<T>(&self, sending: Pin<&mut impl Future<Output = T>>) -> Result<T, Refusal> {
        let start = self.config.response_start_timeout;
        let total = self.config.request_timeout;
        let idle = self.config.idle_stream_timeout.unwrap_or_default().as_secs();
        let sending = async {
            tokio::select! {
                biased;
                sent = sending => Ok(sent),
                () = self.exchange.upload_stood_still() => Err(match self.exchange.awaits_client() {
                    true => Refusal::RequestBodyFailed,
                    false => Refusal::StreamIdle { seconds: idle },
                }),
            }
        };
        let Some(limit) = start.into_iter().chain(total).min() else { return sending.await };
        tokio::time::timeout(limit, sending).await.unwrap_or_else(|_| {
            let seconds = limit.as_secs();
            if total.is_some_and(|total| total <= limit) && start != Some(limit) {
                Err(Refusal::RequestTimeout { seconds })
            } else {
                Err(Refusal::ResponseStartTimeout { seconds })
            }
        })
    }

    fn refusal(&self, error: &hyper::Error, slot: &Slot) -> Refusal {
        if self.exchange.request_failed() {
            return Refusal::RequestBodyFailed;
        }
        let pod = &slot.upstream().pod;
        warn!(function = %self.cell.key.name, namespace = %self.cell.key.namespace, %pod, %error, "a pod, or the owner, broke an exchange");
        match slot.line() {
            Some(_) => Refusal::OwnerClosedConnection,
            None if error.is_parse() => Refusal::InvalidResponse,
            None => Refusal::PodClosedConnection,
        }
    }
}

fn note_answer(slot: &mut Slot, now: Instant, response: &Response<Incoming>) {
    let status = response.status();
    slot.answered(now);
    if status.is_server_error() || grpc::is_grpc(response.headers()) && grpc::blames_server(response.headers()) {
        slot.blame();
    }
    if outlier::is_gateway_failure(status) {
        slot.failed();
    } else {
        slot.succeeded();
    }
}

struct Answered {
    deadline: Option<Instant>,
    exchange: Arc<Exchange>,
    held: Held,
}

impl Answered {
    /// What the pod said is nothing that the client could be told.
    fn into_no_answer(mut self) -> Refusal {
        self.held.slot.blame();
        Refusal::InvalidResponse
    }

    /// Removes what concerns only one hop, and what a pod must not say. What the owner says stays.
    fn strip(&self, parts: &mut response::Parts) {
        if self.held.slot.line().is_some() {
            relay::strip_response(&mut parts.headers);
            return;
        }
        headers::strip_response(&mut parts.headers);
        headers::add_via(&mut parts.headers, parts.version);
    }
}

/// What is spoken to the owner: the client's version of HTTP, but for a change of protocol, which only HTTP/1.1 has.
fn spoken(parts: &request::Parts) -> Version {
    if parts.headers.contains_key(UPGRADE) { Version::HTTP_11 } else { parts.version }
}

fn respond(response: Response<Incoming>, answered: Answered) -> Response<Body> {
    let (mut parts, incoming) = response.into_parts();
    parts.extensions.clear();
    answered.strip(&mut parts);
    parts.version = Version::HTTP_11;
    let mut pod = PodBody::new(incoming, answered.exchange, answered.deadline, answered.held);
    if grpc::is_grpc(&parts.headers) {
        pod = pod.of_grpc();
    }
    Response::from_parts(parts, Body::pod(pod))
}
