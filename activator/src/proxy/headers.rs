//! Header rules of a gateway: hop-by-hop fields stay on their hop, the forwarding chain grows by one, and nobody outside can
//! pretend to be the activator. Pure.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, Method, Version};

use super::Client;
use crate::error::Refusal;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const INTERNAL_PREFIX: &str = "pilotlight-";

/// Refuses requests that two servers might understand differently, beyond what hyper refuses or makes unambiguous itself (where both
/// Content-Length and Transfer-Encoding are given, hyper drops the first).
///
/// # Errors
/// What is wrong with it.
pub fn check(method: &Method, version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    if method == Method::CONNECT {
        return Err(Refusal::MethodNotSupported);
    }
    if headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(Refusal::BadRequest("it has more than one Host header"));
    }
    if version == Version::HTTP_11 && !headers.contains_key(HOST) {
        return Err(Refusal::BadRequest("it has no Host header"));
    }
    Ok(())
}

/// The protocol that a request asks to switch to. `h2c` is not passed on: the pod's protocol is the Function's own choice.
pub fn upgrade_protocol(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    if version != Version::HTTP_11 || !connection_lists(headers, "upgrade") {
        return None;
    }
    let protocol = headers.get(UPGRADE)?;
    (!protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| protocol.clone())
}

fn connection_lists(headers: &HeaderMap, token: &str) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

/// Removes what concerns only one hop, and what only the activator may say.
pub fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| !is_end_to_end(name))
            .collect();
        for name in listed {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE, HTTP2_SETTINGS] {
        headers.remove(name);
    }
    if headers.contains_key(TE) {
        let trailers = headers
            .get_all(TE)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .any(|v| v.trim().eq_ignore_ascii_case("trailers"));
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    if headers.keys().any(|name| name.as_str().starts_with(INTERNAL_PREFIX)) {
        let spoofed: Vec<HeaderName> =
            headers.keys().filter(|n| n.as_str().starts_with(INTERNAL_PREFIX)).cloned().collect();
        for name in spoofed {
            headers.remove(name);
        }
    }
}

/// Fields that a message needs whatever `Connection` lists: naming them there must not take them away.
fn is_end_to_end(name: &HeaderName) -> bool {
    name == HOST || name == CONTENT_LENGTH || name == TE || name.as_str().starts_with("x-forwarded-")
}

/// Adds this hop to the forwarding chain.
pub fn forward(headers: &mut HeaderMap, client: Client, host: &str, version: Version) {
    let (ip, scheme) = (client.address.ip().to_canonical(), client.scheme());
    append(headers, X_FORWARDED_FOR, &ip.to_string());
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if !headers.contains_key(X_FORWARDED_HOST)
        && let Ok(value) = HeaderValue::from_str(host)
    {
        headers.insert(X_FORWARDED_HOST, value);
    }
    let mut element = String::with_capacity(host.len() + 64);
    let written = match ip {
        IpAddr::V4(ip) => write!(element, "for={ip};proto={scheme}"),
        IpAddr::V6(ip) => write!(element, "for=\"[{ip}]\";proto={scheme}"),
    };
    if written.is_ok() {
        if !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
            let _ = write!(element, ";host=\"{host}\"");
        }
        append(headers, FORWARDED, &element);
    }
    let via = if version == Version::HTTP_2 { "2 pilotlight" } else { "1.1 pilotlight" };
    append(headers, VIA, via);
}

fn append(headers: &mut HeaderMap, name: HeaderName, element: &str) {
    let mut values = headers.get_all(&name).iter();
    let joined = match (values.next(), values.next()) {
        (None, _) => HeaderValue::from_str(element),
        (Some(old), None) => {
            let mut bytes = old.as_bytes().to_vec();
            bytes.extend_from_slice(b", ");
            bytes.extend_from_slice(element.as_bytes());
            HeaderValue::from_bytes(&bytes)
        }
        (Some(_), Some(_)) => {
            if let Ok(value) = HeaderValue::from_str(element) {
                headers.append(name, value);
            }
            return;
        }
    };
    if let Ok(value) = joined {
        headers.insert(name, value);
    }
}

/// HTTP/2 lets a client send `Cookie` in crumbs; HTTP/1.1 wants one field (RFC 9113, 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(value) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, value);
    }
}

/// About how many bytes a request's head holds in memory.
pub fn head_bytes(target: &str, headers: &HeaderMap) -> u64 {
    const FIXED: usize = 512;
    let fields: usize = headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 32).sum();
    (FIXED + target.len() + fields) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn hop_by_hop_and_internal_fields_are_dropped() {
        let mut headers = map(&[
            ("connection", "close, x-private, host, content-length"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("host", "hello.shop"),
            ("content-length", "3"),
            ("pilotlight-reason", "spoofed"),
            ("x-public", "2"),
        ]);
        strip(&mut headers);
        let mut left: Vec<String> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, ["content-length: 3", "host: hello.shop", "te: trailers", "x-public: 2"]);
    }

    #[test]
    fn the_forwarding_chain_grows() {
        let mut headers =
            map(&[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https"), ("via", "1.1 edge")]);
        let client = Client { address: "[::ffff:10.0.0.7]:99".parse().unwrap(), encrypted: false };
        forward(&mut headers, client, "hello.shop:80", Version::HTTP_2);
        assert_eq!(headers["x-forwarded-for"], "203.0.113.9, 10.0.0.7");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "hello.shop:80");
        assert_eq!(headers["forwarded"], "for=10.0.0.7;proto=http;host=\"hello.shop:80\"");
        assert_eq!(headers["via"], "1.1 edge, 2 pilotlight");
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        let refused = |fields: &[(&str, &str)]| check(&Method::POST, Version::HTTP_11, &map(fields)).is_err();
        assert!(refused(&[("host", "a"), ("host", "b")]));
        assert!(refused(&[]));
        assert!(!refused(&[("host", "a"), ("transfer-encoding", "chunked")]));
        assert_eq!(check(&Method::CONNECT, Version::HTTP_11, &map(&[("host", "a")])), Err(Refusal::MethodNotSupported));
    }

    #[test]
    fn upgrades_are_seen_and_h2c_is_not_passed_on() {
        let ws = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(upgrade_protocol(Version::HTTP_11, &ws).unwrap(), "websocket");
        assert_eq!(upgrade_protocol(Version::HTTP_2, &ws), None);
        let h2c = map(&[("connection", "Upgrade"), ("upgrade", "h2c")]);
        assert_eq!(upgrade_protocol(Version::HTTP_11, &h2c), None);
    }

    #[test]
    fn cookie_crumbs_are_joined() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut headers);
        assert_eq!(headers["cookie"], "a=1; b=2");
        assert_eq!(headers.get_all(COOKIE).iter().count(), 1);
    }
}
