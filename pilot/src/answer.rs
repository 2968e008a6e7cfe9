//! The bytes that a placeholder answers with: kubelet's probes hear that all is well, everybody else that this is no function. Pure.
//!
//! What always holds: every answer carries the header `pilotlight-placeholder`, so that nobody takes it for the function's.

/// The header that marks every answer.
const MARK: &str = "pilotlight-placeholder";
/// How a connection of HTTP/2 with prior knowledge begins.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty frame of settings, and the acknowledgement of the other side's.
pub(crate) const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const SETTINGS_ACKNOWLEDGED: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];
/// Bytes of a frame's head.
pub(crate) const FRAME_HEAD: usize = 9;
/// `/grpc.health.v1.Health/Check`, the method that a gRPC probe calls, as HPACK's code (RFC 7541, appendix B) writes it.
const HEALTH_CODED: &[u8] = &[
    0x62, 0x6b, 0x2b, 0x22, 0xf3, 0x94, 0x74, 0x26, 0x75, 0xfb, 0x85, 0x7c, 0x65, 0x1d, 0x09, 0x9d, 0x8b, 0xd3, 0x94,
    0x9d, 0x7f,
];
const HEALTH_PLAIN: &[u8] = b"/grpc.health.v1.Health/Check";

/// The answer to a request of HTTP/1.1, whose head is whole.
pub(crate) fn http1(head: &[u8]) -> Vec<u8> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let is_head = lines.next().is_some_and(|line| line.starts_with("HEAD "));
    let probes = lines
        .filter_map(|line| line.split_once(':'))
        .any(|(name, value)| name.eq_ignore_ascii_case("user-agent") && value.trim_start().starts_with("kube-probe/"));
    let (status, body) = if probes {
        ("200 OK", "parked\n")
    } else {
        (
            "503 Service Unavailable",
            "this pod is parked by Pilotlight and its function does not run; ask the Function's Service, which wakes it\n",
        )
    };
    let sent = if is_head { "" } else { body };
    format!(
        "HTTP/1.1 {status}\r\n{MARK}: true\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{sent}",
        body.len()
    )
    .into_bytes()
}

/// A frame of HTTP/2, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Bytes that follow its head.
    pub(crate) length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    /// Reads a frame's head.
    pub(crate) fn read(head: [u8; FRAME_HEAD]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = head;
        Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        }
    }

    /// What is to be sent for it.
    pub(crate) fn answer(self, payload: &[u8]) -> Vec<u8> {
        const HEADERS: u8 = 1;
        const SETTINGS: u8 = 4;
        const PING: u8 = 6;
        const ACK: u8 = 1;
        match self.kind {
            SETTINGS if self.flags & ACK == 0 => SETTINGS_ACKNOWLEDGED.to_vec(),
            PING if self.flags & ACK == 0 => frame(PING, ACK, 0, payload),
            HEADERS => self.respond(payload),
            _ => Vec::new(),
        }
    }

    /// Answers as gRPC does: the probe's method with a message, everything else by the status `UNAVAILABLE`.
    fn respond(self, fields: &[u8]) -> Vec<u8> {
        const END_STREAM: u8 = 1;
        const END_HEADERS: u8 = 4;
        // `:status: 200` and `content-type` are the static table's 8 and 31.
        let mut head = vec![0x88];
        literal(&mut head, &[0x0f, 0x10], b"application/grpc");
        named(&mut head, MARK, "true");
        let probes = contains(fields, HEALTH_CODED) || contains(fields, HEALTH_PLAIN);
        if !probes {
            named(&mut head, "grpc-status", "14");
            named(&mut head, "grpc-message", "this pod is parked by Pilotlight and its function does not run");
            return frame(1, END_HEADERS | END_STREAM, self.stream, &head);
        }
        let mut trailer = Vec::new();
        named(&mut trailer, "grpc-status", "0");
        let mut all = frame(1, END_HEADERS, self.stream, &head);
        // Not compressed, two bytes: field 1 of HealthCheckResponse is SERVING.
        all.extend(frame(0, 0, self.stream, &[0, 0, 0, 0, 2, 8, 1]));
        all.extend(frame(1, END_HEADERS | END_STREAM, self.stream, &trailer));
        all
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    // No payload here is longer than a few hundred bytes.
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut frame = vec![0, length[0], length[1], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn named(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    string(block, name.as_bytes());
    string(block, value.as_bytes());
}

fn literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.extend(name);
    string(block, value);
}

/// None here is as long as 127 bytes, where the length would take another byte.
fn string(block: &mut Vec<u8>, text: &[u8]) {
    block.push(u8::try_from(text.len()).unwrap_or(0));
    block.extend(text);
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilotlight_crds::names::HEADER_PLACEHOLDER;

    #[test]
    fn kubelet_hears_that_all_is_well_and_nobody_else() {
        let said = |head: &str| String::from_utf8(http1(head.as_bytes())).unwrap();
        let probe = said("GET /ready?x=1 HTTP/1.1\r\nHost: 10.0.0.9:8080\r\nuser-agent: kube-probe/1.35\r\n\r\n");
        assert!(probe.starts_with("HTTP/1.1 200 OK\r\n"), "{probe}");
        let other = said("POST / HTTP/1.1\r\nHost: hello\r\nUser-Agent: curl/8\r\n\r\n");
        assert!(other.starts_with("HTTP/1.1 503 "), "{other}");
        let nobody = said("GET / HTTP/1.1\r\nHost: kube-probe/1\r\n\r\n");
        assert!(nobody.starts_with("HTTP/1.1 503 "), "{nobody}");
        for answer in [&probe, &other, &nobody] {
            assert!(answer.contains(&format!("\r\n{HEADER_PLACEHOLDER}: true\r\n")), "{answer}");
        }
        let head = said("HEAD / HTTP/1.1\r\nUser-Agent: kube-probe/1.35\r\n\r\n");
        assert!(head.ends_with("\r\n\r\n") && head.contains("Content-Length: 7"), "{head}");
    }

    #[test]
    fn settings_and_pings_are_acknowledged_once() {
        let frame = |kind, flags| Frame { length: 8, kind, flags, stream: 0 };
        assert_eq!(frame(4, 0).answer(&[]), SETTINGS_ACKNOWLEDGED);
        assert_eq!(frame(4, 1).answer(&[]), b"");
        assert_eq!(frame(6, 0).answer(b"12345678"), [&[0, 0, 8, 6, 1, 0, 0, 0, 0], &b"12345678"[..]].concat());
        assert_eq!(frame(6, 1).answer(b"12345678"), b"");
        assert_eq!(frame(8, 0).answer(&[0, 0, 0, 1]), b"", "a window");
        assert_eq!(
            Frame::read([1, 2, 3, 1, 4, 0x80, 0, 0, 5]),
            Frame { length: 0x1_0203, kind: 1, flags: 4, stream: 5 }
        );
    }
}
