//! From a client's request to its response: find the Function, check, forward, and turn whatever went wrong into the one
//! documented answer (invariant 1).

pub mod body;
pub mod forward;
pub mod headers;
pub mod request_body;
pub mod send;
pub mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::HOST;
use http::{Request, Response};
use hyper::body::Incoming;

use crate::error::Refusal;
use crate::error::respond::Asked;
use crate::function::FunctionCell;
use crate::listen::conn::ActiveRequest;
use crate::registry::Registry;
use body::Body;
use forward::Arrival;

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

/// Answers one request.
pub async fn handle(
    target: &Target,
    request: Request<Incoming>,
    client: Client,
    active: ActiveRequest,
) -> Response<Body> {
    let at = Instant::now();
    let host = host_of(&request);
    let cell = match target {
        Target::Function(cell) => Some(cell.clone()),
        Target::Hosts(registry) => registry.lookup(&host),
    };
    let asked = Asked::of(request.headers());
    let arrival = Arrival { client, at, host, active };
    let result = match &cell {
        None => Err(Refusal::UnknownHost),
        Some(cell) => match headers::check(request.method(), request.version(), request.headers()) {
            Ok(()) => forward::forward(cell, request, arrival).await,
            Err(refusal) => Err(refusal),
        },
    };
    if let (Some(cell), Err(refusal)) = (&cell, &result) {
        cell.metrics.refused(refusal.reason());
    }
    let response = result.unwrap_or_else(|refusal| refusal.response(&asked, cell.as_ref().map(|c| &c.key)));
    if let Some(cell) = &cell {
        cell.metrics.answered(response.status());
    }
    response
}

fn host_of(request: &Request<Incoming>) -> String {
    match request.uri().authority() {
        Some(authority) => authority.as_str().to_owned(),
        None => request.headers().get(HOST).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned(),
    }
}
