//! Responses that their client does not take. A body is only asked for more while the client takes what it has; so no timer inside a body
//! runs then, and a client that reads other streams of the same connection would hold this one's slot for ever. Such a stream is
//! noted here, and the sweep ends it.
//!
//! What always holds: ending a stream drops its future, and with it the slot and the pod's part; other streams go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{AbortHandle, Abortable};
use hyper::rt::Executor;

tokio::task_local! {
    /// Ends the HTTP/2 stream whose future is running.
    static STREAM: AbortHandle;
}

/// Runs the futures of a connection's HTTP/2 streams, so that each can be ended alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamExecutor;

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let (handle, registration) = AbortHandle::new_pair();
        tokio::spawn(STREAM.scope(handle, Abortable::new(stream, registration)));
    }
}

/// One response that has more to give than its client took so far.
#[derive(Debug)]
pub struct StreamWatch {
    /// Milliseconds since the epoch, plus one; 0: it is the pod's turn.
    untaken_since: AtomicU64,
    /// How long the client may leave it so, in milliseconds.
    patience: u64,
    /// When the request has taken too long; [`u64::MAX`]: never.
    deadline: u64,
    /// Of an HTTP/2 stream; in HTTP/1.1 the connection ends.
    stream: Option<AbortHandle>,
}

impl StreamWatch {
    /// For the response whose body is being polled now. `deadline` is in milliseconds since the epoch.
    pub fn new(patience: Option<Duration>, deadline: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            untaken_since: AtomicU64::new(0),
            patience: patience.map_or(u64::MAX, millis),
            deadline: deadline.unwrap_or(u64::MAX),
            stream: STREAM.try_with(AbortHandle::clone).ok(),
        })
    }

    /// The client has something to take since `now`.
    pub fn handed_out(&self, now: u64) {
        self.untaken_since.store(now.saturating_add(1), Ordering::Relaxed);
    }

    /// The client took it and asks for more.
    pub fn taken(&self) {
        self.untaken_since.store(0, Ordering::Relaxed);
    }

    /// Whether the client has left it for too long; `limit` holds for all.
    pub fn is_overdue(&self, now: u64, limit: Duration) -> bool {
        let Some(since) = self.untaken_since.load(Ordering::Relaxed).checked_sub(1) else { return false };
        now.saturating_sub(since) >= self.patience.min(millis(limit)) || now >= self.deadline
    }

    /// Ends the stream; `false` where that is the connection's matter.
    pub fn end(&self) -> bool {
        self.stream.as_ref().map(AbortHandle::abort).is_some()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(120);

    #[test]
    fn only_the_clients_own_slowness_counts() {
        let watch = StreamWatch::new(Some(Duration::from_secs(10)), Some(60_000));
        assert!(!watch.is_overdue(1_000_000, LIMIT), "nothing was handed out");
        watch.handed_out(5_000);
        assert!(!watch.is_overdue(14_999, LIMIT));
        assert!(watch.is_overdue(15_000, LIMIT));
        watch.taken();
        assert!(!watch.is_overdue(1_000_000, LIMIT), "the pod's silence has timers of its own");
        watch.handed_out(59_000);
        assert!(watch.is_overdue(60_000, LIMIT), "the request's own limit");
        assert!(!watch.end(), "no HTTP/2 stream runs here");
        let patient = StreamWatch::new(None, None);
        patient.handed_out(0);
        assert!(patient.is_overdue(120_000, LIMIT), "the process's own limit");
    }

    #[tokio::test]
    async fn ending_a_stream_drops_what_it_holds() {
        let (held, mut gone) = tokio::sync::oneshot::channel::<()>();
        let (give, watch) = tokio::sync::oneshot::channel();
        StreamExecutor.execute(async move {
            let watch = StreamWatch::new(None, None);
            assert!(give.send(watch).is_ok());
            let _held = held;
            std::future::pending::<()>().await;
        });
        let watch = watch.await.unwrap();
        assert!(gone.try_recv().is_err_and(|e| e == tokio::sync::oneshot::error::TryRecvError::Empty));
        assert!(watch.end());
        assert!(gone.await.is_err());
    }
}
