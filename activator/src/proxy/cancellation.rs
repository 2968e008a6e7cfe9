//! A request that is given up at any await point of its way leaves nothing behind. Each path is driven poll by poll and dropped
//! after the n-th, for every n until it is through; pods are in memory and time is paused, so that every run is the same.

mod stepped;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::Request;
use http::header::{CONNECTION, HOST, UPGRADE};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pilotlight_crds::control::FunctionSample;
use pilotlight_crds::workload::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::forwarded::{Peer, Trust};
use super::{Client, Target, handle};
use crate::endpoint::memory::{MemoryNet, TestBody, chunks, full};
use crate::endpoint::stream::Dial;
use crate::fixtures::{self, OneReplica};
use crate::function::FunctionCell;
use crate::index::{FunctionConfig, PodView, ProbeCheck};
use crate::limits::{Limits, Share};
use crate::listen::conn::{ActiveRequest, ConnState};
use crate::runtime::Shared;
use crate::telemetry::Telemetry;
use stepped::{Stepped, Steps};

/// What stands in the way of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A pod is ready.
    Warm,
    /// The only slot is taken for a while.
    Queued,
    /// No pod is ready; one comes.
    Cold,
    /// The pod refuses the connection.
    Refused,
    /// The pod reads the request and closes the connection.
    Broken,
}

#[derive(Clone, Copy, Debug)]
struct Path {
    way: Way,
    method: &'static str,
    path: &'static str,
    protocol: Protocol,
}

fn get(way: Way, path: &'static str) -> Path {
    Path { way, method: "GET", path, protocol: Protocol::HTTP1 }
}

fn config() -> Arc<FunctionConfig> {
    Arc::new(FunctionConfig { limit: 1, target: 1, pending_requests: 100, ..fixtures::config() })
}

struct World {
    net: MemoryNet,
    shared: Arc<Shared>,
    cell: Arc<FunctionCell>,
    clients: Vec<Arc<ConnState>>,
}

impl World {
    fn new() -> Self {
        let net = MemoryNet::default();
        let mut shared = Shared::new(Limits::default(), Arc::new(OneReplica), Trust::default(), Telemetry::default());
        shared.dial = Dial::Memory(net.clone());
        let shared = Arc::new(shared);
        let cell = Arc::new(FunctionCell::new(config(), shared.clone()));
        Self { net, shared, cell, clients: Vec::new() }
    }

    fn show_pod(cell: &Arc<FunctionCell>, net: &MemoryNet, protocol: Protocol) {
        let checks = vec![ProbeCheck::Tcp { port: 8080 }];
        let pod = PodView { protocol, checks, ready: true, ..fixtures::pod(1) };
        net.serve(pod.address.unwrap(), protocol);
        cell.update(config(), vec![Arc::new(pod)], None);
    }

    /// Sends a request over a connection of its own, which allows so many polls.
    fn send(&mut self, request: Request<TestBody>, polls: usize) -> (Arc<Steps>, Sending) {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let state = Arc::new(ConnState::new(self.shared.epoch, true, self.shared.draining.clone()));
        self.clients.push(state.clone());
        let steps = Steps::new(self.cell.clone(), polls);
        let (cell, counted) = (self.cell.clone(), steps.clone());
        let client = Client { address: SocketAddr::from(([10, 0, 0, 9], 1234)), encrypted: false };
        let peer = Arc::new(Peer::new(client, &Trust::default()));
        let service = service_fn(move |request: Request<Incoming>| {
            let (target, active) = (Target::Function(cell.clone()), ActiveRequest::new(state.clone()));
            let peer = peer.clone();
            let answer = async move { handle(&target, request, None, peer, active).await };
            Stepped::new(Box::pin(answer), counted.clone())
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .header_read_timeout(None::<Duration>)
                .serve_connection(TokioIo::new(far), service)
                .with_upgrades(),
        );
        (steps, tokio::spawn(converse(near, request)))
    }

    /// Nothing is held any more, anywhere.
    async fn assert_nothing_left(&mut self, at: &str) {
        pause(1_000).await;
        assert_eq!(self.cell.load(), (0, 0), "{at}: in flight and waiting");
        assert_eq!(self.shared.pending.taken(), Share::default(), "{at}: room to wait");
        assert!(self.clients.iter().all(|client| client.look().active == 0), "{at}: a client counts as busy");
        assert_eq!(self.shared.tasks.len(), 0, "{at}: tunnels");
        assert!(self.net.open() <= 2, "{at}: {} connections for two requests", self.net.open());
        self.assert_nobody_blamed(at);
        self.cell.update(config(), Vec::new(), None);
        pause(1_000).await;
        assert_eq!(self.net.open(), 0, "{at}: connections that are neither idle nor closed");
    }

    /// What the samples tell, once all seconds are over: a client that goes away is no failure, and no request ends twice.
    fn assert_nobody_blamed(&self, at: &str) {
        let later = Instant::now() + Duration::from_secs(2);
        let seconds = 0..=later.duration_since(self.shared.epoch).as_secs();
        let samples: Vec<_> = seconds.filter_map(|second| self.cell.sample(later, second)).collect();
        let sum = |count: fn(&FunctionSample) -> u32| samples.iter().map(count).sum::<u32>();
        let (arrived, completed) = (sum(|sample| sample.arrivals), sum(|sample| sample.completed));
        assert!((1..=arrived).contains(&completed), "{at}: {completed} of {arrived} requests ended");
        assert_eq!((sum(|sample| sample.errors), sum(|sample| sample.slow)), (0, 0), "{at}");
    }
}

type Sending = tokio::task::JoinHandle<Result<String, hyper::Error>>;

/// Sends a request, reads its response to the end, and says something over an upgraded connection.
async fn converse(io: tokio::io::DuplexStream, request: Request<TestBody>) -> Result<String, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(connection.with_upgrades());
    let response = sender.send_request(request).await?;
    if response.status() == 101 {
        let mut io = TokioIo::new(hyper::upgrade::on(response).await?);
        io.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        io.read_exact(&mut echo).await.unwrap();
        return Ok(String::from_utf8_lossy(&echo).into_owned());
    }
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(format!("{status} {}", String::from_utf8_lossy(&body)))
}

fn request(method: &str, path: &str) -> Request<TestBody> {
    let builder = Request::builder().method(method).uri(path).header(HOST, "hello.shop");
    match (method, path) {
        ("POST", _) => builder.body(BodyExt::boxed_unsync(StreamBody::new(chunks(3)))).unwrap(),
        (_, "/upgrade") => builder.header(CONNECTION, "upgrade").header(UPGRADE, "echo").body(full("")).unwrap(),
        _ => builder.body(full("")).unwrap(),
    }
}

/// Lets everything that can happen within so many (paused) milliseconds happen.
async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// What one run was like: through or not, and the load at the moment of the drop.
type Run = (bool, Option<(u32, u32)>);

async fn run(path: Path, polls: usize) -> Run {
    let at = format!("{path:?} dropped after {polls} polls");
    let mut world = World::new();
    if path.way == Way::Cold {
        let (cell, net) = (world.cell.clone(), world.net.clone());
        tokio::spawn(async move {
            pause(30).await;
            World::show_pod(&cell, &net, path.protocol);
        });
    } else {
        World::show_pod(&world.cell, &world.net, path.protocol);
        pause(100).await;
        assert_eq!(world.cell.usable(), 1);
    }
    let mut holder = None;
    match path.way {
        Way::Warm | Way::Cold => {}
        Way::Queued => {
            holder = Some(world.send(request("GET", "/slow"), usize::MAX).1);
            pause(1).await;
        }
        Way::Refused => world.net.refuse_next(),
        Way::Broken => world.net.break_next(),
    }
    let (steps, victim) = world.send(request(path.method, path.path), polls);
    pause(1).await;
    let (_, follower) = world.send(request("GET", "/"), usize::MAX);
    assert_eq!(follower.await.unwrap().unwrap(), "200 hello", "{at}: the next one");
    let answer = victim.await.unwrap();
    let through = steps.through.load(Ordering::SeqCst);
    if through {
        let expected = match path.path {
            "/stream" => "200 piece piece piece piece ",
            "/echo" => "200 piece piece piece ",
            "/upgrade" => "ping",
            _ => "200 hello",
        };
        assert_eq!(answer.unwrap(), expected, "{at}");
    } else {
        assert!(answer.is_err(), "{at}: {answer:?}");
    }
    if let Some(holder) = holder {
        assert_eq!(holder.await.unwrap().unwrap(), "200 slow", "{at}: the one before");
    }
    world.assert_nothing_left(&at).await;
    let dropped_at = *steps.dropped_at.lock().unwrap();
    (through, dropped_at)
}

/// Drops the request after every poll until it is through, and gives what it was doing each time.
async fn every_point(path: Path) -> Vec<(u32, u32)> {
    let mut points = Vec::new();
    for polls in 0..200 {
        let (through, dropped_at) = run(path, polls).await;
        if through {
            assert_eq!((through, dropped_at), run(path, polls).await, "another run differs");
            return points;
        }
        points.push(dropped_at.expect("it was dropped, or it is through"));
    }
    panic!("{path:?} never ends");
}

/// The request was dropped in each of these situations: (at pods, waiting), the next request included.
async fn assert_dropped_at(path: Path, situations: &[(u32, u32)]) -> usize {
    let points = every_point(path).await;
    for situation in situations {
        assert!(points.contains(situation), "{path:?} was never dropped at {situation:?}: {points:?}");
    }
    points.len()
}

#[tokio::test(start_paused = true)]
async fn a_warm_request() {
    let path = get(Way::Warm, "/");
    assert_dropped_at(path, &[(0, 0), (1, 0)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_warm_request_over_http2() {
    let path = Path { protocol: Protocol::H2C, ..get(Way::Warm, "/stream") };
    assert_dropped_at(path, &[(0, 0), (1, 0), (1, 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_a_slot() {
    let path = get(Way::Queued, "/");
    assert_dropped_at(path, &[(1, 0), (1, 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_a_pod() {
    let path = get(Way::Cold, "/");
    assert_dropped_at(path, &[(0, 0), (0, 1), (1, 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_pod_refuses_the_connection() {
    let path = get(Way::Refused, "/");
    assert_dropped_at(path, &[(0, 0), (1, 0), (0, 1), (1, 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_replayed() {
    let path = get(Way::Broken, "/");
    assert_dropped_at(path, &[(0, 0), (1, 0), (0, 1), (1, 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_response_that_streams() {
    let path = get(Way::Warm, "/stream");
    let points = assert_dropped_at(path, &[(0, 0), (1, 0), (1, 1)]).await;
    assert!(points >= 6, "it is dropped between the pieces too: {points}");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_echoed() {
    let path = Path { method: "POST", ..get(Way::Queued, "/echo") };
    assert_dropped_at(path, &[(1, 0), (1, 1), (1, 2)]).await;
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_and_its_tunnel() {
    let path = get(Way::Warm, "/upgrade");
    assert_dropped_at(path, &[(0, 0), (1, 0)]).await;
}
