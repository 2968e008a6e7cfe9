//! One client connection: HTTP/1.1 or HTTP/2 by its first bytes, served until it ends, the sweep ends it, or the activator drains.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tracing::debug;

use super::client_io::{ClientIo, ClientStream};
use super::sweep::Look;
use crate::proxy::body::Body;
use crate::proxy::forwarded::Peer;
use crate::proxy::{self, Client, Target};
use crate::runtime::Shared;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SNIFF: usize = 2048;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, or 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

/// How a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// After the requests that it has.
    Gracefully,
    /// At once.
    Now,
}

/// What the sweep needs to know of a connection. Times are milliseconds since the epoch, plus one, so that 0 is "not".
#[derive(Debug)]
pub struct ConnState {
    epoch: Instant,
    active: AtomicU32,
    idle_since: AtomicU64,
    head_since: AtomicU64,
    blocked_since: AtomicU64,
    watch_heads: bool,
    ending: AtomicU8,
    held_uploads: AtomicU32,
    check_peer: AtomicBool,
    told: Notify,
}

impl ConnState {
    /// A connection that has just begun to send. `watch_heads`: bytes without a request are a head that comes in, as in
    /// HTTP/1.1; in HTTP/2 they may be anything.
    pub fn new(epoch: Instant, watch_heads: bool) -> Self {
        let state = Self {
            epoch,
            active: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            watch_heads,
            ending: AtomicU8::new(0),
            held_uploads: AtomicU32::new(0),
            check_peer: AtomicBool::new(false),
            told: Notify::new(),
        };
        state.idle_since.store(state.now(), Ordering::Relaxed);
        state
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// The client sent something.
    pub fn note_read(&self) {
        if self.watch_heads && self.active.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0
        {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// A write had to wait for the client, or did not.
    pub fn note_write(&self, blocked: bool) {
        let since = self.blocked_since.load(Ordering::Relaxed);
        if blocked && since == 0 {
            self.blocked_since.store(self.now(), Ordering::Relaxed);
        } else if !blocked && since != 0 {
            self.blocked_since.store(0, Ordering::Relaxed);
        }
    }

    /// How it looks now.
    pub fn look(&self) -> Look {
        let since = |at: &AtomicU64| at.load(Ordering::Relaxed).checked_sub(1);
        Look {
            active: self.active.load(Ordering::Relaxed),
            idle_since: since(&self.idle_since).unwrap_or(0),
            head_since: since(&self.head_since),
            blocked_since: since(&self.blocked_since),
        }
    }

    /// Makes it end.
    pub fn end(&self, ending: Ending) {
        let code = match ending {
            Ending::Gracefully => 1,
            Ending::Now => 2,
        };
        if self.ending.fetch_max(code, Ordering::Relaxed) < code {
            self.told.notify_one();
        }
    }

    /// Resolves when the sweep wants something: an end, or only that the socket is looked at.
    async fn told(&self) -> Option<Ending> {
        self.told.notified().await;
        match self.ending.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Ending::Gracefully),
            _ => Some(Ending::Now),
        }
    }

    /// A request waits whose body nobody reads, so that hyper would not notice the client going away: makes the socket be looked at.
    pub fn check_peer(&self) {
        if self.held_uploads.load(Ordering::Relaxed) > 0 {
            self.check_peer.store(true, Ordering::Relaxed);
            self.told.notify_one();
        }
    }

    /// Whether the socket has to be looked at; asked once.
    pub fn takes_check(&self) -> bool {
        self.check_peer.load(Ordering::Relaxed) && self.check_peer.swap(false, Ordering::Relaxed)
    }
}

/// Counts one request on a connection until dropped.
#[derive(Debug)]
pub struct ActiveRequest(Arc<ConnState>);

impl ActiveRequest {
    /// A request begins.
    pub fn new(state: Arc<ConnState>) -> Self {
        state.active.fetch_add(1, Ordering::Relaxed);
        state.head_since.store(0, Ordering::Relaxed);
        Self(state)
    }
}

/// A request waits whose body nobody reads, until dropped.
#[derive(Debug)]
pub struct HeldUpload(Arc<ConnState>);

impl ActiveRequest {
    /// The request begins to wait with its body unread.
    pub fn hold_upload(&self) -> HeldUpload {
        self.0.held_uploads.fetch_add(1, Ordering::Relaxed);
        HeldUpload(self.0.clone())
    }
}

impl Drop for HeldUpload {
    fn drop(&mut self) {
        self.0.held_uploads.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        }
    }
}

/// Serves a connection to its end. `protocol`: what TLS agreed on; else the first bytes tell.
pub async fn serve<S: ClientStream>(
    shared: Arc<Shared>,
    mut stream: S,
    client: Client,
    target: Target,
    protocol: Option<Protocol>,
) {
    let sniffing = tokio::time::timeout(shared.limits.header_timeout, sniff(&mut stream));
    let sniffed = tokio::select! {
        sniffed = sniffing => sniffed,
        () = shared.close_idle.cancelled() => return,
    };
    let Ok(Ok((sniffed, looks_like))) = sniffed else { return };
    let protocol = protocol.unwrap_or(looks_like);
    let state = Arc::new(ConnState::new(shared.epoch, protocol == Protocol::Http1));
    let id = shared.clients.add(state.clone());
    let io = ClientIo::new(stream, sniffed, state.clone());
    let (per_request, peer) = (state.clone(), Arc::new(Peer::new(client, &shared.trust)));
    let service = service_fn(move |request| {
        let (target, active, peer) = (target.clone(), ActiveRequest::new(per_request.clone()), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(proxy::handle(&target, request, peer, active).await) }
    });
    match protocol {
        Protocol::Http2 => drive(h2_builder(&shared).serve_connection(io, service), &state, &shared).await,
        Protocol::Http1 => {
            drive(h1_builder(&shared).serve_connection(io, service).with_upgrades(), &state, &shared).await;
        }
    }
    shared.clients.remove(id);
}

fn h1_builder(shared: &Shared) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None::<Duration>)
        .max_headers(shared.limits.max_headers)
        .max_buf_size(shared.limits.max_header_bytes);
    builder
}

fn h2_builder(shared: &Shared) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(shared.limits.max_streams)
        .max_header_list_size(u32::try_from(shared.limits.max_header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// What both kinds of connection can do.
trait ServerConnection: Future<Output = hyper::Result<()>> {
    /// Finish what runs and take nothing new.
    fn finish(self: Pin<&mut Self>);
}

impl<C, S> ServerConnection for http1::UpgradeableConnection<ClientIo<C>, S>
where
    C: ClientStream,
    S: HttpService<Incoming, ResBody = Body> + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<C, S> ServerConnection for http2::Connection<ClientIo<C>, S, TokioExecutor>
where
    C: ClientStream,
    S: HttpService<Incoming, ResBody = Body> + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn drive(connection: impl ServerConnection, state: &ConnState, shared: &Shared) {
    let mut connection = pin!(connection);
    let mut draining = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "client connection ended");
                }
                return;
            }
            told = state.told() => match told {
                None => {}
                Some(Ending::Now) => return,
                Some(Ending::Gracefully) => connection.as_mut().finish(),
            },
            () = shared.close_idle.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().finish();
            }
            () = shared.force_close.cancelled() => return,
        }
    }
}

/// Reads until the protocol is clear.
async fn sniff(stream: &mut impl ClientStream) -> io::Result<(BytesMut, Protocol)> {
    let mut bytes = BytesMut::with_capacity(SNIFF);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let seen = bytes.len().min(PREFACE.len());
        if bytes[..seen] != PREFACE[..seen] {
            return Ok((bytes, Protocol::Http1));
        }
        if seen == PREFACE.len() {
            return Ok((bytes, Protocol::Http2));
        }
    }
}
