//! What one Function's traffic was, second by second. Pure: time comes in as milliseconds and microseconds since the
//! activator's own epoch.
//!
//! What always holds: the average is weighted by time, so that a request of 10 ms counts a hundredth of one that lasts the
//! whole second; a request that waits counts like one in flight; one that failed or was slow is among those that completed.

use std::collections::VecDeque;

use super::watch::Ended;

/// Seconds of history that are kept for a newly connected operator.
pub const HISTORY_SECONDS: u64 = 60;
const SECOND: u64 = 1_000_000;

/// One second of one Function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Which second since the epoch.
    pub second: u64,
    /// Average of requests in flight and waiting, in thousandths.
    pub concurrency_milli: u64,
    /// Average of requests in flight alone, in thousandths.
    pub busy_milli: u64,
    /// Highest number at one moment.
    pub peak: u32,
    /// Requests that arrived.
    pub arrivals: u32,
    /// Requests whose time at a pod ended.
    pub completed: u32,
    /// Those of them that failed there.
    pub errors: u32,
    /// Those of them whose pod took long to begin to answer.
    pub slow: u32,
    /// Requests that no pod answered, because none started.
    pub unanswered: u32,
    /// Waiting at the second's end.
    pub queued: u32,
    /// In flight at the second's end.
    pub in_flight: u32,
    /// How long the last wake took to its first reachable pod, in ms.
    pub start_millis: Option<u64>,
}

impl Bucket {
    /// Whether nothing happened.
    pub fn is_quiet(&self) -> bool {
        self.concurrency_milli == 0 && self.peak == 0 && self.arrivals == 0
    }
}

/// Counts one Function's requests into seconds.
#[derive(Clone, Debug, Default)]
pub struct Sampler {
    at_micros: u64,
    in_flight: u32,
    queued: u32,
    sum: u64,
    busy: u64,
    peak: u32,
    arrivals: u32,
    completed: u32,
    errors: u32,
    slow: u32,
    unanswered: u32,
    start_millis: Option<u64>,
    history: VecDeque<Bucket>,
}

impl Sampler {
    /// Whether nothing has happened in the second that runs, and nothing goes on.
    pub fn is_still(&self) -> bool {
        self.in_flight == 0
            && self.queued == 0
            && self.peak == 0
            && self.arrivals == 0
            && self.completed == 0
            && self.unanswered == 0
    }

    /// Whether there is nothing that a newly connected operator would be told; [`Sampler::advance`] must come before.
    pub fn has_told_all(&self) -> bool {
        self.is_still() && self.history.is_empty()
    }

    /// A request arrived. It counts from here until [`Sampler::set`] says otherwise.
    pub fn arrived(&mut self, now_micros: u64) {
        self.advance(now_micros);
        self.arrivals = self.arrivals.saturating_add(1);
    }

    /// A request's time at a pod ended, in this way; [`Sampler::set`] must follow.
    pub fn completed(&mut self, now_micros: u64, ended: Ended) {
        self.advance(now_micros);
        self.completed = self.completed.saturating_add(1);
        self.errors = self.errors.saturating_add(u32::from(ended.failed));
        self.slow = self.slow.saturating_add(u32::from(ended.slow));
    }

    /// A request was told that no pod starts.
    pub fn unanswered(&mut self, now_micros: u64) {
        self.advance(now_micros);
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// A wake found its first reachable pod after so long.
    pub fn woken(&mut self, after_millis: u64) {
        self.start_millis = Some(after_millis);
    }

    /// So many are in flight and waiting from now on.
    pub fn set(&mut self, now_micros: u64, in_flight: u32, queued: u32) {
        self.advance(now_micros);
        self.in_flight = in_flight;
        self.queued = queued;
        self.peak = self.peak.max(in_flight + queued);
    }

    /// Lets time pass, closing each second that is over.
    pub fn advance(&mut self, now_micros: u64) {
        let now = now_micros.max(self.at_micros);
        let (level, busy) = (self.level(), u64::from(self.in_flight));
        if self.at_micros / SECOND != now / SECOND {
            let second_end = (self.at_micros / SECOND + 1) * SECOND;
            self.sum += level * (second_end - self.at_micros);
            self.busy += busy * (second_end - self.at_micros);
            self.close(self.at_micros / SECOND);
            self.fill(second_end / SECOND, now / SECOND);
            self.at_micros = now / SECOND * SECOND;
        }
        self.sum += level * (now - self.at_micros);
        self.busy += busy * (now - self.at_micros);
        self.at_micros = now;
    }

    fn level(&self) -> u64 {
        u64::from(self.in_flight) + u64::from(self.queued)
    }

    fn close(&mut self, second: u64) {
        self.remember(Bucket {
            second,
            concurrency_milli: self.sum / 1_000,
            busy_milli: self.busy / 1_000,
            peak: self.peak,
            arrivals: self.arrivals,
            completed: self.completed,
            errors: self.errors,
            slow: self.slow,
            unanswered: self.unanswered,
            queued: self.queued,
            in_flight: self.in_flight,
            start_millis: self.start_millis,
        });
        self.sum = 0;
        self.busy = 0;
        self.arrivals = 0;
        (self.completed, self.errors, self.slow, self.unanswered) = (0, 0, 0, 0);
        self.peak = self.in_flight + self.queued;
    }

    /// Whole seconds during which nothing changed; only the last of them are worth keeping.
    fn fill(&mut self, from: u64, until: u64) {
        for second in from.max(until.saturating_sub(HISTORY_SECONDS))..until {
            self.sum = self.level() * SECOND;
            self.busy = u64::from(self.in_flight) * SECOND;
            self.close(second);
        }
    }

    fn remember(&mut self, bucket: Bucket) {
        if !bucket.is_quiet() {
            self.history.push_back(bucket);
        }
        let oldest = (bucket.second + 1).saturating_sub(HISTORY_SECONDS);
        while self.history.front().is_some_and(|b| b.second < oldest) {
            self.history.pop_front();
        }
    }

    /// The closed second `second`, where it had traffic.
    pub fn closed(&self, second: u64) -> Option<Bucket> {
        self.history.iter().rev().find(|b| b.second == second).copied()
    }

    /// The second that runs, as far as it has come.
    pub fn running(&self) -> Bucket {
        let elapsed = self.at_micros % SECOND;
        Bucket {
            second: self.at_micros / SECOND,
            concurrency_milli: (self.sum * 1_000).checked_div(elapsed).unwrap_or(self.level() * 1_000),
            busy_milli: (self.busy * 1_000).checked_div(elapsed).unwrap_or(u64::from(self.in_flight) * 1_000),
            peak: self.peak,
            arrivals: self.arrivals,
            completed: self.completed,
            errors: self.errors,
            slow: self.slow,
            unanswered: self.unanswered,
            queued: self.queued,
            in_flight: self.in_flight,
            start_millis: self.start_millis,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_still_once_the_second_of_the_last_request_is_over() {
        let mut sampler = Sampler::default();
        assert!(sampler.is_still());
        sampler.arrived(100);
        sampler.set(100, 1, 0);
        sampler.advance(SECOND + 1);
        assert!(!sampler.is_still(), "it is in flight");
        sampler.set(SECOND + 2, 0, 0);
        assert!(!sampler.is_still(), "the second that runs had one");
        sampler.advance(2 * SECOND);
        assert!(sampler.is_still());
        assert!(sampler.closed(1).is_some(), "what was stays known");
    }

    #[test]
    fn a_short_request_counts_for_its_share_of_the_second() {
        let mut sampler = Sampler::default();
        sampler.arrived(100_000);
        sampler.set(100_000, 1, 0);
        sampler.completed(350_000, Ended::default());
        sampler.set(350_000, 0, 0);
        sampler.advance(1_000_000);
        let bucket = sampler.closed(0).unwrap();
        assert_eq!((bucket.concurrency_milli, bucket.peak, bucket.arrivals), (250, 1, 1));
        assert_eq!((bucket.busy_milli, bucket.completed), (250, 1));
        sampler.advance(5_000_000);
        assert_eq!(sampler.closed(3), None, "a quiet second leaves nothing behind");
    }

    #[test]
    fn whom_nobody_answers_is_told_in_his_second() {
        let mut sampler = Sampler::default();
        sampler.set(500_000, 0, 1);
        sampler.unanswered(1_200_000);
        sampler.set(1_200_000, 0, 0);
        assert!(!sampler.is_still());
        sampler.advance(3_000_000);
        assert_eq!((sampler.closed(0).unwrap().unanswered, sampler.closed(1).unwrap().unanswered), (0, 1));
        assert!(sampler.is_still());
    }

    #[test]
    fn a_long_request_counts_in_every_second() {
        let mut sampler = Sampler::default();
        sampler.set(500_000, 0, 1);
        sampler.set(3_500_000, 0, 0);
        sampler.advance(4_000_000);
        let of = |s| sampler.closed(s).unwrap().concurrency_milli;
        assert_eq!([of(0), of(1), of(2), of(3)], [500, 1000, 1000, 500]);
        assert_eq!(sampler.closed(1).unwrap().queued, 1);
        assert_eq!(sampler.closed(1).unwrap().busy_milli, 0, "it waited");
    }

    proptest! {
        /// Against a naive model that looks at every millisecond.
        #[test]
        fn equals_a_count_of_every_millisecond(
            changes in prop::collection::vec((0u64..900, 0u32..4, 0u32..4, prop::option::of(any::<(bool, bool)>())), 1..30),
        ) {
            let mut sampler = Sampler::default();
            let mut timeline: Vec<(u64, u32, u32)> = Vec::new();
            let mut endings: Vec<(u64, Ended)> = Vec::new();
            let mut at = 0;
            for (gap, in_flight, queued, ending) in changes {
                at += gap;
                // Whatever ends was at a pod until now.
                if let Some((failed, slow)) = ending.filter(|_| sampler.in_flight > 0) {
                    sampler.completed(at * 1_000, Ended { failed, slow });
                    endings.push((at, Ended { failed, slow }));
                }
                sampler.set(at * 1_000, in_flight, queued);
                timeline.push((at, in_flight, queued));
            }
            let end = (at / 1_000 + 2) * 1_000;
            sampler.advance(end * 1_000);
            let level_at = |ms: u64| {
                timeline.iter().rev().find(|(t, _, _)| *t <= ms).map_or(0, |(_, f, q)| u64::from(f + q))
            };
            let busy_at = |ms: u64| timeline.iter().rev().find(|(t, _, _)| *t <= ms).map_or(0, |(_, f, _)| u64::from(*f));
            for second in (end / 1_000).saturating_sub(HISTORY_SECONDS)..end / 1_000 {
                let sum: u64 = (second * 1_000..(second + 1) * 1_000).map(level_at).sum();
                let got = sampler.closed(second).map_or(0, |b| b.concurrency_milli);
                prop_assert_eq!(got, sum, "second {}", second);
                let busy: u64 = (second * 1_000..(second + 1) * 1_000).map(busy_at).sum();
                prop_assert_eq!(sampler.closed(second).map_or(0, |b| b.busy_milli), busy, "second {}", second);
                let ended = |what: fn(&Ended) -> bool| {
                    endings.iter().filter(|(at, ended)| at / 1_000 == second && what(ended)).count() as u32
                };
                let told = sampler.closed(second).map_or((0, 0, 0), |b| (b.completed, b.errors, b.slow));
                prop_assert_eq!(told, (ended(|_| true), ended(|e| e.failed), ended(|e| e.slow)), "second {}", second);
            }
            prop_assert!(sampler.history.len() as u64 <= HISTORY_SECONDS);
        }
    }
}
