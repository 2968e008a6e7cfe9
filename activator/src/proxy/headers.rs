//! Header rules of a gateway: hop-by-hop fields stay on their hop, and nobody outside can pretend to be the activator, neither a client
//! nor a pod. Pure.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, HeaderValue, TE, UPGRADE, VIA};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Uri, Version};

use super::forwarded::{append, tells_origin};
use crate::error::Refusal;
use crate::limits::Limits;
use crate::listen::syntax;

const INTERNAL_PREFIX: &str = "pilotlight-";

/// Refuses requests that two servers might understand differently, beyond what [`crate::listen::strict`] and h2 refuse.
///
/// # Errors
/// What is wrong with it.
pub fn check(method: &Method, uri: &Uri, version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    if method == Method::CONNECT {
        return Err(Refusal::MethodNotSupported);
    }
    if headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(Refusal::BadRequest("it has more than one Host header"));
    }
    if version == Version::HTTP_11 && !headers.contains_key(HOST) {
        return Err(Refusal::BadRequest("it has no Host header"));
    }
    if version == Version::HTTP_2 {
        check_h2(method, uri, headers)?;
    }
    Ok(())
}

/// Refuses a head that is larger than a client's may be; a little more was read, for those that another activator relays.
///
/// # Errors
/// It is too large.
pub fn check_size<B>(request: &Request<B>, limits: &Limits) -> Result<(), Refusal> {
    // As it is written in HTTP/1.1: colon, blank and the line's end with each field.
    let fields: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if request.headers().len() > limits.max_headers || fields + target > limits.max_header_bytes {
        return Err(Refusal::HeadTooLarge);
    }
    Ok(())
}

/// What the strict reader of HTTP/1 looks at before hyper, and what h2 lets pass.
fn check_h2(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            return Err(Refusal::BadRequest("its :authority and its Host header differ"));
        }
        (Some(named), _) | (None, Some(named)) if !syntax::is_host(named) => {
            return Err(Refusal::BadRequest("its :authority is not a host"));
        }
        (None, None) => return Err(Refusal::BadRequest("it has neither :authority nor a Host header")),
        _ => {}
    }
    let target = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let has_form = target.starts_with('/') || target == "*" && method == Method::OPTIONS;
    if !has_form || !target.bytes().all(syntax::is_in_target) {
        return Err(Refusal::BadRequest("its :path is not a path"));
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

/// Prepares a request's headers for the pod: drops what concerns only the client's hop and what only the activator may say; and, from a
/// peer that is not trusted, what it says of the request's origin.
pub fn strip_request(headers: &mut HeaderMap, trusted: bool) {
    drop_listed(headers);
    keep_trailers_only(headers);
    drop_where(headers, |name| {
        is_for_one_hop(name) || is_internal(name) || name == "proxy" || !trusted && tells_origin(name)
    });
}

/// Prepares a response's headers for the client: drops what concerns only the pod's hop and what only the activator may say.
pub fn strip_response(headers: &mut HeaderMap) {
    drop_listed(headers);
    drop_where(headers, |name| is_for_one_hop(name) || is_internal(name));
}

/// Trailers come after the decisions that headers are for: what must not come in a header must not come late either, nor what says where a
/// message ends and whom it is for.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    drop_where(trailers, |name| {
        is_for_one_hop(name)
            || is_internal(name)
            || tells_origin(name)
            || matches!(name, "connection" | "content-length" | "host" | "te" | "trailer")
    });
}

/// Fields of one hop that are so whether `Connection` lists them or not.
fn is_for_one_hop(name: &str) -> bool {
    matches!(
        name,
        "keep-alive"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-authentication-info"
    )
}

fn is_internal(name: &str) -> bool {
    name.starts_with(INTERNAL_PREFIX)
}

/// Most messages have nothing to drop, and pay for one look at each name.
fn drop_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    if !headers.keys().any(|name| unwanted(name.as_str())) {
        return;
    }
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn drop_listed(headers: &mut HeaderMap) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
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

/// `TE: trailers` is the one value that gRPC needs end to end.
fn keep_trailers_only(headers: &mut HeaderMap) {
    if !headers.contains_key(TE) {
        return;
    }
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

/// Fields that a message needs whatever `Connection` lists: naming them there must not take them away.
fn is_end_to_end(name: &HeaderName) -> bool {
    name == HOST || name == CONTENT_LENGTH || name == TE || name == VIA || tells_origin(name.as_str())
}

/// Adds this hop, which a message of `version` came in on.
pub fn add_via(headers: &mut HeaderMap, version: Version) {
    let via = match version {
        Version::HTTP_2 => HeaderValue::from_static("2 pilotlight"),
        Version::HTTP_10 => HeaderValue::from_static("1.0 pilotlight"),
        _ => HeaderValue::from_static("1.1 pilotlight"),
    };
    append(headers, VIA, via);
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

    fn left(headers: &HeaderMap) -> Vec<String> {
        let mut left: Vec<String> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        left.sort();
        left
    }

    #[test]
    fn hop_by_hop_and_internal_fields_are_dropped() {
        let mut headers = map(&[
            ("connection", "close, x-private, host, content-length, forwarded, via"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic Zm9v"),
            ("proxy-connection", "keep-alive"),
            ("proxy", "http://evil"),
            ("host", "hello.shop"),
            ("content-length", "3"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("via", "1.1 edge"),
            ("pilotlight-reason", "spoofed"),
            ("x-public", "2"),
        ]);
        strip_request(&mut headers, true);
        let kept = ["content-length: 3", "forwarded: for=1.2.3.4", "host: hello.shop", "te: trailers", "via: 1.1 edge"];
        assert_eq!(left(&headers), [&kept[..], &["x-forwarded-for: 1.2.3.4", "x-public: 2"]].concat());
    }

    #[test]
    fn an_untrusted_peer_cannot_tell_where_a_request_comes_from() {
        let origin = ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-client-cert", "x-real-ip"];
        let mut headers = map(&origin.map(|name| (name, "spoofed")));
        strip_request(&mut headers, false);
        assert!(headers.is_empty(), "{headers:?}");
    }

    #[test]
    fn pods_cannot_answer_in_the_activators_name_nor_late() {
        let fields = [("pilotlight-cold-start", "true"), ("proxy-authenticate", "Basic"), ("x-public", "1")];
        let mut headers = map(&fields);
        strip_response(&mut headers);
        assert_eq!(left(&headers), ["x-public: 1"]);
        let mut trailers =
            map(&[&fields[..], &[("content-length", "3"), ("host", "a"), ("x-forwarded-for", "a")]].concat());
        strip_trailers(&mut trailers);
        assert_eq!(left(&trailers), ["x-public: 1"]);
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        let refused =
            |fields: &[(&str, &str)]| check(&Method::POST, &Uri::default(), Version::HTTP_11, &map(fields)).is_err();
        assert!(refused(&[("host", "a"), ("host", "b")]));
        assert!(refused(&[]));
        assert!(!refused(&[("host", "a"), ("transfer-encoding", "chunked")]));
        assert_eq!(
            check(&Method::CONNECT, &Uri::default(), Version::HTTP_11, &map(&[("host", "a")])),
            Err(Refusal::MethodNotSupported)
        );
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
