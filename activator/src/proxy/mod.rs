//! From a client's request to its response: find the Function and which of its revisions answers, check, forward, and turn whatever went
//! wrong into the one documented answer (invariant 1).

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

use http::header::{CONNECTION, HOST, SET_COOKIE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use pilotlight_crds::names::HEADER_REASON;
use tokio_util::sync::CancellationToken;

use crate::choice;
use crate::error::Refusal;
use crate::error::respond::Asked;
use crate::function::{Chosen, FunctionCell};
use crate::listen::conn::ActiveRequest;
use crate::listen::strict;
use crate::registry::{Registry, Route};
use crate::relay;
use crate::route::Side;
use crate::runtime::Shared;
use crate::telemetry::record::Record;
use body::{Body, InProgress};
use forward::{Answer, Arrival};
use forwarded::Peer;

/// What a listener's connections are about.
#[derive(Clone)]
pub enum Target {
    /// The Host header names the Function, to requests from this side.
    Hosts(Arc<Registry>, Side),
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
    /// Resolves when the next step of a connection may be taken.
    pub async fn take_turn(&self, now: Instant) {
        match self {
            Self::Hosts(registry, _) => registry.shared().turns().take_strangers(now).await,
            Self::Function(cell) => cell.take_turn(now).await,
        }
    }

    /// Cancelled once the client of a connection that begins now has to be asked to connect anew.
    pub fn leaving(&self) -> CancellationToken {
        match self {
            Self::Hosts(registry, _) => registry.shared().draining.clone(),
            Self::Function(cell) => cell.leaving(),
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        match self {
            Self::Hosts(registry, _) => registry.shared(),
            Self::Function(cell) => cell.shared(),
        }
    }
}

/// Answers one request. `refused`: why the one that it stands for was not even read.
pub async fn handle(
    target: &Target,
    mut request: Request<Incoming>,
    refused: Option<Refusal>,
    peer: Arc<Peer>,
    active: ActiveRequest,
) -> Response<Body> {
    let at = Instant::now();
    let host = host_of(&request);
    let route = match target {
        Target::Function(door) => Some(Route::to(door.clone())),
        Target::Hosts(registry, from) => host.to_str().ok().and_then(|host| registry.lookup(host, *from)),
    };
    match &route {
        Some(route) => route.door.take_turn(at).await,
        None => target.shared().turns().take_strangers(at).await,
    }
    let asked = Asked::of(request.headers());
    let relayed = route.as_ref().map_or(Ok(false), |route| relay::arrived(&route.door, request.headers()));
    let chosen = route.map(|route| choose(route, &request, &host, relayed == Ok(true)));
    // Whoever has relayed it has done that, too.
    let given = chosen.as_ref().and_then(|chosen| chosen.given.as_ref()).filter(|_| relayed == Ok(false));
    let cookie = given.and_then(|given| given.field(forwarded::came_encrypted(request.headers(), &peer)));
    let cell = chosen.map(|chosen| chosen.cell);
    // Another activator's word is taken, as a trusted proxy's.
    let peer = if relayed == Ok(true) { Arc::new(peer.taken_at_its_word()) } else { peer };
    // Before anything is added to it.
    let size = match relayed {
        Ok(false) => headers::check_size(&request, &target.shared().limits),
        _ => Ok(()),
    };
    let mut record = Record::begin(target.shared(), cell.clone(), at, &mut request, &peer);
    let version = request.version();
    let is_last = strict::is_last(request.method(), version, request.headers());
    let check = || {
        if let Some(refusal) = refused {
            return Err(refusal);
        }
        size?;
        let Some(cell) = &cell else { return Err(Refusal::UnknownHost) };
        let method = if switch::is_extended_connect(&request) { &Method::GET } else { request.method() };
        headers::check(method, request.uri(), version, request.headers())?;
        Ok((cell, relayed?))
    };
    let result = match check() {
        Err(refusal) => Err(refusal),
        Ok((cell, relayed)) => {
            let arrival = Arrival { peer: &peer, at, host: &host, active: &active, relayed };
            forward::forward(cell, request, arrival, &mut record).await
        }
    };
    let is_last = is_last || result.as_ref().is_err_and(Refusal::ends_connection);
    let (mut response, tunnel) = match result {
        Ok(Answer::Whole(response)) => (response, None),
        Ok(Answer::Switched(response, tunnel)) => (response, Some(tunnel)),
        Err(refusal) => {
            record.refused(&refusal);
            if let Some(cell) = cell.as_ref().filter(|_| refusal.is_no_start()) {
                cell.note_unanswered();
            }
            (refusal.response(&asked, cell.as_ref().map(|c| &c.key)), None)
        }
    };
    if is_last && version < Version::HTTP_2 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // A refusal, here or at the owner, came from no revision.
    if let Some(cookie) = cookie.filter(|_| !response.headers().contains_key(HEADER_REASON)) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
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

/// Which revision it goes on with. `relayed`: another activator has chosen already.
fn choose(route: Route, request: &Request<Incoming>, host: &HeaderValue, relayed: bool) -> Chosen {
    let Route { door, tag } = route;
    door.choose(|| choice::Asked {
        told: request.headers().get(relay::HEADER_REVISION).filter(|_| relayed),
        tag: tag.as_deref(),
        host,
        uri: request.uri(),
        headers: request.headers(),
    })
}

fn host_of(request: &Request<Incoming>) -> HeaderValue {
    let host = match request.uri().authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers().get(HOST).cloned(),
    };
    host.unwrap_or(HeaderValue::from_static(""))
}
