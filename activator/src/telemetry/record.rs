//! What is remembered of one request from its arrival to the end of its response. It travels with the request, and what there is to tell
//! is told when it is dropped: exactly once, however the request ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use pilotlight_crds::names::HEADER_COLD_START;

use super::access_log::{Line, Outcome};
use super::context::{self, TRACEPARENT, TraceContext};
use super::ids;
use super::spans::{Facts, Recording};
use super::timing::{Timing, TimingHeaders};
use crate::endpoint::Upstream;
use crate::error::Refusal;
use crate::function::FunctionCell;
use crate::function::trace::WakeTrace;
use crate::proxy::forwarded::Peer;
use crate::proxy::request_body::Exchange;
use crate::runtime::Shared;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const COLD_START: HeaderName = HeaderName::from_static(HEADER_COLD_START);
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// One request.
pub struct Record {
    shared: Arc<Shared>,
    cell: Option<Arc<FunctionCell>>,
    arrived: Instant,
    method: Method,
    version: Version,
    scheme: &'static str,
    request_id: HeaderValue,
    context: Option<TraceContext>,
    recording: Option<Recording>,
    waited: Option<Duration>,
    wake: Option<WakeTrace>,
    sent_at: Option<Instant>,
    upstream: Option<Duration>,
    exchange: Option<Arc<Exchange>>,
    status: Option<StatusCode>,
    grpc_status: Option<u16>,
    reason: Option<Box<str>>,
    sent: u64,
    outcome: Outcome,
    /// It is handed to the activator that owns the Function, which counts and logs it.
    relayed: bool,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("request_id", &self.request_id)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Record {
    /// A request that has just come. Gives it its id and its place in a trace, as far as its headers do not already say so.
    pub fn begin<B>(
        shared: &Arc<Shared>,
        cell: Option<Arc<FunctionCell>>,
        arrived: Instant,
        request: &mut Request<B>,
        peer: &Peer,
    ) -> Box<Self> {
        let (method, version) = (request.method().clone(), request.version());
        let headers = request.headers_mut();
        let request_id = identify(headers, peer.trusted);
        let parent = context::extract(headers);
        let (context, recording) = trace(shared, headers, parent, arrived);
        Box::new(Self {
            shared: shared.clone(),
            cell,
            arrived,
            method,
            version,
            scheme: peer.scheme,
            request_id,
            context,
            recording,
            waited: None,
            wake: None,
            sent_at: None,
            upstream: None,
            exchange: None,
            status: None,
            grpc_status: None,
            reason: None,
            sent: 0,
            outcome: Outcome::ClientGone,
            relayed: false,
        })
    }

    /// It has its slot. `waited`: it had none at once.
    pub fn admitted(&mut self, now: Instant, waited: bool, wake: Option<WakeTrace>) {
        if !waited {
            return;
        }
        let queue = now.saturating_duration_since(self.arrived);
        self.waited = Some(queue);
        self.wake = self.wake.or(wake);
    }

    /// It is about to be sent to a pod. Where its trace is recorded, the pod's spans become children of this attempt.
    pub fn attempt(&mut self, headers: &mut HeaderMap, upstream: &Upstream, now: Instant) {
        self.sent_at = Some(now);
        if let Some(recording) = &mut self.recording {
            headers.insert(TRACEPARENT, recording.attempt(upstream, now).header());
        }
    }

    /// Whether the attempt that begins goes to the activator that owns the Function.
    pub fn relay(&mut self, relayed: bool) {
        self.relayed = relayed;
    }

    /// The attempt failed.
    pub fn attempt_failed(&mut self, error: &'static str) {
        if let Some(recording) = &mut self.recording {
            recording.attempt_failed(error);
        }
    }

    /// The head of the response is there. `exchange` counts what the client still sends.
    pub fn answered(&mut self, now: Instant, exchange: Arc<Exchange>) {
        self.upstream = self.sent_at.map(|sent| now.saturating_duration_since(sent));
        self.exchange = Some(exchange);
    }

    /// The activator answers itself.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.relayed = false;
        let reason = refusal.reason();
        self.reason = Some(reason.into());
        if refusal.ends_a_wait() {
            self.waited = Some(self.arrived.elapsed());
        }
        self.attempt_failed("Refused");
        match &self.cell {
            Some(cell) => cell.metrics().refused(reason),
            None => {
                self.shared.metrics.unrouted.inc();
            }
        }
    }

    /// Puts on the response what the client may know of its request, and remembers its status.
    pub fn stamp(&mut self, status: StatusCode, headers: &mut HeaderMap) {
        self.status = Some(status);
        if self.relayed {
            self.note_grpc_status(headers);
            if let Some(cell) = &self.cell {
                cell.metrics().relayed();
            }
            return;
        }
        if let Some(cell) = &self.cell {
            cell.metrics().answered(status);
        }
        headers.insert(X_REQUEST_ID, self.request_id.clone());
        self.note_grpc_status(headers);
        let cold = self.wake.is_some();
        if cold {
            headers.insert(COLD_START, HeaderValue::from_static("true"));
        }
        let told = match self.shared.telemetry.timing {
            TimingHeaders::Off => false,
            TimingHeaders::Cold => cold,
            TimingHeaders::All => true,
        };
        if let Some(upstream) = self.upstream.filter(|_| told) {
            let queue = self.waited.unwrap_or_default();
            let timing = Timing { arrived: self.arrived, queue, upstream, wake: self.wake.as_ref() };
            headers.append(SERVER_TIMING, timing.header());
        }
    }

    /// Where a response is gRPC's, its status is in its trailers, or in its headers where it has nothing else.
    pub fn note_grpc_status(&mut self, fields: &HeaderMap) {
        if let Some(status) = fields.get(GRPC_STATUS) {
            self.grpc_status = status.to_str().ok().and_then(|status| status.parse().ok());
        }
    }

    /// Some of the response was handed over.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// How the response ended; without this, the client went away.
    pub fn ended(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    fn log(&self, ended: Instant) {
        let Some(log) = &self.shared.telemetry.access_log else { return };
        let failed = self.reason.is_some() || self.status.is_some_and(|status| status.is_server_error());
        let second = ended.saturating_duration_since(self.shared.epoch).as_secs();
        if !log.wants(failed || self.outcome == Outcome::Cut, second) {
            return;
        }
        log.log(Line {
            time: jiff::Timestamp::now(),
            request_id: self.request_id.clone(),
            trace_id: self.context,
            function: self.cell.as_ref().map(|cell| cell.key.clone()),
            revision: self.cell.as_ref().and_then(|cell| cell.told_revision()).map(|revision| Box::from(&*revision)),
            method: self.method.clone(),
            protocol: self.version,
            status: self.status,
            grpc_status: self.grpc_status,
            reason: self.reason.clone(),
            outcome: self.outcome,
            duration: ended.saturating_duration_since(self.arrived),
            queue: self.waited.unwrap_or_default(),
            upstream: self.upstream,
            received_bytes: self.exchange.as_ref().map_or(0, |exchange| exchange.received()),
            sent_bytes: self.sent,
            cold_start: self.wake.is_some(),
        });
    }

    fn count(&self, ended: Instant) {
        let Some(cell) = &self.cell else { return };
        let metrics = cell.metrics();
        match self.status {
            Some(status) => metrics.finished(status, ended.saturating_duration_since(self.arrived)),
            None => {
                metrics.abandoned.inc();
            }
        }
        if let Some(waited) = self.waited {
            metrics.queue.observe(waited);
        }
        if let Some(upstream) = self.upstream {
            metrics.upstream.observe(upstream);
        }
        if self.wake.is_some() {
            metrics.cold_starts.inc();
        }
    }

    fn export(&mut self, ended: Instant) {
        let (Some(recording), Some(tracer)) = (self.recording.take(), &self.shared.telemetry.tracer) else { return };
        let cut = match self.outcome {
            Outcome::Complete => None,
            Outcome::Cut => Some("ResponseCut"),
            Outcome::ClientGone => Some("ClientGone"),
        };
        let facts = Facts {
            function: self.cell.as_ref().map(|cell| &cell.key),
            method: &self.method,
            version: self.version,
            scheme: self.scheme,
            request_id: self.request_id.to_str().unwrap_or_default(),
            status: self.status,
            grpc_status: self.grpc_status,
            error: self.reason.as_deref().or(cut),
            queue: self.waited.unwrap_or_default(),
            wake: self.wake.as_ref(),
            ended,
        };
        tracer.submit(|| recording.spans(&facts));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let ended = Instant::now();
        if !self.relayed {
            self.count(ended);
            self.log(ended);
        }
        self.export(ended);
    }
}

/// The request's id: a trusted proxy's, where it is fit to be passed on, else a new one.
fn identify(headers: &mut HeaderMap, trusted: bool) -> HeaderValue {
    if trusted {
        let mut given = headers.get_all(X_REQUEST_ID).iter();
        if let (Some(id), None) = (given.next(), given.next())
            && ids::is_request_id(id)
        {
            return id.clone();
        }
    }
    let id = ids::request_id();
    headers.insert(X_REQUEST_ID, id.clone());
    id
}

/// Decides whether the request's trace is recorded. A trace begins here only where somebody records traces here: else an application's own
/// sampler would take a parent that nobody recorded for a decision.
fn trace(
    shared: &Shared,
    headers: &mut HeaderMap,
    parent: Option<TraceContext>,
    arrived: Instant,
) -> (Option<TraceContext>, Option<Recording>) {
    let Some(tracer) = &shared.telemetry.tracer else { return (parent, None) };
    let trace_id = parent.map_or_else(ids::trace_id, |parent| parent.trace_id);
    if tracer.sampler.samples(parent, trace_id) {
        let recording = Recording::begin(parent, trace_id, arrived);
        return (Some(recording.context), Some(recording));
    }
    let context = parent.unwrap_or_else(|| {
        let begun = TraceContext::begin(trace_id, ids::span_id(), false);
        headers.insert(TRACEPARENT, begun.header());
        begun
    });
    (Some(context), None)
}
