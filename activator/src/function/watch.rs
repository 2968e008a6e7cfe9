//! What is to be told of a request once its time at a pod has ended: whether it failed there, and whether its pod took long to begin to answer.
//! Pure.
//!
//! What always holds: a request that its client gave up is no failure of the pod; time before it was at the pod counts for nothing.

use std::time::{Duration, Instant};

/// What became of a request at a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The answer was 5xx or a gRPC status that blames the server, or there was none through the pod's fault.
    pub failed: bool,
    /// The head of the answer took longer than the Function says.
    pub slow: bool,
}

/// A request at a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// The head of the answer is late from then on. `None`: nobody asks, or it has come.
    late: Option<Instant>,
    /// Its caller gives up then (gRPC), unless the head of the answer has come.
    due: Option<Instant>,
    ended: Ended,
}

impl Watch {
    /// A request that goes to its pod at `now`.
    pub fn begin(now: Instant, slow_after: Option<Duration>, due: Option<Instant>) -> Self {
        Self { late: slow_after.and_then(|after| now.checked_add(after)), due, ended: Ended::default() }
    }

    /// The head of the answer has come.
    pub fn answered(&mut self, now: Instant) {
        self.ended = self.end(now);
        // What comes after the head has limits of its own.
        (self.late, self.due) = (None, None);
    }

    /// The pod failed.
    pub fn fail(&mut self) {
        self.ended.failed = true;
    }

    /// What became of it, where its time at the pod ends at `now`.
    #[must_use]
    pub fn end(&self, now: Instant) -> Ended {
        Ended {
            failed: self.ended.failed || self.due.is_some_and(|due| due <= now),
            slow: self.ended.slow || self.late.is_some_and(|late| late < now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_that_never_began_or_whose_client_went_away_in_time_is_neither() {
        let now = Instant::now();
        assert_eq!(Watch::default().end(now), Ended::default());
        let watch = Watch::begin(now, Some(SECOND), Some(now + 2 * SECOND));
        assert_eq!(watch.end(now + SECOND), Ended::default());
    }

    #[test]
    fn a_head_that_comes_late_or_not_at_all_is_slow() {
        let now = Instant::now();
        let mut watch = Watch::begin(now, Some(SECOND), None);
        assert_eq!(watch.end(now + 2 * SECOND), Ended { failed: false, slow: true });
        let mut in_time = watch;
        in_time.answered(now + SECOND);
        assert_eq!(
            in_time.end(now + 60 * SECOND),
            Ended::default(),
            "the rest of the answer may take as long as it likes"
        );
        watch.answered(now + SECOND + Duration::from_nanos(1));
        watch.fail();
        assert_eq!(watch.end(now + 60 * SECOND), Ended { failed: true, slow: true });
    }

    #[test]
    fn a_caller_whose_time_is_over_without_an_answer_was_failed() {
        let now = Instant::now();
        let mut watch = Watch::begin(now, None, Some(now + SECOND));
        assert_eq!(watch.end(now + SECOND), Ended { failed: true, slow: false });
        watch.answered(now);
        assert_eq!(watch.end(now + SECOND), Ended::default());
    }
}
