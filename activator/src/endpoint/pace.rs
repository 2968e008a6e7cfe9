//! When to probe a pod again. A start takes as long as it takes, so what counts is what the pause adds to it: a sixteenth, whether it was a fast
//! start or a slow one. Where many pods start at once, more, so that those who wait for their processor are not kept waiting by questions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The shortest pause.
pub const FIRST: Duration = Duration::from_millis(5);
/// The longest pause.
const LAST: Duration = Duration::from_secs(1);
/// The pause is the time that has gone by, divided by this.
const PARTS: u32 = 16;
/// So many pods are probed at that pace. Beside more it is slower in proportion,
const FEW: usize = 32;
/// until a pause is a third of the time that has gone by.
const SLOWEST: f64 = 16.0 / 3.0;
/// A pod that does not answer for so long is probed so seldom that it is no part of a crowd.
const FRESH: Duration = Duration::from_secs(10);

/// The pause after a probe, `spent` after the first one, beside `crowd` pods in all that are probed.
pub fn pause(spent: Duration, crowd: usize) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "pods are counted in thousands")]
    let slower = (crowd as f64 / FEW as f64).clamp(1.0, SLOWEST);
    (spent / PARTS).max(FIRST).mul_f64(slower).min(LAST)
}

/// Counts the pods that are probed.
#[derive(Clone, Debug, Default)]
pub struct Crowd(Arc<AtomicUsize>);

impl Crowd {
    /// One more, for as long as what is returned lives.
    pub fn join(&self) -> Member {
        self.0.fetch_add(1, Ordering::Relaxed);
        Member(self.clone())
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One that is counted.
#[derive(Debug)]
pub struct Member(Crowd);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The pace at which one pod is probed.
#[derive(Debug)]
pub struct Pace {
    crowd: Crowd,
    member: Option<Member>,
}

impl Pace {
    /// For a pod that joins the crowd.
    pub fn within(crowd: &Crowd) -> Self {
        Self { crowd: crowd.clone(), member: Some(crowd.join()) }
    }

    /// The pause after a probe, `spent` after the first one.
    pub fn pause(&mut self, spent: Duration) -> Duration {
        if spent > FRESH {
            self.member = None;
        }
        pause(spent, self.crowd.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The moments at which a pod is probed up to `end`, where a probe takes no time.
    fn moments(end: Duration, crowd: usize) -> Vec<Duration> {
        let next = |now: &Duration| Some(*now + pause(*now, crowd)).filter(|now| *now <= end);
        std::iter::successors(Some(Duration::ZERO), next).collect()
    }

    #[test]
    fn whoever_begins_to_answer_is_found_within_a_sixteenth_of_the_time_that_took() {
        let found = moments(Duration::from_secs(15), FEW);
        for starts in (80..15_000).map(Duration::from_millis) {
            let at = found.iter().find(|at| **at >= starts);
            assert!(at.is_none_or(|at| *at <= starts + starts / PARTS), "{starts:?}: {at:?}");
        }
        assert!(found.windows(2).all(|pair| pair[1] - pair[0] >= FIRST));
        assert!(found.len() < 110, "{} probes in 15 s", found.len());
    }

    #[test]
    fn a_crowd_asks_no_more_often_in_all() {
        let second = Duration::from_secs(1);
        let all = |crowd| moments(second, crowd).len() * crowd;
        assert!(all(150) < all(FEW) * 3 / 2, "{} and {}", all(150), all(FEW));
        assert_eq!(pause(second, 1_000_000), second.mul_f64(1.0 / 3.0));
        assert_eq!(pause(Duration::from_secs(100), 1_000_000), LAST);
    }

    #[test]
    fn who_does_not_come_or_is_gone_is_no_part_of_a_crowd() {
        let crowd = Crowd::default();
        let (mut slow, gone) = (Pace::within(&crowd), Pace::within(&crowd));
        assert_eq!(crowd.size(), 2);
        drop(gone);
        assert_eq!(slow.pause(FRESH), FRESH / PARTS);
        assert_eq!(crowd.size(), 1);
        slow.pause(FRESH + FIRST);
        assert_eq!(crowd.size(), 0);
    }
}
