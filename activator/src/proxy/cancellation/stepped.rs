//! A request's future and its response's body, which allow so many polls and are dropped then.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Response;
use http_body::{Frame, SizeHint};

use super::super::body::Body;
use super::super::request_body::BodyError;
use crate::function::FunctionCell;

/// How many polls a request has left, and what it was doing when they were used up.
pub(super) struct Steps {
    left: AtomicUsize,
    /// It came to its end before.
    pub(super) through: AtomicBool,
    /// Requests at pods, and waiting, at the moment of the drop.
    pub(super) dropped_at: Mutex<Option<(u32, u32)>>,
    cell: Arc<FunctionCell>,
}

#[derive(Debug, thiserror::Error)]
#[error("given up")]
pub(super) struct GivenUp;

impl Steps {
    pub(super) fn new(cell: Arc<FunctionCell>, polls: usize) -> Arc<Self> {
        let left = AtomicUsize::new(polls);
        Arc::new(Self { left, through: AtomicBool::new(false), dropped_at: Mutex::default(), cell })
    }

    /// One more poll; `false` where there is none left.
    fn step(&self) -> bool {
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    fn is_over(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    fn note_drop(&self) {
        *self.dropped_at.lock().unwrap() = Some(self.cell.load());
    }
}

pub(super) struct Stepped {
    inner: Option<BoxFuture<'static, Response<Body>>>,
    steps: Arc<Steps>,
}

impl Stepped {
    pub(super) fn new(inner: BoxFuture<'static, Response<Body>>, steps: Arc<Steps>) -> Self {
        Self { inner: Some(inner), steps }
    }
}

impl Future for Stepped {
    type Output = Result<Response<SteppedBody>, GivenUp>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let steps = self.steps.clone();
        if steps.step()
            && let Some(inner) = &mut self.inner
        {
            match inner.as_mut().poll(cx) {
                Poll::Ready(response) => return Poll::Ready(Ok(response.map(|body| SteppedBody::new(body, steps)))),
                Poll::Pending if !steps.is_over() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        steps.note_drop();
        self.inner = None;
        Poll::Ready(Err(GivenUp))
    }
}

pub(super) struct SteppedBody {
    inner: Option<Body>,
    steps: Arc<Steps>,
}

impl SteppedBody {
    fn new(body: Body, steps: Arc<Steps>) -> Self {
        let body = Self { inner: Some(body), steps };
        body.note_end();
        body
    }

    fn note_end(&self) {
        if self.inner.as_ref().is_some_and(http_body::Body::is_end_stream) {
            self.steps.through.store(true, Ordering::SeqCst);
        }
    }

    fn give_up(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.steps.note_drop();
        self.inner = None;
        Poll::Ready(Some(Err(BodyError::Idle)))
    }
}

impl http_body::Body for SteppedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.steps.step() {
            return self.give_up();
        }
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let polled = Pin::new(inner).poll_frame(cx);
        match &polled {
            Poll::Pending if self.steps.is_over() => return self.give_up(),
            Poll::Ready(None) => self.steps.through.store(true, Ordering::SeqCst),
            _ => self.note_end(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}
