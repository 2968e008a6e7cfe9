//! HTTP/2 without TLS: GET without a body. Header blocks are written without a dynamic table, and of an answer's only the status is
//! looked at, which every server writes first.

use std::collections::{HashMap, VecDeque};

use super::frames::{ACK, Cutter, END_HEADERS, END_STREAM, Frame, PREFACE, kind, write};
use super::{Answer, Broken, SMALL};

/// Flow control must never be what is measured: windows are as large as they may be.
const WINDOW: u32 = 0x7fff_ffff;
const DEFAULT_WINDOW: u32 = 65_535;
/// When so many bytes came in, the connection's window is opened again.
const REFILL: u32 = 1 << 29;
const SETTINGS_HEADER_TABLE_SIZE: u16 = 1;
const SETTINGS_ENABLE_PUSH: u16 = 2;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;

fn settings(out: &mut Vec<u8>, values: &[(u16, u32)]) {
    let mut payload = Vec::new();
    for (name, value) in values {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    write(out, kind::SETTINGS, 0, 0, &payload);
}

/// A literal field that is not indexed (RFC 7541, 6.2.2), whose name is in the static table.
fn literal(block: &mut Vec<u8>, index: u8, value: &str) {
    if index < 15 {
        block.push(index);
    } else {
        block.extend_from_slice(&[15, index - 15]);
    }
    let length = u8::try_from(value.len()).ok().filter(|length| *length < 127);
    block.push(length.expect("the values here are short constants and addresses"));
    block.extend_from_slice(value.as_bytes());
}

/// The client's side.
#[derive(Debug)]
pub(crate) struct Client {
    cutter: Cutter,
    block: Vec<u8>,
    next: u32,
    open: HashMap<u32, (u64, u16)>,
    received: u32,
}

impl Client {
    pub(super) fn new(host: &str, path: &str, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(PREFACE);
        let values =
            [(SETTINGS_HEADER_TABLE_SIZE, 0), (SETTINGS_ENABLE_PUSH, 0), (SETTINGS_INITIAL_WINDOW_SIZE, WINDOW)];
        settings(out, &values);
        write(out, kind::WINDOW_UPDATE, 0, 0, &(WINDOW - DEFAULT_WINDOW).to_be_bytes());
        // :method GET, :scheme http
        let mut block = vec![0x82, 0x86];
        match path {
            "/" => block.push(0x84),
            path => literal(&mut block, 4, path),
        }
        literal(&mut block, 1, host);
        literal(&mut block, 58, "bench");
        literal(&mut block, 19, "*/*");
        Self { cutter: Cutter::default(), block, next: 1, open: HashMap::new(), received: 0 }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.open.len()
    }

    pub(super) fn request(&mut self, tag: u64, out: &mut Vec<u8>) {
        write(out, kind::HEADERS, END_HEADERS | END_STREAM, self.next, &self.block);
        self.open.insert(self.next, (tag, 0));
        self.next += 2;
    }

    pub(super) fn receive(&mut self, input: &[u8], out: &mut Vec<u8>, answers: &mut Vec<Answer>) -> Result<(), Broken> {
        let (open, received) = (&mut self.open, &mut self.received);
        self.cutter.cut(input, |frame| {
            match frame.kind {
                kind::HEADERS => {
                    let (_, status) = open.get_mut(&frame.stream).ok_or_else(|| unknown(frame.stream))?;
                    // A second block of a stream is its trailers.
                    if *status == 0 {
                        *status = status_of(frame.block()?)?;
                    }
                }
                kind::DATA => *received += u32::try_from(frame.payload.len()).unwrap_or(0),
                kind::RST_STREAM | kind::GOAWAY => {
                    return Err(Broken(format!("the server ended a stream or the connection: {frame:?}")));
                }
                kind::CONTINUATION => return Err(Broken("a response's head is longer than one frame".into())),
                _ => common(frame, out),
            }
            if matches!(frame.kind, kind::HEADERS | kind::DATA) && frame.ends_stream() {
                let (tag, status) = open.remove(&frame.stream).ok_or_else(|| unknown(frame.stream))?;
                answers.push(Answer { tag, status });
            }
            Ok(())
        })?;
        if self.received >= REFILL {
            write(out, kind::WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes());
            self.received = 0;
        }
        Ok(())
    }
}

fn unknown(stream: u32) -> Broken {
    Broken(format!("a frame came for stream {stream}, which is not open"))
}

/// The status of a header block, which is its first field, after size updates of the dynamic table (0x20–0x3f).
fn status_of(mut block: &[u8]) -> Result<u16, Broken> {
    while let Some((0x20..=0x3f, rest)) = block.split_first() {
        block = rest;
    }
    match block {
        [0x88, ..] => Ok(200),
        [0x8d, ..] => Ok(404),
        [0x8c, ..] => Ok(400),
        [0x8e, ..] => Ok(500),
        // A literal with the name `:status`, in three digits or their Huffman code: an error of another kind.
        [0x08..=0x0e | 0x48..=0x4e, ..] => Ok(599),
        other => {
            Err(Broken(format!("a response does not begin with its status: {:02x?}", &other[..other.len().min(8)])))
        }
    }
}

/// What both sides answer or pass over.
fn common(frame: Frame<'_>, out: &mut Vec<u8>) {
    match frame.kind {
        kind::SETTINGS if frame.flags & ACK == 0 => write(out, kind::SETTINGS, ACK, 0, &[]),
        kind::PING if frame.flags & ACK == 0 => write(out, kind::PING, ACK, 0, frame.payload),
        _ => {}
    }
}

/// The app's side. It answers each stream with [`SMALL`] bytes, whatever it asks for.
#[derive(Debug)]
pub(crate) struct Server {
    preface: usize,
    cutter: Cutter,
    block: Vec<u8>,
    window: u32,
    waiting: VecDeque<u32>,
    started: bool,
}

impl Default for Server {
    fn default() -> Self {
        // :status 200
        let mut block = vec![0x88];
        literal(&mut block, 31, "text/plain");
        literal(&mut block, 28, &SMALL.to_string());
        Self {
            preface: 0,
            cutter: Cutter::default(),
            block,
            window: DEFAULT_WINDOW,
            waiting: VecDeque::new(),
            started: false,
        }
    }
}

impl Server {
    /// Takes what came in and writes the answers.
    ///
    /// # Errors
    /// It is not what a client may send here.
    pub(crate) fn receive(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let input = self.skip_preface(input)?;
        if !self.started {
            self.started = true;
            settings(out, &[(SETTINGS_HEADER_TABLE_SIZE, 0), (SETTINGS_INITIAL_WINDOW_SIZE, WINDOW)]);
        }
        let (window, waiting) = (&mut self.window, &mut self.waiting);
        self.cutter.cut(input, |frame| {
            match frame.kind {
                kind::HEADERS if !frame.ends_stream() => {
                    return Err(Broken("the app answers requests without a body".into()));
                }
                kind::HEADERS => waiting.push_back(frame.stream),
                kind::WINDOW_UPDATE if frame.stream == 0 => *window = window.saturating_add(frame.number()?),
                kind::RST_STREAM => waiting.retain(|stream| *stream != frame.stream),
                kind::CONTINUATION => return Err(Broken("a request's head is longer than one frame".into())),
                _ => common(frame, out),
            }
            Ok(())
        })?;
        self.answer(out);
        Ok(())
    }

    fn skip_preface<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Broken> {
        let expected = &PREFACE[self.preface..];
        let common = expected.len().min(input.len());
        if input[..common] != expected[..common] {
            return Err(Broken("the client does not speak HTTP/2".into()));
        }
        self.preface += common;
        Ok(&input[common..])
    }

    fn answer(&mut self, out: &mut Vec<u8>) {
        const BODY: [u8; SMALL] = [b'x'; SMALL];
        let size = u32::try_from(SMALL).unwrap_or(u32::MAX);
        while self.window >= size
            && let Some(stream) = self.waiting.pop_front()
        {
            self.window -= size;
            write(out, kind::HEADERS, END_HEADERS, stream, &self.block);
            write(out, kind::DATA, END_STREAM, stream, &BODY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_and_app_understand_each_other_in_any_pieces() {
        for piece in [1, 13, 10_000] {
            let mut to_server = Vec::new();
            let mut client = Client::new("hello.shop", "/", &mut to_server);
            let mut server = Server::default();
            let mut answers = Vec::new();
            for round in 0..2_000u64 {
                client.request(round, &mut to_server);
                let mut to_client = Vec::new();
                for bytes in std::mem::take(&mut to_server).chunks(piece) {
                    server.receive(bytes, &mut to_client).unwrap();
                }
                for bytes in to_client.chunks(piece) {
                    client.receive(bytes, &mut to_server, &mut answers).unwrap();
                }
            }
            assert_eq!(answers.len(), 2_000);
            assert!(answers.iter().enumerate().all(|(at, a)| a.tag == at as u64 && a.status == 200));
            assert_eq!(client.in_flight(), 0);
        }
    }

    #[test]
    fn the_status_is_the_first_field() {
        assert_eq!(status_of(&[0x20, 0x88, 1]).unwrap(), 200);
        assert_eq!(status_of(&[0x48, 3]).unwrap(), 599);
        assert!(status_of(&[0x01]).is_err());
    }
}
