//! What is remembered of a request whose trace is recorded, and the spans that it becomes: the request itself, its wait with the phases of
//! the wake, and each attempt to send it to a pod. Names are OpenTelemetry's (HTTP and FaaS conventions).

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{Method, StatusCode, Version};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::context::TraceContext;
use super::ids;
use crate::endpoint::Upstream;
use crate::function::trace::WakeTrace;
use crate::index::FunctionKey;

/// Attempts that are remembered of one request.
const MAX_ATTEMPTS: usize = 8;

/// A request whose trace is recorded.
#[derive(Debug)]
pub struct Recording {
    /// The request's own span.
    pub context: TraceContext,
    parent: Option<TraceContext>,
    began: Instant,
    began_at: SystemTime,
    attempts: Vec<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    span_id: u64,
    address: SocketAddr,
    pod: Arc<str>,
    began: Instant,
    ended: Option<Instant>,
    error: Option<&'static str>,
}

/// What else is known of a request at its end.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The Function that it was for.
    pub function: Option<&'a FunctionKey>,
    /// Its method.
    pub method: &'a Method,
    /// What it came by.
    pub version: Version,
    /// By which scheme.
    pub scheme: &'static str,
    /// Its id.
    pub request_id: &'a str,
    /// The answer's status.
    pub status: Option<StatusCode>,
    /// The answer's gRPC status.
    pub grpc_status: Option<u16>,
    /// Why it failed, where it did.
    pub error: Option<&'a str>,
    /// How long it waited; zero where it had not to.
    pub queue: Duration,
    /// The wake that it waited for.
    pub wake: Option<&'a WakeTrace>,
    /// When it ended.
    pub ended: Instant,
}

impl Recording {
    /// A request that came with `parent`.
    pub fn begin(parent: Option<TraceContext>, trace_id: u128, began: Instant) -> Self {
        let span_id = ids::span_id();
        let context = match parent {
            Some(parent) => parent.child(span_id, true),
            None => TraceContext::begin(trace_id, span_id, true),
        };
        Self { context, parent, began, began_at: SystemTime::now(), attempts: Vec::new() }
    }

    /// An attempt begins; gives the context that the pod continues.
    pub fn attempt(&mut self, upstream: &Upstream, now: Instant) -> TraceContext {
        let span_id = ids::span_id();
        if self.attempts.len() < MAX_ATTEMPTS {
            let (address, pod) = (upstream.address, upstream.pod.clone());
            self.attempts.push(Attempt { span_id, address, pod, began: now, ended: None, error: None });
        }
        self.context.child(span_id, true)
    }

    /// The attempt that runs has failed.
    pub fn attempt_failed(&mut self, error: &'static str) {
        if let Some(attempt) = self.attempts.last_mut().filter(|attempt| attempt.ended.is_none()) {
            attempt.ended = Some(Instant::now());
            attempt.error = Some(error);
        }
    }

    /// The spans, when the request has ended.
    pub fn spans(self, facts: &Facts<'_>) -> Vec<SpanData> {
        let mut spans = vec![self.request(facts)];
        let queue_id = ids::span_id();
        if !facts.queue.is_zero() {
            let (from, to) = (self.began, self.began + facts.queue);
            spans.push(self.span("queue".into(), SpanKind::Internal, queue_id, self.context.span_id, (from, to)));
            let mut from = self.began;
            for (name, at) in facts.wake.into_iter().flat_map(WakeTrace::phases).filter(|(_, at)| *at > self.began) {
                let at = at.min(to).max(from);
                let name = format!("wake {name}").into();
                spans.push(self.span(name, SpanKind::Internal, ids::span_id(), queue_id, (from, at)));
                from = at;
            }
        }
        spans.extend(self.attempts.iter().enumerate().map(|(at, attempt)| self.attempt_span(at, attempt, facts)));
        spans
    }

    fn request(&self, facts: &Facts<'_>) -> SpanData {
        let method = super::known_method(facts.method);
        let name = facts.function.map_or(Cow::Borrowed(method), |key| format!("{method} {key}").into());
        let parent = self.parent.map_or(0, |parent| parent.span_id);
        let mut span = self.span(name, SpanKind::Server, self.context.span_id, parent, (self.began, facts.ended));
        span.parent_span_is_remote = self.parent.is_some();
        let add = &mut span.attributes;
        add.push(KeyValue::new("http.request.method", method));
        add.push(KeyValue::new("url.scheme", facts.scheme));
        add.push(KeyValue::new("network.protocol.version", super::protocol_version(facts.version)));
        add.push(KeyValue::new("faas.trigger", "http"));
        add.push(KeyValue::new("faas.invocation_id", facts.request_id.to_owned()));
        add.push(KeyValue::new("faas.coldstart", facts.wake.is_some()));
        if let Some(key) = facts.function {
            add.push(KeyValue::new("faas.name", key.name.to_string()));
            add.push(KeyValue::new("k8s.namespace.name", key.namespace.to_string()));
        }
        if let Some(status) = facts.status {
            add.push(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        }
        if let Some(status) = facts.grpc_status {
            add.push(KeyValue::new("rpc.grpc.status_code", i64::from(status)));
        }
        let failed = facts.status.filter(|status| status.is_server_error()).map(|status| status.as_str().to_owned());
        if let Some(error) = facts.error.map(str::to_owned).or(failed) {
            add.push(KeyValue::new("error.type", error));
            if facts.status.is_none_or(|status| !status.is_client_error()) {
                span.status = Status::error("");
            }
        }
        span
    }

    fn attempt_span(&self, at: usize, attempt: &Attempt, facts: &Facts<'_>) -> SpanData {
        let ended = attempt.ended.unwrap_or(facts.ended);
        let name = super::known_method(facts.method).into();
        let mut span = self.span(name, SpanKind::Client, attempt.span_id, self.context.span_id, (attempt.began, ended));
        let add = &mut span.attributes;
        add.push(KeyValue::new("http.request.method", super::known_method(facts.method)));
        add.push(KeyValue::new("server.address", attempt.address.ip().to_string()));
        add.push(KeyValue::new("server.port", i64::from(attempt.address.port())));
        add.push(KeyValue::new("k8s.pod.name", attempt.pod.to_string()));
        if at > 0 {
            add.push(KeyValue::new("http.request.resend_count", at as i64));
        }
        match (attempt.error, facts.status) {
            (Some(error), _) => {
                add.push(KeyValue::new("error.type", error));
                span.status = Status::error("");
            }
            (None, Some(status)) => {
                add.push(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
            }
            (None, None) => {}
        }
        span
    }

    fn span(
        &self,
        name: Cow<'static, str>,
        span_kind: SpanKind,
        id: u64,
        parent: u64,
        (from, to): (Instant, Instant),
    ) -> SpanData {
        let at = |instant: Instant| self.began_at + instant.saturating_duration_since(self.began);
        let trace_id = TraceId::from_bytes(self.context.trace_id.to_be_bytes());
        let flags = TraceFlags::new(self.context.flags);
        SpanData {
            span_context: SpanContext::new(trace_id, span_id(id), flags, false, TraceState::default()),
            parent_span_id: span_id(parent),
            parent_span_is_remote: false,
            span_kind,
            name,
            start_time: at(from),
            end_time: at(to),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("pilotlight-activator")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

fn span_id(id: u64) -> SpanId {
    SpanId::from_bytes(id.to_be_bytes())
}
