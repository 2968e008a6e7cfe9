//! Writes that wait for the end of the turn. A socket becomes readable together with many others; if each task wrote as soon as it has
//! something, every write would wake a peer that has gone back to sleep since the one before. So the first write of a flush
//! lets every other task that can run now go first: peers are woken once for many messages, and HTTP/2 frames of many
//! streams go out in one write. Where nothing else can run, the write follows at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

/// See the module. What it wraps is flushed after each message, as hyper does.
#[derive(Debug)]
pub struct Batched<I> {
    io: I,
    has_waited: bool,
}

impl<I> Batched<I> {
    /// Around a socket.
    pub fn new(io: I) -> Self {
        Self { io, has_waited: false }
    }

    /// `false` where others go first; the task is run again after them.
    fn has_waited(&mut self, cx: &Context<'_>) -> bool {
        if !self.has_waited {
            self.has_waited = true;
            cx.waker().wake_by_ref();
            return false;
        }
        true
    }
}

impl<I: Read + Unpin> Read for Batched<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: Write + Unpin> Write for Batched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.has_waited(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.has_waited = false;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.has_waited(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
