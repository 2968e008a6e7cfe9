//! What is learnt of one Function, to be kept with it: its idle gaps, how long each rung took to wake, and its memory.
//!
//! What always holds: bounded in size, whatever it is fed; learning takes no memory.

use super::adapt::HOLD_MILLIS;
use super::cost::Wakes;
use super::gaps::Gaps;
use super::rung::Rung;
use crate::time::Millis;

/// By one part of so many a new measurement moves what was known.
const PARTS: i64 = 4;
/// The same for how well a kind of beginning predicts.
const FIT_PARTS: i64 = 8;
/// The longest wake that is believed, in ms.
const LONGEST_WAKE_MILLIS: u64 = 600_000;
/// So many 256ths of a bit better must the beginnings predict before they are believed rather than the ends.
const CLEARLY: u32 = 128;

/// A gap between two times of activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the first request of the activity before the gap arrived.
    pub began: Millis,
    /// When the last one of it was answered.
    pub ended: Millis,
    /// When the request arrived that ended the gap.
    pub next: Millis,
}

/// What is learnt of one Function. It goes to text and back; see [`Learnt::to_text`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    /// Gaps from the end of activity on: people, queues.
    pub(crate) after_end: Gaps,
    /// Gaps from the beginning of activity on: timers, whose work does not always take as long.
    pub(crate) after_begin: Gaps,
    /// How surprising the gaps were lately by each, in 256ths of a bit; `None`: no gap yet.
    pub(crate) surprise: Option<(u32, u32)>,
    /// Measured wakes, in ms: from Throttled, Parked and Zero; 0 where there was none.
    pub(crate) wakes: [u32; 3],
    /// Memory in use while active, in MiB; 0 where it was not measured.
    pub(crate) memory_mib: u32,
}

impl Learnt {
    /// Learns of a gap. One that was over before anything could be done about it teaches nothing.
    pub fn observe_gap(&mut self, gap: Gap) {
        let (idle, since_begin) = (gap.next.since(gap.ended), gap.next.since(gap.began));
        if idle < HOLD_MILLIS {
            return;
        }
        let from = gap.ended.since(gap.began) + HOLD_MILLIS;
        let surprise =
            (bits(self.after_end.surprise(HOLD_MILLIS, idle)), bits(self.after_begin.surprise(from, since_begin)));
        self.surprise = Some(match self.surprise {
            None => surprise,
            Some(known) => (moved(known.0, surprise.0, FIT_PARTS), moved(known.1, surprise.1, FIT_PARTS)),
        });
        self.after_end.observe(HOLD_MILLIS, idle);
        self.after_begin.observe(from, since_begin);
    }

    /// Learns how long the first request waited on a rung, in ms. Nothing waits on Active.
    pub fn observe_wake(&mut self, rung: Rung, millis: u64) {
        let Some(known) = rung.place().checked_sub(1).map(|place| &mut self.wakes[place]) else { return };
        let measured = u32::try_from(millis.clamp(1, LONGEST_WAKE_MILLIS)).unwrap_or(u32::MAX);
        *known = if *known == 0 { measured } else { moved(*known, measured, PARTS) };
    }

    /// Learns how much memory a replica used while it was active, in MiB: more at once, less by and by.
    pub fn observe_memory(&mut self, mib: u32) {
        self.memory_mib = mib.max(moved(self.memory_mib, mib, PARTS)).max(1);
    }

    /// How long each rung takes to wake: as measured, else as usual. What was not measured takes longer in proportion to what was: a process that
    /// starts slowly does so from Parked and from Zero.
    #[must_use]
    pub fn wakes(&self) -> Wakes {
        let usual = Wakes::default();
        let start = usual.zero_millis - usual.parked_millis;
        let [throttled, parked, zero] = self.wakes.map(u64::from);
        let (parked_millis, zero_millis) = match (parked, zero) {
            (0, 0) => (usual.parked_millis, usual.zero_millis),
            (0, zero) => (zero.saturating_sub(start).max(usual.parked_millis), zero),
            (parked, 0) => (parked, parked + start),
            known => known,
        };
        let throttled_millis = if throttled == 0 { usual.throttled_millis } else { throttled };
        Wakes { throttled_millis, parked_millis, zero_millis }
    }

    /// Memory in use while active, in MiB, where it was measured.
    #[must_use]
    pub fn memory_mib(&self) -> Option<u32> {
        (self.memory_mib > 0).then_some(self.memory_mib)
    }

    /// The gaps that predict better, and whether they are counted from the beginning of activity.
    pub(crate) fn best(&self) -> (&Gaps, bool) {
        match self.surprise {
            Some((end, begin)) if begin.saturating_add(CLEARLY) < end => (&self.after_begin, true),
            _ => (&self.after_end, false),
        }
    }
}

/// A surprise in 256ths of a bit above what a request within a millisecond would be, so that it is never negative.
fn bits(surprise: f64) -> u32 {
    ((surprise + 16.0).clamp(0.0, 64.0) * 256.0) as u32
}

fn moved(known: u32, measured: u32, parts: i64) -> u32 {
    let moved = i64::from(known) + (i64::from(measured) - i64::from(known)) / parts;
    u32::try_from(moved).unwrap_or(known)
}

#[cfg(test)]
mod tests {
    use super::super::gaps::{BINS, bin_of, edge};
    use super::*;

    fn gap(began: u64, ended: u64, next: u64) -> Gap {
        Gap { began: Millis(began), ended: Millis(ended), next: Millis(next) }
    }

    #[test]
    fn a_gap_in_which_nothing_could_be_done_teaches_nothing() {
        let mut learnt = Learnt::default();
        learnt.observe_gap(gap(0, 1_000, 1_000 + HOLD_MILLIS - 1));
        assert_eq!(learnt, Learnt::default());
        learnt.observe_gap(gap(0, 1_000, 1_000 + HOLD_MILLIS));
        assert_eq!((learnt.after_end.known(0), learnt.after_begin.known(0)), (1, 1));
    }

    #[test]
    fn a_timer_whose_work_varies_is_known_by_its_beginnings() {
        let mut learnt = Learnt::default();
        let begins = (0..40).map(|minute| minute * 60_000);
        for (begin, work) in begins.zip([1_000, 20_000, 7_000, 31_000, 13_000].into_iter().cycle()) {
            learnt.observe_gap(gap(begin, begin + work, begin + 60_000));
        }
        assert!(learnt.best().1);
    }

    #[test]
    fn pauses_of_a_certain_length_are_known_by_the_ends() {
        let mut learnt = Learnt::default();
        let mut begin = 0;
        for work in [1_000, 200_000, 70_000, 3_000, 130_000].into_iter().cycle().take(40) {
            learnt.observe_gap(gap(begin, begin + work, begin + work + 45_000));
            begin += work + 45_000;
        }
        assert!(!learnt.best().1);
    }

    #[test]
    fn a_gap_could_have_ended_once_something_could_be_done() {
        let mut learnt = Learnt::default();
        learnt.observe_gap(gap(0, 10_000, 110_000));
        let reach = |gaps: &Gaps| {
            let mut at_risk = (0..BINS).filter(|bin| gaps.0[*bin].at_risk > 0);
            (at_risk.next().map(edge), at_risk.next_back())
        };
        assert_eq!(reach(&learnt.after_end), (Some(2_000), bin_of(100_000)));
        assert_eq!(reach(&learnt.after_begin), (Some(12_699), bin_of(110_000)), "ten seconds of work, two of holding");
    }

    #[test]
    fn the_beginnings_are_believed_where_they_predict_clearly_better() {
        assert_eq!([-20.0, -16.0, 0.0, 1.5, 100.0].map(bits), [0, 0, 4_096, 4_480, 16_384]);
        for (begin, believed) in [(0, true), (871, true), (872, false), (1_000, false), (u32::MAX, false)] {
            let learnt = Learnt { surprise: Some((1_000, begin)), ..Learnt::default() };
            assert_eq!(learnt.best().1, believed, "{begin}");
        }
    }

    #[test]
    fn wakes_are_those_that_were_measured_or_follow_from_them() {
        let usual = Wakes::default();
        let after = |measured: &[(Rung, u64)]| {
            let mut learnt = Learnt::default();
            for (rung, millis) in measured {
                learnt.observe_wake(*rung, *millis);
            }
            learnt.wakes()
        };
        assert_eq!(after(&[]), usual);
        assert_eq!(after(&[(Rung::Active, 5_000)]), usual);
        let slow = after(&[(Rung::Zero, 5_190)]);
        assert_eq!((slow.parked_millis, slow.zero_millis), (5_000, 5_190));
        let slow = after(&[(Rung::Parked, 5_000)]);
        assert_eq!((slow.parked_millis, slow.zero_millis), (5_000, 5_190));
        assert_eq!(after(&[(Rung::Zero, 100)]).parked_millis, usual.parked_millis);
        let both = after(&[(Rung::Parked, 50), (Rung::Zero, 100), (Rung::Throttled, 7), (Rung::Throttled, 15)]);
        assert_eq!((both.throttled_millis, both.parked_millis, both.zero_millis), (9, 50, 100));
        assert_eq!(after(&[(Rung::Zero, u64::MAX), (Rung::Zero, 0)]).zero_millis, 450_001);
    }

    #[test]
    fn memory_is_learnt_at_once_upwards_and_by_and_by_downwards() {
        let mut learnt = Learnt::default();
        assert_eq!(learnt.memory_mib(), None);
        for (used, known) in [(100, 100), (200, 200), (100, 175), (0, 132)] {
            learnt.observe_memory(used);
            assert_eq!(learnt.memory_mib(), Some(known));
        }
    }
}
