//! A client that sends bytes as they are and reads answers to the end.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One final answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether it came from the app.
    pub(crate) app: bool,
    pub(crate) reason: String,
    pub(crate) body: String,
}

/// How long nothing may come where something must.
const STUCK: Duration = Duration::from_secs(10);

/// A raw connection.
pub(crate) struct Wire {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// Methods whose answers are still to come; decides which have no body.
    pub(crate) heads: Vec<bool>,
    /// A refused request may have been a HEAD, which the refusal then answers without a body.
    pub(crate) may_be_head: bool,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, bytes: Vec::new(), heads: Vec::new(), may_be_head: false }
    }

    /// Sends; the other side may have closed already.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next final answer; `None` where the connection was closed instead.
    ///
    /// # Panics
    /// Neither comes.
    pub(crate) async fn answer(&mut self) -> Result<Option<Answer>, String> {
        self.answer_within(STUCK).await
    }

    /// The same, with patience of its own.
    pub(crate) async fn answer_within(&mut self, patience: Duration) -> Result<Option<Answer>, String> {
        loop {
            if let Some((answer, length)) = self.parse()? {
                self.bytes.drain(..length);
                if answer.status >= 200 || answer.status == 101 {
                    return Ok(Some(answer));
                }
                continue;
            }
            let read = tokio::time::timeout(patience, self.stream.read_buf(&mut self.bytes)).await;
            match read {
                Err(_) => return Err(format!("stuck; got {:?}", String::from_utf8_lossy(&self.bytes))),
                Ok(Ok(0) | Err(_)) if self.bytes.is_empty() => return Ok(None),
                Ok(Ok(0) | Err(_)) if self.may_be_head && self.bytes.ends_with(b"\r\n\r\n") => {
                    self.heads.insert(0, true);
                    self.may_be_head = false;
                }
                Ok(Ok(0) | Err(_)) => {
                    return Err(format!("closed amid an answer: {:?}", String::from_utf8_lossy(&self.bytes)));
                }
                Ok(Ok(_)) => {}
            }
        }
    }

    fn parse(&mut self) -> Result<Option<(Answer, usize)>, String> {
        let Some(head) = self.bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|p| p + 4) else { return Ok(None) };
        let text = String::from_utf8_lossy(&self.bytes[..head]).into_owned();
        let broken = || format!("not an answer: {text:?}");
        let status: u16 = text.get(9..12).and_then(|s| s.parse().ok()).ok_or_else(broken)?;
        let value = |name: &str| {
            text.lines()
                .find_map(|l| l.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()))
        };
        let has_body = status >= 200 && !self.heads.first().copied().unwrap_or(false);
        let length: usize = value("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        let length = if has_body { length } else { 0 };
        let Some(body) = self.bytes.get(head..head + length) else { return Ok(None) };
        let answer = Answer {
            status,
            app: value("x-app").is_some(),
            reason: value("pilotlight-reason").unwrap_or_default().to_owned(),
            body: String::from_utf8_lossy(body).into_owned(),
        };
        if status >= 200 && !self.heads.is_empty() {
            self.heads.remove(0);
        }
        Ok(Some((answer, head + length)))
    }
}
