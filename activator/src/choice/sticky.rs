//! How clients stay with a revision: a number that is theirs takes the place of the random one. Pure.
//!
//! What always holds: the same header value gives the same number in every activator and in every version of Pilotlight.

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use pilotlight_crds::traffic;

use super::{Asked, Directions, fields};

/// Where a client's number comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// From the value of this header.
    Header(HeaderName),
    /// The client got it as a cookie.
    Cookie(Cookie),
}

/// The cookie that a client is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    name: Box<str>,
    /// Seconds that the client keeps it; 0: as long as its session.
    max_age: u32,
}

/// A client's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// It has this one.
    Has(u64),
    /// It has none, and gets one.
    Lacks,
    /// It has none, and stays without.
    Anonymous,
}

impl Sticky {
    /// What the author says; `None` where that is nothing.
    pub fn new(sticky: &traffic::Sticky) -> Option<Self> {
        if let Some(cookie) = &sticky.cookie {
            return Some(Self::Cookie(Cookie { name: cookie.name.as_str().into(), max_age: cookie.max_age_seconds }));
        }
        HeaderName::try_from(sticky.header.as_deref()?).ok().map(Self::Header)
    }

    /// The number of whoever asks.
    pub fn number(&self, asked: &Asked<'_>) -> Number {
        match self {
            Self::Header(name) => {
                let value = asked.values(name).map(HeaderValue::as_bytes).find(|value| !value.is_empty());
                value.map_or(Number::Anonymous, |value| Number::Has(hash(value)))
            }
            Self::Cookie(cookie) => {
                fields::cookies(asked.headers, &cookie.name).find_map(read).map_or(Number::Lacks, Number::Has)
            }
        }
    }
}

/// FNV-1a with 64 bits, then the finalizer of MurmurHash3 (fmix64), which makes the high bits good that decide over the place in the row.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// A number of sixteen hexadecimal digits.
fn read(value: &[u8]) -> Option<u64> {
    if value.len() != 16 || !value.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(value).ok()?, 16).ok()
}

/// A number that a client gets as a cookie.
#[derive(Clone, Debug)]
pub struct Given {
    /// With the cookie's name.
    pub(super) directions: Arc<Directions>,
    /// The number.
    pub(super) number: u64,
}

impl Given {
    /// The value of `Set-Cookie`. `encrypted`: the client came by TLS.
    pub fn field(&self, encrypted: bool) -> Option<HeaderValue> {
        let Some(Sticky::Cookie(Cookie { name, max_age })) = &self.directions.sticky else { return None };
        let mut text = format!("{name}={:016x}; Path=/; HttpOnly; SameSite=Lax", self.number);
        if *max_age > 0 {
            text.push_str(&format!("; Max-Age={max_age}"));
        }
        if encrypted {
            text.push_str("; Secure");
        }
        HeaderValue::try_from(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Uri};
    use proptest::prelude::*;

    fn sticky(sticky: serde_json::Value) -> Option<Sticky> {
        Sticky::new(&serde_json::from_value(sticky).unwrap())
    }

    fn number(sticky: &Sticky, fields: &[(&'static str, &[u8])]) -> Number {
        let (uri, host) = (Uri::from_static("/"), HeaderValue::from_static("hello.shop"));
        let field = |(name, value): &(&'static str, &[u8])| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        };
        let headers: HeaderMap = fields.iter().map(field).collect();
        sticky.number(&Asked { told: None, tag: None, host: &host, uri: &uri, headers: &headers })
    }

    /// These must never change: clients would go to other revisions with a new version of Pilotlight.
    #[test]
    fn the_hash_is_the_documented_one() {
        for (value, wanted) in [
            (&b""[..], 0xefd0_1f60_ba99_2926),
            (b"a", 0x82a2_a958_a9be_ce5b),
            (b"42", 0x810b_196a_56ee_3cec),
            (b"alice", 0x3507_d047_a67c_08f4),
            (b"\xff\x00", 0x6697_e696_89e5_177a),
        ] {
            assert_eq!(hash(value), wanted, "{value:?}");
        }
    }

    #[test]
    fn names_that_differ_little_are_spread_evenly() {
        let mut counts = [0_u32; 100];
        for n in 0..100_000 {
            let place = (u128::from(hash(format!("user-{n}").as_bytes())) * 100) >> 64;
            counts[usize::try_from(place).unwrap()] += 1;
        }
        // Chi-square with 99 degrees of freedom: above 149 once in a thousand.
        let chi_square: f64 = counts.iter().map(|count| (f64::from(*count) - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi_square < 149.0, "{chi_square}");
    }

    #[test]
    fn a_header_gives_a_number_and_without_it_there_is_none() {
        let header = sticky(serde_json::json!({"header": "X-User"})).unwrap();
        assert_eq!(number(&header, &[("x-user", b"alice")]), Number::Has(0x3507_d047_a67c_08f4));
        assert_eq!(number(&header, &[("x-user", b"alice"), ("x-user", b"bob")]), Number::Has(hash(b"alice")));
        assert_eq!(number(&header, &[("x-user", b"")]), Number::Anonymous);
        assert_eq!(number(&header, &[]), Number::Anonymous);
    }

    #[test]
    fn a_cookie_is_the_number_itself() {
        let cookie = sticky(serde_json::json!({"cookie": {"name": "seat"}})).unwrap();
        assert_eq!(number(&cookie, &[("cookie", b"a=b; seat=00000000000000ff")]), Number::Has(255));
        let second: &[(&'static str, &[u8])] = &[("cookie", b"seat=x"), ("cookie", b"seat=FFFFFFFFFFFFFFFF")];
        assert_eq!(number(&cookie, second), Number::Has(u64::MAX), "the first that can be read");
        for bad in
            ["", "seat=", "seat=ff", "seat=+0000000000000ff", "seat=\"00000000000000ff\"", "seat=00000000000000fg"]
        {
            assert_eq!(number(&cookie, &[("cookie", bad.as_bytes())]), Number::Lacks, "{bad}");
        }
        assert_eq!(number(&cookie, &[]), Number::Lacks);
        assert_eq!(sticky(serde_json::json!({})), None);
    }

    #[test]
    fn the_cookie_that_is_given_says_how_it_is_to_be_kept() {
        let field = |text: serde_json::Value, encrypted| {
            let directions = Directions { sticky: sticky(text), ..Directions::default() };
            Given { directions: Arc::new(directions), number: 0xab }.field(encrypted)
        };
        let session = serde_json::json!({"cookie": {"name": "seat"}});
        assert_eq!(field(session, false).unwrap(), "seat=00000000000000ab; Path=/; HttpOnly; SameSite=Lax");
        let week = serde_json::json!({"cookie": {"name": "seat", "maxAgeSeconds": 604_800}});
        assert_eq!(
            field(week, true).unwrap(),
            "seat=00000000000000ab; Path=/; HttpOnly; SameSite=Lax; Max-Age=604800; Secure"
        );
        assert_eq!(field(serde_json::json!({"header": "x-user"}), true), None);
    }

    proptest! {
        #[test]
        fn what_is_given_is_read(number: u64, encrypted: bool) {
            let directions = Directions { sticky: sticky(serde_json::json!({"cookie": {"name": "s"}})), ..Directions::default() };
            let field = Given { directions: Arc::new(directions), number }.field(encrypted).unwrap();
            let value = field.to_str().unwrap().strip_prefix("s=").unwrap().split(';').next().unwrap();
            prop_assert_eq!(read(value.as_bytes()), Some(number));
        }

        #[test]
        fn any_value_is_survived(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (hash(&value), read(&value));
        }
    }
}
