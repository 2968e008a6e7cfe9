//! A client's socket as hyper sees it: it gives back the bytes that told the protocol, and notes when the client sends and when it
//! does not read, so that one sweep can watch over all connections without a timer for each request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use futures::FutureExt as _;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::conn::ConnState;

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

/// See the module.
pub struct ClientIo<S> {
    stream: TokioIo<S>,
    sniffed: BytesMut,
    state: Arc<ConnState>,
}

impl<S: ClientStream> ClientIo<S> {
    /// `sniffed` was read from the stream already.
    pub fn new(stream: S, sniffed: BytesMut, state: Arc<ConnState>) -> Self {
        Self { stream: TokioIo::new(stream), sniffed, state }
    }

    /// Whether the client has closed its side. As everywhere in hyper, a client that closes only its half counts as gone.
    fn peer_has_closed(&self) -> bool {
        let ready = self.stream.inner().socket().ready(Interest::READABLE).now_or_never();
        matches!(ready, Some(Ok(ready)) if ready.is_read_closed())
    }

    fn noted<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.state.note_write(polled.is_pending());
        polled
    }
}

impl<S: ClientStream> Read for ClientIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.sniffed.has_remaining() {
            let length = this.sniffed.len().min(buf.remaining());
            buf.put_slice(&this.sniffed[..length]);
            this.sniffed.advance(length);
            this.state.note_read();
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if polled.is_ready() {
            this.state.note_read();
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
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.noted(polled)
    }
}
