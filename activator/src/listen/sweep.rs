//! One look over all client connections each second: slow heads, idle connections and clients that do not read are ended. The
//! decision is pure; a timer for each connection would cost more than this.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::conn::{ConnState, Ending};
use crate::limits::Limits;

/// What a connection looks like at one moment; times are milliseconds since the activator's epoch.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Requests on it.
    pub active: u32,
    /// Since when it has had no request.
    pub idle_since: u64,
    /// Since when a request's head has been coming in.
    pub head_since: Option<u64>,
    /// Since when the client has not read.
    pub blocked_since: Option<u64>,
}

/// Whether a connection has to end, and how.
pub fn judge(look: Look, now: u64, limits: &Limits, leaving: bool) -> Option<Ending> {
    let over = |since: u64, limit: std::time::Duration| u128::from(now.saturating_sub(since)) >= limit.as_millis();
    if look.blocked_since.is_some_and(|since| over(since, limits.write_stall_timeout)) {
        return Some(Ending::Now);
    }
    if look.active > 0 {
        return None;
    }
    match look.head_since {
        Some(since) => over(since, limits.header_timeout).then_some(Ending::Now),
        None if leaving => over(look.idle_since, std::time::Duration::from_secs(1)).then_some(Ending::Now),
        // A peer that ignores the polite way out (half an HTTP/2 handshake, say) gets the other one.
        None if over(look.idle_since, limits.idle_timeout + limits.header_timeout) => Some(Ending::Now),
        None => over(look.idle_since, limits.idle_timeout).then_some(Ending::Gracefully),
    }
}

/// All client connections.
#[derive(Default)]
pub struct Connections {
    all: Mutex<HashMap<u64, Arc<ConnState>>>,
    next: AtomicU64,
}

impl Connections {
    /// Adds one; gives its number.
    pub fn add(&self, state: Arc<ConnState>) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.all.lock().unwrap_or_else(PoisonError::into_inner).insert(id, state);
        id
    }

    /// Forgets one.
    pub fn remove(&self, id: u64) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Ends those that have to. `close_idle`: all that are idle. While the whole activator drains (`draining`), a client is told to leave with an
    /// answer, because a request may be on its way; where its Function alone leads elsewhere, nobody will be there to answer it later.
    pub fn sweep(&self, now: u64, limits: &Limits, close_idle: bool, draining: bool) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for state in all.values() {
            if let Some(ending) = judge(state.look(), now, limits, close_idle || !draining && state.is_leaving()) {
                state.end(ending);
            }
            state.end_overdue(now, limits);
            state.check_peer();
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Look = Look { active: 0, idle_since: 0, head_since: None, blocked_since: None };

    #[test]
    fn each_kind_of_slowness_has_its_own_limit() {
        let limits = Limits::default();
        let judge = |look, now| judge(look, now, &limits, false);
        assert_eq!(judge(QUIET, 100_000), None);
        assert_eq!(judge(QUIET, 180_000), Some(Ending::Gracefully));
        assert_eq!(judge(QUIET, 195_000), Some(Ending::Now));
        let slow_head = Look { head_since: Some(1_000), ..QUIET };
        assert_eq!(judge(slow_head, 15_999), None);
        assert_eq!(judge(slow_head, 16_000), Some(Ending::Now));
        let busy = Look { active: 1, ..slow_head };
        assert_eq!(judge(busy, 1_000_000), None);
        let blocked = Look { blocked_since: Some(0), ..busy };
        assert_eq!(judge(blocked, 120_000), Some(Ending::Now));
    }

    #[test]
    fn a_drain_ends_what_is_idle() {
        assert_eq!(judge(QUIET, 1_000, &Limits::default(), true), Some(Ending::Now));
    }
}
