//! One client connection: HTTP/1.1 or HTTP/2 by its first bytes, served until it ends, the sweep ends it, or the activator drains.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::builders;
use super::client_io::{ClientIo, ClientStream};
use super::gate::REFUSED_METHOD;
use super::sniff::{gone_idle, sniff};
use super::stream::{StreamExecutor, StreamWatch};
use super::strict::{Fault, Strict};
use super::sweep::Look;
use crate::error::Refusal;
use crate::limits::Limits;
use crate::proxy::body::Body;
use crate::proxy::forwarded::Peer;
use crate::proxy::{self, Client, Target};
use crate::runtime::Shared;

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
    upgraded: AtomicBool,
    streams: Mutex<Vec<Arc<StreamWatch>>>,
    fault: OnceLock<Fault>,
    told: Notify,
    leaving: CancellationToken,
}

impl ConnState {
    /// A connection that has just begun to send. `watch_heads`: bytes without a request are a head that comes in, as in
    /// HTTP/1.1; in HTTP/2 they may be anything. `leaving`: cancelled once the client has to connect anew.
    pub fn new(epoch: Instant, watch_heads: bool, leaving: CancellationToken) -> Self {
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
            upgraded: AtomicBool::new(false),
            streams: Mutex::default(),
            fault: OnceLock::new(),
            told: Notify::new(),
            leaving,
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

    fn streams(&self) -> MutexGuard<'_, Vec<Arc<StreamWatch>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends responses that the client has left untaken for too long: an HTTP/2 stream alone, in HTTP/1.1 the connection.
    pub fn end_overdue(&self, now: u64, limits: &Limits) {
        for stream in self.streams().iter() {
            if stream.is_overdue(now, limits.write_stall_timeout) && !stream.end() {
                self.end(Ending::Now);
            }
        }
    }

    /// Whether to wait, at the end, until an HTTP/1.1 client has read: closing while it still sends would take the answer away from it.
    pub fn lingers(&self) -> bool {
        self.watch_heads && !self.upgraded.load(Ordering::Relaxed)
    }

    /// What the client sent cannot be read.
    pub fn note_fault(&self, fault: Fault) {
        let _ = self.fault.set(fault);
    }

    /// Why `request`, which the gate made, stands for one that it refused; `None` for the client's own requests.
    fn refused<B>(&self, request: &http::Request<B>) -> Option<Refusal> {
        match self.fault.get()? {
            _ if request.method().as_str() != REFUSED_METHOD => None,
            Fault::Head(words) => Some(Refusal::BadRequest(words)),
            Fault::HeadTooLarge => Some(Refusal::HeadTooLarge),
            Fault::Body(_) => None,
        }
    }

    /// Whether the client has to connect anew.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
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
pub struct ActiveRequest {
    conn: Arc<ConnState>,
    watch: Option<Arc<StreamWatch>>,
}

impl ActiveRequest {
    /// A request begins.
    pub fn new(state: Arc<ConnState>) -> Self {
        state.active.fetch_add(1, Ordering::Relaxed);
        state.head_since.store(0, Ordering::Relaxed);
        Self { conn: state, watch: None }
    }

    /// From now on the client's connection is a tunnel.
    pub fn upgraded(&self) {
        self.conn.upgraded.store(true, Ordering::Relaxed);
    }

    /// The client has something of its response to take; it may leave it for `patience`, and not beyond `deadline`.
    pub fn handed_out(&mut self, patience: Option<Duration>, deadline: Option<Instant>) {
        let conn = &self.conn;
        let watch = self.watch.get_or_insert_with(|| {
            let since_epoch = |at: Instant| at.saturating_duration_since(conn.epoch).as_millis();
            let deadline = deadline.map(|at| u64::try_from(since_epoch(at)).unwrap_or(u64::MAX));
            let watch = StreamWatch::new(patience, deadline);
            conn.streams().push(watch.clone());
            watch
        });
        watch.handed_out(conn.now() - 1);
    }

    /// The client asks for more.
    pub fn taken(&self) {
        if let Some(watch) = &self.watch {
            watch.taken();
        }
    }
}

/// A request waits whose body nobody reads, until dropped.
#[derive(Debug)]
pub struct HeldUpload(Arc<ConnState>);

impl ActiveRequest {
    /// The request begins to wait with its body unread.
    pub fn hold_upload(&self) -> HeldUpload {
        self.conn.held_uploads.fetch_add(1, Ordering::Relaxed);
        HeldUpload(self.conn.clone())
    }
}

impl Drop for HeldUpload {
    fn drop(&mut self) {
        self.0.held_uploads.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let conn = &self.conn;
        if let Some(watch) = self.watch.take() {
            conn.streams().retain(|other| !Arc::ptr_eq(other, &watch));
        }
        if conn.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            conn.idle_since.store(conn.now(), Ordering::Relaxed);
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
        () = gone_idle(&shared) => return,
    };
    let Ok(Ok((sniffed, looks_like))) = sniffed else { return };
    // Many may come, and go, at once.
    let entrance = target.clone();
    entrance.take_turn(Instant::now()).await;
    let protocol = protocol.unwrap_or(looks_like);
    let state = Arc::new(ConnState::new(shared.epoch, protocol == Protocol::Http1, target.leaving()));
    let id = shared.clients.add(state.clone());
    let strict = (protocol == Protocol::Http1).then(|| Strict::new(shared.limits.head_read()));
    let io = ClientIo::new(stream, sniffed, strict, state.clone());
    let per_request = state.clone();
    let peer = Arc::new(Peer::new(client, &shared.trust));
    let answer = move |request| {
        let (target, active, peer) = (target.clone(), ActiveRequest::new(per_request.clone()), peer.clone());
        let (state, refused) = (per_request.clone(), per_request.refused(&request));
        if protocol == Protocol::Http2 && state.is_leaving() {
            // GOAWAY: the client comes back by another connection, which leads elsewhere.
            state.end(Ending::Gracefully);
        }
        async move {
            let mut response = proxy::handle(&target, request, refused, peer, active).await;
            if protocol == Protocol::Http1 && state.is_leaving() {
                send_elsewhere(&mut response);
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    };
    // On the heap is what most connections do without most of the time: HTTP/2, and an answer that is being made.
    match protocol {
        Protocol::Http2 => {
            // hyper moves the future of a stream several times on its way into a task.
            let service = service_fn(move |request| Box::pin(answer(request)));
            let mut connection = Box::pin(builders::http2(&shared.limits).serve_connection(io, service));
            drive(connection.as_mut(), &state, &shared, true).await;
            entrance.take_turn(Instant::now()).await;
        }
        Protocol::Http1 => {
            let service = service_fn(move |request| Box::pin(answer(request)));
            let connection = pin!(builders::http1(&shared.limits).serve_connection(io, service).with_upgrades());
            drive(connection, &state, &shared, false).await;
            entrance.take_turn(Instant::now()).await;
        }
    }
    shared.clients.remove(id);
}

/// While this activator drains, or the Function's Service leads elsewhere, an HTTP/1.1 client has to open another connection. It is told with an
/// answer, because a connection that closes while the next request is on its way loses that request.
fn send_elsewhere(response: &mut Response<Body>) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
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

impl<C, S> ServerConnection for http2::Connection<ClientIo<C>, S, StreamExecutor>
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

/// `leaves_politely`: it can be told to go without losing what is on its way (GOAWAY), so it is told as soon as the drain begins.
async fn drive<C: ServerConnection>(
    mut connection: Pin<&mut C>,
    state: &ConnState,
    shared: &Shared,
    leaves_politely: bool,
) {
    let mut draining = false;
    let mut polite = leaves_politely && !state.is_leaving();
    loop {
        tokio::select! {
            // What the client has said already is read before it is told to go: it may be a request that has to be answered.
            biased;
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
            () = state.leaving.cancelled(), if polite => {
                polite = false;
                connection.as_mut().finish();
            }
            () = shared.close_idle.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().finish();
            }
            () = shared.force_close.cancelled() => return,
        }
    }
}
