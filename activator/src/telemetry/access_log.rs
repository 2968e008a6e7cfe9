//! The access log: a line of JSON on standard output for a sample of the requests, and for every error as far as a rate allows. It never
//! holds what could be a secret: no path, no query, no header but the request id, no body.
//!
//! Requests never wait for it: lines go through a bounded queue to a thread of its own, and what does not fit is counted and dropped.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, Version};
use serde::{Serialize, Serializer};

use super::context::TraceContext;
use super::ids;
use crate::index::FunctionKey;

const QUEUE: usize = 1024;

/// What is logged.
pub struct AccessLogConfig {
    /// Share of all requests, from 0 to 1.
    pub ratio: f64,
    /// Errors that are logged each second at most, whatever the share.
    pub errors_per_second: u32,
    /// Where to.
    pub out: Box<dyn Write + Send>,
}

impl std::fmt::Debug for AccessLogConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLogConfig")
            .field("ratio", &self.ratio)
            .field("errors_per_second", &self.errors_per_second)
            .finish_non_exhaustive()
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The whole response was handed over.
    Complete,
    /// The response broke off: the pod's fault, or a time limit's.
    Cut,
    /// The client went away.
    ClientGone,
}

/// One request, after its end.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// When it ended.
    pub time: jiff::Timestamp,
    /// Its id.
    #[serde(serialize_with = "header")]
    pub request_id: HeaderValue,
    /// The trace that it belongs to.
    #[serde(serialize_with = "trace", skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceContext>,
    /// The Function that it was for, where one was found.
    #[serde(flatten, serialize_with = "function")]
    pub function: Option<FunctionKey>,
    /// The revision that it went to, where several share the Function's traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<Box<str>>,
    /// Its method.
    #[serde(serialize_with = "method")]
    pub method: Method,
    /// What it came by.
    #[serde(serialize_with = "protocol")]
    pub protocol: Version,
    /// The answer's status; none where the client went away before.
    #[serde(serialize_with = "status", skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusCode>,
    /// The answer's gRPC status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u16>,
    /// Why the activator answered itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
    /// How it ended.
    pub outcome: Outcome,
    /// From its arrival to its end.
    #[serde(rename = "durationMs", serialize_with = "millis")]
    pub duration: Duration,
    /// Waiting for a slot.
    #[serde(rename = "queueMs", serialize_with = "millis")]
    pub queue: Duration,
    /// The pod's time to the head of the response.
    #[serde(rename = "upstreamMs", serialize_with = "some_millis", skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Duration>,
    /// Bytes of the request's body that were passed on.
    pub received_bytes: u64,
    /// Bytes of the response's body.
    pub sent_bytes: u64,
    /// Whether no pod was ready when it came.
    pub cold_start: bool,
}

fn header<S: Serializer>(value: &HeaderValue, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(value.to_str().unwrap_or_default())
}

fn trace<S: Serializer>(context: &Option<TraceContext>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{:032x}", context.map_or(0, |context| context.trace_id)))
}

fn function<S: Serializer>(key: &Option<FunctionKey>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(key.iter().flat_map(|key| [("namespace", &*key.namespace), ("function", &*key.name)]))
}

fn method<S: Serializer>(method: &Method, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(super::known_method(method))
}

fn protocol<S: Serializer>(version: &Version, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(super::protocol_version(*version))
}

fn status<S: Serializer>(status: &Option<StatusCode>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.map_or(0, |status| status.as_u16()))
}

/// Milliseconds with three decimals.
fn millis<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_micros() as f64 / 1000.0)
}

fn some_millis<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    millis(&duration.unwrap_or_default(), to)
}

/// Bounds errors to a number in each second. The second and how many there were share one word.
#[derive(Debug)]
struct ErrorRate {
    per_second: u32,
    used: AtomicU64,
}

impl ErrorRate {
    fn take(&self, second: u32) -> bool {
        let step = |word: u64| {
            let count = if word >> 32 == u64::from(second) { word as u32 } else { 0 };
            (count < self.per_second).then(|| u64::from(second) << 32 | u64::from(count + 1))
        };
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok()
    }
}

/// Where lines go.
#[derive(Debug)]
pub struct AccessLog {
    /// Requests whose random number is below are logged.
    below: u64,
    errors: ErrorRate,
    lines: SyncSender<Line>,
    /// Lines that did not fit.
    pub dropped: prometheus_client::metrics::counter::Counter,
}

impl AccessLog {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(config: AccessLogConfig) -> io::Result<Self> {
        let (lines, receiver) = sync_channel(QUEUE);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write(&receiver, config.out))?;
        let below = if config.ratio >= 1.0 { u64::MAX } else { (config.ratio.max(0.0) * u64::MAX as f64) as u64 };
        let errors = ErrorRate { per_second: config.errors_per_second, used: AtomicU64::new(0) };
        Ok(Self { below, errors, lines, dropped: prometheus_client::metrics::counter::Counter::default() })
    }

    /// Whether to log a request, at so many seconds since the start.
    pub fn wants(&self, is_error: bool, second: u64) -> bool {
        let sampled = match self.below {
            0 => false,
            u64::MAX => true,
            below => ids::random_u64() < below,
        };
        sampled || is_error && self.errors.take(second as u32)
    }

    /// Writes a line, by and by.
    pub fn log(&self, line: Line) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.lines.try_send(line) {
            self.dropped.inc();
        }
    }
}

fn write(lines: &Receiver<Line>, mut out: Box<dyn Write + Send>) {
    let mut text = Vec::new();
    while let Ok(line) = lines.recv() {
        text.clear();
        for line in std::iter::once(line).chain(lines.try_iter().take(64)) {
            if serde_json::to_writer(&mut text, &line).is_ok() {
                text.push(b'\n');
            }
        }
        if let Err(error) = out.write_all(&text).and_then(|()| out.flush()) {
            tracing::warn!(%error, "cannot write the access log");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_bounded_in_each_second() {
        let rate = ErrorRate { per_second: 3, used: AtomicU64::new(0) };
        let taken = |second| (0..10).filter(|_| rate.take(second)).count();
        assert_eq!((taken(0), taken(1), taken(1), taken(7)), (3, 3, 0, 3));
        assert!(!ErrorRate { per_second: 0, used: AtomicU64::new(0) }.take(1));
    }

    #[test]
    fn a_line_names_what_is_known_and_leaves_out_what_is_not() {
        let line = Line {
            time: jiff::Timestamp::UNIX_EPOCH,
            request_id: HeaderValue::from_static("abc"),
            trace_id: Some(TraceContext::begin(0xab, 1, true)),
            function: Some(FunctionKey::new("shop", "hello")),
            revision: Some("hello-2".into()),
            method: Method::GET,
            protocol: Version::HTTP_2,
            status: Some(StatusCode::OK),
            grpc_status: None,
            reason: None,
            outcome: Outcome::Complete,
            duration: Duration::from_micros(1_234),
            queue: Duration::ZERO,
            upstream: Some(Duration::from_millis(1)),
            received_bytes: 1,
            sent_bytes: 2,
            cold_start: true,
        };
        let json: serde_json::Value = serde_json::to_value(&line).unwrap();
        let expected = serde_json::json!({
            "time": "1970-01-01T00:00:00Z", "requestId": "abc", "traceId": "000000000000000000000000000000ab",
            "namespace": "shop", "function": "hello", "revision": "hello-2", "method": "GET", "protocol": "2", "status": 200, "outcome": "complete",
            "durationMs": 1.234, "queueMs": 0.0, "upstreamMs": 1.0, "receivedBytes": 1, "sentBytes": 2, "coldStart": true,
        });
        assert_eq!(json, expected);
        let unknown = Line { function: None, revision: None, trace_id: None, status: None, upstream: None, ..line };
        let json = serde_json::to_string(&unknown).unwrap();
        assert!(
            !json.contains("namespace")
                && !json.contains("revision")
                && !json.contains("traceId")
                && !json.contains("status"),
            "{json}"
        );
    }
}
