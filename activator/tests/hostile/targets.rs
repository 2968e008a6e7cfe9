//! A fuzz target for each parser of the activator's own: bytes that nobody meant panic nowhere, and what must hold of any input holds.
//!
//! `cargo test` tries each for a moment, at random. A fuzzer that follows the branches taken runs one for as long as it may:
//! `cargo bolero test --package pilotlight-activator --rustc-bootstrap -T 10min targets::strict_reader`.

use std::time::{Duration, Instant};

use bolero::check;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use pilotlight_activator::error::accept::negotiate;
use pilotlight_activator::listen::strict::is_last;
use pilotlight_activator::listen::{sniff, syntax};
use pilotlight_activator::proxy::forwarded::{Peer, Trust, X_FORWARDED_FOR, forward, network};
use pilotlight_activator::proxy::{Client, grpc, headers};
use pilotlight_activator::relay::mark::Mark;
use pilotlight_activator::route::{Domains, RouteTable};
use pilotlight_activator::telemetry::context::{TraceContext, extract};
use pilotlight_activator::telemetry::ids::is_request_id;
use pilotlight_activator::telemetry::sampler::Sampler;
use pilotlight_activator::tls::certificate::{Certificate, Files};
use pilotlight_crds::control::{ClaimLine, ClaimRequest, DrainRequest, DrainResponse, ReleaseRequest, SampleBatch};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fuzz::{NAMES, judge};
use crate::oracle::{End, meaning};

/// Headers out of bytes: lines, whose first byte chooses the name.
fn fields(bytes: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((name, value)) = line.split_first() else { continue };
        let name = HeaderName::from_static(NAMES[usize::from(*name) % NAMES.len()]);
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        map.append(name, value);
    }
    map
}

/// Cuts off a first part, as long as the first byte says.
fn parts(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = bytes.split_first() else { return (&[], &[]) };
    rest.split_at(usize::from(*length).min(rest.len()))
}

#[test]
fn strict_reader() {
    check!().for_each(|input: &[u8]| {
        let (cuts, bytes) = parts(input);
        let (accepted, fault) = judge(bytes, []);
        let cuts = cuts.iter().map(|cut| usize::from(*cut).min(bytes.len()));
        assert_eq!((accepted, fault), judge(bytes, cuts), "it depends on how the bytes come");
        let meant = meaning(&bytes[..accepted]);
        assert!(!matches!(meant.end, End::Ambiguous(_)) || accepted == 0, "{:?}", meant.end);
    });
}

#[test]
fn lines_of_a_head() {
    check!().for_each(|line: &[u8]| {
        let _ = (syntax::request_line(line), syntax::is_host(line));
        if syntax::is_all_text(line)
            && let Ok((name, value)) = syntax::field(line)
        {
            let named = HeaderName::from_bytes(name).expect("a name that hyper takes too");
            assert!(HeaderValue::from_bytes(value).is_ok(), "{named}");
        }
        if let Ok(size) = syntax::chunk_size(line) {
            assert!(size < 1 << 60);
        }
        if let Ok(length) = syntax::content_length(line) {
            assert_eq!(std::str::from_utf8(line).unwrap().parse::<u64>().unwrap(), length);
        }
    });
}

#[test]
fn first_bytes() {
    check!().for_each(|input: &[u8]| {
        const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let (kept, rest) = parts(input);
        let bytes = [&PREFACE[..kept.len().min(PREFACE.len())], rest].concat();
        let told = sniff::protocol(&bytes);
        let early = (0..bytes.len()).find_map(|end| sniff::protocol(&bytes[..end]));
        assert!(early.is_none() || early == told, "what was told does not change");
        assert!(told.is_some() || bytes.len() < PREFACE.len(), "a whole preface is enough");
    });
}

#[test]
fn hosts() {
    let domains = Domains::new("cluster.local", "fn.example.com");
    let table = RouteTable::new(domains, [("hello.shop".to_owned(), ())]);
    check!().for_each(|input: &[u8]| {
        let (kept, rest) = parts(input);
        let known = b"hello.shop.fn.example.com:80";
        for bytes in [rest.to_vec(), [&known[..kept.len().min(known.len())], rest].concat()] {
            let Ok(host) = std::str::from_utf8(&bytes) else { continue };
            if table.lookup(host).is_some() {
                assert!(host.to_ascii_lowercase().starts_with("hello.shop"), "{host}");
            }
        }
    });
}

#[test]
fn origin() {
    let client = Client { address: "192.0.2.1:1".parse().unwrap(), encrypted: false };
    check!().for_each(|input: &[u8]| {
        let (host, bytes) = parts(input);
        let _ = std::str::from_utf8(bytes).map(network);
        let Ok(host) = HeaderValue::from_bytes(host) else { return };
        for trusted in [true, false] {
            let networks = trusted.then(|| network("192.0.2.0/24").unwrap());
            let peer = Peer::new(client, &Trust::new(networks.into_iter().collect()));
            let mut map = fields(bytes);
            headers::strip_request(&mut map, trusted);
            forward(&mut map, &peer, &host, Version::HTTP_11);
            let chain = map.get_all(X_FORWARDED_FOR).iter().next_back().expect("where it came from is told");
            assert!(chain.as_bytes().ends_with(b"192.0.2.1"), "the last one is the peer");
            assert!(trusted || chain == "192.0.2.1", "nobody else is believed");
        }
    });
}

#[test]
fn rules_for_headers() {
    check!().for_each(|input: &[u8]| {
        let (target, bytes) = parts(input);
        let map = fields(bytes);
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            let _ = (headers::upgrade_protocol(version, &map), is_last(&Method::GET, version, &map));
            if let Ok(uri) = Uri::try_from(target) {
                let _ = headers::check(&Method::POST, &uri, version, &map);
            }
        }
        let _ = (negotiate(&map), headers::head_bytes("/", &map));
        let (mut request, mut response) = (map.clone(), map);
        headers::strip_request(&mut request, true);
        headers::join_cookies(&mut request);
        headers::strip_response(&mut response);
        for hop in ["connection", "keep-alive", "pilotlight-x"] {
            assert!(!request.contains_key(hop) && !response.contains_key(hop), "{hop} stayed");
        }
        assert!(request.get_all("cookie").iter().count() <= 1);
    });
}

#[test]
fn grpc_timeouts() {
    check!().for_each(|input: &[u8]| {
        let Ok(value) = HeaderValue::from_bytes(input) else { return };
        let mut map = HeaderMap::from_iter([(HeaderName::from_static("grpc-timeout"), value)]);
        map.insert("content-type", HeaderValue::from_static("application/grpc"));
        let now = Instant::now();
        let Some(due) = grpc::deadline(&map, now) else { return };
        assert!(due >= now);
        grpc::pass_on(&mut map, due, now);
        let again = grpc::deadline(&map, now).expect("what is passed on can be read");
        assert!(again <= due && due - again <= Duration::from_secs(1), "{:?} of {:?}", again - now, due - now);
    });
}

#[test]
fn trace_contexts() {
    check!().for_each(|input: &[u8]| {
        if let Some(context) = TraceContext::parse(input) {
            assert_eq!(TraceContext::parse(context.header().as_bytes()), Some(context));
        }
        let mut map = fields(input);
        if extract(&mut map).is_none() {
            assert!(!map.contains_key("traceparent") && !map.contains_key("tracestate"));
        }
    });
}

#[test]
fn identifiers() {
    check!().for_each(|input: &[u8]| {
        let Ok(value) = HeaderValue::from_bytes(input) else { return };
        if is_request_id(&value) {
            assert!(value.len() <= 128 && value.to_str().is_ok());
        }
        if let Some(mark) = Mark::parse(&value) {
            assert_eq!(Mark::parse(&mark.value().expect("it came in a header")), Some(mark.clone()));
            assert!(!mark.is_by("a key that nobody has"));
        }
    });
}

/// What can be read is written so that it is read as the same.
fn reads_back<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(bytes) {
        let text = serde_json::to_value(&message).unwrap();
        let again: T = serde_json::from_value(text.clone()).expect("the own text can be read");
        assert_eq!(serde_json::to_value(again).unwrap(), text);
    }
}

#[test]
fn control_messages() {
    check!().for_each(|input: &[u8]| {
        reads_back::<DrainRequest>(input);
        reads_back::<DrainResponse>(input);
        reads_back::<ReleaseRequest>(input);
        reads_back::<ClaimRequest>(input);
        reads_back::<ClaimLine>(input);
        reads_back::<SampleBatch>(input);
    });
}

#[test]
fn certificates() {
    check!().for_each(|input: &[u8]| {
        let (chain, key) = parts(input);
        let _ = Certificate::parse(&Files { chain: chain.to_vec(), key: key.to_vec() });
    });
}

#[test]
fn settings() {
    check!().for_each(|input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        for name in ["traceidratio", "parentbased_traceidratio", text] {
            let _ = Sampler::from_settings(name, Some(text));
        }
    });
}
