//! What the cells of one Function share, because it is the Function's and not a revision's: its series, its turns, and its bound on waiting
//! requests.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::index::FunctionKey;
use crate::lanes::PerLane;
use crate::limits::Pending;
use crate::metrics::FunctionMetrics;
use crate::runtime::Shared;
use crate::turns::Share;

/// One Function's, whichever cell asks.
pub(super) struct Common {
    /// Its series.
    pub(super) metrics: FunctionMetrics,
    /// Its turns.
    pub(super) turns: PerLane<Arc<Share>>,
    /// What waits in all its cells.
    pub(super) waiting: Pending,
    /// Whether it has names outside the cluster.
    pub(super) external: AtomicBool,
}

impl Common {
    /// A Function's that nothing is known of yet.
    pub(super) fn new(key: &FunctionKey, shared: &Shared) -> Self {
        Self {
            metrics: shared.metrics.function(key),
            turns: PerLane::new(shared.limits.threads),
            waiting: Pending::default(),
            external: AtomicBool::new(false),
        }
    }
}
