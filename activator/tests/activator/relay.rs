//! What passes from the activator that got a request, over the one that owns the Function, to the pod and back.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pilotlight_activator::limits::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fleet::{Fleet, owned_by};
use crate::harness::{Body, FakePod, empty, header_pairs, read, send, text};
use crate::proxy::{channel, data, echo, next_text};

/// Two activators; the second owns the Function.
async fn pair(pod: FakePod) -> Fleet {
    let mut fleet = Fleet::new(2);
    fleet.add_pod(pod);
    fleet.tell_all(&owned_by(1, 1, &[0])).await;
    fleet
}

/// Says which headers it got.
async fn headers(request: Request<Incoming>) -> Response<Body> {
    let mut response = text(format!("{:?}", header_pairs(request.headers())));
    response.headers_mut().insert("pilotlight-reason", HeaderValue::from_static("MadeUp"));
    response
}

/// Nothing more comes, but for the empty frame that may end a stream.
async fn ends(body: &mut Incoming) {
    while let Some(frame) = body.frame().await {
        assert!(frame.unwrap().into_data().unwrap().is_empty());
    }
}

async fn over_h2(fleet: &Fleet, n: usize, mut request: Request<Body>) -> Response<Incoming> {
    let stream = TcpStream::connect(fleet.http(n)).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    request.headers_mut().remove("host");
    *request.uri_mut() = format!("http://hello.shop{}", request.uri().path()).parse().unwrap();
    sender.send_request(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pod_sees_one_hop_and_no_mark() {
    let fleet = pair(FakePod::start(headers).await).await;
    let mut request = fleet.request(0, false, "GET", "/path?query", empty());
    let spoofed = HeaderValue::from_static("1 uid-1 0000000000000000000000000000000000000000000000000000000000000000");
    request.headers_mut().insert("pilotlight-relay", spoofed.clone());
    let relayed = send(request).await;
    assert_eq!(relayed.status, 200);
    assert!(relayed.body.contains(r#""x-forwarded-for": "127.0.0.1""#), "{}", relayed.body);
    assert!(relayed.body.contains(r#""via": "1.1 pilotlight""#), "{}", relayed.body);
    assert!(relayed.body.contains(r#""host": "hello.shop""#), "{}", relayed.body);
    assert!(!relayed.body.contains("pilotlight-relay"), "{}", relayed.body);
    assert_eq!(relayed.reason(), "", "a pod cannot speak for the activator");
    // To the owner itself, with a mark that is not believed: its word about where it comes from is not taken either.
    let mut request = fleet.request(1, false, "GET", "/", empty());
    request.headers_mut().insert("pilotlight-relay", spoofed);
    request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("203.0.113.9"));
    let direct = send(request).await;
    assert!(direct.body.contains(r#""x-forwarded-for": "127.0.0.1""#), "{}", direct.body);
    assert!(!direct.body.contains("pilotlight-relay"), "{}", direct.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways_over_the_owner() {
    for (pod_h2, client_h2) in [(false, false), (true, true), (true, false), (false, true)] {
        let mut pod = FakePod::start(echo).await;
        if pod_h2 {
            pod = pod.h2c();
        }
        let fleet = pair(pod).await;
        let (sender, body) = channel();
        let request = fleet.request(0, false, "POST", "/", body);
        let response = if client_h2 {
            over_h2(&fleet, 0, request).await
        } else {
            crate::harness::client().request(request).await.unwrap()
        };
        assert_eq!(response.status(), 200, "pod h2 {pod_h2}, client h2 {client_h2}");
        let mut incoming = response.into_body();
        for part in ["one", "two", "three"] {
            sender.send(data(part)).await.unwrap();
            assert_eq!(next_text(&mut incoming).await, part);
            assert_eq!(fleet.within(1, crate::harness::World::load), (1, 0), "the owner counts it");
            assert_eq!(fleet.within(0, crate::harness::World::load), (0, 0), "and nobody else");
        }
        drop(sender);
        ends(&mut incoming).await;
        fleet.until_load(1, (0, 0)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_over_the_owner() {
    let fleet = pair(FakePod::start(echo).await.h2c()).await;
    let (sender, body) = channel();
    let request = fleet.request(0, false, "POST", "/", body);
    let response = over_h2(&fleet, 0, request).await;
    let mut trailers = HeaderMap::new();
    trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    sender.send(data("message")).await.unwrap();
    sender.send(Ok(http_body::Frame::trailers(trailers))).await.unwrap();
    drop(sender);
    assert_eq!(response.version(), Version::HTTP_2);
    let read = read(response).await;
    assert_eq!((read.body.as_str(), read.trailers["grpc-status"].to_str().unwrap()), ("message", "0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_pass_over_the_owner_and_count_there() {
    let pod = FakePod::start(|mut request: Request<Incoming>| async move {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgraded.await.unwrap());
            let mut word = [0; 4];
            while io.read_exact(&mut word).await.is_ok() {
                io.write_all(&word).await.unwrap();
            }
        });
        let switching = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "words");
        switching.body(empty()).unwrap()
    })
    .await;
    let fleet = pair(pod).await;
    let mut stream = TcpStream::connect(fleet.http(0)).await.unwrap();
    let head = "GET / HTTP/1.1\r\nhost: hello.shop\r\nconnection: upgrade\r\nupgrade: words\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    for word in [b"ping", b"pong"] {
        stream.write_all(word).await.unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, word);
    }
    fleet.until_load(1, (1, 0)).await;
    drop(stream);
    fleet.until_load(1, (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_the_slot_at_the_owner() {
    let fleet = pair(FakePod::start(|_| std::future::pending()).await).await;
    let gone = tokio::spawn(send(fleet.request(0, false, "GET", "/", empty())));
    fleet.until_load(1, (1, 0)).await;
    let waits = tokio::spawn(send(fleet.request(0, false, "GET", "/", empty())));
    fleet.until_load(1, (1, 1)).await;
    waits.abort();
    fleet.until_load(1, (1, 0)).await;
    gone.abort();
    fleet.until_load(1, (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owners_refusals_pass_unchanged() {
    let fleet = pair(FakePod::start(|_| std::future::pending()).await).await;
    for n in 0..2 {
        fleet.tell_with(n, Some(&owned_by(1, 1, &[0])), |f| f.spec.cold_start.timeout_seconds = 1);
    }
    let holding = tokio::spawn(send(fleet.request(0, false, "GET", "/", empty())));
    fleet.until_load(1, (1, 0)).await;
    let answer = send(fleet.request(0, false, "GET", "/", empty())).await;
    assert_eq!((answer.status, answer.reason()), (503, "NoFreeSlot"));
    assert!(answer.headers.contains_key("retry-after"));
    holding.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_waits_at_an_old_owner_goes_on_to_the_new_one() {
    let mut fleet = Fleet::new(3);
    fleet.add_pod(FakePod::start(echo).await);
    fleet.tell_all(&owned_by(1, 1, &[0, 2])).await;
    let (first, body) = channel();
    let running = crate::harness::client().request(fleet.request(1, false, "POST", "/", body)).await.unwrap();
    fleet.until_load(1, (1, 0)).await;
    let (sender, body) = channel();
    sender.send(data("whole")).await.unwrap();
    let waits = tokio::spawn(crate::harness::client().request(fleet.request(0, true, "POST", "/", body)));
    fleet.until_load(1, (1, 1)).await;
    fleet.tell(2, Some(&owned_by(2, 2, &[0, 1])));
    fleet.until_load(2, (0, 1)).await;
    drop(first);
    assert_eq!(read(running).await.status, 200);
    let mut answered = waits.await.unwrap().unwrap().into_body();
    assert_eq!(next_text(&mut answered).await, "whole");
    fleet.until_load(2, (1, 0)).await;
    drop(sender);
    ends(&mut answered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_head_is_the_same_at_the_owner_and_by_way_of_another() {
    let fleet = pair(FakePod::hello().await).await;
    let limits = Limits::default();
    // What the client itself sends besides is the host.
    let many = |count: usize| (1..count).map(|n| (format!("x-{n}"), "1".to_owned())).collect::<Vec<_>>();
    let long = |bytes: usize| vec![("x-long".to_owned(), "x".repeat(bytes))];
    let (room, beyond) = (limits.max_header_bytes - 64, limits.max_header_bytes);
    let cases =
        [(many(limits.max_headers), 200), (many(limits.max_headers + 1), 431), (long(room), 200), (long(beyond), 431)];
    for (fields, status) in cases {
        for n in 0..2 {
            let request = || {
                let mut request = fleet.request(n, false, "GET", "/", empty());
                for (name, value) in &fields {
                    let name = HeaderName::try_from(name).unwrap();
                    request.headers_mut().insert(name, HeaderValue::try_from(value).unwrap());
                }
                request
            };
            assert_eq!(send(request()).await.status, status, "HTTP/1.1, {n}, {} fields", fields.len());
            // Host becomes :authority there, so one more fits.
            let mut request = request();
            request.headers_mut().insert("x-instead", HeaderValue::from_static("1"));
            assert_eq!(over_h2(&fleet, n, request).await.status(), status, "HTTP/2, {n}, {} fields", fields.len());
        }
    }
}
