//! W3C trace context, level 2: `traceparent` and `tracestate` in and out. What is invalid is dropped as the specification says, so that
//! no pod sees half a context. Pure.

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::ids::push_hex;

/// `traceparent`.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate`.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;
const LENGTH: usize = 55;
const MAX_MEMBERS: usize = 32;

/// The place of a request in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Of the whole trace; not zero.
    pub trace_id: u128,
    /// Of the caller's span; not zero.
    pub span_id: u64,
    /// The flags that this version knows.
    pub flags: u8,
}

impl TraceContext {
    /// A trace that begins here.
    pub fn begin(trace_id: u128, span_id: u64, sampled: bool) -> Self {
        Self { trace_id, span_id, flags: RANDOM | u8::from(sampled) }
    }

    /// A child of it.
    pub fn child(self, span_id: u64, sampled: bool) -> Self {
        Self { span_id, flags: self.flags & !SAMPLED | u8::from(sampled), ..self }
    }

    /// Whether the caller records this trace.
    pub fn sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Reads the value of a `traceparent`. Versions of the future are read as far as this one goes.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(LENGTH)?;
        let separated = [2, 35, 52].iter().all(|at| head[*at] == b'-');
        let version = u8::try_from(hex(&head[..2])?).ok()?;
        let whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        let trace_id = hex(&head[3..35])?;
        let span_id = u64::try_from(hex(&head[36..52])?).ok()?;
        let flags = u8::try_from(hex(&head[53..])?).ok()? & (SAMPLED | RANDOM);
        (separated && whole && trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, flags })
    }

    /// The value of a `traceparent`.
    pub fn header(self) -> HeaderValue {
        let mut out = Vec::with_capacity(LENGTH);
        out.extend_from_slice(b"00-");
        push_hex(&mut out, self.trace_id, 32);
        out.push(b'-');
        push_hex(&mut out, u128::from(self.span_id), 16);
        out.push(b'-');
        push_hex(&mut out, u128::from(self.flags), 2);
        HeaderValue::from_maybe_shared(Bytes::from(out)).expect("digits and dashes are a header's value")
    }
}

/// Lower case only, as the specification wants.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// The context that a request came with. Headers that are invalid are removed: both where `traceparent` is, else only `tracestate`.
pub fn extract(headers: &mut HeaderMap) -> Option<TraceContext> {
    let context = {
        let mut values = headers.get_all(TRACEPARENT).iter();
        match (values.next(), values.next()) {
            (Some(only), None) => TraceContext::parse(only.as_bytes()),
            _ => None,
        }
    };
    if context.is_none() {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
    } else if headers.contains_key(TRACESTATE) && !is_tracestate(headers) {
        headers.remove(TRACESTATE);
    }
    context
}

/// All its fields together are one list of at most 32 members, none of which has the key of another.
fn is_tracestate(headers: &HeaderMap) -> bool {
    let mut keys: Vec<&[u8]> = Vec::new();
    for value in headers.get_all(TRACESTATE) {
        for member in value.as_bytes().split(|byte| *byte == b',') {
            let member = member.trim_ascii();
            if member.is_empty() {
                continue;
            }
            let Some(at) = member.iter().position(|byte| *byte == b'=') else { return false };
            let (key, value) = (&member[..at], &member[at + 1..]);
            if !is_key(key) || !is_value(value) || keys.len() == MAX_MEMBERS || keys.contains(&key) {
                return false;
            }
            keys.push(key);
        }
    }
    true
}

fn is_key(key: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=256).contains(&key.len())
        && key.first().is_some_and(plain)
        && key.iter().all(|byte| plain(byte) || b"_-*/@".contains(byte))
}

fn is_value(value: &[u8]) -> bool {
    (1..=256).contains(&value.len())
        && value.iter().all(|byte| matches!(byte, 0x20..=0x7e) && *byte != b',' && *byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_valid_parent_is_read() {
        let context = TraceContext::parse(VALID.as_bytes()).unwrap();
        assert_eq!(context.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(context.span_id, 0x00f0_67aa_0ba9_02b7);
        assert!(context.sampled());
        let future = format!("cc{}-what-the-future-brings", &VALID[2..]);
        assert_eq!(TraceContext::parse(future.as_bytes()), Some(context));
        assert!(!TraceContext::parse(format!("{}f8", &VALID[..53]).as_bytes()).unwrap().sampled());
    }

    #[test]
    fn invalid_parents_are_dropped_with_their_state() {
        let zero_trace = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let zero_span = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        let upper = VALID.to_uppercase();
        let longer = format!("{VALID}-00");
        let glued = format!("cc{}00", &VALID[2..]);
        let forbidden = format!("ff{}", &VALID[2..]);
        for bad in ["", "00", zero_trace, zero_span, &upper, &longer, &glued, &forbidden, &VALID.replace('-', "_")] {
            let mut headers = headers(&[("traceparent", bad), ("tracestate", "a=1")]);
            assert_eq!(extract(&mut headers), None, "{bad}");
            assert!(headers.is_empty(), "{bad}");
        }
        let mut twice = headers(&[("traceparent", VALID), ("traceparent", VALID)]);
        assert_eq!(extract(&mut twice), None);
        assert!(twice.is_empty());
    }

    #[test]
    fn an_invalid_state_is_dropped_alone() {
        let many: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
        let long = format!("a={}", "x".repeat(257));
        for bad in ["a", "a=1,a=2", "A=1", "a=b=c", "=1", "a=", &many.join(","), &long] {
            let mut headers = headers(&[("traceparent", VALID), ("tracestate", bad)]);
            assert!(extract(&mut headers).is_some(), "{bad}");
            assert!(!headers.contains_key(TRACESTATE), "{bad}");
        }
        for good in ["a=1", "rojo=00f067aa0ba902b7 , congo@t61=xyz,,", "", &many[..32].join(",")] {
            let mut headers = headers(&[("traceparent", VALID), ("tracestate", good)]);
            assert!(extract(&mut headers).is_some(), "{good}");
            assert_eq!(headers[TRACESTATE], good, "{good}");
        }
    }

    #[test]
    fn a_child_keeps_trace_and_origin() {
        let child = TraceContext::parse(VALID.as_bytes()).unwrap().child(0xab, false);
        assert_eq!(child.header(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000ab-00");
        assert_eq!(TraceContext::begin(1, 2, true).header(), "00-00000000000000000000000000000001-0000000000000002-03");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace_id in 1u128.., span_id in 1u64.., flags in 0u8..4) {
            let context = TraceContext { trace_id, span_id, flags };
            prop_assert_eq!(TraceContext::parse(context.header().as_bytes()), Some(context));
        }

        #[test]
        fn any_bytes_are_survived(parent in prop::collection::vec(any::<u8>(), 0..70), state in "[ -~]{0,80}") {
            let _ = TraceContext::parse(&parent);
            let mut headers = headers(&[("traceparent", VALID), ("tracestate", &state)]);
            let _ = extract(&mut headers);
        }
    }
}
