//! A plain HTTP client for tests: one connection for each request unless told otherwise, nothing retried, everything of the answer kept.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinHandle;

use crate::reach::{Address, Reach, Stream};

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// What came after the body.
    pub trailers: HeaderMap,
    /// From the moment before the connection was made to the body's end.
    pub took: Duration,
}

impl Answer {
    /// A header's value, or nothing where it is absent or not text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `GET path` at a Function by its in-cluster name.
///
/// # Errors
/// When there is no answer.
pub async fn get(reach: &Reach, namespace: &str, name: &str, path: &str) -> Result<Answer> {
    let address = reach.address(namespace, name).await?;
    get_at(reach, &address, &format!("{name}.{namespace}.svc"), path).await
}

/// `GET path` at an address, with this `Host`.
///
/// # Errors
/// When there is no answer.
pub async fn get_at(reach: &Reach, address: &Address, host: &str, path: &str) -> Result<Answer> {
    let start = Instant::now();
    get_over(reach.open(address).await?, host, path, start).await
}

/// `GET path` over a connection that was begun at `start`, with this `Host`.
///
/// # Errors
/// When there is no answer.
pub async fn get_over(stream: Box<dyn Stream>, host: &str, path: &str, start: Instant) -> Result<Answer> {
    let request = Request::get(path).header("host", host).body(Full::default())?;
    exchange(stream, request, start).await
}

/// Sends one HTTP/1.1 request over a stream.
///
/// # Errors
/// When there is no answer, or not a whole one.
pub async fn exchange(stream: Box<dyn Stream>, request: Request<Full<Bytes>>, start: Instant) -> Result<Answer> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await.context("no answer")?;
    let answer = collect(response, start).await;
    driver.abort();
    answer
}

/// Sends one HTTP/2 request with prior knowledge over a stream.
///
/// # Errors
/// When there is no answer, or not a whole one.
pub async fn exchange_h2c(stream: Box<dyn Stream>, request: Request<Full<Bytes>>, start: Instant) -> Result<Answer> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await.context("no answer")?;
    let answer = collect(response, start).await;
    driver.abort();
    answer
}

/// Requests one after the other over one connection of HTTP/1.1.
pub struct Session {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: JoinHandle<hyper::Result<()>>,
}

impl Session {
    /// Over a stream that is open.
    ///
    /// # Errors
    /// When it is not any more.
    pub async fn begin(stream: Box<dyn Stream>) -> Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: tokio::spawn(connection) })
    }

    /// Sends one request.
    ///
    /// # Errors
    /// When there is no answer, or not a whole one.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let start = Instant::now();
        self.sender.ready().await.context("the connection was closed")?;
        collect(self.sender.send_request(request).await.context("no answer")?, start).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn collect(response: hyper::Response<hyper::body::Incoming>, start: Instant) -> Result<Answer> {
    let (head, body) = response.into_parts();
    let collected = body.collect().await.context("the answer broke off")?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: collected.to_bytes(),
        trailers,
        took: start.elapsed(),
    })
}
