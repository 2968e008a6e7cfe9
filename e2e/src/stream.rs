//! Answers that do not end at once: their pieces as they arrive, and connections that become something other than HTTP.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;

use crate::reach::Reach;

/// An answer whose body is read piece by piece. Dropping it closes the connection.
pub struct Streamed {
    /// Status and headers.
    pub response: Response<Incoming>,
    driver: JoinHandle<()>,
    unread: Vec<u8>,
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Streamed {
    /// The next Server-Sent Event, up to its blank line; `None` at the end of the stream.
    ///
    /// # Errors
    /// When the answer breaks off.
    pub async fn event(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let rest = self.unread.split_off(end + 2);
                let event = std::mem::replace(&mut self.unread, rest);
                return Ok(Some(String::from_utf8(event)?));
            }
            let Some(frame) = self.response.body_mut().frame().await else {
                ensure!(
                    self.unread.is_empty(),
                    "the stream ended within an event: {:?}",
                    String::from_utf8_lossy(&self.unread)
                );
                return Ok(None);
            };
            if let Ok(data) = frame.context("the stream broke off")?.into_data() {
                self.unread.extend_from_slice(&data);
            }
        }
    }
}

/// `GET path` at a Function; returns as soon as the answer has begun.
///
/// # Errors
/// When there is no answer.
pub async fn open(reach: &Reach, namespace: &str, name: &str, path: &str) -> Result<Streamed> {
    let request = Request::get(path).header("host", format!("{name}.{namespace}.svc")).body(Empty::<Bytes>::new())?;
    let (response, driver) = send(reach, namespace, name, request).await?;
    Ok(Streamed { response, driver, unread: Vec::new() })
}

/// Asks a Function to change to another protocol, and returns the connection once it has.
///
/// # Errors
/// When it does not answer 101.
pub async fn upgrade(
    reach: &Reach,
    namespace: &str,
    name: &str,
    headers: &[(&str, &str)],
) -> Result<TokioIo<Upgraded>> {
    let mut request = Request::get("/").header("host", format!("{name}.{namespace}.svc"));
    for (key, value) in headers {
        request = request.header(*key, *value);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    // The driver ends by itself when it has handed the connection over.
    let (response, _driver) = send(reach, namespace, name, request).await?;
    ensure!(
        response.status() == StatusCode::SWITCHING_PROTOCOLS,
        "{name} answered {} to the upgrade, reason {:?}",
        response.status(),
        response.headers().get("pilotlight-reason")
    );
    Ok(TokioIo::new(hyper::upgrade::on(response).await?))
}

async fn send(
    reach: &Reach,
    namespace: &str,
    name: &str,
    request: Request<Empty<Bytes>>,
) -> Result<(Response<Incoming>, JoinHandle<()>)> {
    let stream = reach.function(namespace, name).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    let response = sender.send_request(request).await.context("no answer")?;
    Ok((response, driver))
}
