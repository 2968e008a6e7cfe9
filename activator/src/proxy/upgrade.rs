//! An upgraded connection (WebSocket and others): bytes both ways until both sides have ended, one broke, or nothing has
//! moved for too long. It counts as a request in flight all the time.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::body::{Held, InProgress, Lease};
use crate::telemetry::access_log::Outcome;

const BUFFER: usize = 16 * 1024;

/// The two sides of an upgraded connection, and what they hold.
pub struct Tunnel {
    /// The client's side.
    pub client: OnUpgrade,
    /// The pod's side.
    pub pod: OnUpgrade,
    /// In-flight guard and connection.
    pub held: Held,
    /// How long nothing may move; [`Duration::MAX`]: for ever.
    pub idle: Duration,
}

struct Movement {
    began: Instant,
    millis: AtomicU64,
}

impl Movement {
    fn touch(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    /// Resolves when nothing has moved for `idle`.
    async fn stood_still(&self, idle: Duration) {
        loop {
            let moved = self.began + Duration::from_millis(self.millis.load(Ordering::Relaxed));
            let Some(until) = moved.checked_add(idle) else { return std::future::pending().await };
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until.into()).await;
        }
    }
}

/// Runs a tunnel to its end; `force` ends it at once.
pub async fn run(tunnel: Tunnel, mut request: InProgress, force: CancellationToken) {
    let Tunnel { client, pod, held, idle } = tunnel;
    let Held { slot, lease } = held;
    let sides = tokio::try_join!(client, pod);
    if let Lease::H1(connection) = lease {
        connection.detach();
    }
    match sides {
        Ok((client, pod)) => {
            let movement = Movement { began: Instant::now(), millis: AtomicU64::new(0) };
            let copying = copy_both(TokioIo::new(client), TokioIo::new(pod), &movement);
            tokio::select! {
                result = copying => match result {
                    Ok(()) => request.record.ended(Outcome::Complete),
                    Err(error) => debug!(%error, "upgraded connection broke"),
                },
                () = movement.stood_still(idle) => request.record.ended(Outcome::Cut),
                () = force.cancelled() => request.record.ended(Outcome::Cut),
            }
        }
        Err(error) => debug!(%error, "upgrade failed"),
    }
    drop((slot, request));
}

async fn copy_both<A, B>(client: A, pod: B, movement: &Movement) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (client_read, client_write) = tokio::io::split(client);
    let (pod_read, pod_write) = tokio::io::split(pod);
    tokio::try_join!(copy(client_read, pod_write, movement), copy(pod_read, client_write, movement),)?;
    Ok(())
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    movement: &Movement,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        movement.touch();
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        movement.touch();
    }
}
