//! Random identifiers, made without a lock and without a system call: one small generator for each thread, seeded by the system once.
//! They need not be secret, only not to meet.

use std::cell::RefCell;

use bytes::Bytes;
use http::HeaderValue;
use rand::rngs::SmallRng;
use rand::{Rng as _, make_rng};

const HEX: &[u8; 16] = b"0123456789abcdef";
/// What a request id from a trusted proxy may have at most.
const MAX_REQUEST_ID: usize = 128;

thread_local! {
    static RANDOM: RefCell<SmallRng> = RefCell::new(make_rng());
}

/// Sixty-four random bits.
pub fn random_u64() -> u64 {
    RANDOM.with_borrow_mut(rand::Rng::next_u64)
}

/// A trace id: never zero.
pub fn trace_id() -> u128 {
    let (high, low) = RANDOM.with_borrow_mut(|random| (random.next_u64(), random.next_u64()));
    (u128::from(high) << 64 | u128::from(low)).max(1)
}

/// A span id: never zero.
pub fn span_id() -> u64 {
    random_u64().max(1)
}

/// Appends lower case hexadecimal digits, `digits` of them.
pub fn push_hex(out: &mut Vec<u8>, value: u128, digits: u32) {
    for place in (0..digits).rev() {
        let digit = (value >> (4 * place)) & 15;
        out.push(HEX[digit as usize]);
    }
}

/// A new request id: 32 hexadecimal digits.
pub fn request_id() -> HeaderValue {
    let mut out = Vec::with_capacity(32);
    push_hex(&mut out, trace_id(), 32);
    HeaderValue::from_maybe_shared(Bytes::from(out)).expect("hexadecimal digits are a header's value")
}

/// Whether a request id from outside may be passed on: not empty, not long, and of characters that no log and no shell mistakes.
pub fn is_request_id(value: &HeaderValue) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~+/=:@".contains(byte);
    (1..=MAX_REQUEST_ID).contains(&value.len()) && value.as_bytes().iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_differ_also_between_threads() {
        let make = || (0..1000).map(|_| request_id()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(make)).collect();
        let all: Vec<HeaderValue> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4000);
        assert!(all.iter().all(is_request_id));
        assert!(all.iter().all(|id| id.len() == 32));
    }

    #[test]
    fn hexadecimal_keeps_leading_zeros() {
        let mut out = Vec::new();
        push_hex(&mut out, 0xab, 16);
        assert_eq!(out, b"00000000000000ab");
    }

    #[test]
    fn request_ids_from_outside_are_held_to_length_and_characters() {
        let valid = |text: &str| is_request_id(&HeaderValue::from_str(text).unwrap());
        assert!(valid("f47ac10b-58cc-4372-a567-0e02b2c3d479"));
        assert!(valid("01H:x_y.z~/+=@"));
        assert!(valid(&"a".repeat(128)));
        for bad in ["", &"a".repeat(129), "a b", "a\"b", "a\tb", "<a>", "a;b", "$(a)", "a,b"] {
            assert!(!valid(bad), "{bad:?}");
        }
        assert!(!is_request_id(&HeaderValue::from_bytes(b"\xff").unwrap()));
    }
}
