//! What the activator does for gRPC: it keeps a call's deadline, from the call's arrival on, and tells its end as a gRPC status. Pure.
//! See <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::error::GrpcStatus;
use crate::error::respond::is_grpc as is_grpc_type;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// A timeout has eight digits at most.
const LARGEST: u128 = 99_999_999;

/// Whether headers are a gRPC call's, or its response's.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(is_grpc_type)
}

/// Whether the status in a call's headers or trailers says that it failed through the server: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE
/// or DATA_LOSS. The others speak of the call itself, UNIMPLEMENTED too.
pub fn blames_server(fields: &HeaderMap) -> bool {
    fields.get(GRPC_STATUS).is_some_and(|status| matches!(status.as_bytes(), b"2" | b"4" | b"13" | b"14" | b"15"))
}

/// When a call that arrived at `arrived` has taken too long for its caller; `None` where it does not say, or says it wrongly.
pub fn deadline(headers: &HeaderMap, arrived: Instant) -> Option<Instant> {
    let value = headers.get(GRPC_TIMEOUT).filter(|_| is_grpc(headers))?;
    arrived.checked_add(parse(value.as_bytes())?)
}

fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Tells the pod what is left of a deadline: time spent waiting for a pod counts for the caller.
pub fn pass_on(headers: &mut HeaderMap, deadline: Instant, now: Instant) {
    let left = deadline.saturating_duration_since(now);
    let units = [(left.as_micros(), 'u'), (left.as_millis(), 'm'), (u128::from(left.as_secs()), 'S')];
    let Some((amount, unit)) = units.into_iter().find(|(amount, _)| *amount <= LARGEST) else { return };
    if let Ok(value) = HeaderValue::from_str(&format!("{amount}{unit}")) {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

/// The trailers that end a call whose time is over.
pub fn too_late(words: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(GRPC_STATUS, HeaderValue::from(GrpcStatus::DeadlineExceeded as u16));
    trailers.insert("grpc-message", HeaderValue::from_static(words));
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_unit_is_known_and_nonsense_is_not() {
        for (value, wanted) in [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("1S", Some(Duration::from_secs(1))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("0n", Some(Duration::ZERO)),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1", None),
            ("1s", None),
            ("1 S", None),
        ] {
            assert_eq!(parse(value.as_bytes()), wanted, "{value:?}");
        }
    }

    #[test]
    fn only_grpc_calls_have_one() {
        let now = Instant::now();
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("1S"));
        assert_eq!(deadline(&headers, now), None);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc-web"));
        assert_eq!(deadline(&headers, now), None);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        assert_eq!(deadline(&headers, now), Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn only_some_statuses_blame_the_server() {
        let blamed: Vec<u8> = (0..=17)
            .filter(|status| {
                blames_server(&HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from(u16::from(*status)))]))
            })
            .collect();
        assert_eq!(blamed, [2, 4, 13, 14, 15]);
        assert!(!blames_server(&HeaderMap::new()));
        assert!(!blames_server(&HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("UNKNOWN"))])));
    }

    proptest! {
        #[test]
        fn what_is_passed_on_is_what_is_left(millis in 0_u64..99_999_999_000) {
            let now = Instant::now();
            let left = Duration::from_millis(millis);
            let mut headers = HeaderMap::new();
            pass_on(&mut headers, now + left, now);
            let told = parse(headers[GRPC_TIMEOUT].as_bytes());
            let Some(told) = told else { panic!("{:?}", headers[GRPC_TIMEOUT]) };
            prop_assert!(told <= left, "never later than the caller waits");
            prop_assert!(left - told <= Duration::from_secs(1));
        }
    }
}
