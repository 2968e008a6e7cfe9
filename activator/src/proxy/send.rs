//! One attempt to send a request to one pod. It tells exactly whether anything of the request may have reached the pod, because only
//! what surely did not may be sent elsewhere (invariant 6).

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pilotlight_crds::workload::Protocol;
use std::time::Duration;
use tracing::debug;

use super::body::Lease;
use super::request_body::RequestBody;
use crate::endpoint::Upstream;
use crate::endpoint::connect::{ConnectError, connect};
use crate::endpoint::pool::{H1Connection, H2Lease};
use crate::limits::Limits;

/// Why there is no response.
#[derive(Debug)]
pub enum SendError {
    /// Nothing was sent; the request is whole.
    NotSent {
        /// The request.
        request: Box<Request<RequestBody>>,
        /// Why.
        cause: ConnectError,
    },
    /// The request, or some of it, may have reached the pod.
    Broken(hyper::Error),
}

impl SendError {
    /// A word for traces.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotSent { .. } => "NotSent",
            Self::Broken(_) => "PodClosedConnection",
        }
    }
}

type Sent = Result<(Response<Incoming>, Lease), SendError>;

/// Sends a request and gives the head of the response. `fresh`: do not use a connection that was used before.
///
/// # Errors
/// Tells whether anything was sent.
pub async fn send(
    upstream: &Upstream,
    mut request: Request<RequestBody>,
    replayable: bool,
    fresh: bool,
    limits: &Limits,
) -> Sent {
    address(&mut request, upstream.protocol);
    match upstream.protocol {
        Protocol::HTTP1 => send_h1(upstream, request, replayable, fresh, limits).await,
        Protocol::H2C => send_h2(upstream, request, limits).await,
    }
}

async fn send_h1(
    upstream: &Upstream,
    mut request: Request<RequestBody>,
    replayable: bool,
    fresh: bool,
    limits: &Limits,
) -> Sent {
    loop {
        let pooled = if fresh { None } else { upstream.h1.checkout(replayable).await };
        let mut connection = match pooled {
            Some(connection) => connection,
            // Rare, and on the heap: a request that waits for its answer doesn't carry the room for it.
            None => match Box::pin(open_h1(upstream, limits)).await {
                Ok(connection) => connection,
                Err(cause) => return Err(not_sent(request, cause)),
            },
        };
        let mut error = match connection.sender.try_send_request(request).await {
            Ok(response) => return Ok((response, Lease::H1(connection))),
            Err(error) => error,
        };
        match error.take_message() {
            Some(back) if connection.reused => request = back,
            Some(back) => return Err(not_sent(back, closed())),
            None => return Err(SendError::Broken(error.into_error())),
        }
    }
}

async fn send_h2(upstream: &Upstream, mut request: Request<RequestBody>, limits: &Limits) -> Sent {
    for _ in 0..3 {
        let mut lease = match lease_h2(upstream, limits).await {
            Ok(lease) => lease,
            Err(cause) => return Err(not_sent(request, cause)),
        };
        let mut error = match lease.sender.try_send_request(request).await {
            Ok(response) => return Ok((response, Lease::H2(lease))),
            Err(error) => error,
        };
        match error.take_message() {
            Some(back) => request = back,
            None => return Err(SendError::Broken(error.into_error())),
        }
    }
    Err(not_sent(request, closed()))
}

fn not_sent(request: Request<RequestBody>, cause: ConnectError) -> SendError {
    SendError::NotSent { request: Box::new(request), cause }
}

fn closed() -> ConnectError {
    ConnectError::Pod(std::io::Error::new(
        std::io::ErrorKind::ConnectionReset,
        "the pod closed the connection before it took the request",
    ))
}

async fn open_h1(upstream: &Upstream, limits: &Limits) -> Result<H1Connection, ConnectError> {
    let permit = upstream.connecting.acquire().await;
    let stream = connect(&upstream.dial, upstream.address, limits.connect_timeout).await?;
    drop(permit);
    let (sender, connection) = http1::Builder::new()
        .max_headers(limits.max_headers.max(100))
        .max_buf_size(limits.max_header_bytes.max(16 * 1024))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| ConnectError::Pod(std::io::Error::other(error)))?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "connection to a pod ended");
        }
    });
    Ok(H1Connection::new(sender, task.abort_handle()))
}

async fn lease_h2(upstream: &Upstream, limits: &Limits) -> Result<H2Lease, ConnectError> {
    if let Some(lease) = upstream.h2.checkout() {
        return Ok(lease);
    }
    // Rare, as above.
    Box::pin(open_h2(upstream, limits)).await
}

async fn open_h2(upstream: &Upstream, limits: &Limits) -> Result<H2Lease, ConnectError> {
    let opening = upstream.h2.opening().await;
    if let Some(lease) = upstream.h2.checkout() {
        return Ok(lease);
    }
    let stream = connect(&upstream.dial, upstream.address, limits.connect_timeout).await?;
    let header_list = u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX);
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(20))
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_header_list_size(header_list)
        .max_send_buf_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| ConnectError::Pod(std::io::Error::other(error)))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "connection to a pod ended");
        }
    });
    let lease = upstream.h2.add(sender);
    drop(opening);
    Ok(lease)
}

/// Writes the target in the form that the protocol wants: origin form with `Host`, or absolute with the authority in the URI.
fn address(request: &mut Request<RequestBody>, protocol: Protocol) {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let authority = request.uri().authority().cloned();
    match protocol {
        Protocol::HTTP1 => {
            if let Some(authority) = authority
                && let Ok(host) = HeaderValue::from_str(authority.as_str())
            {
                request.headers_mut().insert(HOST, host);
            }
            // Left to itself, hyper drops the body of a GET whose length it does not know.
            if !request.body().is_end_stream() && !request.headers().contains_key(CONTENT_LENGTH) {
                request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            *request.version_mut() = Version::HTTP_11;
            *request.uri_mut() = Uri::from(path);
        }
        Protocol::H2C => {
            let host = request.headers_mut().remove(HOST);
            let authority = authority
                .or_else(|| host.and_then(|host| Authority::try_from(host.as_bytes()).ok()))
                .unwrap_or_else(|| Authority::from_static("localhost"));
            *request.version_mut() = Version::HTTP_2;
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(Scheme::HTTP);
            parts.authority = Some(authority);
            parts.path_and_query = Some(path);
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
    }
}
