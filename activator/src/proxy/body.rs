//! The response's body on its way to the client. It carries the in-flight guard and the pod's connection; both are given back
//! when the body ends, breaks off, or is dropped because the client went away: exactly once, whatever happens.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::grpc;
use super::headers;
use super::request_body::{BodyError, Exchange, poll_deadline};
use crate::endpoint::pool::{H1Connection, H2Lease};
use crate::function::Slot;
use crate::listen::conn::ActiveRequest;
use crate::telemetry::access_log::Outcome;
use crate::telemetry::record::Record;

/// The body of every response.
#[derive(Debug)]
pub struct Body {
    kind: Kind,
    request: Option<InProgress>,
}

/// What lasts as long as a request does.
#[derive(Debug)]
pub struct InProgress {
    /// The client's connection counts as busy.
    pub active: ActiveRequest,
    /// What is remembered of it.
    pub record: Box<Record>,
}

#[derive(Debug)]
enum Kind {
    Own(Option<Bytes>),
    Pod(PodBody),
}

/// A pod's connection during one exchange.
#[derive(Debug)]
pub enum Lease {
    /// HTTP/1.1, exclusive.
    H1(H1Connection),
    /// HTTP/2, shared.
    H2(H2Lease),
}

/// What has to be given back at the end.
#[derive(Debug)]
pub struct Held {
    /// The in-flight guard.
    pub slot: Slot,
    /// The pod's connection.
    pub lease: Lease,
}

/// A pod's body.
#[derive(Debug)]
pub struct PodBody {
    incoming: Incoming,
    exchange: Arc<Exchange>,
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    held: Option<Held>,
    grpc: bool,
    ended_early: bool,
}

impl PodBody {
    /// A body that has just begun. `deadline`: when the request has taken too long.
    pub fn new(incoming: Incoming, exchange: Arc<Exchange>, deadline: Option<Instant>, held: Held) -> Self {
        exchange.touch();
        let mut body =
            Self { incoming, exchange, deadline, timer: None, held: Some(held), grpc: false, ended_early: false };
        body.finish_if_ended();
        body
    }

    /// Its client speaks gRPC: too long a call ends with a status in its trailers.
    pub fn of_grpc(mut self) -> Self {
        self.grpc = true;
        self
    }

    /// Time is over, or nothing moves: whatever is held is given back.
    fn cut(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // Who stood still may be the client.
        if matches!(error, BodyError::Timeout) || !self.exchange.awaits_client() {
            self.blame();
        }
        self.let_go();
        if !self.grpc {
            return Poll::Ready(Some(Err(error)));
        }
        self.ended_early = true;
        let words = match error {
            BodyError::Timeout => "the call took longer than its grpc-timeout or spec.timeouts.requestSeconds",
            _ => "nothing moved for longer than spec.timeouts.idleStreamSeconds",
        };
        Poll::Ready(Some(Ok(Frame::trailers(grpc::too_late(words)))))
    }

    /// The pod failed the request.
    fn blame(&mut self) {
        if let Some(held) = &mut self.held {
            held.slot.blame();
        }
    }

    /// Gives everything back, without keeping the connection, and stops what still goes to the pod.
    fn let_go(&mut self) {
        if self.held.take().is_some() {
            self.exchange.set_response_over();
        }
    }

    fn finish_if_ended(&mut self) {
        if http_body::Body::is_end_stream(&self.incoming) {
            self.finish();
        }
    }

    /// The body was read to its end. The connection is kept only where the request was too.
    fn finish(&mut self) {
        let Some(Held { slot, lease }) = self.held.take() else { return };
        match lease {
            Lease::H1(connection) if self.exchange.request_done() => slot.upstream().h1.put(connection),
            _ => self.exchange.set_response_over(),
        }
        drop(slot);
    }

    fn is_over(&self) -> bool {
        self.ended_early || self.held.is_none()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended_early {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.exchange.touch();
                if let Some(trailers) = frame.trailers_mut() {
                    headers::strip_trailers(trailers);
                    if self.grpc && grpc::blames_server(trailers) {
                        self.blame();
                    }
                }
                self.finish_if_ended();
                if self.held.is_some() && self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    return self.cut(BodyError::Timeout);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                if !self.exchange.request_failed() {
                    self.blame();
                }
                self.let_go();
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Pending => self.poll_timeouts(cx),
        }
    }

    fn poll_timeouts(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let idle = self.exchange.idle_deadline();
            let next = match (self.deadline, idle) {
                (Some(total), Some(idle)) => total.min(idle),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => return Poll::Pending,
            };
            if !poll_deadline(&mut self.timer, next, cx) {
                return Poll::Pending;
            }
            let now = Instant::now();
            let error = if self.deadline.is_some_and(|deadline| deadline <= now) {
                BodyError::Timeout
            } else if self.exchange.idle_deadline().is_some_and(|deadline| deadline <= now) {
                BodyError::Idle
            } else {
                continue;
            };
            return self.cut(error);
        }
    }
}

impl Drop for PodBody {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self { kind: Kind::Own(None), request: None }
    }

    /// The activator's own words.
    pub fn full(text: String) -> Self {
        Self { kind: Kind::Own(Some(text.into())), request: None }
    }

    /// A pod's body.
    pub fn pod(body: PodBody) -> Self {
        Self { kind: Kind::Pod(body), request: None }
    }

    /// Carries what lasts until this body has ended. One that has nothing to hand over, or only the activator's own words, has ended well.
    pub fn carry(&mut self, mut request: InProgress) {
        if matches!(self.kind, Kind::Own(_)) || http_body::Body::is_end_stream(self) {
            request.record.ended(Outcome::Complete);
        }
        self.request = Some(request);
    }

    /// Lets the sweep know whose turn it is.
    fn watch(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, BodyError>>>) {
        let (Kind::Pod(body), Some(InProgress { active, .. })) = (&self.kind, &mut self.request) else { return };
        match polled {
            Poll::Ready(Some(Ok(_))) if !body.is_over() => active.handed_out(body.exchange.idle(), body.deadline),
            _ => active.taken(),
        }
    }

    fn note(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, BodyError>>>) {
        let ended = http_body::Body::is_end_stream(self);
        let Some(InProgress { record, .. }) = &mut self.request else { return };
        match polled {
            Poll::Pending => {}
            Poll::Ready(None) => record.ended(Outcome::Complete),
            Poll::Ready(Some(Err(_))) => record.ended(Outcome::Cut),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    record.sent(data.len());
                } else if let Some(trailers) = frame.trailers_ref() {
                    record.note_grpc_status(trailers);
                }
                if ended {
                    record.ended(Outcome::Complete);
                }
            }
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.kind {
            Kind::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Pod(body) => body.poll(cx),
        };
        self.note(&polled);
        self.watch(&polled);
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(bytes) => bytes.is_none(),
            Kind::Pod(body) => body.ended_early || body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Pod(body) => body.incoming.size_hint(),
        }
    }
}
