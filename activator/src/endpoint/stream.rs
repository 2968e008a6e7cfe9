//! A connection to a pod: TCP; in tests also a pipe in memory, so that time and the order of events are the test's own.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How connections to pods are opened.
#[derive(Clone, Debug, Default)]
pub enum Dial {
    /// Over TCP.
    #[default]
    Tcp,
    /// To pods of a test.
    #[cfg(test)]
    Memory(super::memory::MemoryNet),
}

impl Dial {
    /// Connects, without Nagle's delay.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn dial(&self, address: SocketAddr) -> io::Result<PodStream> {
        match self {
            Self::Tcp => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(PodStream::Tcp(stream))
            }
            #[cfg(test)]
            Self::Memory(net) => net.connect(address).await.map(PodStream::Memory),
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub enum PodStream {
    /// TCP.
    Tcp(TcpStream),
    /// To a pod of a test.
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

/// Calls a method of whichever stream it is.
macro_rules! either {
    ($stream:expr, $method:ident($($argument:expr),*)) => {
        match $stream.get_mut() {
            PodStream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            #[cfg(test)]
            PodStream::Memory(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for PodStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_read(cx, buf))
    }
}

impl AsyncWrite for PodStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            #[cfg(test)]
            Self::Memory(stream) => stream.is_write_vectored(),
        }
    }
}
