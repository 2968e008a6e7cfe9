//! Changing protocols: an HTTP/1.1 client asks by `Upgrade`, an HTTP/2 client by extended CONNECT (RFC 8441); the pod always sees the
//! former. Only what the client asked for is ever switched to.

use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use super::body::{Body, Held};
use super::upgrade::Tunnel;
use super::{headers, websocket};
use crate::error::Refusal;

/// How the client asked.
enum Form {
    /// `Upgrade`, answered with 101.
    Upgrade,
    /// Extended CONNECT, answered with 200. Where the activator added a key: what the pod has to confirm it with.
    Connect(Option<HeaderValue>),
}

/// What a client wants to switch to.
pub struct Wanted {
    protocol: HeaderValue,
    client: OnUpgrade,
    form: Form,
}

/// Whether a request is an extended CONNECT, which is for a server and not for a forward proxy.
pub fn is_extended_connect<B>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT
        && request.version() == Version::HTTP_2
        && request.extensions().get::<Protocol>().is_some()
}

impl Wanted {
    /// What the request asks for, if anything; an extended CONNECT becomes the request that an HTTP/1.1 client would have sent.
    pub fn of(request: &mut Request<Incoming>) -> Option<Self> {
        if !is_extended_connect(request) {
            let protocol = headers::upgrade_protocol(request.version(), request.headers())?;
            return Some(Self { protocol, client: hyper::upgrade::on(request), form: Form::Upgrade });
        }
        let protocol = request.extensions().get::<Protocol>()?;
        let protocol = HeaderValue::from_bytes(protocol.as_ref()).ok()?;
        let client = hyper::upgrade::on(&mut *request);
        *request.method_mut() = Method::GET;
        let websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
        request.headers_mut().remove(SEC_WEBSOCKET_KEY);
        let confirmation = if websocket { websocket::ask(request.headers_mut()) } else { None };
        Some(Self { protocol, client, form: Form::Connect(confirmation) })
    }

    /// Asks the pod.
    pub fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocol.clone());
    }

    /// Whether the client would take any success for a tunnel.
    pub fn is_connect(&self) -> bool {
        matches!(self.form, Form::Connect(_))
    }

    /// Joins both sides, after the pod agreed. The tunnel follows the idle rule alone.
    ///
    /// # Errors
    /// The pod agreed to something else.
    pub fn switch(
        self,
        mut response: Response<Incoming>,
        idle: Option<Duration>,
        mut held: Held,
    ) -> Result<(Response<Body>, Tunnel), Refusal> {
        let pod = hyper::upgrade::on(&mut response);
        let protocol = response.headers().get(UPGRADE).cloned();
        let (mut parts, _) = response.into_parts();
        parts.extensions.clear();
        headers::strip_response(&mut parts.headers);
        headers::add_via(&mut parts.headers, parts.version);
        match &self.form {
            Form::Upgrade => {
                parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                parts.headers.insert(UPGRADE, protocol.unwrap_or(self.protocol));
            }
            Form::Connect(confirmation) => {
                if confirmation.as_ref().is_some_and(|wanted| !websocket::confirm(&mut parts.headers, wanted)) {
                    held.slot.blame();
                    return Err(Refusal::InvalidResponse);
                }
                parts.status = StatusCode::OK;
            }
        }
        let tunnel = Tunnel { client: self.client, pod, held, idle: idle.unwrap_or(Duration::MAX) };
        Ok((Response::from_parts(parts, Body::empty()), tunnel))
    }
}
