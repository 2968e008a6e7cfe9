//! Client of the control protocol: what the autoscaler asks of one activator over HTTP.
//!
//! What always holds: every call ends within the time that it was given, and no answer is read beyond its bound.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pilotlight_crds::control::{DrainRequest, DrainResponse, PATH_DRAIN, PATH_RELEASE, PATH_SAMPLES, ReleaseRequest};
use serde::Serialize;

/// Time for a connection to an activator.
const CONNECT: Duration = Duration::from_millis(800);
/// Bytes of an answer that are read at most.
const ANSWER: usize = 64 * 1024;

/// Why an activator gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    /// The token cannot be sent.
    #[error("the control token has characters that no HTTP header can carry; recreate its Secret")]
    Token,
    /// No answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The connection could not be made, or broke.
    #[error("connection: {0}")]
    Connection(String),
    /// Nobody listens there: the process is gone, or has not begun.
    #[error("nobody listens on its control port")]
    Refused,
    /// The activator does not accept the token.
    #[error("the activator refuses the control token ({0}); operator and activators must mount the same Secret")]
    Unauthorized(StatusCode),
    /// Another status than success.
    #[error("unexpected status {0}")]
    Status(StatusCode),
    /// An answer that is not what the protocol says.
    #[error("unreadable answer: {0}")]
    Answer(String),
}

/// Client of the control protocol. Clones share their connections.
#[derive(Clone)]
pub(super) struct ControlClient {
    http: Client<HttpConnector, Full<Bytes>>,
    authorization: Option<header::HeaderValue>,
}

impl ControlClient {
    /// A client that shows `token`; white space around it is not part of it.
    pub(super) fn new(token: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(2)
            .build(connector);
        let bearer = format!("Bearer {}", token.trim());
        let authorization = header::HeaderValue::try_from(bearer).ok().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Self { http, authorization }
    }

    /// Opens the stream of samples: its head within `limit`, its body for as long as it lasts.
    pub(super) async fn samples(&self, to: SocketAddr, limit: Duration) -> Result<Incoming, ControlError> {
        let request = self.request(Method::GET, to, PATH_SAMPLES, Bytes::new())?;
        Ok(self.send(request, limit).await?.into_body())
    }

    /// Asks an activator to stop using pods.
    pub(super) async fn drain(
        &self,
        to: SocketAddr,
        drain: &DrainRequest,
        limit: Duration,
    ) -> Result<DrainResponse, ControlError> {
        let request = self.request(Method::POST, to, PATH_DRAIN, json(drain)?)?;
        let answer = async {
            let response = self.send(request, limit).await?;
            let body = Limited::new(response.into_body(), ANSWER)
                .collect()
                .await
                .map_err(|error| ControlError::Answer(error.to_string()))?;
            serde_json::from_slice(&body.to_bytes()).map_err(|error| ControlError::Answer(error.to_string()))
        };
        tokio::time::timeout(limit, answer).await.map_err(|_| ControlError::Timeout(limit))?
    }

    /// Tells an activator what became of a hand-shake.
    pub(super) async fn release(
        &self,
        to: SocketAddr,
        release: &ReleaseRequest,
        limit: Duration,
    ) -> Result<(), ControlError> {
        let request = self.request(Method::POST, to, PATH_RELEASE, json(release)?)?;
        self.send(request, limit).await.map(drop)
    }

    fn request(
        &self,
        method: Method,
        to: SocketAddr,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ControlError> {
        let authorization = self.authorization.clone().ok_or(ControlError::Token)?;
        Request::builder()
            .method(method)
            .uri(format!("http://{to}{path}"))
            .header(header::AUTHORIZATION, authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| ControlError::Connection(error.to_string()))
    }

    async fn send(&self, request: Request<Full<Bytes>>, limit: Duration) -> Result<Response<Incoming>, ControlError> {
        let response = tokio::time::timeout(limit, self.http.request(request))
            .await
            .map_err(|_| ControlError::Timeout(limit))?
            .map_err(
                |error| if refused(&error) { ControlError::Refused } else { ControlError::Connection(chain(&error)) },
            )?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(ControlError::Unauthorized(status)),
            status => Err(ControlError::Status(status)),
        }
    }
}

fn json(message: &impl Serialize) -> Result<Bytes, ControlError> {
    serde_json::to_vec(message).map(Bytes::from).map_err(|error| ControlError::Answer(error.to_string()))
}

/// Whether a connection was refused, which tells for certain that no process listens; being out of reach tells nothing.
fn refused(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// An error with its sources: hyper's own words are only "client error (Connect)".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
