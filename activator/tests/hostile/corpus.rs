//! The request-smuggling corpus: each entry is a stream of bytes that two servers might understand differently, or one that they must
//! understand alike. The oracle says which; these are also what the mutations grow from.

/// What has to happen to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Forwarded, and the marker behind it too.
    Passes,
    /// A 4xx, and the connection ends.
    Refused,
    /// Forwarded or answered, and the connection ends: what follows is nobody's request.
    Last,
}

/// Name, fate, bytes.
pub(crate) type Entry = (&'static str, Fate, Vec<u8>);

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: s\r\n\r\n";

fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST /p HTTP/1.1\r\nHost: h\r\nX-S-One: 1\r\n{fields}\r\n{body}").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn get(first: &str, fields: &str) -> Vec<u8> {
    format!("{first}\r\n{fields}\r\n").into_bytes()
}

/// All of it.
pub(crate) fn corpus() -> Vec<Entry> {
    let mut all = Vec::new();
    let mut add = |fate, entries: Vec<(&'static str, Vec<u8>)>| {
        all.extend(entries.into_iter().map(|(name, bytes)| (name, fate, bytes)));
    };
    add(Fate::Passes, passing());
    add(Fate::Last, last());
    add(Fate::Refused, framing());
    add(Fate::Refused, lines());
    add(Fate::Refused, targets());
    add(Fate::Refused, chunks());
    all
}

fn passing() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a plain request", get("GET /a HTTP/1.1", "Host: h\r\nX-S-A: b\r\n")),
        ("a body with a length", post("Content-Length: 5\r\n", "hello")),
        ("a body that looks like a request", post(&format!("Content-Length: {}\r\n", SMUGGLED.len()), SMUGGLED)),
        ("chunks", chunked("5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")),
        ("chunks with extensions", chunked("5;a=b\r\nhello\r\n5 ; q=\"x y\"\r\nworld\r\n0\r\n\r\n")),
        ("a chunk that looks like a request", chunked(&format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()))),
        ("upper case digits and leading zeros", chunked("00000A\r\n0123456789\r\n0\r\n\r\n")),
        ("trailers", chunked("3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-S-Late: 2\r\n\r\n")),
        ("CHUNKED in capitals", post("TRANSFER-ENCODING: CHUNKED\r\n", "1\r\na\r\n0\r\n\r\n")),
        ("space and tab around values", get("GET / HTTP/1.1", "Host: \t h \t\r\nX-S-A:\t b c \r\n")),
        ("an empty value", get("GET / HTTP/1.1", "Host: h\r\nX-S-A:\r\n")),
        ("bytes above ASCII in a value", [&b"GET / HTTP/1.1\r\nHost: h\r\nX-S-A: \xc3\xa4\xff\r\n\r\n"[..]].concat()),
        ("absolute form, other Host", get("GET http://one/x?y HTTP/1.1", "Host: two\r\n")),
        ("absolute form without a path", get("GET http://one HTTP/1.1", "Host: one\r\n")),
        ("OPTIONS *", get("OPTIONS * HTTP/1.1", "Host: h\r\n")),
        ("Connection names Content-Length", post("Connection: content-length\r\nContent-Length: 3\r\n", "abc")),
        (
            "Connection names a field of its own",
            get("GET / HTTP/1.1", "Host: h\r\nConnection: x-s-hop\r\nX-S-Hop: 1\r\n"),
        ),
        (
            "h2c is not upgraded to",
            get(
                "GET / HTTP/1.1",
                "Host: h\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
            ),
        ),
        ("an empty line first", get("\r\nGET / HTTP/1.1", "Host: h\r\n")),
        ("HTTP/1.0 that stays", get("GET /old HTTP/1.0", "Host: h\r\nConnection: keep-alive\r\n")),
        ("HTTP/1.0 that stays, without Host", get("GET /old HTTP/1.0", "Connection: keep-alive\r\n")),
        ("a length of nothing", post("Content-Length: 0\r\n", "")),
        ("HEAD", get("HEAD / HTTP/1.1", "Host: h\r\n")),
        ("a method that nobody knows", get("FROB / HTTP/1.1", "Host: h\r\n")),
        ("100-continue that is not waited for", post("Expect: 100-continue\r\nContent-Length: 2\r\n", "ab")),
    ]
}

fn last() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("close", get("GET / HTTP/1.1", "Host: h\r\nConnection: close\r\n")),
        ("HTTP/1.0", get("GET / HTTP/1.0", "Host: h\r\n")),
        (
            "bytes after an upgrade that is not granted",
            get(
                "GET / HTTP/1.1",
                "Host: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n",
            ),
        ),
        ("Upgrade that Connection does not name", get("GET / HTTP/1.1", "Host: h\r\nUpgrade: tunnel/1.0\r\n")),
        ("upgrade with a body", post("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n", "body")),
    ]
}

fn framing() -> Vec<(&'static str, Vec<u8>)> {
    let te_body = format!("0\r\n\r\n{SMUGGLED}");
    let cl_te = format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", te_body.len());
    vec![
        ("CL.TE", post(&cl_te, &te_body)),
        (
            "TE.CL",
            post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n"),
        ),
        ("CL 0 and TE", post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("TE.TE: two fields", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n")),
        ("TE.TE: twice the same", post("Transfer-Encoding: chunked\r\nTransfer-encoding: chunked\r\n", "0\r\n\r\n")),
        (
            "TE: identity, then chunked",
            post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        ("TE: a list", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")),
        ("TE: chunked twice in a list", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n")),
        ("TE: chunked not last", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n")),
        ("TE: xchunked", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")),
        ("TE: quoted", post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n")),
        ("TE: empty", post("Transfer-Encoding:\r\n", "0\r\n\r\n")),
        ("TE: vertical tab", post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n")),
        ("TE: with a parameter", post("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n")),
        ("TE: space before colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n")),
        ("TE: tab before colon, and CL", post("Content-Length: 5\r\nTransfer-Encoding\t: chunked\r\n", "0\r\n\r\n")),
        ("TE: folded", post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n")),
        ("TE: hidden by a fold", post("X-S-A: b\r\n\tTransfer-Encoding: chunked\r\n", "")),
        (
            "TE.0 in HTTP/1.0",
            get("POST / HTTP/1.0", "Host: h\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n"),
        ),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!")),
        ("twice the same length", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")),
        ("a list of lengths", post("Content-Length: 5, 5\r\n", "hello")),
        ("0.CL: a length in a list", post("Content-Length: 0, 5\r\n", "hello")),
        ("a signed length", post("Content-Length: +5\r\n", "hello")),
        ("a negative length", post("Content-Length: -5\r\n", "hello")),
        ("a hexadecimal length", post("Content-Length: 0x5\r\n", "hello")),
        ("a length with a fraction", post("Content-Length: 5.0\r\n", "hello")),
        ("a length with a space in it", post("Content-Length: 1 5\r\n", "hello")),
        ("an empty length", post("Content-Length:\r\n", "")),
        ("a length that overflows", post("Content-Length: 18446744073709551621\r\n", "hello")),
        ("0.CL: space before colon", post(&format!("Content-Length : {}\r\n", SMUGGLED.len()), SMUGGLED)),
        ("0.CL: folded length", post(&format!("Content-Length:\r\n {}\r\n", SMUGGLED.len()), SMUGGLED)),
        ("0.CL on GET with bare LF", get("GET / HTTP/1.1", "Host: h\r\nX-S-A: b\nContent-Length: 5\r\n")),
    ]
}

fn lines() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("bare LF after the first line", b"GET / HTTP/1.1\nHost: h\r\n\r\n".to_vec()),
        ("bare LF everywhere", b"GET / HTTP/1.1\nHost: h\n\n".to_vec()),
        ("bare LF ends the head", b"GET / HTTP/1.1\r\nHost: h\r\n\n".to_vec()),
        ("bare CR in a value", get("GET / HTTP/1.1", "Host: h\r\nX-S-A: b\rTransfer-Encoding: chunked\r\n")),
        ("bare CR ends a line", b"GET / HTTP/1.1\rHost: h\r\n\r\n".to_vec()),
        ("CR CR LF", b"GET / HTTP/1.1\r\nHost: h\r\r\n\r\n".to_vec()),
        ("NUL in a value", get("GET / HTTP/1.1", "Host: h\r\nX-S-A: b\0c\r\n")),
        ("NUL in a name", get("GET / HTTP/1.1", "Host: h\r\nX-S\0-A: b\r\n")),
        ("DEL in a value", get("GET / HTTP/1.1", "Host: h\r\nX-S-A: \x7f\r\n")),
        ("backspace in a value", get("GET / HTTP/1.1", "Host: h\r\nX-S-A: a\x08\r\n")),
        ("a bell in a name", get("GET / HTTP/1.1", "Host: h\r\nX\x07: b\r\n")),
        ("a folded value", get("GET / HTTP/1.1", "Host: h\r\nX-S-A: b\r\n c\r\n")),
        ("a fold in the first field", get("GET / HTTP/1.1", " Host: h\r\nHost: h\r\n")),
        ("a field without colon", get("GET / HTTP/1.1", "Host: h\r\nX-S-A\r\n")),
        ("a field without name", get("GET / HTTP/1.1", "Host: h\r\n: b\r\n")),
        ("a name with a space", get("GET / HTTP/1.1", "Host: h\r\nX S: b\r\n")),
        ("a name with a separator", get("GET / HTTP/1.1", "Host: h\r\n(x): b\r\n")),
        ("a name above ASCII", b"GET / HTTP/1.1\r\nHost: h\r\nX-\xc3\xa4: b\r\n\r\n".to_vec()),
        ("many empty lines first", b"\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
        ("a bare LF first", b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
    ]
}

fn targets() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("two Hosts", get("GET / HTTP/1.1", "Host: a\r\nHost: b\r\n")),
        ("twice the same Host", get("GET / HTTP/1.1", "Host: a\r\nhost: a\r\n")),
        ("no Host", get("GET / HTTP/1.1", "X-S-A: b\r\n")),
        ("a Host with userinfo", get("GET / HTTP/1.1", "Host: a@b\r\n")),
        ("a Host with a path", get("GET / HTTP/1.1", "Host: a/b\r\n")),
        ("a list of Hosts", get("GET / HTTP/1.1", "Host: a, b\r\n")),
        ("userinfo in the target", get("GET http://u@one/ HTTP/1.1", "Host: one\r\n")),
        ("authority form", get("GET one:80 HTTP/1.1", "Host: one\r\n")),
        ("a target without slash", get("GET a HTTP/1.1", "Host: a\r\n")),
        ("an empty authority", get("GET http:///x HTTP/1.1", "Host: a\r\n")),
        ("another scheme", get("GET ftp://one/ HTTP/1.1", "Host: one\r\n")),
        ("GET *", get("GET * HTTP/1.1", "Host: h\r\n")),
        ("a fragment", get("GET /a#b HTTP/1.1", "Host: h\r\n")),
        ("a space in the target", get("GET /a b HTTP/1.1", "Host: h\r\n")),
        ("a tab in the target", get("GET /a\tb HTTP/1.1", "Host: h\r\n")),
        ("two spaces", get("GET  / HTTP/1.1", "Host: h\r\n")),
        ("a space behind the version", get("GET / HTTP/1.1 ", "Host: h\r\n")),
        ("a tab for a space", get("GET\t/ HTTP/1.1", "Host: h\r\n")),
        ("HTTP/0.9", get("GET /", "")),
        ("HTTP/1.2", get("GET / HTTP/1.2", "Host: h\r\n")),
        ("HTTP/2.0 in words", get("GET / HTTP/2.0", "Host: h\r\n")),
        ("http/1.1 in small letters", get("GET / http/1.1", "Host: h\r\n")),
        ("HTTP/1.10", get("GET / HTTP/1.10", "Host: h\r\n")),
        ("a method with a separator", get("GE(T / HTTP/1.1", "Host: h\r\n")),
        ("CONNECT", get("CONNECT one:80 HTTP/1.1", "Host: one:80\r\n")),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
    ]
}

fn chunks() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a size that overflows", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n")),
        ("a size of all bits", chunked("ffffffffffffffff\r\nhello\r\n0\r\n\r\n")),
        ("a negative size", chunked("-5\r\nhello\r\n0\r\n\r\n")),
        ("a signed size", chunked("+5\r\nhello\r\n0\r\n\r\n")),
        ("a size with 0x", chunked("0x5\r\nhello\r\n0\r\n\r\n")),
        ("a size with an underscore", chunked("5_0\r\nhello\r\n0\r\n\r\n")),
        ("no size", chunked("\r\nhello\r\n0\r\n\r\n")),
        ("no digits before an extension", chunked(";a\r\nhello\r\n0\r\n\r\n")),
        ("a space before the size", chunked(" 5\r\nhello\r\n0\r\n\r\n")),
        ("a space behind the size", chunked("5 \r\nhello\r\n0\r\n\r\n")),
        ("bare LF behind a size", chunked("5\nhello\r\n0\r\n\r\n")),
        ("bare LF in an extension", chunked("5;a\nhello\r\n0\r\n\r\n")),
        ("bare CR in an extension", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n")),
        ("a control character in an extension", chunked("5;a\x01\r\nhello\r\n0\r\n\r\n")),
        ("bare LF behind a chunk", chunked("5\r\nhello\n0\r\n\r\n")),
        ("a chunk longer than its size", chunked("3\r\nhello\r\n0\r\n\r\n")),
        ("bare LF behind the last chunk", chunked("5\r\nhello\r\n0\n\r\n")),
        ("bare LF at the very end", chunked("5\r\nhello\r\n0\r\n\n")),
        ("bare LF in trailers", chunked("0\r\nX-A: b\nX-B: c\r\n\r\n")),
        ("bare CR in trailers", chunked("0\r\nX-A: b\rc\r\n\r\n")),
        ("a folded trailer", chunked("0\r\nX-A: b\r\n c\r\n\r\n")),
        ("a trailer without colon", chunked("0\r\nX-A\r\n\r\n")),
    ]
}
