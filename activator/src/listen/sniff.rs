//! Which protocol a connection speaks, by its first bytes; what was read is given on.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt as _;

use super::client_io::ClientStream;
use super::conn::Protocol;
use crate::runtime::Shared;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SNIFF: usize = 2048;
/// For the first bytes of a connection that was accepted last.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What a connection that begins with `bytes` speaks; `None` where more of them have to come.
pub fn protocol(bytes: &[u8]) -> Option<Protocol> {
    let seen = bytes.len().min(PREFACE.len());
    if bytes[..seen] != PREFACE[..seen] {
        return Some(Protocol::Http1);
    }
    (seen == PREFACE.len()).then_some(Protocol::Http2)
}

/// Reads until the protocol is clear.
pub(super) async fn sniff(stream: &mut impl ClientStream) -> io::Result<(BytesMut, Protocol)> {
    let mut bytes = BytesMut::with_capacity(SNIFF);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(protocol) = protocol(&bytes) {
            return Ok((bytes, protocol));
        }
    }
}

/// The drain closes idle connections, and this one had a moment to say what it wants.
pub(super) async fn gone_idle(shared: &Shared) {
    shared.close_idle.cancelled().await;
    tokio::time::sleep(LAST_WORD).await;
}
