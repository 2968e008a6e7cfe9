//! TLS towards clients: protocols, names, certificates that change, and handshakes that don't end.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::certificates::{Mount, client_config, connect, exchange, make, shown, tls, world};
use crate::fake_scale::FakeScale;
use crate::harness::{FakePod, World, empty, eventually, full, header_pairs, read, send, text};

const NAME: &str = "hello.shop.fn.example.com";

async fn echo_headers() -> FakePod {
    FakePod::start(|request| async move { text(serde_json::to_string(&header_pairs(request.headers())).unwrap()) })
        .await
}

async fn metrics(world: &World) -> String {
    let request = Request::get(format!("http://{}/metrics", world.activator.admin)).body(empty()).unwrap();
    send(request).await.body
}

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_are_spoken_and_the_pod_learns_of_the_encryption() {
    let made = make(&[NAME]);
    let mount = Mount::new(&made);
    let world = world(tls(&[&mount]));
    let pod = echo_headers().await;
    world.pod(&pod);
    for (alpn, agreed, via) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..]), "2 pilotlight"),
        (&["http/1.1"], Some(b"http/1.1"), "1.1 pilotlight"),
        (&[], None, "1.1 pilotlight"),
    ] {
        let stream = connect(&world, client_config(&[&made], alpn), NAME).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
        let mut request = world.get("/");
        request.headers_mut().insert("host", HeaderValue::from_static(NAME));
        let answer = read(exchange(stream, request).await).await;
        let seen: std::collections::BTreeMap<String, String> = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(seen["x-forwarded-proto"], "https");
        assert_eq!(seen["host"], NAME);
        assert_eq!(seen["forwarded"], format!("for=127.0.0.1;proto=https;host=\"{NAME}\""));
        assert_eq!(seen["via"], via);
    }
    let plain = send(world.get("/")).await;
    assert!(plain.body.contains("\"x-forwarded-proto\":\"http\""), "{}", plain.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_and_upgrades_pass_through_tls() {
    let made = make(&[NAME]);
    let mount = Mount::new(&made);
    let world = world(tls(&[&mount]));
    let pod = FakePod::start(|mut request| async move {
        if request.headers().contains_key("upgrade") {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
                tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            });
            let mut response = text("");
            *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
            response.headers_mut().insert("upgrade", HeaderValue::from_static("echo"));
            return response;
        }
        text(request.into_body().collect().await.unwrap().to_bytes())
    })
    .await;
    world.pod(&pod);
    let large = "0123456789abcdef".repeat(256 * 1024);
    for alpn in ["h2", "http/1.1"] {
        let stream = connect(&world, client_config(&[&made], &[alpn]), NAME).await.unwrap();
        let answer = read(exchange(stream, world.request("POST", "/", full(large.clone()))).await).await;
        assert!(answer.body == large, "4 MiB there and back over {alpn}");
    }
    let stream = connect(&world, client_config(&[&made], &["http/1.1"]), NAME).await.unwrap();
    let mut request = world.get("/");
    request.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    request.headers_mut().insert("upgrade", HeaderValue::from_static("echo"));
    let response = exchange(stream, request).await;
    assert_eq!(response.status(), 101);
    let mut upgraded = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    upgraded.write_all(b"ping").await.unwrap();
    let mut echoed = [0; 4];
    upgraded.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"ping");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_that_is_asked_for_chooses_the_certificate() {
    let (first, second) = (make(&["default.example.com"]), make(&["api.example.com", "*.fn.example.com"]));
    let (mount, other) = (Mount::new(&first), Mount::new(&second));
    let world = world(tls(&[&mount, &other]));
    for (name, wanted) in
        [("default.example.com", &first), ("api.example.com", &second), ("anything.fn.example.com", &second)]
    {
        let stream = connect(&world, client_config(&[&first, &second], &[]), name).await.unwrap();
        assert_eq!(shown(&stream), wanted.der, "{name}");
    }
    // The first is shown to whoever asks for no known name or for none at all; whether to trust it is the client's matter.
    for name in ["unknown.example.com", "127.0.0.1"] {
        let refused = connect(&world, client_config(&[&first, &second], &[]), name).await.unwrap_err();
        assert!(refused.to_string().contains("default.example.com"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let (first, second) = (make(&[NAME]), make(&[NAME]));
    let mount = Mount::new(&first);
    let name = mount.path().file_name().unwrap().to_str().unwrap().to_owned();
    let world = world(tls(&[&mount]));
    let pod = FakePod::hello().await;
    world.pod(&pod);
    let trusted = client_config(&[&first, &second], &["http/1.1"]);
    let running = connect(&world, trusted.clone(), NAME).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(running)).await.unwrap();
    tokio::spawn(connection);
    let ask = async |sender: &mut hyper::client::conn::http1::SendRequest<_>| {
        let request = Request::get("/").header("host", NAME).body(empty()).unwrap();
        read(sender.send_request(request).await.unwrap()).await.body
    };
    assert_eq!(ask(&mut sender).await, "hello");

    mount.swap(&second.chain, &second.key);
    let certificates = |world: &World| world.activator.tls.as_ref().unwrap().store.certificates();
    let served = |world: &World| certificates(world)[0].key.cert[0].clone();
    eventually("the new certificate", || served(&world) == second.der).await;
    assert_eq!(shown(&connect(&world, trusted.clone(), NAME).await.unwrap()), second.der);
    assert_eq!(ask(&mut sender).await, "hello", "on the connection from before");
    let told = metrics(&world).await;
    let expiry = certificates(&world)[0].not_after;
    for line in [
        format!("tls_certificate_expiry_timestamp_seconds{{certificate=\"{name}\"}} {expiry}"),
        format!("tls_certificate_rejected{{certificate=\"{name}\"}} 0"),
        format!("tls_certificate_loads_total{{certificate=\"{name}\",result=\"loaded\"}} 2"),
        "tls_handshakes_total{result=\"ok\"} 2".to_owned(),
    ] {
        assert!(told.contains(&line), "{line} is not in:\n{told}");
    }

    mount.swap(&first.chain, &second.key);
    let rejected = format!("tls_certificate_rejected{{certificate=\"{name}\"}} 1");
    while !metrics(&world).await.contains(&rejected) {
        tokio::task::yield_now().await;
    }
    assert_eq!(shown(&connect(&world, trusted.clone(), NAME).await.unwrap()), second.der, "the one before");
    mount.swap(&first.chain, &first.key);
    eventually("the repaired certificate", || served(&world) == first.der).await;
    assert_eq!(shown(&connect(&world, trusted, NAME).await.unwrap()), first.der);
    assert!(!metrics(&world).await.contains(&rejected));
}

/// A client's first message.
fn hello() -> Vec<u8> {
    let name = ServerName::try_from(NAME).unwrap();
    let mut client = rustls::ClientConnection::new(client_config(&[], &[]), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_do_not_end_are_ended() {
    let made = make(&[NAME]);
    let mount = Mount::new(&made);
    let mut config = tls(&[&mount]);
    config.handshakes.timeout = Duration::from_millis(300);
    let world = world(config);
    for beginning in
        [Vec::new(), hello()[..20].to_vec(), hello(), b"GET / HTTP/1.1\r\nhost: hello.shop\r\n\r\n".to_vec()]
    {
        let mut stream = TcpStream::connect(world.activator.https.unwrap()).await.unwrap();
        stream.write_all(&beginning).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{} bytes, and still open", beginning.len());
        assert!(!rest.starts_with(b"HTTP"), "no plain text where TLS is spoken");
    }
    let told = metrics(&world).await;
    assert!(told.contains("tls_handshakes_total{result=\"timeout\"} 3"), "{told}");
    assert!(told.contains("tls_handshakes_total{result=\"failed\"} 1"), "{told}");
    let shared = &world.activator.shared;
    let all = shared.limits.max_connections;
    eventually("every connection is given back", || shared.connections.available_permits() == all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_at_once_are_bounded_and_silent_clients_take_no_place() {
    let made = make(&[NAME]);
    let mount = Mount::new(&made);
    let mut config = tls(&[&mount]);
    config.handshakes.concurrent = 1;
    let world = Arc::new(world(config));
    let https = world.activator.https.unwrap();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(https).await.unwrap());
    }
    let trusted = client_config(&[&made], &[]);
    connect(&world, trusted.clone(), NAME).await.unwrap();

    let mut stalled = TcpStream::connect(https).await.unwrap();
    stalled.write_all(&hello()).await.unwrap();
    assert_ne!(stalled.read(&mut [0; 1]).await.unwrap(), 0, "its handshake has begun");
    let waits = {
        let world = world.clone();
        tokio::spawn(async move { connect(&world, trusted, NAME).await.map(drop) })
    };
    let mut early = waits;
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut early).await.is_err(), "it has to wait");
    drop(stalled);
    early.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_used_stops_the_start_and_names_the_flag() {
    use pilotlight_activator::runtime::Activator;
    let made = make(&[NAME]);
    let mount = Mount::new(&made);
    let mut config = World::config();
    mount.swap(&made.chain, "");
    config.tls = Some(tls(&[&mount]));
    let Err(error) = Activator::start(config, Arc::new(FakeScale::default())) else { panic!("it started") };
    let words = format!("{error:#}");
    for word in ["--tls-certificate-dir", "tls.key has no private key", mount.path().to_str().unwrap()] {
        assert!(words.contains(word), "{words}");
    }
}
