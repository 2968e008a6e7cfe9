//! Every bound of the activator in one place, as plain data: what does not fit is refused at once (invariant 7).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds that hold for the whole process, whatever a Function asks for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Client connections at once; accepting pauses beyond.
    pub max_connections: usize,
    /// Requests that wait for a pod, over all Functions.
    pub max_pending_requests: u64,
    /// Bytes of heads of requests that wait for a pod, over all Functions.
    pub max_pending_bytes: u64,
    /// Bytes of a request's or response's head.
    pub max_header_bytes: usize,
    /// Header fields in one head.
    pub max_headers: usize,
    /// HTTP/2 streams at once on one client connection.
    pub max_streams: u32,
    /// How long a client may take for the head of a request.
    pub header_timeout: Duration,
    /// How long a client connection may stay without a request.
    pub idle_timeout: Duration,
    /// How long a client may refuse to read while something is to be written.
    pub write_stall_timeout: Duration,
    /// How long one attempt to connect to a pod may take.
    pub connect_timeout: Duration,
    /// Attempts to connect to one pod at once, so that a pod that has just started is not flooded.
    pub max_connecting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            max_pending_requests: 50_000,
            max_pending_bytes: 256 * 1024 * 1024,
            max_header_bytes: 64 * 1024,
            max_headers: 128,
            max_streams: 256,
            header_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(180),
            write_stall_timeout: Duration::from_secs(120),
            connect_timeout: Duration::from_millis(250),
            max_connecting: 64,
        }
    }
}

/// What waits in all queues together.
#[derive(Debug, Default)]
pub struct Pending {
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Pending {
    /// Takes room for one request of `bytes`; `false`, and nothing taken, where a bound would be passed.
    #[must_use]
    pub fn take(&self, bytes: u64, limits: &Limits) -> bool {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let total = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if requests <= limits.max_pending_requests && total <= limits.max_pending_bytes {
            return true;
        }
        self.give_back(bytes);
        false
    }

    /// Gives back what [`Pending::take`] took.
    pub fn give_back(&self, bytes: u64) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Requests that wait now.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_for_count_and_bytes_and_are_given_back() {
        let limits = Limits { max_pending_requests: 2, max_pending_bytes: 100, ..Limits::default() };
        let pending = Pending::default();
        assert!(pending.take(60, &limits));
        assert!(!pending.take(60, &limits), "bytes");
        assert!(pending.take(40, &limits));
        assert!(!pending.take(0, &limits), "count");
        pending.give_back(60);
        assert!(pending.take(60, &limits));
        assert_eq!(pending.requests(), 2);
    }
}
