//! What one decision hands on to the next, so that `decide` itself needs no state.
//!
//! What always holds: it is bounded, however long a Function lives.

use std::collections::VecDeque;

use crate::load::{Load, Service};
use crate::time::{Millis, Second};

/// Since when a Function has had replicas, as far as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Awake {
    /// It had some when it was first looked at.
    #[default]
    Unknown,
    /// It has none.
    No,
    /// It went from none to some at this moment.
    Since(Millis),
}

/// Numbers of the recent past, as far as they can still be the highest: each higher than all after it, ascending in time, one for each second
/// at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Maxima(VecDeque<(Second, u32)>);

impl Maxima {
    /// Adds a number and returns the highest of the last `seconds`, this one included.
    pub(crate) fn highest(&mut self, now: Millis, number: u32, seconds: u64) -> u32 {
        let second = Second::containing(now);
        while self.0.back().is_some_and(|(_, lower)| *lower <= number) {
            self.0.pop_back();
        }
        let covered = self.0.back().is_some_and(|(newest, _)| *newest == second);
        if !covered {
            self.0.push_back((second, number));
        }
        let first = second.minus(seconds);
        while self.0.front().is_some_and(|(oldest, _)| *oldest < first) {
            self.0.pop_front();
        }
        self.0.front().map_or(number, |(_, highest)| *highest)
    }

    /// The highest where from the middle of these seconds on a number fades in proportion to its age, rounded up.
    pub(crate) fn fading(&self, now: Millis, seconds: u64) -> u32 {
        let now = Second::containing(now);
        let fade = |(second, number): &(Second, u32)| {
            let age = now.0.saturating_sub(second.0);
            let left = u64::from(*number) * seconds.saturating_sub(age) * 2;
            u32::try_from(left.div_ceil(seconds.max(1))).unwrap_or(u32::MAX).min(*number)
        };
        self.0.iter().map(fade).max().unwrap_or(0)
    }
}

/// What one decision hands on to the next. Begin with `Memory::default()` where nothing came before, else with [`Memory::beginning`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub(crate) awake: Awake,
    /// When zero was decided, if it was not seen since.
    pub(crate) leaving: Option<Millis>,
    /// Whether the activation replicas have been ready since zero.
    pub(crate) activated: bool,
    pub(crate) panic_until: Option<Millis>,
    /// The last known service time; it outlives zero.
    pub(crate) service: Option<Service>,
    /// What load asked for in the last few seconds of each moment.
    pub(crate) peaks: Maxima,
    /// What was recommended.
    pub(crate) recommended: Maxima,
    /// From this second on it knows of all load that matters.
    pub(crate) seen_from: Second,
}

impl Memory {
    /// Of one who begins to look now at what may have had load before: until enough was seen, or looked back at, nothing is removed.
    #[must_use]
    pub fn beginning(now: Millis) -> Self {
        Self { seen_from: Second::containing(now), ..Self::default() }
    }

    /// The same without what was seen of load, to begin anew at an earlier second.
    pub(crate) fn before(&self, first: Second) -> Self {
        let mut memory = self.clone();
        memory.settle_at_zero();
        memory.seen_from = first;
        memory
    }

    /// The moment at which the Function went from zero to some replicas. `None` where that is not known, or it has none.
    #[must_use]
    pub fn awake_since(&self) -> Option<Millis> {
        match self.awake {
            Awake::Since(moment) => Some(moment),
            Awake::Unknown | Awake::No => None,
        }
    }

    /// Notes whether the Function has replicas now. A request after the decision for zero means that it was there in between, unseen, or was kept
    /// from it; either way it is woken.
    pub(crate) fn see(&mut self, current: u32, load: &Load, now: Millis) {
        let under_way = load.queued + load.in_flight > 0;
        let woken = self.leaving.take().is_some_and(|at| under_way || load.last_active.is_some_and(|last| last >= at));
        if woken {
            self.awake = Awake::No;
            self.activated = false;
        }
        self.awake = match (current, self.awake) {
            (0, _) => Awake::No,
            (_, Awake::No) => Awake::Since(now),
            (_, known) => known,
        };
        self.activated &= current > 0;
    }

    /// Forgets panic, peaks and recommendations: what was before zero says nothing about what comes after.
    pub(crate) fn settle_at_zero(&mut self) {
        self.panic_until = None;
        self.peaks = Maxima::default();
        self.recommended = Maxima::default();
        self.seen_from = Second(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_of_the_last_seconds_counts() {
        let mut memory = Maxima::default();
        let at = |memory: &mut Maxima, second: u64, replicas| memory.highest(Second(second).start(), replicas, 10);
        assert_eq!(at(&mut memory, 0, 5), 5);
        assert_eq!(at(&mut memory, 4, 3), 5);
        assert_eq!(at(&mut memory, 10, 1), 5);
        assert_eq!(at(&mut memory, 11, 1), 3);
        assert_eq!(at(&mut memory, 14, 2), 3);
        assert_eq!(at(&mut memory, 15, 1), 2);
        assert_eq!(at(&mut memory, 25, 1), 1);
    }

    #[test]
    fn a_peak_fades_in_the_second_half() {
        let mut maxima = Maxima::default();
        let mut at = |second: u64, number| {
            maxima.highest(Second(second).start(), number, 10);
            maxima.fading(Second(second).start(), 10)
        };
        assert_eq!(at(0, 10), 10);
        assert_eq!(at(3, 6), 10);
        assert_eq!(at(5, 1), 10);
        assert_eq!(at(6, 1), 8);
        assert_eq!(at(8, 1), 6, "the younger one counts more now");
        assert_eq!(at(9, 1), 5);
        assert_eq!(at(13, 1), 1);
    }

    #[test]
    fn a_second_keeps_its_highest_only() {
        let mut maxima = Maxima::default();
        for millis in 0..100_000 {
            maxima.highest(Millis(millis), 1000 - u32::try_from(millis % 1000).unwrap(), 60);
        }
        assert!(maxima.0.len() <= 61);
    }

    #[test]
    fn a_wake_is_only_known_if_zero_was_seen() {
        let mut memory = Memory::default();
        let quiet = Load::default();
        memory.see(2, &quiet, Millis(1));
        assert_eq!(memory.awake_since(), None);
        memory.see(0, &quiet, Millis(2));
        memory.see(1, &quiet, Millis(3));
        memory.see(4, &quiet, Millis(4));
        assert_eq!(memory.awake_since(), Some(Millis(3)));
    }

    #[test]
    fn a_request_after_the_decision_for_zero_is_a_wake_although_zero_was_not_seen() {
        let last = |at| Load { last_active: Some(Millis(at)), ..Load::default() };
        let (queued, in_flight) = (Load { queued: 1, ..last(3) }, Load { in_flight: 1, ..last(3) });
        for (load, woken) in
            [(last(4), false), (Load::default(), false), (last(5), true), (queued, true), (in_flight, true)]
        {
            let before = Memory { awake: Awake::Since(Millis(1)), activated: true, ..Memory::default() };
            let mut memory = Memory { leaving: Some(Millis(5)), ..before.clone() };
            memory.see(1, &load, Millis(7));
            let expected = Memory { awake: Awake::Since(Millis(7)), activated: false, ..Memory::default() };
            assert_eq!(memory, if woken { expected } else { before }, "{load:?}");
        }
    }
}
