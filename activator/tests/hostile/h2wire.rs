//! HTTP/2 frames as bytes, right or wrong: no library that sends only what is allowed.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn string(bytes: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        bytes.push(length as u8);
    } else {
        bytes.push(127);
        length -= 127;
        while length >= 128 {
            bytes.push((length % 128) as u8 | 0x80);
            length /= 128;
        }
        bytes.push(length as u8);
    }
    bytes.extend(text);
}

/// A header block of literals.
pub(crate) fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        string(&mut bytes, name);
        string(&mut bytes, value);
    }
    bytes
}

/// What came for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Status(u16),
    Reset,
    /// GOAWAY, or the connection closed.
    Ended,
}

/// A connection whose preface was sent.
pub(crate) struct H2 {
    pub(crate) stream: TcpStream,
    bytes: Vec<u8>,
}

impl H2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &[])[..]].concat();
        let _ = stream.write_all(&preface).await;
        Self { stream, bytes: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next frame: type, stream, payload; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            if self.bytes.len() >= 9 {
                let length = u32::from_be_bytes([0, self.bytes[0], self.bytes[1], self.bytes[2]]) as usize;
                if self.bytes.len() >= 9 + length {
                    let whole: Vec<u8> = self.bytes.drain(..9 + length).collect();
                    let stream = u32::from_be_bytes([whole[5] & 0x7f, whole[6], whole[7], whole[8]]);
                    return Some((whole[3], stream, whole[9..].to_vec()));
                }
            }
            let read = tokio::time::timeout(Duration::from_secs(10), self.stream.read_buf(&mut self.bytes)).await;
            if read.expect("nothing came for ten seconds").unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// What comes of a stream.
    pub(crate) async fn outcome(&mut self, wanted: u32) -> Outcome {
        loop {
            match self.next().await {
                Some((HEADERS, stream, payload)) if stream == wanted => return Outcome::Status(status(&payload)),
                Some((RST_STREAM, stream, _)) if stream == wanted => return Outcome::Reset,
                None | Some((GOAWAY, ..)) => return Outcome::Ended,
                Some(_) => {}
            }
        }
    }
}

/// The status at the front of a header block, as any HPACK encoder may write it.
fn status(block: &[u8]) -> u16 {
    let mut rest = block;
    while let [first, tail @ ..] = rest
        && first & 0xe0 == 0x20
    {
        rest = tail;
    }
    let known = [200, 204, 206, 304, 400, 404, 500];
    match rest {
        [indexed @ 0x88..=0x8e, ..] => known[usize::from(indexed - 0x88)],
        [0x08 | 0x18 | 0x48, length, text @ ..] if length & 0x80 == 0 => {
            std::str::from_utf8(&text[..usize::from(*length)]).unwrap().parse().unwrap()
        }
        [0x08 | 0x18 | 0x48, length, text @ ..] => digits(&text[..usize::from(length & 0x7f)]),
        other => panic!("no status in {other:x?}"),
    }
}

/// Digits in HPACK's Huffman code: 0 to 2 have five bits, the others six (RFC 7541, appendix B).
fn digits(text: &[u8]) -> u16 {
    let bits = text.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)) << (64 - 8 * text.len());
    let (mut bits, mut number) = (bits, 0);
    for _ in 0..3 {
        let (digit, length) = match bits >> 59 {
            low @ 0..=2 => (low, 5),
            _ => ((bits >> 58) - 0x19 + 3, 6),
        };
        number = number * 10 + u16::try_from(digit).unwrap();
        bits <<= length;
    }
    number
}
