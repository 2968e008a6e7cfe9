//! HTTP/2 to HTTP/1.1: nothing in a stream's fields or frames becomes a second request, a framing field or a line of its own.

use tokio::io::AsyncWriteExt;

use crate::h2wire::{DATA, END_HEADERS, END_STREAM, H2, HEADERS, Outcome, block, frame};
use crate::oracle::Message;
use crate::smuggling::{Lane, MARKER};
use crate::wire::Wire;

type Fields = Vec<(&'static [u8], &'static [u8])>;

const PLAIN: [(&[u8], &[u8]); 4] =
    [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/p"), (b":authority", b"h")];

/// The plain request with `name` replaced by `value`, or added at the end.
fn with(name: &'static [u8], value: &'static [u8]) -> Fields {
    let mut fields = PLAIN.to_vec();
    match fields.iter_mut().find(|(n, _)| *n == name) {
        Some(field) => field.1 = value,
        None => fields.push((name, value)),
    }
    fields
}

fn and(mut fields: Fields, name: &'static [u8], value: &'static [u8]) -> Fields {
    fields.push((name, value));
    fields
}

/// Sent with a body of `abc`; none may reach the app as a whole request.
fn refused() -> Vec<Fields> {
    let mut all: Vec<Fields> = vec![
        with(b"x-s-a", b"b\r\ntransfer-encoding: chunked"),
        with(b"x-s-a", b"b\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: s"),
        with(b"x-s-a", b"b\nc: d"),
        with(b"x-s-a", b"b\rc"),
        with(b"x-s-a", b"b\0c"),
        with(b"x-s-a", b"\x7f"),
        with(b"x-s-a: b\r\ntransfer-encoding", b"chunked"),
        with(b"x-s-a:b", b"c"),
        with(b"x s", b"c"),
        with(b"X-S-A", b"upper"),
        with(b"", b"nameless"),
        with(b"transfer-encoding", b"chunked"),
        with(b"connection", b"close"),
        with(b"connection", b"content-length"),
        with(b"keep-alive", b"1"),
        with(b"proxy-connection", b"close"),
        with(b"upgrade", b"websocket"),
        with(b"te", b"gzip"),
        with(b"host", b"other"),
        with(b":method", b"GET / HTTP/1.1\r\nx: y"),
        with(b":method", b"GET /a HTTP/1.1"),
        with(b":method", b""),
        with(b":method", b"CONNECT"),
        with(b":path", b""),
        with(b":path", b"p"),
        with(b":path", b"*"),
        with(b":path", b"@evil/"),
        with(b":path", b"/a b"),
        with(b":path", b"/ HTTP/1.1\r\nhost: evil\r\n\r\nGET /b"),
        with(b":path", b"/\x7f"),
        with(b":path", b"/\xc3\xa4"),
        with(b":authority", b"user@h"),
        with(b":authority", b"h/path"),
        with(b":authority", b"h\r\nx: y"),
        with(b":authority", b"a b"),
        with(b":status", b"200"),
        with(b":unknown", b"1"),
        with(b":protocol", b"websocket"),
        with(b"content-length", b"5"),
        with(b"content-length", b"2"),
        with(b"content-length", b"0"),
        with(b"content-length", b"+3"),
        with(b"content-length", b"3, 3"),
        with(b"content-length", b"abc"),
        with(b"content-length", b""),
        and(with(b"content-length", b"3"), b"content-length", b"4"),
        and(PLAIN.to_vec(), b":path", b"/other"),
        and(PLAIN.to_vec(), b":method", b"GET"),
        and(and(PLAIN.to_vec(), b"x-s-a", b"b"), b":authority", b"late"),
        and(with(b"host", b"h"), b"host", b"h"),
    ];
    for missing in [&b":method"[..], b":path", b":authority"] {
        all.push(PLAIN.iter().copied().filter(|(name, _)| *name != missing).collect());
    }
    all
}

fn passing() -> Vec<Fields> {
    vec![
        PLAIN.to_vec(),
        with(b"content-length", b"3"),
        with(b"te", b"trailers"),
        with(b"host", b"h"),
        with(b":scheme", b"https"),
        with(b"x-s-a", b"b c \xc3\xa4"),
        with(b":path", b"/a?b=c&d=%0d%0a"),
        and(with(b"cookie", b"a=1"), b"cookie", b"b=2"),
    ]
}

/// Sends the fields and the body, then a marker on a new connection. Gives what came, and what the app saw.
async fn exchange(lane: &Lane, fields: &Fields) -> (Outcome, Vec<Message>) {
    let mut h2 = H2::connect(lane.address).await;
    let bytes = [frame(HEADERS, END_HEADERS, 1, &block(fields)), frame(DATA, END_STREAM, 1, b"abc")].concat();
    let _ = h2.send(&bytes).await;
    let outcome = h2.outcome(1).await;
    let _ = h2.stream.shutdown().await;
    drop(h2);
    let mut wire = Wire::connect(lane.address).await;
    wire.send(MARKER).await;
    let marked = wire.answer().await.unwrap().unwrap();
    assert!(marked.status == 200 && marked.app, "{fields:?}: the marker was answered {marked:?}");
    lane.world.until_load((0, 0)).await;
    let seen = lane.app.take();
    assert!(seen.ambiguous.is_empty(), "{fields:?}: {:?}", seen.ambiguous);
    (outcome, seen.messages)
}

fn named(fields: &Fields, name: &[u8]) -> String {
    let value = fields.iter().find(|(n, _)| *n == name).map_or(&b""[..], |(_, value)| value);
    String::from_utf8_lossy(value).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_http1_cannot_say_is_refused() {
    let lane = Lane::new().await;
    let mut wrong = Vec::new();
    for fields in refused() {
        let (outcome, seen) = exchange(&lane, &fields).await;
        let shown: Vec<_> = fields.iter().map(|(n, v)| format!("{}: {}", n.escape_ascii(), v.escape_ascii())).collect();
        if !matches!(outcome, Outcome::Status(400..=499) | Outcome::Reset | Outcome::Ended) {
            wrong.push(format!("{shown:?} was not refused: {outcome:?}"));
        }
        let targets: Vec<_> = seen.iter().map(|m| String::from_utf8_lossy(&m.target).into_owned()).collect();
        if targets != ["/marker"] {
            wrong.push(format!("{shown:?}: the app saw {targets:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_both_can_say_passes() {
    let lane = Lane::new().await;
    for fields in passing() {
        let (outcome, seen) = exchange(&lane, &fields).await;
        assert_eq!(outcome, Outcome::Status(200), "{fields:?}");
        let [first, marker] = &seen[..] else { panic!("{fields:?}: the app saw {seen:?}") };
        assert_eq!(marker.target, b"/marker");
        assert_eq!((first.method.as_str(), first.body.as_slice()), ("POST", &b"abc"[..]), "{fields:?}");
        assert_eq!(String::from_utf8_lossy(&first.target), named(&fields, b":path"));
        assert_eq!(first.values("host"), [&b"h"[..]]);
        if fields.iter().any(|(name, _)| *name == b"cookie") {
            assert_eq!(first.values("cookie"), [&b"a=1; b=2"[..]], "crumbs become one field");
        }
    }
}
