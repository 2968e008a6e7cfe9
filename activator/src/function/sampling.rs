//! What a cell tells of its requests: a sample for each second, and a poke at once where one found no slot.

use std::sync::Arc;
use std::time::Instant;

use pilotlight_crds::control::FunctionSample;

use super::FunctionCell;
use super::samples::Bucket;

impl FunctionCell {
    /// Tells the operator at once that a request found no slot, unless that was told a moment ago.
    pub(super) fn poke(&self) {
        let now = Instant::now();
        let told = {
            let mut state = self.lock();
            state.should_poke(now).then(|| (state.sample_running(now), state.told_revision()))
        };
        if let Some((bucket, revision)) = told {
            self.shared.publisher.poke(self.sample_of(bucket, revision));
        }
    }

    /// The cell's traffic in a second that is over, where it had some.
    pub fn sample(&self, now: Instant, second: u64) -> Option<FunctionSample> {
        let (bucket, revision) = {
            let mut state = self.look();
            (state.sample(now, second)?, state.told_revision())
        };
        Some(self.sample_of(bucket, revision))
    }

    /// A request of its own was told that no pod starts.
    pub fn note_unanswered(&self) {
        self.lock().unanswered(Instant::now());
    }

    /// The revision that it serves, where the Function has several cells.
    pub fn told_revision(&self) -> Option<Arc<str>> {
        self.look().told_revision()
    }

    fn sample_of(&self, bucket: Bucket, revision: Option<Arc<str>>) -> FunctionSample {
        FunctionSample {
            namespace: self.key.namespace.to_string(),
            name: self.key.name.to_string(),
            revision: revision.map(|revision| revision.to_string()),
            concurrency_milli: bucket.concurrency_milli,
            busy_milli: bucket.busy_milli,
            peak: bucket.peak,
            arrivals: bucket.arrivals,
            completed: bucket.completed,
            errors: bucket.errors,
            slow: bucket.slow,
            unanswered: bucket.unanswered,
            queued: bucket.queued,
            in_flight: bucket.in_flight,
            start_millis: bucket.start_millis,
        }
    }
}
