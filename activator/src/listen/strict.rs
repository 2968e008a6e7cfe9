//! A strict reader of HTTP/1 requests' outlines, in front of hyper: it refuses whatever two servers might understand differently
//! (request smuggling), where hyper is lenient or chooses a meaning by itself. Pure: bytes come in, a judgement goes out.
//!
//! It never accepts a head in part: what it accepts is whole heads and bytes of bodies, so a refused head reaches nobody. The rules
//! are those of RFC 9112, without what it only tolerates: every line ends in CRLF, one Host, one framing field, no folding.

use super::syntax::{self, RequestLine};

/// Longest line that tells a chunk's size, with extensions; longest line of trailers.
const MAX_CHUNK_LINE: usize = 4 * 1024;
const MAX_TRAILER_LINE: usize = 16 * 1024;
/// Empty lines before a request that are let pass; some clients send one after a body.
const MAX_EMPTY_LINES: u8 = 2;

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The head that begins after the accepted bytes is refused, for this reason.
    Head(&'static str),
    /// That head has more bytes or fields than it may.
    HeadTooLarge,
    /// The body breaks off after the accepted bytes.
    Body(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a request line.
    Start,
    /// In a head, after its request line.
    Fields,
    /// So many bytes of a body are left.
    Length(u64),
    ChunkSize,
    /// So many bytes of a chunk are left, its CRLF not counted.
    Chunk(u64),
    ChunkEnd,
    Trailers,
    /// Bytes that are not HTTP/1 any more, or that end the connection anyhow.
    Opaque,
}

/// What the fields of one head say.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    empty_lines: u8,
    http_10: bool,
    fields: usize,
    hosts: u8,
    length: Option<u64>,
    chunked: bool,
    last: bool,
}

/// Reads one connection's bytes.
#[derive(Debug)]
pub struct Strict {
    state: State,
    head: Head,
    /// Where the line that is being read begins in the bytes not accepted yet.
    line: usize,
    /// How far those bytes were searched for the line's end.
    searched: usize,
    max_bytes: usize,
    max_fields: usize,
}

impl Strict {
    /// At the beginning of a connection; a head may have so many bytes and fields.
    pub fn new((max_bytes, max_fields): (usize, usize)) -> Self {
        Self { state: State::Start, head: Head::default(), line: 0, searched: 0, max_bytes, max_fields }
    }

    /// Judges `bytes`: what the last call did not accept, and what came since. Gives how many are accepted now.
    pub fn check(&mut self, bytes: &[u8]) -> (usize, Option<Fault>) {
        let mut accepted = 0;
        loop {
            let rest = &bytes[accepted..];
            match self.state {
                State::Opaque => return (bytes.len(), None),
                State::Length(left) | State::Chunk(left) => {
                    let taken = left.min(rest.len() as u64);
                    self.advance(left - taken);
                    accepted += usize::try_from(taken).unwrap_or(rest.len());
                    if taken < left {
                        return (accepted, None);
                    }
                }
                _ => match self.read_line(rest) {
                    Ok(Some(consumed)) => accepted += consumed,
                    Ok(None) => return (accepted, None),
                    Err(fault) => return (accepted, Some(fault)),
                },
            }
        }
    }

    /// `left` bytes remain of a body or a chunk.
    fn advance(&mut self, left: u64) {
        self.state = match (self.state, left) {
            (State::Length(_), 0) => self.after_message(),
            (State::Length(_), left) => State::Length(left),
            (_, 0) => State::ChunkEnd,
            (_, left) => State::Chunk(left),
        };
    }

    fn after_message(&mut self) -> State {
        let last = self.head.last;
        self.head = Head::default();
        if last { State::Opaque } else { State::Start }
    }

    /// Reads the line that begins at `self.line`. Gives how many bytes are accepted with it: none inside a head. `None`: it is not
    /// whole yet.
    fn read_line(&mut self, rest: &[u8]) -> Result<Option<usize>, Fault> {
        let Some(found) = memchr::memchr(b'\n', &rest[self.searched..]) else {
            self.searched = rest.len();
            return self.unfinished(rest.len()).map(|()| None);
        };
        let end = self.searched + found + 1;
        let line = &rest[self.line..end - 1];
        (self.line, self.searched) = (end, end);
        let Some(line) = line.strip_suffix(b"\r") else {
            return Err(self.fault("a line ends in LF without CR"));
        };
        if !syntax::is_all_text(line) {
            return Err(self.fault("it has a control character"));
        }
        self.state = self.take_line(line).map_err(|words| self.fault(words))?;
        if matches!(self.state, State::Fields) {
            return self.unfinished(end).map(|()| Some(0));
        }
        (self.line, self.searched) = (0, 0);
        Ok(Some(end))
    }

    /// `length` bytes of a head or a line have come, and it has not ended.
    fn unfinished(&self, length: usize) -> Result<(), Fault> {
        match self.state {
            State::ChunkSize | State::ChunkEnd if length > MAX_CHUNK_LINE => {
                Err(Fault::Body("the line of a chunk's size is too long"))
            }
            State::Trailers if length > MAX_TRAILER_LINE => Err(Fault::Body("a trailer is too long")),
            State::Start | State::Fields if length >= self.max_bytes || self.head.fields > self.max_fields => {
                Err(Fault::HeadTooLarge)
            }
            _ => Ok(()),
        }
    }

    fn fault(&self, words: &'static str) -> Fault {
        match self.state {
            State::Start | State::Fields => Fault::Head(words),
            _ => Fault::Body(words),
        }
    }

    fn take_line(&mut self, line: &[u8]) -> Result<State, &'static str> {
        match self.state {
            State::Start if line.is_empty() => {
                self.head.empty_lines += 1;
                if self.head.empty_lines > MAX_EMPTY_LINES {
                    Err("it begins with empty lines")
                } else {
                    Ok(State::Start)
                }
            }
            State::Start => {
                let RequestLine { http_10, connect } = syntax::request_line(line)?;
                self.head = Head { http_10, last: connect, ..Head::default() };
                Ok(State::Fields)
            }
            State::Fields if line.is_empty() => self.end_of_head(),
            State::Fields => self.field(line).map(|()| State::Fields),
            State::ChunkSize => Ok(match syntax::chunk_size(line)? {
                0 => State::Trailers,
                size => State::Chunk(size),
            }),
            State::ChunkEnd if line.is_empty() => Ok(State::ChunkSize),
            State::ChunkEnd => Err("a chunk is longer than its size says"),
            State::Trailers if line.is_empty() => Ok(self.after_message()),
            State::Trailers => syntax::field(line).map(|_| State::Trailers),
            State::Length(_) | State::Chunk(_) | State::Opaque => Ok(self.state),
        }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let (name, value) = syntax::field(line)?;
        let head = &mut self.head;
        head.fields += 1;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                head.hosts = head.hosts.saturating_add(1);
                if !syntax::is_host(value) {
                    return Err("its Host header is not a host");
                }
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                head.last |= !head.http_10 && !value.eq_ignore_ascii_case(b"h2c");
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if head.length.is_some() {
                    return Err("it has more than one Content-Length");
                }
                head.length = Some(syntax::content_length(value)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if head.chunked {
                    return Err("it has more than one Transfer-Encoding");
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err("its Transfer-Encoding is not `chunked`, the only one that is supported");
                }
                head.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn end_of_head(&mut self) -> Result<State, &'static str> {
        let head = self.head;
        match head.hosts {
            0 if !head.http_10 => return Err("it has no Host header"),
            0 | 1 => {}
            _ => return Err("it has more than one Host header"),
        }
        match (head.chunked, head.length) {
            (true, Some(_)) => Err("it has both Content-Length and Transfer-Encoding"),
            (true, None) if head.http_10 => Err("it has a Transfer-Encoding, which HTTP/1.0 does not know"),
            (true, None) => Ok(State::ChunkSize),
            (false, None | Some(0)) => Ok(self.after_message()),
            (false, Some(length)) => Ok(State::Length(length)),
        }
    }
}

/// Whether nothing after this request may be read as another one unless the connection is upgraded: the same rule by which
/// [`Strict`] stops to look. Its answer must end the connection.
pub fn is_last(method: &http::Method, version: http::Version, headers: &http::HeaderMap) -> bool {
    let upgrades = version == http::Version::HTTP_11
        && headers.get_all(http::header::UPGRADE).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"h2c"));
    version < http::Version::HTTP_2 && (method == http::Method::CONNECT || upgrades)
}
