//! From a client's request to its response: find the Function, check, forward, and turn whatever went wrong into the one
//! documented answer (invariant 1).

pub mod body;
#[cfg(test)]
mod cancellation;
pub mod expect;
pub mod forward;
pub mod forwarded;
pub mod grpc;
pub mod headers;
pub mod request_body;
pub mod send;
pub mod switch;
pub mod upgrade;
pub mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::HOST;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;

use crate::error::Refusal;
use crate::error::respond::Asked;
use crate::function::FunctionCell;
use crate::listen::conn::ActiveRequest;
use crate::registry::Registry;
use crate::relay;
use crate::runtime::Shared;
use crate::telemetry::record::Record;
use body::{Body, InProgress};
use forward::{Answer, Arrival};
use forwarded::Peer;

/// What a listener's connections are about.
#[derive(Clone)]
pub enum Target {
    /// The Host header names the Function.
    Hosts(Arc<Registry>),
    /// The port names the Function; the Host header is not looked at.
    Function(Arc<FunctionCell>),
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Where it connected from.
    pub address: SocketAddr,
    /// Whether it came by TLS.
    pub encrypted: bool,
}

impl Client {
    /// The scheme that it used.
    pub fn scheme(&self) -> &'static str {
        if self.encrypted { "https" } else { "http" }
    }
}

impl Target {
    fn shared(&self) -> &Arc<Shared> {
        match self {
            Self::Hosts(registry) => registry.shared(),
            Self::Function(cell) => cell.shared(),
        }
    }
}

/// Answers one request.
pub async fn handle(
    target: &Target,
    mut request: Request<Incoming>,
    peer: Arc<Peer>,
    active: ActiveRequest,
) -> Response<Body> {
    let at = Instant::now();
    let host = host_of(&request);
    let cell = match target {
        Target::Function(cell) => Some(cell.clone()),
        Target::Hosts(registry) => host.to_str().ok().and_then(|host| registry.lookup(host)),
    };
    let asked = Asked::of(request.headers());
    let relayed = cell.as_ref().map_or(Ok(false), |cell| relay::arrived(cell, request.headers()));
    // Another activator's word is taken, as a trusted proxy's.
    let peer = if relayed == Ok(true) { Arc::new(peer.taken_at_its_word()) } else { peer };
    let mut record = Record::begin(target.shared(), cell.clone(), at, &mut request, &peer);
    let check = || {
        let method = if switch::is_extended_connect(&request) { &Method::GET } else { request.method() };
        headers::check(method, request.version(), request.headers())?;
        relayed
    };
    let result = match (&cell, check()) {
        (None, _) => Err(Refusal::UnknownHost),
        (Some(_), Err(refusal)) => Err(refusal),
        (Some(cell), Ok(relayed)) => {
            let arrival = Arrival { peer: &peer, at, host: &host, active: &active, relayed };
            forward::forward(cell, request, arrival, &mut record).await
        }
    };
    let (mut response, tunnel) = match result {
        Ok(Answer::Whole(response)) => (response, None),
        Ok(Answer::Switched(response, tunnel)) => (response, Some(tunnel)),
        Err(refusal) => {
            record.refused(&refusal);
            (refusal.response(&asked, cell.as_ref().map(|c| &c.key)), None)
        }
    };
    record.stamp(response.status(), response.headers_mut());
    let request = InProgress { active, record };
    match tunnel {
        None => response.body_mut().carry(request),
        Some(tunnel) => {
            request.active.upgraded();
            let shared = target.shared();
            shared.tasks.spawn(upgrade::run(*tunnel, request, shared.force_close.clone()));
        }
    }
    response
}

fn host_of(request: &Request<Incoming>) -> HeaderValue {
    let host = match request.uri().authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers().get(HOST).cloned(),
    };
    host.unwrap_or(HeaderValue::from_static(""))
}
