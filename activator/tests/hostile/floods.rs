//! Floods: whatever comes, the activator's memory stays within what its flags allow, a warm Function goes on answering, and nothing
//! that was accepted is lost or doubled.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;

use crate::app::App;
use crate::child::Activator;
use crate::h2wire::{CONTINUATION, END_HEADERS, END_STREAM, H2, HEADERS, PING, RST_STREAM, SETTINGS, block, frame};
use crate::sink::Sink;
use crate::wire::Wire;

/// One after the other: each measures a process of its own, on the same two cores.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What any connection may cost besides its buffers: its task, the socket's and hyper's state, in a build that is not optimised.
const PER_CONNECTION_KIB: u64 = 48;
/// Allocator's slack and the process's own tables.
const SLACK_KIB: u64 = 24 * 1024;

/// Asks the warm Function again and again until told to stop.
struct Warm {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<u64>,
}

impl Warm {
    fn start(activator: &Activator) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let (told, address) = (stop.clone(), activator.warm);
        let task = tokio::spawn(async move {
            let mut answered = 0;
            while !told.load(Ordering::Relaxed) {
                let mut wire = Wire::connect(address).await;
                wire.send(b"GET /warm HTTP/1.1\r\nHost: warm.shop\r\n\r\n").await;
                let answer = wire.answer().await.unwrap().expect("an answer");
                assert!(answer.status == 200 && answer.app, "the warm Function answered {answer:?}");
                answered += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            answered
        });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.task.await.unwrap() > 0, "the warm Function was never asked");
    }
}

/// Asserts that no more than `connections` bounded connections and `buffers` KiB of buffers were ever held on top of `before`.
fn bounded(activator: &Activator, before: u64, connections: u64, buffers: u64, what: &str) {
    let (now, peak) = activator.memory();
    let bound = before + connections * PER_CONNECTION_KIB + buffers + SLACK_KIB;
    println!("{what}: {before} KiB before, {now} KiB now, peak {peak} KiB, bound {bound} KiB");
    assert!(peak <= bound, "{what}: {peak} KiB is more than the {bound} KiB that the flags allow");
}

#[tokio::test(flavor = "multi_thread")]
async fn slowloris() {
    const SOCKETS: u64 = 2_000;
    let _alone = ALONE.lock().await;
    let pod = App::start().await;
    let activator = Activator::start(&["--header-timeout-seconds", "3"], pod.address).await;
    let warm = Warm::start(&activator);
    let (before, _) = activator.memory();
    let slow = (0..SOCKETS).map(|_| async {
        let mut stream = TcpStream::connect(activator.warm).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: warm.shop\r\nX-Slow: ").await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let dripping = async {
            while writer.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        };
        let mut answer = [0; 16];
        let closed = async { while reader.read(&mut answer).await.is_ok_and(|read| read > 0) {} };
        tokio::select! { () = dripping => {}, () = closed => {} }
    });
    tokio::time::timeout(Duration::from_secs(30), join_all(slow)).await.expect("every slow head is cut");
    warm.stop().await;
    bounded(&activator, before, SOCKETS, 0, "slowloris");
}

fn request(fields: &[(&[u8], &[u8])], stream: u32, flags: u8) -> Vec<u8> {
    let plain: [(&[u8], &[u8]); 4] =
        [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/reset"), (b":authority", b"warm.shop")];
    frame(HEADERS, flags, stream, &block(&[&plain, fields].concat()))
}

/// CVE-2023-44487. The activator gives up a connection that does nothing else; the flood goes on over new ones.
#[tokio::test(flavor = "multi_thread")]
async fn rapid_reset() {
    const STREAMS: u32 = 100_000;
    const BATCH: u32 = 100;
    let _alone = ALONE.lock().await;
    let pod = App::start().await;
    let activator = Activator::start(&[], pod.address).await;
    let warm = Warm::start(&activator);
    let (before, _) = activator.memory();
    let (mut sent, mut connections) = (0, 0);
    while sent < STREAMS {
        connections += 1;
        let mut h2 = H2::connect(activator.warm).await;
        let mut id = 1;
        while sent < STREAMS {
            let mut batch = Vec::new();
            for _ in 0..BATCH {
                batch.extend(request(&[], id, END_HEADERS | END_STREAM));
                batch.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
                id += 2;
            }
            sent += BATCH;
            if h2.send(&batch).await.is_err() {
                break;
            }
        }
    }
    assert!(connections > 10, "the activator bore it on {connections} connections");
    warm.stop().await;
    bounded(&activator, before, 64, 0, "rapid reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn continuation_flood() {
    let _alone = ALONE.lock().await;
    let pod = App::start().await;
    let activator = Activator::start(&[], pod.address).await;
    let warm = Warm::start(&activator);
    let (before, _) = activator.memory();
    for _ in 0..20 {
        let mut h2 = H2::connect(activator.warm).await;
        let mut bytes = request(&[], 1, 0).len();
        h2.send(&request(&[], 1, 0)).await.unwrap();
        let more = frame(CONTINUATION, 0, 1, &block(&[(b"x-flood", &[b'x'; 8_000])]));
        while h2.send(&more).await.is_ok() {
            bytes += more.len();
            assert!(bytes < 64 * 1024 * 1024, "a head of {bytes} bytes and no end");
        }
    }
    warm.stop().await;
    // Each of the connections may have held one head of --max-header-bytes (64 KiB) and what decoding it takes.
    bounded(&activator, before, 20, 20 * 256, "CONTINUATION flood");
}

/// PING and SETTINGS ask for an answer each; whoever does not read the answers is not read any more.
#[tokio::test(flavor = "multi_thread")]
async fn control_frames_without_end() {
    let _alone = ALONE.lock().await;
    let pod = App::start().await;
    let activator = Activator::start(&[], pod.address).await;
    let warm = Warm::start(&activator);
    let (before, _) = activator.memory();
    for flood in [frame(PING, 0, 0, b"whatever"), frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])] {
        let mut h2 = H2::connect(activator.warm).await;
        let many = flood.repeat(1_000);
        let sending = async {
            for _ in 0..2_000 {
                if h2.send(&many).await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), sending).await;
    }
    warm.stop().await;
    bounded(&activator, before, 2, 0, "PING and SETTINGS flood");
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_heads() {
    const EACH: usize = 200;
    let _alone = ALONE.lock().await;
    let pod = App::start().await;
    let activator = Activator::start(&[], pod.address).await;
    let warm = Warm::start(&activator);
    let (before, _) = activator.memory();
    let large = "x".repeat(1024 * 1024);
    let heads = [
        format!("GET / HTTP/1.1\r\nHost: h\r\nX-Large: {large}\r\n\r\n"),
        format!("GET /{large} HTTP/1.1\r\nHost: h\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X-Many: 1\r\n".repeat(5_000)),
    ];
    for head in &heads {
        let sent = (0..EACH).map(|_| async {
            let stream = TcpStream::connect(activator.warm).await.unwrap();
            let (mut reader, mut writer) = stream.into_split();
            let head = head.clone();
            let writing = tokio::spawn(async move { writer.write_all(head.as_bytes()).await });
            let mut answer = [0; 12];
            let got = reader.read_exact(&mut answer).await;
            writing.abort();
            // What is still on its way when the connection closes may tear the answer; it is never another one.
            assert!(got.is_err() || &answer == b"HTTP/1.1 431", "{}", String::from_utf8_lossy(&answer));
            u32::from(got.is_ok())
        });
        let answered: u32 = join_all(sent).await.into_iter().sum();
        assert!(answered > 0, "nobody was told");
    }
    warm.stop().await;
    // A head may be held twice: in the gate, and while it is judged; each up to --max-header-bytes, grown by doubling.
    bounded(&activator, before, EACH as u64, EACH as u64 * 2 * 128, "oversized heads");
}

/// Waits until `gauge` of /metrics or the like would say so: until that many requests are at the app.
async fn arrived(sink: &Sink, wanted: usize) {
    let all = async {
        while sink.seen().len() < wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(60), all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_held_requests_are_delivered_once() {
    const REQUESTS: u64 = 10_000;
    let _alone = ALONE.lock().await;
    let (pod, sink) = (App::start().await, Sink::start().await);
    let activator = Activator::start(&[], pod.address).await;
    let warm = Warm::start(&activator);
    let (before, _) = activator.memory();
    let sent = AtomicU64::new(0);
    let held = futures::stream::iter(0..REQUESTS).map(|number| {
        let (sent, address) = (&sent, activator.cold);
        async move {
            let mut wire = Wire::connect(address).await;
            let head = format!("GET /n/{number} HTTP/1.1\r\nHost: cold.shop\r\nConnection: close\r\n\r\n");
            wire.send(head.as_bytes()).await;
            sent.fetch_add(1, Ordering::Relaxed);
            wire
        }
    });
    let mut wires: Vec<Wire> = held.buffer_unordered(64).collect().await;
    while !activator.api.woken() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (holding, _) = activator.memory();
    activator.api.add_pod("cold", sink.address);
    let answers = join_all(wires.iter_mut().map(|wire| wire.answer_within(Duration::from_secs(60)))).await;
    for answer in answers {
        let answer = answer.unwrap().expect("every held request is answered");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(sent.load(Ordering::Relaxed), REQUESTS);
    arrived(&sink, 10_000).await;
    exactly_once(&sink, REQUESTS);
    warm.stop().await;
    println!("10,000 held: {} KiB each", (holding - before) / REQUESTS);
    bounded(&activator, before, REQUESTS, 0, "10,000 held requests");
}

fn exactly_once(sink: &Sink, wanted: u64) {
    let seen = sink.seen();
    let different: BTreeSet<_> = seen.iter().collect();
    assert_eq!(different.len(), seen.len(), "some were delivered twice");
    assert_eq!(different.len() as u64, wanted, "some were not delivered");
}

/// 1,000 uploads of 10 MiB are offered to a cold Function. Nine of ten clients give up; the rest is delivered whole, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_held_uploads() {
    const UPLOADS: usize = 1_000;
    const STAYING: usize = 100;
    const BYTES: usize = 10 * 1024 * 1024;
    let _alone = ALONE.lock().await;
    let (pod, sink) = (App::start().await, Sink::start().await);
    let activator = Activator::start(&[], pod.address).await;
    let warm = Warm::start(&activator);
    let (before, _) = activator.memory();
    let piece: Arc<[u8]> = vec![b'u'; 64 * 1024].into();
    let offered = Arc::new(AtomicU64::new(0));
    let mut uploads = Vec::new();
    for number in 0..UPLOADS {
        let (piece, offered, address) = (piece.clone(), offered.clone(), activator.cold);
        uploads.push(tokio::spawn(async move {
            // Left to itself the kernel grows each to 4 MiB, and with 1,000 of them it has no memory left for any connection.
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_send_buffer_size(64 * 1024).unwrap();
            let (mut reader, mut writer) = socket.connect(address).await.unwrap().into_split();
            let head = format!("POST /n/{number} HTTP/1.1\r\nHost: cold.shop\r\nContent-Length: {BYTES}\r\n\r\n");
            writer.write_all(head.as_bytes()).await.unwrap();
            writer.write_all(&piece).await.unwrap();
            offered.fetch_add(1, Ordering::Relaxed);
            for _ in 1..BYTES / piece.len() {
                writer.write_all(&piece).await.unwrap();
            }
            let mut answer = [0; 12];
            reader.read_exact(&mut answer).await.unwrap();
            answer
        }));
    }
    while offered.load(Ordering::Relaxed) < UPLOADS as u64 || !activator.api.woken() {
        assert!(!uploads.iter().any(tokio::task::JoinHandle::is_finished), "an upload was not held");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for leaving in uploads.drain(STAYING..) {
        leaving.abort();
        let _ = leaving.await;
    }
    activator.api.add_pod("cold", sink.address);
    for answer in join_all(uploads).await {
        assert_eq!(&answer.unwrap(), b"HTTP/1.1 200");
    }
    let stayed: Vec<_> = sink.seen().into_iter().filter(|(number, _)| *number < STAYING as u64).collect();
    assert_eq!(stayed.len(), STAYING, "each once");
    assert_eq!(stayed.iter().collect::<BTreeSet<_>>().len(), STAYING, "each once");
    assert!(stayed.iter().all(|(_, bytes)| *bytes == BYTES as u64), "each whole");
    warm.stop().await;
    // A held upload keeps what hyper reads ahead; one that moves has its share of two copy buffers, 64 KiB each.
    bounded(&activator, before, UPLOADS as u64, UPLOADS as u64 * 128, "1,000 held uploads");
}
