//! The autoscaler's one clock: monotonic milliseconds, as `pilotlight_scaling` counts them.

use pilotlight_scaling::Millis;
use tokio::time::Instant;

/// What the clock shows at its start: thirty days, so that neither replayed history nor what a Function's status tells of lies before zero.
const START: u64 = 30 * 86_400_000;

/// A monotonic clock. Clones show the same time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(super) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The time now.
    pub(super) fn now(self) -> Millis {
        self.at(Instant::now())
    }

    /// The time at an instant of the runtime.
    pub(super) fn at(self, instant: Instant) -> Millis {
        let elapsed = instant.saturating_duration_since(self.origin).as_millis();
        Millis(START + u64::try_from(elapsed).unwrap_or(u64::MAX - START))
    }

    /// The runtime's instant of `moment`.
    pub(super) fn instant(self, moment: Millis) -> Instant {
        self.origin + std::time::Duration::from_millis(moment.0.saturating_sub(START))
    }
}
