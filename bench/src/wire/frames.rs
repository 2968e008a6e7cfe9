//! HTTP/2 frames (RFC 9113, section 4): cutting a stream of bytes into them, and writing them.

use super::Broken;

/// Frame types.
pub(crate) mod kind {
    /// DATA.
    pub(crate) const DATA: u8 = 0;
    /// HEADERS.
    pub(crate) const HEADERS: u8 = 1;
    /// RST_STREAM.
    pub(crate) const RST_STREAM: u8 = 3;
    /// SETTINGS.
    pub(crate) const SETTINGS: u8 = 4;
    /// PING.
    pub(crate) const PING: u8 = 6;
    /// GOAWAY.
    pub(crate) const GOAWAY: u8 = 7;
    /// WINDOW_UPDATE.
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION.
    pub(crate) const CONTINUATION: u8 = 9;
}

/// END_STREAM on DATA and HEADERS, ACK on SETTINGS and PING.
pub(crate) const END_STREAM: u8 = 1;
/// ACK on SETTINGS and PING.
pub(crate) const ACK: u8 = 1;
/// END_HEADERS.
pub(crate) const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// What a client sends first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest payload that is sent or expected: HTTP/2's default.
pub(crate) const PAYLOAD: usize = 16_384;
const HEADER: usize = 9;

/// One whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// See [`kind`].
    pub(crate) kind: u8,
    /// Flags.
    pub(crate) flags: u8,
    /// Stream; 0 is the connection.
    pub(crate) stream: u32,
    /// Payload.
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Whether the sender's side of the stream ends here.
    pub(crate) fn ends_stream(&self) -> bool {
        self.flags & END_STREAM != 0
    }

    /// The header block of HEADERS without padding and priority.
    ///
    /// # Errors
    /// The frame is shorter than its flags say.
    pub(crate) fn block(&self) -> Result<&'a [u8], Broken> {
        let short = || Broken("a HEADERS frame is shorter than its flags say".into());
        let mut block = self.payload;
        if self.flags & PADDED != 0 {
            let (pad, rest) = block.split_first().ok_or_else(short)?;
            let end = rest.len().checked_sub(usize::from(*pad)).ok_or_else(short)?;
            block = &rest[..end];
        }
        if self.flags & PRIORITY != 0 {
            block = block.get(5..).ok_or_else(short)?;
        }
        Ok(block)
    }

    /// A payload that is one number, as in WINDOW_UPDATE.
    ///
    /// # Errors
    /// It has another length.
    pub(crate) fn number(&self) -> Result<u32, Broken> {
        let bytes = self.payload.try_into().map_err(|_| Broken("a frame of one number has another length".into()))?;
        Ok(u32::from_be_bytes(bytes) & 0x7fff_ffff)
    }
}

/// Cuts bytes into frames; keeps what is left of the last one.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    kept: Vec<u8>,
}

impl Cutter {
    /// Hands each whole frame to `each`.
    ///
    /// # Errors
    /// A frame is too long, or `each` says so.
    pub(crate) fn cut(
        &mut self,
        input: &[u8],
        mut each: impl FnMut(Frame<'_>) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        if self.kept.is_empty() {
            let used = cut(input, &mut each)?;
            self.kept.extend_from_slice(&input[used..]);
        } else {
            self.kept.extend_from_slice(input);
            let used = cut(&self.kept, &mut each)?;
            self.kept.drain(..used);
        }
        Ok(())
    }
}

fn cut(bytes: &[u8], each: &mut impl FnMut(Frame<'_>) -> Result<(), Broken>) -> Result<usize, Broken> {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + HEADER) {
        let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        if length > PAYLOAD {
            return Err(Broken(format!("a frame has {length} bytes, more than {PAYLOAD}")));
        }
        let Some(payload) = bytes.get(at + HEADER..at + HEADER + length) else { break };
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & 0x7fff_ffff;
        each(Frame { kind: header[3], flags: header[4], stream, payload })?;
        at += HEADER + length;
    }
    Ok(at)
}

/// Writes one frame.
pub(crate) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut() {
        let mut bytes = Vec::new();
        write(&mut bytes, kind::HEADERS, END_HEADERS, 1, b"block");
        write(&mut bytes, kind::DATA, END_STREAM, 1, &[b'x'; 300]);
        write(&mut bytes, kind::WINDOW_UPDATE, 0, 0, &7u32.to_be_bytes());
        for piece in [1, 8, 9, 10, 1_000] {
            let mut cutter = Cutter::default();
            let mut seen = Vec::new();
            for part in bytes.chunks(piece) {
                cutter
                    .cut(part, |frame| {
                        seen.push((frame.kind, frame.ends_stream(), frame.stream, frame.payload.len()));
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!(seen, [(1, false, 1, 5), (0, true, 1, 300), (8, false, 0, 4)], "pieces of {piece}");
        }
    }

    #[test]
    fn padding_and_priority_are_no_part_of_the_block() {
        let frame =
            Frame { kind: kind::HEADERS, flags: PADDED | PRIORITY, stream: 1, payload: &[2, 0, 0, 0, 0, 0, 9, 8, 7] };
        assert_eq!(frame.block().unwrap(), [9]);
        assert!(Frame { payload: &[9, 1], ..frame }.block().is_err());
    }
}
