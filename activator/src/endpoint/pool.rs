//! Connections to one pod, kept for reuse: HTTP/1.1 last in, first out; HTTP/2 shared by many streams.
//!
//! What always holds: a connection is only handed out when hyper says that it can take a request now, and a connection whose
//! exchange did not end cleanly is closed, never kept.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use tokio::task::AbortHandle;

use crate::lanes::PerLane;
use crate::proxy::request_body::RequestBody;

/// Idle HTTP/1.1 connections older than this are closed.
const MAX_IDLE: Duration = Duration::from_secs(30);
/// A request that must not be sent twice only gets a connection that was used so lately: the pod may be about to close an older one,
/// and then nobody could tell whether the request was read. Common servers keep connections for 2 s or longer.
const MAX_IDLE_UNREPLAYABLE: Duration = Duration::from_secs(1);
/// Idle connections kept for one pod.
const MAX_IDLE_CONNECTIONS: usize = 256;
/// For a connection whose last exchange has just ended and whose task has not noticed yet.
const SETTLE: Duration = Duration::from_millis(20);
/// Streams on one HTTP/2 connection before another is opened: what common servers allow at least. Where a pod allows fewer,
/// the rest wait inside the connection.
const MAX_STREAMS: u32 = 100;

/// An HTTP/1.1 connection in exclusive use. Dropping it closes it.
#[derive(Debug)]
pub struct H1Connection {
    /// Where the request goes.
    pub sender: http1::SendRequest<RequestBody>,
    /// Whether it was used before.
    pub reused: bool,
    task: Option<AbortHandle>,
}

impl H1Connection {
    /// A new connection, driven by `task`.
    pub fn new(sender: http1::SendRequest<RequestBody>, task: AbortHandle) -> Self {
        Self { sender, reused: false, task: Some(task) }
    }

    /// Lets the connection live on without this handle, for an upgrade.
    pub fn detach(mut self) {
        self.task = None;
    }
}

impl Drop for H1Connection {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

#[derive(Debug)]
struct Idle {
    connection: H1Connection,
    since: Instant,
}

/// Idle HTTP/1.1 connections to one pod, on each lane its own.
#[derive(Debug)]
pub struct H1Pool {
    idle: PerLane<Mutex<Vec<Idle>>>,
    /// Idle connections kept on one lane.
    room: usize,
}

impl H1Pool {
    /// None yet, on so many lanes.
    pub fn new(lanes: usize) -> Self {
        Self { idle: PerLane::new(lanes), room: MAX_IDLE_CONNECTIONS.div_ceil(lanes.max(1)) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.here(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection that can take a request now. `replayable`: whether the request may be sent again, should the pod
    /// close the connection at this very moment.
    pub async fn checkout(&self, replayable: bool) -> Option<H1Connection> {
        loop {
            let mut connection = self.pop(replayable)?;
            if connection.sender.is_closed() {
                continue;
            }
            let ready = connection.sender.is_ready()
                || matches!(tokio::time::timeout(SETTLE, connection.sender.ready()).await, Ok(Ok(())));
            if ready {
                connection.reused = true;
                return Some(connection);
            }
        }
    }

    fn pop(&self, replayable: bool) -> Option<H1Connection> {
        let mut idle = self.lock();
        let age = idle.last()?.since.elapsed();
        if age > MAX_IDLE {
            let stale = std::mem::take(&mut *idle);
            drop(idle);
            drop(stale);
            return None;
        }
        if age > MAX_IDLE_UNREPLAYABLE && !replayable {
            return None;
        }
        idle.pop().map(|idle| idle.connection)
    }

    /// Keeps a connection whose exchange has ended cleanly.
    pub fn put(&self, connection: H1Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let now = Instant::now();
        let mut idle = self.lock();
        if idle.first().is_some_and(|oldest| now.saturating_duration_since(oldest.since) > MAX_IDLE) {
            idle.retain(|entry| now.saturating_duration_since(entry.since) <= MAX_IDLE);
        }
        if idle.len() < self.room {
            idle.push(Idle { connection, since: now });
        }
    }

    /// Closes all.
    pub fn clear(&self) {
        for idle in self.idle.iter() {
            let closing = std::mem::take(&mut *idle.lock().unwrap_or_else(PoisonError::into_inner));
            drop(closing);
        }
    }
}

/// A stream's share of an HTTP/2 connection.
#[derive(Debug)]
pub struct H2Lease {
    /// Where the request goes.
    pub sender: http2::SendRequest<RequestBody>,
    streams: Arc<AtomicU32>,
}

impl Drop for H2Lease {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    streams: Arc<AtomicU32>,
}

impl Shared {
    fn lease(&self) -> H2Lease {
        self.streams.fetch_add(1, Ordering::Relaxed);
        H2Lease { sender: self.sender.clone(), streams: self.streams.clone() }
    }

    fn has_room(&self) -> bool {
        self.streams.load(Ordering::Relaxed) < MAX_STREAMS
    }
}

#[derive(Debug, Default)]
struct Open {
    connections: Mutex<Vec<Shared>>,
    opening: tokio::sync::Mutex<()>,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, Vec<Shared>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shared HTTP/2 connections to one pod, on each lane its own.
#[derive(Debug)]
pub struct H2Pool(PerLane<Open>);

impl H2Pool {
    /// None yet, on so many lanes.
    pub fn new(lanes: usize) -> Self {
        Self(PerLane::new(lanes))
    }

    fn here(&self) -> &Open {
        self.0.here(Open::default)
    }

    /// Held while one is opened, so that a burst opens one rather than one each.
    pub async fn opening(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.here().opening.lock().await
    }

    /// A share of a connection that has room.
    pub fn checkout(&self) -> Option<H2Lease> {
        let mut connections = self.here().lock();
        connections.retain(|c| !c.sender.is_closed());
        connections.iter().find(|c| c.has_room()).map(Shared::lease)
    }

    /// Adds a connection and gives the first share of it.
    pub fn add(&self, sender: http2::SendRequest<RequestBody>) -> H2Lease {
        let shared = Shared { sender, streams: Arc::default() };
        let lease = shared.lease();
        self.here().lock().push(shared);
        lease
    }

    /// Forgets all; each closes when its last stream has ended.
    pub fn clear(&self) {
        for open in self.0.iter() {
            let closing = std::mem::take(&mut *open.lock());
            drop(closing);
        }
    }
}
