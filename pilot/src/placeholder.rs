//! In the place of a parked function: answers kubelet's probes on the ports that the function has, so that the pod stays as it is.
//!
//! What always holds: before any other port is open, the one is on which it says what it is, and all end at once with the process; so who finds
//! that one closed and another open speaks with no placeholder. Connections, their bytes and their time are bounded.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::answer::{self, FRAME_HEAD, Frame, PREFACE, SETTINGS};

/// Port on which it says what it is.
const IDENTITY: u16 = 9095;
/// What it says there.
const GREETING: &[u8] = b"pilotlight-placeholder\n";
/// Connections at once; more are closed. Probes come one after the other.
const MOST_CONNECTIONS: usize = 32;
/// Bytes of a thread's stack; the kernel gives memory only for what is touched.
const STACK: usize = 64 * 1024;
/// A client that says nothing for so long is left.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a request's head, or of a frame, at most.
const MOST_BYTES: usize = 8 * 1024;
/// Frames of one connection at most.
const MOST_FRAMES: usize = 64;

/// The ports of the function in whose place this process runs, from its environment. `None`: it runs in nobody's.
///
/// The function's arguments come along, too: the author's, which only the function understands.
pub(crate) fn ports(variable: impl Fn(&str) -> Option<String>) -> Option<Vec<u16>> {
    variable("K_SERVICE")?;
    let serving = variable("PORT")?.parse().ok()?;
    let probed = variable("PILOTLIGHT_PROBE_PORTS").unwrap_or_default();
    let mut ports = vec![serving];
    ports.extend(probed.split(',').filter_map(|port| port.parse::<u16>().ok()).filter(|port| *port != serving));
    Some(ports)
}

/// Listens until the process is told to end.
///
/// # Errors
/// The port on which it says what it is cannot be listened on, or no thread be made.
pub(crate) fn stand_in(ports: &[u16]) -> io::Result<()> {
    let identity = listen(IDENTITY)?;
    let open = Arc::new(AtomicUsize::new(0));
    spawn(move || accept(&identity, &Arc::default(), |mut stream| stream.write_all(GREETING)))?;
    for port in ports {
        match listen(*port) {
            Ok(listener) => {
                let open = open.clone();
                spawn(move || accept(&listener, &open, converse))?;
            }
            // Probes of it fail; to end would only be to begin again.
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}

/// On every address of the pod, of either family.
fn listen(port: u16) -> io::Result<TcpListener> {
    let any = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))];
    TcpListener::bind(&any[..])
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on port {port}: {error}")))
}

fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().stack_size(STACK).spawn(run).map(drop)
}

/// Each connection has a thread of its own, so that none keeps a probe waiting.
fn accept(listener: &TcpListener, open: &Arc<AtomicUsize>, serve: fn(TcpStream) -> io::Result<()>) {
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Out of file descriptors, say: it passes.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        if open.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let counted = open.clone();
        let served = spawn(move || {
            // What a client does not take is its own affair.
            let _ = serve(stream);
            counted.fetch_sub(1, Ordering::Relaxed);
        });
        if served.is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn converse(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut bytes = Vec::with_capacity(512);
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        if bytes.len() >= MOST_BYTES {
            return Ok(());
        }
        let mut chunk = [0; 512];
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            n => bytes.extend_from_slice(&chunk[..n]),
        }
    }
    if bytes.starts_with(&PREFACE[..16]) {
        return frames(&mut (bytes.as_slice().chain(&stream)), &stream);
    }
    stream.write_all(&answer::http1(&bytes))
}

/// HTTP/2, frame by frame.
fn frames(input: &mut impl Read, mut output: &TcpStream) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    input.read_exact(&mut preface)?;
    if preface != PREFACE {
        return Ok(());
    }
    output.write_all(SETTINGS)?;
    for _ in 0..MOST_FRAMES {
        let mut head = [0; FRAME_HEAD];
        input.read_exact(&mut head)?;
        let frame = Frame::read(head);
        if frame.length > MOST_BYTES {
            return Ok(());
        }
        let mut payload = vec![0; frame.length];
        input.read_exact(&mut payload)?;
        output.write_all(&frame.answer(&payload))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilotlight_crds::park;

    /// A placeholder for one test, on a port that the kernel chose.
    fn placeholder() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        spawn(move || accept(&listener, &Arc::default(), converse)).unwrap();
        address
    }

    #[test]
    fn what_the_activator_looks_for_is_what_is_said() {
        assert_eq!(IDENTITY, park::PORT);
        assert_eq!(GREETING, park::GREETING.as_bytes());
    }

    #[test]
    fn it_stands_in_for_a_function_and_for_nothing_else() {
        let told = |all: &[(&str, &str)]| {
            let all: Vec<_> = all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            ports(move |name| all.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
        };
        assert_eq!(told(&[("K_SERVICE", "hello"), ("PORT", "8080")]), Some(vec![8080]));
        assert_eq!(
            told(&[("K_SERVICE", "hello"), ("PORT", "8080"), (park::ENV_PROBE_PORTS, "9000,8080,9001")]),
            Some(vec![8080, 9000, 9001])
        );
        assert_eq!(told(&[("POD_UID", "u"), ("POD_IP", "10.0.0.1")]), None, "a beacon");
    }

    #[test]
    fn a_probe_is_answered_beside_a_client_that_says_nothing() {
        let address = placeholder();
        let _silent = TcpStream::connect(address).unwrap();
        let mut probe = TcpStream::connect(address).unwrap();
        probe.write_all(b"GET /ready HTTP/1.1\r\nHost: x\r\n").unwrap();
        probe.write_all(b"User-Agent: kube-probe/1.35\r\n\r\n").unwrap();
        let mut said = String::new();
        probe.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
    }

    #[tokio::test]
    async fn a_client_of_http_2_hears_of_health_by_the_probe_s_method_only() {
        use http_body_util::{BodyExt, Empty};
        use hyper_util::rt::{TokioExecutor, TokioIo};
        let stream = tokio::net::TcpStream::connect(placeholder()).await.unwrap();
        let executor = TokioExecutor::new();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        for (path, status) in [("/grpc.health.v1.Health/Check", "0"), ("/shop.Orders/Buy", "14")] {
            let request = hyper::Request::post(format!("http://pod{path}"))
                .header("content-type", "application/grpc")
                .body(Empty::<hyper::body::Bytes>::new())
                .unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.headers()["pilotlight-placeholder"], "true");
            let head = answer.headers().get("grpc-status").cloned();
            let body = answer.into_body().collect().await.unwrap();
            let trailer = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned());
            assert_eq!(head.or(trailer).unwrap(), status, "{path}");
            let message: &[u8] = if status == "0" { &[0, 0, 0, 0, 2, 8, 1] } else { &[] };
            assert_eq!(body.to_bytes().as_ref(), message);
        }
    }
}
