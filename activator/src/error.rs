//! The one table of the activator's own answers: each has a reason, an HTTP status, a gRPC status and plain words. Whoever gets
//! one learns why and what to do (invariant 1). `docs/errors.md` is this table for users; a test compares them.

pub mod accept;
pub mod respond;
#[cfg(test)]
mod tests;

use http::StatusCode;

/// Why a request is answered by the activator instead of the function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No Function has that host name.
    #[error("no Function answers to this host name; use <function>.<namespace>, or check `kubectl get functions`")]
    UnknownHost,
    /// The request cannot be forwarded as it is.
    #[error("the request cannot be forwarded: {0}")]
    BadRequest(&'static str),
    /// The request's head has more bytes or fields than this activator takes.
    #[error("the request's head is too large; send less, or raise --max-header-bytes or --max-headers")]
    HeadTooLarge,
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
    /// This Function's fair share of the activator's room is taken.
    #[error(
        "{waiting} requests wait for this Function, and what room this activator has left is for others; try again later, or raise --max-pending-requests, --max-pending-bytes or the activator's replicas"
    )]
    FairShareTaken {
        /// How many wait.
        waiting: u64,
    },
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
    /// The caller of a gRPC method gave up.
    #[error("the call took longer than its grpc-timeout, time spent waiting for a pod included")]
    DeadlineExceeded,
    /// The upload stood still, because client or pod did nothing.
    #[error("nothing of the request moved for {seconds} s (spec.timeouts.idleStreamSeconds)")]
    StreamIdle {
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
    /// The activator that owns the Function could not be reached, or had not heard from all others.
    #[error(
        "the activator that counts this Function's requests (status.route.owner) could not be reached, or not hear what the others have at the pods, for {seconds} s; try again, and if it lasts see whether the operator runs and the activators reach each other on their control port"
    )]
    NoOwner {
        /// How long.
        seconds: u64,
    },
    /// The activator that owns the Function changed while the request was on its way.
    #[error(
        "the activator that counts this Function's requests changed while the request was on its way; no pod got it, so it can be sent again"
    )]
    OwnerChanged,
    /// For another activator: this one is not the one that the request was relayed to.
    #[error("another activator relayed this request to an address that has changed hands; nothing was done")]
    NotTheOwner,
    /// The owner closed the connection before it answered.
    #[error(
        "the activator that counts this Function's requests ended before it answered; the request may have been acted on, so it was not sent again"
    )]
    OwnerClosedConnection,
    /// The activator lacks sockets.
    #[error("this activator has no free socket for another connection; try again")]
    NoSocket,
}

/// gRPC's status codes, as far as the activator answers with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcStatus {
    /// The time is over, and the call may have had an effect.
    DeadlineExceeded = 4,
    /// There is no such service here.
    Unimplemented = 12,
    /// Something broke a rule of the protocol.
    Internal = 13,
    /// Not now; another try may succeed.
    Unavailable = 14,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The kind of refusal, CamelCase: the reason too, unless the pods' own cause is known.
    pub kind: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// The gRPC status: after gRPC's own mapping of HTTP statuses, but telling timeouts apart.
    pub grpc: GrpcStatus,
    /// Seconds after which another try makes sense, for refusals that pass.
    pub retry_after: Option<u64>,
}

impl Row {
    const fn new(kind: &'static str, status: StatusCode, grpc: GrpcStatus, retry_after: Option<u64>) -> Self {
        Self { kind, status, grpc, retry_after }
    }
}

impl Refusal {
    /// What the table says about it.
    pub fn row(&self) -> Row {
        use GrpcStatus::{DeadlineExceeded, Internal, Unavailable, Unimplemented};
        use StatusCode as Http;
        match self {
            Self::UnknownHost => Row::new("UnknownHost", Http::NOT_FOUND, Unimplemented, None),
            Self::BadRequest(_) => Row::new("BadRequest", Http::BAD_REQUEST, Internal, None),
            Self::HeadTooLarge => Row::new("HeadTooLarge", Http::REQUEST_HEADER_FIELDS_TOO_LARGE, Internal, None),
            Self::MethodNotSupported => Row::new("MethodNotSupported", Http::METHOD_NOT_ALLOWED, Unimplemented, None),
            Self::QueueFull { .. } => Row::new("QueueFull", Http::SERVICE_UNAVAILABLE, Unavailable, Some(1)),
            Self::QueueBytesFull { .. } => Row::new("QueueBytesFull", Http::SERVICE_UNAVAILABLE, Unavailable, Some(1)),
            Self::ActivatorFull => Row::new("ActivatorFull", Http::SERVICE_UNAVAILABLE, Unavailable, Some(1)),
            Self::FairShareTaken { .. } => Row::new("FairShareTaken", Http::SERVICE_UNAVAILABLE, Unavailable, Some(1)),
            Self::CannotStart { .. } => Row::new("CannotStart", Http::SERVICE_UNAVAILABLE, Unavailable, Some(10)),
            Self::ColdStartTimeout { .. } => {
                Row::new("ColdStartTimeout", Http::SERVICE_UNAVAILABLE, Unavailable, Some(10))
            }
            Self::NoFreeSlot { .. } => Row::new("NoFreeSlot", Http::SERVICE_UNAVAILABLE, Unavailable, Some(1)),
            Self::FunctionDeleted => Row::new("FunctionDeleted", Http::SERVICE_UNAVAILABLE, Unavailable, None),
            Self::ResponseStartTimeout { .. } => {
                Row::new("ResponseStartTimeout", Http::GATEWAY_TIMEOUT, DeadlineExceeded, None)
            }
            Self::RequestTimeout { .. } => Row::new("RequestTimeout", Http::GATEWAY_TIMEOUT, DeadlineExceeded, None),
            Self::DeadlineExceeded => Row::new("DeadlineExceeded", Http::GATEWAY_TIMEOUT, DeadlineExceeded, None),
            Self::StreamIdle { .. } => Row::new("StreamIdle", Http::GATEWAY_TIMEOUT, DeadlineExceeded, None),
            Self::PodClosedConnection => Row::new("PodClosedConnection", Http::BAD_GATEWAY, Unavailable, None),
            Self::InvalidResponse => Row::new("InvalidResponse", Http::BAD_GATEWAY, Internal, None),
            Self::RequestBodyFailed => Row::new("RequestBodyFailed", Http::BAD_REQUEST, Internal, None),
            Self::NoOwner { .. } => Row::new("NoOwner", Http::SERVICE_UNAVAILABLE, Unavailable, Some(1)),
            Self::OwnerChanged => Row::new("OwnerChanged", Http::SERVICE_UNAVAILABLE, Unavailable, Some(1)),
            Self::NotTheOwner => Row::new("NotTheOwner", Http::MISDIRECTED_REQUEST, Unavailable, None),
            Self::OwnerClosedConnection => Row::new("OwnerClosedConnection", Http::BAD_GATEWAY, Unavailable, None),
            Self::NoSocket => Row::new("NoSocket", Http::SERVICE_UNAVAILABLE, Unavailable, Some(1)),
        }
    }

    /// Whether it may come after a wait for a slot.
    pub fn ends_a_wait(&self) -> bool {
        matches!(
            self,
            Self::CannotStart { .. } | Self::ColdStartTimeout { .. } | Self::NoFreeSlot { .. } | Self::FunctionDeleted
        )
    }

    /// Whether it says that no pod of the revision started.
    pub fn is_no_start(&self) -> bool {
        matches!(self, Self::CannotStart { .. } | Self::ColdStartTimeout { .. })
    }

    /// CamelCase, for the header, the body, logs and metrics: the pods' own cause where one is known.
    pub fn reason(&self) -> &str {
        match self {
            Self::CannotStart { reason, .. } | Self::ColdStartTimeout { reason, .. } => reason,
            other => other.row().kind,
        }
    }

    /// Whether the client's connection ends with this answer, because where its next request would begin is not sure.
    pub fn ends_connection(&self) -> bool {
        matches!(self, Self::BadRequest(_) | Self::HeadTooLarge | Self::MethodNotSupported | Self::RequestBodyFailed)
    }
}
