//! The one table of the activator's own answers: each has a reason, an HTTP status, a gRPC status and plain words. Whoever gets
//! one learns why and what to do (invariant 1).

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use pilotlight_crds::names::HEADER_REASON;

use crate::index::FunctionKey;
use crate::proxy::body::Body;

/// Why a request is answered by the activator instead of the function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No Function has that host name.
    #[error("no Function answers to this host name; use <function>.<namespace>, or check `kubectl get functions`")]
    UnknownHost,
    /// The request cannot be forwarded as it is.
    #[error("the request cannot be forwarded: {0}")]
    BadRequest(&'static str),
    /// CONNECT is for forward proxies.
    #[error("CONNECT is not supported: send the request itself")]
    MethodNotSupported,
    /// Too many requests wait for this Function.
    #[error("{waiting} requests wait for a pod already; try again later, or raise spec.coldStart.pendingRequests")]
    QueueFull {
        /// How many wait.
        waiting: usize,
    },
    /// The requests that wait for this Function have too many bytes.
    #[error(
        "the requests that wait for a pod have {bytes} bytes already; try again later, or raise spec.coldStart.pendingBytes"
    )]
    QueueBytesFull {
        /// How many bytes.
        bytes: u64,
    },
    /// Too many requests wait over all Functions.
    #[error(
        "this activator holds as many waiting requests as it may; try again, or raise --max-pending-requests, --max-pending-bytes or the activator's replicas"
    )]
    ActivatorFull,
    /// The revision cannot start, and waiting does not help.
    #[error("the function cannot start: {message}")]
    CannotStart {
        /// The cause's CamelCase reason.
        reason: String,
        /// In plain words.
        message: String,
    },
    /// No pod became ready in time.
    #[error("no pod was ready within {seconds} s (spec.coldStart.timeoutSeconds): {message}")]
    ColdStartTimeout {
        /// The best known cause's CamelCase reason.
        reason: String,
        /// In plain words.
        message: String,
        /// What the Function allows.
        seconds: u64,
    },
    /// Pods are ready, and all were busy for too long.
    #[error("every pod was busy for {seconds} s; raise spec.scaling.maxReplicas or spec.concurrency.limit")]
    NoFreeSlot {
        /// How long.
        seconds: u64,
    },
    /// The Function was deleted while the request waited.
    #[error("the Function was deleted while the request waited")]
    FunctionDeleted,
    /// The head of the response took too long.
    #[error("the function did not begin to answer within {seconds} s (spec.timeouts.responseStartSeconds)")]
    ResponseStartTimeout {
        /// What the Function allows.
        seconds: u64,
    },
    /// The whole request took too long.
    #[error("the function did not finish within {seconds} s (spec.timeouts.requestSeconds)")]
    RequestTimeout {
        /// What the Function allows.
        seconds: u64,
    },
    /// The pod closed the connection before it answered.
    #[error(
        "the pod closed the connection before it answered; the request may have been acted on, so it was not sent again"
    )]
    PodClosedConnection,
    /// The pod's answer is not HTTP.
    #[error("the pod's answer is not valid HTTP, or not of the protocol in spec.protocol")]
    InvalidResponse,
    /// The client's body broke off or stood still.
    #[error("the request's body broke off or stood still for too long")]
    RequestBodyFailed,
    /// The activator lacks sockets.
    #[error("this activator has no free socket for another connection; try again")]
    NoSocket,
}

impl Refusal {
    /// CamelCase, for the header, the body, logs and metrics.
    pub fn reason(&self) -> &str {
        match self {
            Self::UnknownHost => "UnknownHost",
            Self::BadRequest(_) => "BadRequest",
            Self::MethodNotSupported => "MethodNotSupported",
            Self::QueueFull { .. } => "QueueFull",
            Self::QueueBytesFull { .. } => "QueueBytesFull",
            Self::ActivatorFull => "ActivatorFull",
            Self::CannotStart { reason, .. } | Self::ColdStartTimeout { reason, .. } => reason,
            Self::NoFreeSlot { .. } => "NoFreeSlot",
            Self::FunctionDeleted => "FunctionDeleted",
            Self::ResponseStartTimeout { .. } => "ResponseStartTimeout",
            Self::RequestTimeout { .. } => "RequestTimeout",
            Self::PodClosedConnection => "PodClosedConnection",
            Self::InvalidResponse => "InvalidResponse",
            Self::RequestBodyFailed => "RequestBodyFailed",
            Self::NoSocket => "NoSocket",
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::UnknownHost => StatusCode::NOT_FOUND,
            Self::BadRequest(_) | Self::RequestBodyFailed => StatusCode::BAD_REQUEST,
            Self::MethodNotSupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::QueueFull { .. }
            | Self::QueueBytesFull { .. }
            | Self::ActivatorFull
            | Self::CannotStart { .. }
            | Self::ColdStartTimeout { .. }
            | Self::NoFreeSlot { .. }
            | Self::FunctionDeleted
            | Self::NoSocket => StatusCode::SERVICE_UNAVAILABLE,
            Self::ResponseStartTimeout { .. } | Self::RequestTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::PodClosedConnection | Self::InvalidResponse => StatusCode::BAD_GATEWAY,
        }
    }

    /// The gRPC status: after gRPC's own mapping of HTTP statuses, but telling timeouts apart.
    pub fn grpc_status(&self) -> u8 {
        match self.status() {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => 12,
            StatusCode::BAD_REQUEST => 13,
            StatusCode::GATEWAY_TIMEOUT => 4,
            _ => 14,
        }
    }

    /// When to try again, for refusals that pass.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull { .. }
            | Self::QueueBytesFull { .. }
            | Self::ActivatorFull
            | Self::NoFreeSlot { .. }
            | Self::NoSocket => Some(Duration::from_secs(1)),
            Self::CannotStart { .. } | Self::ColdStartTimeout { .. } => Some(Duration::from_secs(10)),
            _ => None,
        }
    }

    /// The answer, in the shape that the request's headers ask for.
    pub fn response(&self, request: &HeaderMap, function: Option<&FunctionKey>) -> Response<Body> {
        let grpc = is_grpc(request);
        let mut response = if grpc { self.grpc() } else { self.http(request, function) };
        let headers = response.headers_mut();
        if let Ok(reason) = HeaderValue::from_str(self.reason()) {
            headers.insert(HEADER_REASON, reason);
        }
        if let Some(after) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        response
    }

    fn grpc(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(u16::from(self.grpc_status())));
        let message = percent_encode(&format!("{}: {self}", self.reason()));
        if let Ok(message) = HeaderValue::from_str(&message) {
            headers.insert("grpc-message", message);
        }
        response
    }

    fn http(&self, request: &HeaderMap, function: Option<&FunctionKey>) -> Response<Body> {
        let json =
            request.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).any(|v| v.contains("application/json"));
        let (content_type, text) = if json {
            let body = serde_json::json!({
                "reason": self.reason(),
                "message": self.to_string(),
                "namespace": function.map(|f| f.namespace.as_ref()),
                "function": function.map(|f| f.name.as_ref()),
            });
            ("application/json", format!("{body}\n"))
        } else {
            ("text/plain; charset=utf-8", format!("{}: {self}\n", self.reason()))
        };
        let mut response = Response::new(Body::full(text));
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

/// Whether a request is gRPC's, whose errors travel in `grpc-status`.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

/// As the gRPC protocol wants `grpc-message`: printable ASCII but `%`.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_clients_get_a_trailers_only_answer() {
        let mut request = HeaderMap::new();
        request.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        let response = Refusal::RequestTimeout { seconds: 3 }.response(&request, None);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "4");
        assert_eq!(response.headers()[HEADER_REASON], "RequestTimeout");
    }

    #[test]
    fn refusals_that_pass_say_when_to_come_back() {
        let response = Refusal::QueueFull { waiting: 3 }.response(&HeaderMap::new(), None);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }

    #[test]
    fn a_cause_from_a_container_becomes_the_reason() {
        let refusal = Refusal::CannotStart { reason: "ImagePullFailed".into(), message: "größe %".into() };
        assert_eq!(refusal.reason(), "ImagePullFailed");
        assert_eq!(percent_encode("größe %"), "gr%C3%B6%C3%9Fe %25");
    }
}
