//! The request's body on its way to the pod: passed on frame by frame, never collected, and watched for standing still.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::task::AtomicWaker;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::expect::{self, Gate};
use super::headers;
/// No bound, in milliseconds.
const NEVER: u64 = u64::MAX;

/// What both directions of one exchange know of each other.
#[derive(Debug)]
pub struct Exchange {
    began: Instant,
    moved_millis: AtomicU64,
    request_done: AtomicBool,
    request_failed: AtomicBool,
    received: AtomicU64,
    awaits_client: AtomicBool,
    response_over: AtomicBool,
    upload: AtomicWaker,
    idle_millis: AtomicU64,
}

impl Exchange {
    /// An exchange that begins now. `idle`: how long both directions together may stand still.
    pub fn new(idle: Option<Duration>) -> Self {
        let exchange = Self {
            began: Instant::now(),
            moved_millis: AtomicU64::new(0),
            request_done: AtomicBool::new(false),
            request_failed: AtomicBool::new(false),
            received: AtomicU64::new(0),
            awaits_client: AtomicBool::new(false),
            response_over: AtomicBool::new(false),
            upload: AtomicWaker::new(),
            idle_millis: AtomicU64::new(NEVER),
        };
        exchange.set_idle(idle);
        exchange
    }

    /// Sets how long both directions together may stand still from now on.
    pub fn set_idle(&self, idle: Option<Duration>) {
        let millis = idle.map_or(NEVER, |idle| u64::try_from(idle.as_millis()).unwrap_or(NEVER));
        self.idle_millis.store(millis, Ordering::Relaxed);
    }

    /// How long both directions together may stand still.
    pub fn idle(&self) -> Option<Duration> {
        let millis = self.idle_millis.load(Ordering::Relaxed);
        (millis != NEVER).then(|| Duration::from_millis(millis))
    }

    /// Something moved, in either direction.
    pub fn touch(&self) {
        if self.idle().is_some() {
            let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.moved_millis.store(millis, Ordering::Relaxed);
        }
    }

    /// When it has stood still for too long, unless something moves before.
    pub fn idle_deadline(&self) -> Option<Instant> {
        let moved = Duration::from_millis(self.moved_millis.load(Ordering::Relaxed));
        self.idle().map(|idle| self.began + moved + idle)
    }

    /// The request's body was read to its end.
    pub fn set_request_done(&self) {
        self.request_done.store(true, Ordering::Relaxed);
    }

    /// Whether the request's body was read to its end.
    pub fn request_done(&self) -> bool {
        self.request_done.load(Ordering::Relaxed)
    }

    /// Bytes of the request's body that were passed on.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether the pod would take more of the request's body than the client has sent.
    pub fn awaits_client(&self) -> bool {
        self.awaits_client.load(Ordering::Relaxed)
    }

    /// The response is over, so that nobody needs the rest of the request: its sending to the pod is broken off.
    pub fn set_response_over(&self) {
        self.response_over.store(true, Ordering::Release);
        self.upload.wake();
    }

    /// Resolves when request and response together have stood still for too long while the request was still coming in.
    pub async fn upload_stood_still(&self) {
        while let Some(deadline) = self.idle_deadline().filter(|_| !self.request_done()) {
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline.into()).await;
        }
        std::future::pending().await
    }

    /// Whether it was the client whose body broke off.
    pub fn request_failed(&self) -> bool {
        self.request_failed.load(Ordering::Relaxed)
    }
}

/// Why a body was cut.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It stood still for too long.
    #[error("nothing moved for longer than spec.timeouts.idleStreamSeconds")]
    Idle,
    /// The request took too long.
    #[error("the request took longer than spec.timeouts.requestSeconds")]
    Timeout,
    /// The response is over; nobody needs the rest.
    #[error("the response is over")]
    Over(#[source] h2::Error),
    /// The peer's part broke off.
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
}

/// The request's body.
#[derive(Debug)]
pub enum RequestBody {
    /// There is none.
    Empty,
    /// It comes from the client.
    Client {
        /// What comes in.
        incoming: Incoming,
        /// Shared with the response's body.
        exchange: Arc<Exchange>,
        /// Runs while nothing moves.
        timer: Option<Pin<Box<Sleep>>>,
        /// Where the client waits for the pod's word.
        gate: Option<Arc<Gate>>,
    },
}

impl RequestBody {
    /// Passes on what comes in.
    pub fn new(incoming: Incoming, exchange: &Arc<Exchange>) -> Self {
        if http_body::Body::is_end_stream(&incoming) {
            exchange.set_request_done();
            return Self::Empty;
        }
        Self::Client { incoming, exchange: exchange.clone(), timer: None, gate: None }
    }

    /// Asks the client for nothing until the gate opens.
    pub fn behind(mut self, closed: &Arc<Gate>) -> Self {
        if let Self::Client { gate, .. } = &mut self {
            *gate = Some(closed.clone());
        }
        self
    }

    /// Whether there is none, so that the request can be built again.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

/// `true` where `deadline` has passed; else the task is woken then.
pub fn poll_deadline(timer: &mut Option<Pin<Box<Sleep>>>, deadline: Instant, cx: &mut Context<'_>) -> bool {
    let deadline = tokio::time::Instant::from_std(deadline);
    let sleep = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
    if sleep.deadline() != deadline {
        sleep.as_mut().reset(deadline);
    }
    sleep.as_mut().poll(cx).is_ready()
}

/// `true` where the pod has been silent for so long since the first call that it must not be waited for.
fn poll_patience(timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(expect::PATIENCE))).as_mut().poll(cx).is_ready()
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self::Client { incoming, exchange, timer, gate } = self.get_mut() else {
            return Poll::Ready(None);
        };
        exchange.upload.register(cx.waker());
        if exchange.response_over.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(BodyError::Over(h2::Reason::CANCEL.into()))));
        }
        if let Some(closed) = gate {
            if closed.poll_open(cx).is_pending() && !poll_patience(timer, cx) {
                return Poll::Pending;
            }
            *gate = None;
            exchange.touch();
        }
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        exchange.awaits_client.store(polled.is_pending(), Ordering::Relaxed);
        match polled {
            Poll::Ready(Some(Ok(mut frame))) => {
                exchange.touch();
                if let Some(data) = frame.data_ref() {
                    exchange.received.fetch_add(data.len() as u64, Ordering::Relaxed);
                } else if let Some(trailers) = frame.trailers_mut() {
                    headers::strip_trailers(trailers);
                }
                if incoming.is_end_stream() {
                    exchange.set_request_done();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                exchange.set_request_done();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                exchange.request_failed.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Pending => {
                if let Some(deadline) = exchange.idle_deadline()
                    && poll_deadline(timer, deadline, cx)
                {
                    exchange.request_failed.store(true, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(BodyError::Idle)));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client { incoming, .. } => incoming.size_hint(),
        }
    }
}
