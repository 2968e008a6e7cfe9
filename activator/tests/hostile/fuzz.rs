//! The strict reader and the rules for headers against input that has been made to get past their first lines: changed requests, fields that the
//! rules look at. `PROPTEST_CASES` makes a long run of a short one. See [`crate::targets`] for all parsers and a fuzzer.

use clap::Parser as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use pilotlight_activator::args::Args;
use pilotlight_activator::error::accept::negotiate;
use pilotlight_activator::listen::strict::{Fault, Strict, is_last};
use pilotlight_activator::proxy::headers;
use pilotlight_activator::telemetry::context::TraceContext;
use pilotlight_activator::telemetry::ids::is_request_id;
use proptest::prelude::*;

use crate::mutate::mutation;
use crate::oracle::{End, meaning};

/// Fields that some rule looks at.
pub(crate) const NAMES: &[&str] = &[
    "connection",
    "te",
    "upgrade",
    "host",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "via",
    "cookie",
    "accept",
    "traceparent",
    "tracestate",
    "grpc-timeout",
    "content-type",
    "transfer-encoding",
    "content-length",
    "pilotlight-relay",
    "pilotlight-x",
    "keep-alive",
    "trailer",
    "x-request-id",
    "x-other",
];

/// Requests that were changed, or just bytes.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0..1_000_000_u64).prop_map(mutation),
        1 => prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' ')], 0..200),
    ]
}

/// How much is accepted of `bytes` when they come in pieces, and what is wrong then.
pub(crate) fn judge(bytes: &[u8], cuts: impl IntoIterator<Item = usize>) -> (usize, Option<Fault>) {
    let mut strict = Strict::new((64 * 1024, 128));
    let mut ends: Vec<usize> = cuts.into_iter().collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    let mut accepted = 0;
    for end in ends {
        let (more, fault) = strict.check(&bytes[accepted..end.max(accepted)]);
        accepted += more;
        if fault.is_some() {
            return (accepted, fault);
        }
    }
    (accepted, None)
}

/// Names and values as HTTP allows them, often such as the rules look at.
fn fields() -> impl Strategy<Value = HeaderMap> {
    let name = prop_oneof![prop::sample::select(NAMES).prop_map(str::to_owned), "[a-z][a-z0-9-]{0,12}",];
    let value = prop::collection::vec(prop_oneof![3 => 0x20..0x7f_u8, 1 => 0x80..=0xff_u8, 1 => Just(b',')], 0..40);
    prop::collection::vec((name, value), 0..12).prop_map(|fields| {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&value)) else { continue };
            map.append(name, value);
        }
        map
    })
}

#[test]
fn every_byte_of_a_target_has_one_meaning() {
    for before in ["/", "/a?", "http://h", "http://h/", "http://h?"] {
        for byte in 0..=255_u8 {
            let request = [b"GET ", before.as_bytes(), &[byte], b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
            let (accepted, fault) = judge(&request, []);
            let meant = meaning(&request);
            let clear = matches!(meant.end, End::Clean) && meant.messages.len() == 1;
            assert_eq!(accepted == request.len(), clear, "{}: {fault:?}, {:?}", request.escape_ascii(), meant.end);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_strict_reader_judges_alike_however_bytes_are_cut(bytes in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let cuts = cuts.iter().map(|cut| cut.index(bytes.len() + 1));
        prop_assert_eq!(judge(&bytes, []), judge(&bytes, cuts));
    }

    #[test]
    fn what_the_strict_reader_accepts_has_one_meaning(bytes in stream()) {
        let (accepted, _) = judge(&bytes, []);
        let meant = meaning(&bytes[..accepted]);
        prop_assert!(!matches!(meant.end, End::Ambiguous(_)) || accepted == 0, "{:?}: {}", meant.end, bytes[..accepted].escape_ascii());
    }

    #[test]
    fn header_rules_are_survived(fields in fields(), trusted: bool, number in 0..4_u8, target in "(/|http://h/|\\*)[ -~]{0,20}") {
        let version = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2, Version::HTTP_3][usize::from(number)];
        let _ = (negotiate(&fields), headers::upgrade_protocol(version, &fields), is_last(&Method::GET, version, &fields));
        for value in fields.values() {
            let _ = (TraceContext::parse(value.as_bytes()), is_request_id(value));
        }
        if let Ok(uri) = target.parse::<Uri>() {
            let _ = headers::check(&Method::POST, &uri, version, &fields);
        }
        let mut request = fields.clone();
        headers::strip_request(&mut request, trusted);
        headers::join_cookies(&mut request);
        headers::add_via(&mut request, version);
        for hop in ["connection", "keep-alive", "transfer-encoding", "upgrade", "pilotlight-x"] {
            prop_assert!(!request.contains_key(hop), "{} stayed", hop);
        }
        let mut response = fields;
        headers::strip_response(&mut response);
        prop_assert!(!response.contains_key("connection"));
    }

    #[test]
    fn flags_are_survived(flags in prop::collection::vec("(--[a-z-]{0,24}|--max-(headers|streams|header-bytes|connections)=)?[0-9]{0,21}", 0..4)) {
        if let Ok(args) = Args::try_parse_from(std::iter::once("activator".to_owned()).chain(flags)) {
            let _ = args.limits();
        }
    }
}
