//! An activator's seconds do not begin when ours do, and its batches arrive with jitter. Each stream is therefore aligned to our
//! whole seconds by a phase that is learned from its first batch and follows the drift of the two clocks slowly.
//!
//! What always holds: the same batch heard twice lands in the same second, as long as its receipt varies by less than half a second.

use std::ops::RangeInclusive;

use crate::time::{Millis, Second};

/// How much of the difference between expected and real receipt the phase follows: one eighth.
const FOLLOW: i64 = 8;

/// The alignment of one activator's seconds to ours. Keep it across reconnects of the same activator.
#[derive(Clone, Debug, Default)]
pub struct Alignment {
    /// Milliseconds, 0 to 999, by which the activator's seconds end after ours.
    phase: Option<i64>,
    last_live: Option<(Millis, Second)>,
}

impl Alignment {
    /// The seconds that a live batch covers, whose covered second ended at `end` by our clock. It is one second, or two where
    /// drift made a batch skip one of ours although nothing was lost.
    pub fn live(&mut self, end: Millis) -> RangeInclusive<Second> {
        let (second, residual) = self.place(end);
        let phase = self.phase.unwrap_or(0);
        self.phase = Some((phase + residual / FOLLOW).rem_euclid(1000));
        let skipped =
            self.last_live.is_some_and(|(last_end, last)| last.next().next() == second && end.since(last_end) < 1500);
        self.last_live = Some((end, second));
        if skipped { second.minus(1)..=second } else { second..=second }
    }

    /// The second that a replayed batch covers, whose covered second ended at `end` by our clock.
    pub fn replayed(&mut self, end: Millis) -> Second {
        self.place(end).0
    }

    /// A moment by our clock in the time of the aligned seconds, which run behind by the phase. What an activator says between two of its
    /// seconds is so placed between them.
    #[must_use]
    pub fn moment(&self, at: Millis) -> Millis {
        let phase = u64::try_from(self.phase.unwrap_or(0)).unwrap_or(0);
        Millis(at.0.saturating_sub(phase))
    }

    /// Tells that the stream broke: the next live batch does not continue the last.
    pub fn interrupted(&mut self) {
        self.last_live = None;
    }

    /// The nearest second, and how many milliseconds later than expected the batch was: −500 to 499.
    fn place(&mut self, end: Millis) -> (Second, i64) {
        let end = i64::try_from(end.0).unwrap_or(i64::MAX);
        let phase = *self.phase.get_or_insert(end.rem_euclid(1000));
        let aligned = end.saturating_sub(phase);
        let residual = (aligned.saturating_add(500)).rem_euclid(1000) - 500;
        let boundary = aligned.saturating_sub(residual).div_euclid(1000);
        let second = Second(u64::try_from(boundary).unwrap_or(0)).minus(1);
        (second, residual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_below_half_a_second_loses_and_doubles_nothing() {
        let mut alignment = Alignment::default();
        let jitter = [0_i64, 300, -200, 150, -300, 400, 0, -100, 250, -250];
        let mut expected = None;
        for (n, late) in jitter.iter().cycle().take(1000).enumerate() {
            let end = Millis(u64::try_from(50_730 + 1000 * n as i64 + late).unwrap());
            let seconds = alignment.live(end);
            assert_eq!(seconds.start(), seconds.end(), "batch {n}");
            let second = *seconds.start();
            if let Some(expected) = expected {
                assert_eq!(second, expected, "batch {n}");
            }
            expected = Some(second.next());
        }
    }

    #[test]
    fn drift_of_the_clocks_leaves_no_gap() {
        for millis_a_second in [998_u64, 1002] {
            let mut alignment = Alignment::default();
            let mut covered_to: Option<Second> = None;
            for n in 0..5_000 {
                let seconds = alignment.live(Millis(100_500 + n * millis_a_second));
                if let Some(last) = covered_to {
                    assert!(*seconds.start() <= last.next(), "gap at batch {n}");
                }
                covered_to = Some(*seconds.end());
            }
            let now = 100_500 + 4_999 * millis_a_second;
            let lag = now.abs_diff(covered_to.unwrap().end().0);
            assert!(lag <= 1_500, "aligned time is {lag} ms away from ours");
        }
    }

    #[test]
    fn a_moment_lies_between_the_seconds_before_and_after_it() {
        let mut alignment = Alignment::default();
        let before = *alignment.live(Millis(10_900)).end();
        let poke = alignment.moment(Millis(11_500));
        let after = *alignment.live(Millis(11_900)).end();
        assert!(before.end() < poke && poke < after.end(), "{poke:?}");
    }

    #[test]
    fn a_lost_batch_stays_a_gap() {
        let mut alignment = Alignment::default();
        let first = *alignment.live(Millis(10_400)).end();
        let after = alignment.live(Millis(12_400));
        assert_eq!(after, first.next().next()..=first.next().next());
    }

    #[test]
    fn the_phase_follows_by_an_eighth() {
        let mut alignment = Alignment::default();
        alignment.live(Millis(10_000));
        alignment.live(Millis(11_080));
        assert_eq!(alignment.moment(Millis(20_000)), Millis(19_990));
    }

    #[test]
    fn a_second_that_drift_skipped_is_covered_unless_the_stream_broke() {
        let late = |broken: bool| {
            let mut alignment = Alignment::default();
            alignment.live(Millis(10_400));
            assert_eq!(alignment.live(Millis(11_800)), Second(10)..=Second(10));
            if broken {
                alignment.interrupted();
            }
            alignment.live(Millis(12_950))
        };
        assert_eq!(late(false), Second(11)..=Second(12));
        assert_eq!(late(true), Second(12)..=Second(12));
        let mut alignment = Alignment::default();
        alignment.live(Millis(10_000));
        assert_eq!(alignment.live(Millis(11_500)), Second(11)..=Second(11), "a batch may be missing in between");
    }

    #[test]
    fn replay_lands_where_the_live_batches_had() {
        let mut alignment = Alignment::default();
        let live: Vec<_> = (0..5).map(|n| *alignment.live(Millis(20_250 + n * 1000)).end()).collect();
        alignment.interrupted();
        let now = 26_190;
        let replayed: Vec<_> = (0..5).map(|n| alignment.replayed(Millis(now - (1_900 + (4 - n) * 1000)))).collect();
        assert_eq!(live, replayed);
    }
}
