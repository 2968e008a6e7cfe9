//! A client's socket as hyper sees it: its bytes come through the gate, and it notes when the client sends and when it does not
//! read, so that one sweep can watch over all connections without a timer for each request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt as _;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::conn::ConnState;
use super::gate::Gate;
use super::strict::Strict;

/// How long a client may be silent after the last answer, and how long it may still send in all.
const LINGER_SILENT: Duration = Duration::from_secs(2);
const LINGER_LONGEST: Duration = Duration::from_secs(30);

/// What clients are spoken to through.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether written bytes may wait in the process, so that only flushing shows whether the client reads.
    const BUFFERS: bool;

    /// The socket below.
    fn socket(&self) -> &TcpStream;
}

impl ClientStream for TcpStream {
    const BUFFERS: bool = false;

    fn socket(&self) -> &TcpStream {
        self
    }
}

impl ClientStream for TlsStream<TcpStream> {
    const BUFFERS: bool = true;

    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

struct Linger {
    silence: Pin<Box<Sleep>>,
    end: tokio::time::Instant,
}

/// See the module.
pub struct ClientIo<S> {
    stream: TokioIo<Gate<S>>,
    state: Arc<ConnState>,
    linger: Option<Linger>,
}

impl<S: ClientStream> ClientIo<S> {
    /// `sniffed` was read from the stream already. `strict`: how to judge what comes; `None` for HTTP/2.
    pub fn new(stream: S, sniffed: BytesMut, strict: Option<Strict>, state: Arc<ConnState>) -> Self {
        let stream = TokioIo::new(Gate::new(stream, sniffed, strict));
        Self { stream, state, linger: None }
    }

    /// Whether the client has closed its side. As everywhere in hyper, a client that closes only its half counts as gone.
    fn peer_has_closed(&self) -> bool {
        let ready = self.stream.inner().get_ref().socket().ready(Interest::READABLE).now_or_never();
        matches!(ready, Some(Ok(ready)) if ready.is_read_closed())
    }

    /// Takes what the client still sends, for a while. A socket that is closed with unread bytes makes the kernel break the connection,
    /// and the client loses an answer that it was about to read.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let began = tokio::time::Instant::now();
        let linger = self.linger.get_or_insert_with(|| Linger {
            silence: Box::pin(tokio::time::sleep(LINGER_SILENT)),
            end: began + LINGER_LONGEST,
        });
        let mut scratch = [0; 16 * 1024];
        loop {
            let mut unwanted = ReadBuf::new(&mut scratch);
            match Pin::new(self.stream.inner_mut().get_mut()).poll_read(cx, &mut unwanted) {
                Poll::Ready(Ok(())) if !unwanted.filled().is_empty() => {
                    let until = linger.end.min(tokio::time::Instant::now() + LINGER_SILENT);
                    linger.silence.as_mut().reset(until);
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return linger.silence.as_mut().poll(cx),
            }
        }
    }

    fn noted<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.state.note_write(polled.is_pending());
        polled
    }
}

impl<S: ClientStream> Read for ClientIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let gate = this.stream.inner();
        if polled.is_ready() || gate.holds() {
            this.state.note_read();
        }
        if let Some(fault) = gate.fault() {
            this.state.note_fault(fault);
        }
        polled
    }
}

impl<S: ClientStream> Write for ClientIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noted(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state.takes_check() && self.peer_has_closed() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if S::BUFFERS { self.noted(polled) } else { polled }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !S::BUFFERS && this.stream.inner().is_closed() {
            // There is nothing to wait for, and to close the socket says the rest.
            return Poll::Ready(Ok(()));
        }
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        if this.state.lingers() { this.poll_linger(cx).map(Ok) } else { Poll::Ready(Ok(())) }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.noted(polled)
    }
}
