//! Where a request came from, told to the pod: `Forwarded` (RFC 7239) and `X-Forwarded-*`. What a trusted proxy in front said is kept and
//! continued; what anybody else said is replaced, so that no client can choose its own address. Pure.
//!
//! What is the same for all requests of a connection is written once, when it begins.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use bytes::Bytes;
use http::header::{FORWARDED, HeaderName, HeaderValue};
use http::{HeaderMap, Version};
use ipnet::IpNet;

use super::Client;

/// The addresses of a request's chain.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Networks of the proxies in front, whose word about a request's origin is taken. Nobody's, unless configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust(Vec<IpNet>);

/// A network that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network: give an address or a CIDR, like 10.0.0.0/8 or 2001:db8::/32")]
pub struct NotANetwork(String);

/// Reads a network, or a single address.
///
/// # Errors
/// It is neither.
pub fn network(text: &str) -> Result<IpNet, NotANetwork> {
    let network = IpNet::from_str(text).or_else(|_| IpAddr::from_str(text).map(IpNet::from));
    network.map_err(|_| NotANetwork(text.to_owned()))
}

impl Trust {
    /// Trusts these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether an address is a trusted proxy's.
    pub fn covers(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Who is at the other end of a client connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Whether its word about a request's origin is taken.
    pub trusted: bool,
    /// `http` or `https`.
    pub scheme: &'static str,
    ip: HeaderValue,
    element: Box<str>,
}

impl Peer {
    /// A connection that begins.
    pub fn new(client: Client, trust: &Trust) -> Self {
        let (ip, scheme) = (client.address.ip().to_canonical(), client.scheme());
        let element = match ip {
            IpAddr::V4(ip) => format!("for={ip};proto={scheme}"),
            IpAddr::V6(ip) => format!("for=\"[{ip}]\";proto={scheme}"),
        };
        Self {
            trusted: trust.covers(ip),
            scheme,
            ip: HeaderValue::from_str(&ip.to_string()).expect("an address is a header's value"),
            element: element.into(),
        }
    }

    /// The same, where something besides its address says that it is trusted.
    #[must_use]
    pub fn taken_at_its_word(&self) -> Self {
        Self { trusted: true, ..self.clone() }
    }
}

/// Whether a field speaks of a request's origin, in this module's way or in one of those that are common with it.
pub fn tells_origin(name: &str) -> bool {
    match name.len() {
        9 => name == "forwarded" || name == "x-real-ip",
        _ => name.starts_with("x-forwarded-"),
    }
}

/// Whether the client came by TLS: to the trusted proxy in front, where that says so or not, else to this hop.
pub fn came_encrypted(headers: &HeaderMap, peer: &Peer) -> bool {
    let told = if peer.trusted { told_scheme(headers) } else { None };
    told.unwrap_or(peer.scheme.as_bytes()).eq_ignore_ascii_case(b"https")
}

/// The scheme that belongs to the first hop.
fn told_scheme(headers: &HeaderMap) -> Option<&[u8]> {
    let first = |name: &HeaderName| headers.get(name)?.as_bytes().split(|byte| *byte == b',').next();
    let in_forwarded = || {
        let mut pairs = first(&FORWARDED)?.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let scheme = pairs.find_map(|pair| {
            pair.split_at_checked(b"proto=".len()).filter(|(name, _)| name.eq_ignore_ascii_case(b"proto="))
        })?;
        let quoted = scheme.1.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        Some(quoted.unwrap_or(scheme.1))
    };
    first(&X_FORWARDED_PROTO).map(<[u8]>::trim_ascii).or_else(in_forwarded)
}

/// Adds this hop to the chain. What an untrusted peer said of the origin must have been dropped before ([`tells_origin`]).
pub fn forward(headers: &mut HeaderMap, peer: &Peer, host: &HeaderValue, version: Version) {
    let element = element(peer, host);
    if !peer.trusted {
        headers.insert(X_FORWARDED_FOR, peer.ip.clone());
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(peer.scheme));
        headers.insert(X_FORWARDED_HOST, host.clone());
        headers.insert(FORWARDED, element);
        return super::headers::add_via(headers, version);
    }
    if !headers.contains_key(FORWARDED)
        && let Some(earlier) = from_x_forwarded(headers)
    {
        headers.insert(FORWARDED, earlier);
    }
    append(headers, FORWARDED, element);
    append(headers, X_FORWARDED_FOR, peer.ip.clone());
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(peer.scheme));
    }
    if !headers.contains_key(X_FORWARDED_HOST) {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    super::headers::add_via(headers, version);
}

fn element(peer: &Peer, host: &HeaderValue) -> HeaderValue {
    let mut out = Vec::with_capacity(peer.element.len() + host.len() + ";host=\"\"".len());
    out.extend_from_slice(peer.element.as_bytes());
    push_host(&mut out, host.as_bytes());
    HeaderValue::from_maybe_shared(Bytes::from(out)).expect("an address and a quoted host are a header's value")
}

fn push_host(out: &mut Vec<u8>, host: &[u8]) {
    if !host.is_empty() && host.iter().all(|b| b.is_ascii_graphic() && *b != b'"' && *b != b'\\') {
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(host);
        out.push(b'"');
    }
}

/// What a proxy in front said in `X-Forwarded-*` only, as `Forwarded`: else its own address would look like the client's there.
/// Scheme and host belong to the first hop.
fn from_x_forwarded(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut out = Vec::new();
    let nodes = headers.get_all(X_FORWARDED_FOR).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    for node in nodes.map(<[u8]>::trim_ascii).filter(|node| !node.is_empty()) {
        let first = out.is_empty();
        if !first {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(named(node).as_bytes());
        let proto = headers.get(X_FORWARDED_PROTO).map(HeaderValue::as_bytes);
        if let Some(proto) =
            proto.filter(|proto| first && proto.iter().all(u8::is_ascii_alphabetic) && !proto.is_empty())
        {
            out.extend_from_slice(b";proto=");
            out.extend_from_slice(proto);
        }
        if let Some(host) = headers.get(X_FORWARDED_HOST).filter(|_| first) {
            push_host(&mut out, host.as_bytes());
        }
    }
    if out.is_empty() { None } else { HeaderValue::from_maybe_shared(Bytes::from(out)).ok() }
}

/// A node's name in the grammar of `Forwarded`.
fn named(node: &[u8]) -> String {
    let text = std::str::from_utf8(node).unwrap_or_default();
    match (text.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
        (Ok(IpAddr::V4(ip)), _) => format!("for={ip}"),
        (Ok(IpAddr::V6(ip)), _) => format!("for=\"[{ip}]\""),
        (Err(_), Ok(address)) => format!("for=\"{address}\""),
        (Err(_), Err(_)) => "for=unknown".to_owned(),
    }
}

/// Adds an element to a list field, in its last line.
pub(super) fn append(headers: &mut HeaderMap, name: HeaderName, element: HeaderValue) {
    let mut values = headers.get_all(&name).iter();
    let (first, more) = (values.next(), values.next().is_some());
    let Some(old) = first.filter(|_| !more) else {
        headers.append(name, element);
        return;
    };
    let joined = [old.as_bytes(), element.as_bytes()].join(&b", "[..]);
    if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(name, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOST: HeaderValue = HeaderValue::from_static("hello.shop:80");

    fn peer(address: &str, encrypted: bool, trusted: &[&str]) -> Peer {
        let trust = Trust::new(trusted.iter().map(|text| network(text).unwrap()).collect());
        Peer::new(Client { address: address.parse().unwrap(), encrypted }, &trust)
    }

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn networks_are_addresses_or_cidrs_of_both_families() {
        let covers = |networks: &[&str], address: &str| peer(address, false, networks).trusted;
        assert!(covers(&["10.0.0.0/8"], "[::ffff:10.2.3.4]:1"), "an IPv4 client on an IPv6 socket");
        assert!(covers(&["192.0.2.1"], "192.0.2.1:1"));
        assert!(covers(&["2001:db8::/32"], "[2001:db8::7]:1"));
        assert!(!covers(&["10.0.0.0/8", "2001:db8::/32"], "192.0.2.1:1"));
        assert!(!covers(&[], "127.0.0.1:1"), "nobody is trusted by default");
        for bad in ["", "10.0.0.0/33", "ten", "10.0.0"] {
            assert!(network(bad).unwrap_err().to_string().contains("CIDR"), "{bad}");
        }
    }

    #[test]
    fn an_untrusted_peer_is_where_the_chain_begins() {
        let mut headers = HeaderMap::new();
        forward(&mut headers, &peer("[::ffff:10.0.0.7]:99", true, &[]), &HOST, Version::HTTP_2);
        assert_eq!(headers["x-forwarded-for"], "10.0.0.7");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "hello.shop:80");
        assert_eq!(headers["forwarded"], "for=10.0.0.7;proto=https;host=\"hello.shop:80\"");
        assert_eq!(headers["via"], "2 pilotlight");
    }

    #[test]
    fn a_trusted_peers_chain_is_continued() {
        let mut headers = map(&[
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example.com"),
            ("forwarded", "for=203.0.113.9;proto=https"),
            ("via", "1.1 edge"),
        ]);
        forward(&mut headers, &peer("10.0.0.7:99", false, &["10.0.0.7"]), &HOST, Version::HTTP_11);
        assert_eq!(headers["x-forwarded-for"], "203.0.113.9, 10.0.0.7");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "shop.example.com");
        let chain = "for=203.0.113.9;proto=https, for=10.0.0.7;proto=http;host=\"hello.shop:80\"";
        assert_eq!(headers["forwarded"], chain);
        assert_eq!(headers["via"], "1.1 edge, 1.1 pilotlight");
    }

    #[test]
    fn a_chain_that_came_in_x_forwarded_is_told_in_forwarded_too() {
        let mut headers = map(&[
            ("x-forwarded-for", "203.0.113.9:4711, 2001:db8::1"),
            ("x-forwarded-for", "_hidden"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example.com"),
        ]);
        forward(&mut headers, &peer("[2001:db8::7]:99", false, &["::/0"]), &HOST, Version::HTTP_11);
        let forwarded = "for=\"203.0.113.9:4711\";proto=https;host=\"shop.example.com\", for=\"[2001:db8::1]\", for=unknown, \
                         for=\"[2001:db8::7]\";proto=http;host=\"hello.shop:80\"";
        assert_eq!(headers["forwarded"], forwarded);
        let last = headers.get_all("x-forwarded-for").iter().next_back().unwrap();
        assert_eq!(last, "2001:db8::7");
    }

    #[test]
    fn a_client_came_by_tls_where_this_hop_or_a_trusted_proxy_says_so() {
        let client = |encrypted| Client { address: ([10, 0, 0, 1], 1).into(), encrypted };
        let trust = Trust::new(vec![network("10.0.0.0/8").unwrap()]);
        let encrypted = |encrypted, trust: &Trust, field: Option<(&'static str, &'static str)>| {
            let fields = field.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            came_encrypted(&HeaderMap::from_iter(fields), &Peer::new(client(encrypted), trust))
        };
        let nobody = Trust::default();
        assert!(encrypted(true, &nobody, None) && !encrypted(false, &nobody, None));
        for (name, value) in [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-proto", " HTTPS , http"),
            ("forwarded", "for=1.2.3.4;Proto=\"https\";host=a, for=10.0.0.1;proto=http"),
        ] {
            assert!(encrypted(false, &trust, Some((name, value))), "{value}");
            assert!(!encrypted(false, &nobody, Some((name, value))), "anybody can say so");
        }
        let plain = Some(("x-forwarded-proto", "http"));
        assert!(!encrypted(true, &trust, plain) && encrypted(true, &nobody, plain), "the first hop decides");
        assert!(!encrypted(false, &trust, Some(("forwarded", "proto"))) && encrypted(true, &trust, None));
    }

    proptest! {
        #[test]
        fn whatever_the_proxy_in_front_says_is_survived(fields in prop::collection::vec(("[a-z:. ,\"\\\\;=\\[\\]0-9]{0,30}", 0usize..4), 0..6)) {
            let names = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"];
            let fields: Vec<(&str, &str)> = fields.iter().map(|(value, at)| (names[*at], value.as_str())).collect();
            let mut headers = map(&fields);
            let peer = peer("10.0.0.7:99", false, &["10.0.0.0/8"]);
            let _ = came_encrypted(&headers, &peer);
            forward(&mut headers, &peer, &HOST, Version::HTTP_11);
            let last = headers.get_all("x-forwarded-for").iter().next_back().unwrap().to_str().unwrap();
            prop_assert!(last.ends_with("10.0.0.7"));
        }
    }
}
