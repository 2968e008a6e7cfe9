//! The app behind every proxy: one thread, one event loop, prepared answers, so that it is never what is measured.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use crate::link::{Link, Taken};
use crate::wire::{Asked, Broken, h1, h2};

const HTTP1: Token = Token(0);
const H2C: Token = Token(1);
const FIRST: usize = 2;
const BUFFER: usize = 64 * 1024;

enum Side {
    Http1(h1::Server),
    H2c(h2::Server),
}

struct Connection {
    link: Link,
    side: Side,
}

/// Answers until it is ended.
///
/// # Errors
/// An address cannot be listened on.
pub(crate) fn run(http1: SocketAddr, h2c: SocketAddr) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut app = App { connections: Vec::new(), free: Vec::new(), held: Vec::new(), answers: h1::Answers::default() };
    let listen = |address| TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"));
    let (mut plain, mut multiplexed) = (listen(http1)?, listen(h2c)?);
    poll.registry().register(&mut plain, HTTP1, Interest::READABLE)?;
    poll.registry().register(&mut multiplexed, H2C, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; BUFFER];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                HTTP1 => app.accept(&poll, &plain, || Side::Http1(h1::Server::default()))?,
                H2C => app.accept(&poll, &multiplexed, || Side::H2c(h2::Server::default()))?,
                Token(token) => app.serve(token - FIRST, event.is_readable(), &mut buffer),
            }
        }
    }
}

struct App {
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    held: Vec<usize>,
    answers: h1::Answers,
}

impl App {
    fn accept(&mut self, poll: &Poll, listener: &TcpListener, side: impl Fn() -> Side) -> Result<()> {
        while let Ok((stream, _)) = listener.accept() {
            let Ok(mut link) = Link::new(stream) else { continue };
            let at = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            poll.registry().register(&mut link.stream, Token(at + FIRST), Interest::READABLE | Interest::WRITABLE)?;
            self.connections[at] = Some(Connection { link, side: side() });
        }
        Ok(())
    }

    fn serve(&mut self, at: usize, readable: bool, buffer: &mut [u8]) {
        match self.try_serve(at, readable, buffer) {
            Ok(true) => {}
            Ok(false) => self.close(at),
            Err(error) => {
                eprintln!("app: {error:#}");
                self.close(at);
            }
        }
    }

    fn close(&mut self, at: usize) {
        self.held.retain(|held| *held != at);
        if self.connections[at].take().is_some() {
            self.free.push(at);
        }
    }

    /// `false` where the peer has closed.
    fn try_serve(&mut self, at: usize, readable: bool, buffer: &mut [u8]) -> Result<bool> {
        let mut release = false;
        let Some(connection) = self.connections[at].as_mut() else { return Ok(true) };
        loop {
            let taken = if readable { connection.link.read(buffer)? } else { Taken::All(0) };
            let count = match taken {
                Taken::Closed => return Ok(false),
                Taken::More(count) | Taken::All(count) => count,
            };
            if count > 0 {
                match connection.receive(&buffer[..count], &self.answers)? {
                    Some(Asked::Hold) => self.held.push(at),
                    Some(Asked::Release) => release = true,
                    _ => {}
                }
            }
            if let Taken::All(_) = taken {
                break;
            }
        }
        connection.link.flush()?;
        if release {
            self.release()?;
        }
        Ok(true)
    }

    fn release(&mut self) -> Result<()> {
        for at in std::mem::take(&mut self.held) {
            if let Some(connection) = self.connections[at].as_mut() {
                connection.link.out.extend_from_slice(self.answers.of(Asked::Small));
                connection.link.flush()?;
            }
        }
        Ok(())
    }
}

impl Connection {
    fn receive(&mut self, input: &[u8], answers: &h1::Answers) -> Result<Option<Asked>, Broken> {
        match &mut self.side {
            Side::H2c(server) => server.receive(input, &mut self.link.out).map(|()| None),
            Side::Http1(server) => {
                let asked = server.receive(input)?;
                if let Some(asked) = asked.filter(|asked| *asked != Asked::Hold) {
                    self.link.out.extend_from_slice(answers.of(asked));
                }
                Ok(asked)
            }
        }
    }
}
