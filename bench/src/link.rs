//! A non-blocking socket with what could not be written yet.

use std::io::{self, Read as _, Write as _};

use mio::net::TcpStream;

/// A non-blocking socket with what could not be written yet.
#[derive(Debug)]
pub(crate) struct Link {
    /// The socket.
    pub(crate) stream: TcpStream,
    /// Still to be written.
    pub(crate) out: Vec<u8>,
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// So many bytes, and there may be more.
    More(usize),
    /// So many bytes, and nothing more for now.
    All(usize),
    /// The peer has closed.
    Closed,
}

impl Link {
    /// Around a connected socket; small writes go out at once.
    ///
    /// # Errors
    /// The socket is gone already.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, out: Vec::new() })
    }

    /// Writes as much as the kernel takes.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        while written < self.out.len() {
            match self.stream.write(&self.out[written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if written == self.out.len() {
            self.out.clear();
        } else {
            self.out.drain(..written);
        }
        Ok(())
    }

    /// Reads once. On Linux, a read that does not fill the buffer has emptied the socket, so that no second one is needed to know.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Taken> {
        loop {
            return match self.stream.read(buffer) {
                Ok(0) => Ok(Taken::Closed),
                Ok(count) if count == buffer.len() => Ok(Taken::More(count)),
                Ok(count) => Ok(Taken::All(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Taken::All(0)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }
}
