//! `Expect: 100-continue`: the pod decides. The client's body is not asked for until the pod says 100, so that the client does not send
//! it; a final answer before that reaches a client that never sent a byte of it. A pod that says nothing gets the body after a
//! second, as clients themselves would do (RFC 9110, 10.1.1).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use http::header::EXPECT;
use http::{HeaderMap, Request, StatusCode, Version, request};
use pilotlight_crds::workload::Protocol;

use super::request_body::RequestBody;

/// How long a pod may keep silent.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the client waits for a 100. HTTP/1.0 knows no such thing.
fn is_asked(version: Version, headers: &HeaderMap) -> bool {
    version != Version::HTTP_10
        && headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Lets the pod decide where it can: HTTP/1.1 pods see the expectation, and the body waits behind a gate. For others it is the activator that
/// asks the client for the body, when it sends it on.
pub fn arrange(mut parts: request::Parts, body: RequestBody, protocol: Protocol) -> (request::Parts, RequestBody) {
    if !parts.headers.contains_key(EXPECT) {
        return (parts, body);
    }
    if !is_asked(parts.version, &parts.headers) || protocol != Protocol::HTTP1 || body.is_empty() {
        parts.headers.remove(EXPECT);
        return (parts, body);
    }
    let gate = Arc::new(Gate::default());
    let mut request = Request::from_parts(parts, body.behind(&gate));
    gate.opened_by(&mut request);
    request.into_parts()
}

/// Closed until the pod wants the body.
#[derive(Debug, Default)]
pub struct Gate {
    open: AtomicBool,
    waiting: AtomicWaker,
}

impl Gate {
    /// Opens when the pod answers `request` with 100.
    fn opened_by<B>(self: &Arc<Self>, request: &mut Request<B>) {
        let gate = self.clone();
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                gate.open();
            }
        });
    }

    /// Opens it.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.waiting.wake();
    }

    /// Ready when it is open.
    pub fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waiting.register(cx.waker());
        if self.open.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}
