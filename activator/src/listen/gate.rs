//! A client's stream with the strict reader in front: HTTP/1 bytes pass on, in place, only once they are judged; a head that is
//! refused never reaches hyper. In its stead hyper reads one small request of ours, so that the refusal is answered in its turn.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::strict::{Fault, Strict};

/// The method of the request that stands for a refused one.
pub const REFUSED_METHOD: &str = "PILOTLIGHT-REFUSED";
const REFUSED: &[u8] = b"PILOTLIGHT-REFUSED / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// Bytes read at once after the first part of a head.
const READ: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Gate<S> {
    stream: S,
    strict: Option<Strict>,
    /// Bytes that were read and not given on; the first `accepted` of them may be.
    held: BytesMut,
    accepted: usize,
    fault: Option<Fault>,
    closed: bool,
}

impl<S: AsyncRead + Unpin> Gate<S> {
    /// `sniffed` was read from the stream already. `strict`: how to judge; `None` for what is not HTTP/1.
    pub fn new(stream: S, sniffed: BytesMut, strict: Option<Strict>) -> Self {
        let mut gate = Self { stream, strict, held: sniffed, accepted: 0, fault: None, closed: false };
        gate.judge_held();
        gate
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream itself, past every judgement.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Whether a part of a head has come.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether the client has closed its side, and all that it sent was read.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Why the connection cannot go on.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    fn judge_held(&mut self) {
        let (accepted, fault) = match &mut self.strict {
            Some(strict) => strict.check(&self.held),
            None => (self.held.len(), None),
        };
        self.accepted = accepted;
        self.take_fault(fault);
    }

    /// After a fault nothing else is given on than what was accepted, and for a head the request in its stead.
    fn take_fault(&mut self, fault: Option<Fault>) {
        let Some(fault) = fault else { return };
        self.held.truncate(self.accepted);
        if matches!(fault, Fault::Head(_) | Fault::HeadTooLarge) {
            self.held.extend_from_slice(REFUSED);
            self.accepted = self.held.len();
        }
        self.fault = Some(fault);
    }

    fn give_held(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.accepted.min(buf.remaining());
        buf.put_slice(&self.held[..length]);
        self.held.advance(length);
        self.accepted -= length;
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
    }

    /// Reads straight into hyper's buffer and takes back what is not accepted. `false`: nothing was.
    fn poll_in_place(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let fresh = &buf.filled()[before..];
        self.closed |= fresh.is_empty();
        let Some(strict) = self.strict.as_mut().filter(|_| !fresh.is_empty()) else { return Poll::Ready(Ok(true)) };
        let (accepted, fault) = strict.check(fresh);
        self.held.extend_from_slice(&fresh[accepted..]);
        self.accepted = 0;
        buf.set_filled(before + accepted);
        self.take_fault(fault);
        Poll::Ready(Ok(accepted > 0))
    }

    /// Reads on behind a part of a head. `false`: the client has closed its side.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.held.reserve(READ);
        let read = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.held))?;
        if read == 0 {
            self.closed = true;
            return Poll::Ready(Ok(false));
        }
        self.judge_held();
        Poll::Ready(Ok(true))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.accepted > 0 {
                this.give_held(buf);
                return Poll::Ready(Ok(()));
            }
            match this.fault {
                None => {}
                Some(Fault::Body(words)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, words)));
                }
                // The answer ends the connection; what the client still sends is taken then.
                Some(Fault::Head(_) | Fault::HeadTooLarge) => return Poll::Pending,
            }
            let done =
                if this.held.is_empty() { ready!(this.poll_in_place(cx, buf))? } else { !ready!(this.poll_held(cx))? };
            if done {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
