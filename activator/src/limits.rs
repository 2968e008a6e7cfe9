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
    /// Lanes: threads that serve requests.
    pub threads: usize,
}

/// What an activator adds to a request that it relays to another one: fields, and bytes unless the host's name is enormous.
const ADDED: (usize, usize) = (16, 4 * 1024);

impl Limits {
    /// Bytes and fields of a head that are read: what a client may send, and what a relaying activator adds to that.
    pub fn head_read(&self) -> (usize, usize) {
        (self.max_header_bytes.saturating_add(ADDED.1), self.max_headers.saturating_add(ADDED.0))
    }
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
            threads: 1,
        }
    }
}

/// Part of the process-wide room, or all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Requests.
    pub requests: u64,
    /// Bytes of their heads.
    pub bytes: u64,
}

impl Share {
    /// What is left without `part`.
    #[must_use]
    pub fn without(self, part: Self) -> Self {
        Self { requests: self.requests.saturating_sub(part.requests), bytes: self.bytes.saturating_sub(part.bytes) }
    }
}

/// Why there is no room for one more waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// All of it is taken.
    #[error("the process-wide room is taken")]
    Full,
    /// What is left is for others.
    #[error("the Function's share of the process-wide room is taken")]
    ShareTaken,
}

/// What a Function may hold, as a multiple of the room that is free.
const SHARE_OF_FREE: u64 = 2;

/// What waits in all queues together, or in those of one Function.
///
/// The room is shared by dynamic thresholds (Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet
/// Switches", 1998): a Function may take more while it holds less than twice what is free. So a flooded one gets two thirds of the room
/// at most, `n` of them share all but one part in `2n + 1`, and that part is always there for the others.
#[derive(Debug, Default)]
pub struct Pending {
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Pending {
    /// Takes room for one request of `bytes`, for a Function that holds `held`.
    ///
    /// # Errors
    /// Nothing was taken, and why.
    pub fn take(&self, held: Share, bytes: u64, limits: &Limits) -> Result<(), NoRoom> {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        let before_bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let free = limits.max_pending_requests.saturating_sub(before);
        let free_bytes = limits.max_pending_bytes.saturating_sub(before_bytes);
        let refusal = if free == 0 || free_bytes < bytes {
            NoRoom::Full
        } else if held.requests >= free.saturating_mul(SHARE_OF_FREE)
            || held.bytes >= free_bytes.saturating_mul(SHARE_OF_FREE)
        {
            NoRoom::ShareTaken
        } else {
            return Ok(());
        };
        self.give_back(bytes);
        Err(refusal)
    }

    /// Counts one request of `bytes`, whatever there is already.
    pub fn add(&self, bytes: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back what [`Pending::take`] took, or [`Pending::add`] counted.
    pub fn give_back(&self, bytes: u64) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What waits now.
    pub fn taken(&self) -> Share {
        Share { requests: self.requests.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONE: Share = Share { requests: 0, bytes: 0 };

    fn limits(max_pending_requests: u64, max_pending_bytes: u64) -> Limits {
        Limits { max_pending_requests, max_pending_bytes, ..Limits::default() }
    }

    #[test]
    fn bounds_hold_for_count_and_bytes_and_are_given_back() {
        let limits = limits(2, 100);
        let pending = Pending::default();
        assert_eq!(pending.take(NONE, 60, &limits), Ok(()));
        assert_eq!(pending.take(NONE, 60, &limits), Err(NoRoom::Full), "bytes");
        assert_eq!(pending.take(NONE, 39, &limits), Ok(()));
        assert_eq!(pending.take(NONE, 0, &limits), Err(NoRoom::Full), "count");
        pending.give_back(60);
        assert_eq!(pending.take(NONE, 60, &limits), Ok(()));
        assert_eq!(pending.taken(), Share { requests: 2, bytes: 99 });
    }

    /// `flooded` Functions take turns until none gets more.
    fn flood(pending: &Pending, flooded: usize, limits: &Limits) -> Vec<Share> {
        let mut held = vec![NONE; flooded];
        let mut refused = 0;
        for turn in 0.. {
            let one = &mut held[turn % flooded];
            if pending.take(*one, 10, limits).is_ok() {
                *one = Share { requests: one.requests + 1, bytes: one.bytes + 10 };
                refused = 0;
            } else {
                refused += 1;
            }
            if refused == flooded {
                break;
            }
        }
        held
    }

    #[test]
    fn flooded_functions_share_alike_and_leave_room_for_others() {
        for (flooded, each) in [(1, 2000), (2, 1200), (7, 400)] {
            for limits in [limits(3000, u64::MAX), limits(u64::MAX, 30_000)] {
                let pending = Pending::default();
                for share in flood(&pending, flooded, &limits) {
                    assert!(share.requests.abs_diff(each) <= 2, "{flooded} flooded: {share:?}");
                }
                assert_eq!(pending.take(NONE, 10, &limits), Ok(()), "another one is not refused");
            }
        }
    }

    proptest! {
        /// Against a naive sum: the bounds hold whatever comes, and only who holds much is refused while there is room.
        #[test]
        fn the_sum_never_passes_the_bounds(
            ops in prop::collection::vec((0usize..4, 0u64..40, any::<bool>()), 0..200),
        ) {
            let limits = limits(20, 400);
            let pending = Pending::default();
            let mut held: Vec<Vec<u64>> = vec![Vec::new(); 4];
            for (function, bytes, leaves) in ops {
                if leaves {
                    if let Some(bytes) = held[function].pop() {
                        pending.give_back(bytes);
                    }
                    continue;
                }
                let all: Vec<u64> = held.iter().flatten().copied().collect();
                let (count, sum) = (all.len() as u64, all.iter().sum::<u64>());
                let own = Share { requests: held[function].len() as u64, bytes: held[function].iter().sum() };
                let fits = count < 20 && sum + bytes <= 400;
                let fair = own.requests < 2 * (20 - count) && own.bytes < 2 * (400 - sum);
                let taken = pending.take(own, bytes, &limits);
                prop_assert_eq!(taken.is_ok(), fits && fair, "{:?} {:?} {} {}", taken, own, count, sum);
                if taken.is_ok() {
                    held[function].push(bytes);
                }
                let now = held.iter().flatten().fold(NONE, |s, b| Share { requests: s.requests + 1, bytes: s.bytes + b });
                prop_assert_eq!(pending.taken(), now);
            }
        }
    }
}
