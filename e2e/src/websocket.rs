//! As much of a WebSocket client (RFC 6455) as tests need: short text messages there and back, and a proper end.

use anyhow::{Context as _, Result, ensure};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::reach::Reach;
use crate::stream;

/// A key and the one right answer to it, both of RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// Frames of a client are masked.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
/// The first byte of a whole text message, and of the end.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
/// Longer messages have another form of length.
const SHORT: u8 = 126;

/// An open WebSocket.
pub struct WebSocket(TokioIo<Upgraded>);

impl WebSocket {
    /// Opens one at a Function.
    ///
    /// # Errors
    /// When it does not answer 101.
    pub async fn open(reach: &Reach, namespace: &str, name: &str) -> Result<Self> {
        let headers = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ];
        Ok(Self(stream::upgrade(reach, namespace, name, &headers).await?))
    }

    /// Sends a text.
    ///
    /// # Errors
    /// When it is not short, or the connection is broken.
    pub async fn send(&mut self, text: &str) -> Result<()> {
        let length = u8::try_from(text.len())?;
        ensure!(length < SHORT, "longer messages have another form of length");
        let mut frame = vec![TEXT, 0x80 | length];
        frame.extend(MASK);
        frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.0.write_all(&frame).await.context("the WebSocket is broken")
    }

    /// The next text.
    ///
    /// # Errors
    /// When something else comes, or the connection is broken.
    pub async fn receive(&mut self) -> Result<String> {
        let [kind, length] = self.head().await?;
        ensure!(kind == TEXT && length < SHORT, "not a short and whole text: {kind:#x}, {length} bytes");
        let mut text = vec![0; usize::from(length)];
        self.0.read_exact(&mut text).await.context("the WebSocket is broken")?;
        Ok(String::from_utf8(text)?)
    }

    /// The closing handshake: an empty close frame, answered by one.
    ///
    /// # Errors
    /// When it is answered by something else.
    pub async fn close(mut self) -> Result<()> {
        self.0.write_all(&[CLOSE, 0x80, 1, 2, 3, 4]).await.context("the WebSocket is broken")?;
        let [kind, _] = self.head().await?;
        ensure!(kind == CLOSE, "a close frame was answered by {kind:#x}");
        Ok(())
    }

    async fn head(&mut self) -> Result<[u8; 2]> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).await.context("the WebSocket is broken")?;
        Ok(head)
    }
}
