//! What the activators tell of the requests of revisions that are being rolled out in steps.
//!
//! What always holds: only what ended since the step began is counted, and only once: history that an activator tells again, and what it tells of a second
//! that is not over, are not.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pilotlight_crds::control::SampleBatch;

use super::ledger::FunctionKey;
use crate::status::rollout::Seen;

/// Counts, for each Function with a rollout under way.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    tallies: Mutex<HashMap<FunctionKey, Tally>>,
}

#[derive(Debug)]
struct Tally {
    revision: String,
    percent: u32,
    begun: Instant,
    seen: Seen,
}

impl Tallies {
    /// What was seen of a revision since it has this part of the traffic; counting begins with the first question.
    pub(super) fn seen(&self, key: FunctionKey, revision: &str, percent: u32, now: Instant) -> Seen {
        let begin = || Tally { revision: revision.to_owned(), percent, begun: now, seen: Seen::default() };
        let mut tallies = self.lock();
        let tally = tallies.entry(key).or_insert_with(begin);
        if (tally.revision.as_str(), tally.percent) != (revision, percent) {
            *tally = begin();
        }
        Seen { lasted: now.saturating_duration_since(tally.begun), ..tally.seen }
    }

    /// A Function is not rolled out any more, or is gone.
    pub(super) fn forget(&self, key: &FunctionKey) {
        self.lock().remove(key);
    }

    /// An activator told of a second.
    pub(super) fn hear(&self, batch: &SampleBatch) {
        if batch.poke || batch.full || batch.age_millis >= 1000 {
            return;
        }
        let mut tallies = self.lock();
        if tallies.is_empty() {
            return;
        }
        for heard in &batch.functions {
            let Some(revision) = &heard.revision else { continue };
            let Some(tally) = tallies.get_mut(&FunctionKey::new(&heard.namespace, &heard.name)) else { continue };
            if tally.revision == *revision {
                let unanswered = u64::from(heard.unanswered);
                tally.seen.completed += u64::from(heard.completed) + unanswered;
                tally.seen.errors += u64::from(heard.errors) + unanswered;
                tally.seen.slow += u64::from(heard.slow);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FunctionKey, Tally>> {
        // Every change is one assignment, so what a panic left behind is whole.
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilotlight_crds::control::FunctionSample;

    fn batch(revision: Option<&str>, completed: u32, errors: u32) -> SampleBatch {
        let sample = FunctionSample {
            namespace: "shop".to_owned(),
            name: "hello".to_owned(),
            revision: revision.map(str::to_owned),
            completed,
            errors,
            slow: 1,
            ..FunctionSample::default()
        };
        SampleBatch { age_millis: 0, full: false, routes: Vec::new(), poke: false, functions: vec![sample] }
    }

    fn counts(seen: Seen) -> (u64, u64, u64) {
        (seen.completed, seen.errors, seen.slow)
    }

    #[test]
    fn it_counts_whole_seconds_of_the_revision_since_its_step_began() {
        let (tallies, key, now) = (Tallies::default(), FunctionKey::new("shop", "hello"), Instant::now());
        tallies.hear(&batch(Some("hello-2"), 5, 5));
        assert_eq!(counts(tallies.seen(key.clone(), "hello-2", 10, now)), (0, 0, 0), "nobody had asked");
        tallies.hear(&batch(Some("hello-2"), 7, 2));
        tallies.hear(&batch(Some("hello-1"), 90, 50));
        tallies.hear(&batch(None, 90, 50));
        for partial in [
            SampleBatch { poke: true, ..batch(Some("hello-2"), 9, 9) },
            SampleBatch { full: true, ..batch(Some("hello-2"), 9, 9) },
            SampleBatch { age_millis: 1000, ..batch(Some("hello-2"), 9, 9) },
        ] {
            tallies.hear(&partial);
        }
        let mut unanswered = batch(Some("hello-2"), 2, 0);
        unanswered.functions[0].unanswered = 1;
        tallies.hear(&unanswered);
        let later = now + std::time::Duration::from_secs(4);
        let seen = tallies.seen(key.clone(), "hello-2", 10, later);
        assert_eq!((counts(seen), seen.lasted.as_secs()), ((10, 3, 2), 4));
        let next = tallies.seen(key.clone(), "hello-2", 20, later);
        assert_eq!((counts(next), next.lasted.as_secs()), ((0, 0, 0), 0), "a step begins anew");
        tallies.hear(&batch(Some("hello-2"), 1, 0));
        tallies.forget(&key);
        assert_eq!(counts(tallies.seen(key, "hello-2", 20, later)), (0, 0, 0));
    }
}
