//! What one decision hands on to the next, so that `decide` itself needs no state.
//!
//! What always holds: it is bounded, however long a Function lives.

use std::collections::VecDeque;

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

/// What one decision hands on to the next. Begin with `Memory::default()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub(crate) awake: Awake,
    pub(crate) panic_until: Option<Millis>,
    /// Recommendations, each higher than all after it; ascending in time, one for each second at most.
    recommended: VecDeque<(Second, u32)>,
}

impl Memory {
    /// The moment at which the Function went from zero to some replicas. `None` where that is not known, or it has none.
    #[must_use]
    pub fn awake_since(&self) -> Option<Millis> {
        match self.awake {
            Awake::Since(moment) => Some(moment),
            Awake::Unknown | Awake::No => None,
        }
    }

    /// Notes whether the Function has replicas now.
    pub(crate) fn see(&mut self, current: u32, now: Millis) {
        self.awake = match (current, self.awake) {
            (0, _) => Awake::No,
            (_, Awake::No) => Awake::Since(now),
            (_, known) => known,
        };
    }

    /// Adds a recommendation and returns the highest of the last `seconds`, this one included.
    pub(crate) fn recommend(&mut self, now: Millis, replicas: u32, seconds: u64) -> u32 {
        let second = Second::containing(now);
        while self.recommended.back().is_some_and(|(_, lower)| *lower <= replicas) {
            self.recommended.pop_back();
        }
        let covered = self.recommended.back().is_some_and(|(newest, _)| *newest == second);
        if !covered {
            self.recommended.push_back((second, replicas));
        }
        let first = second.minus(seconds);
        while self.recommended.front().is_some_and(|(oldest, _)| *oldest < first) {
            self.recommended.pop_front();
        }
        self.recommended.front().map_or(replicas, |(_, highest)| *highest)
    }

    /// Forgets panic and recommendations: what was before zero says nothing about what comes after.
    pub(crate) fn settle_at_zero(&mut self) {
        self.panic_until = None;
        self.recommended.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_recommendation_of_the_delay_counts() {
        let mut memory = Memory::default();
        let at = |memory: &mut Memory, second: u64, replicas| memory.recommend(Second(second).start(), replicas, 10);
        assert_eq!(at(&mut memory, 0, 5), 5);
        assert_eq!(at(&mut memory, 4, 3), 5);
        assert_eq!(at(&mut memory, 10, 1), 5);
        assert_eq!(at(&mut memory, 11, 1), 3);
        assert_eq!(at(&mut memory, 14, 2), 3);
        assert_eq!(at(&mut memory, 15, 1), 2);
        assert_eq!(at(&mut memory, 25, 1), 1);
    }

    #[test]
    fn a_second_keeps_its_highest_only() {
        let mut memory = Memory::default();
        for millis in 0..100_000 {
            memory.recommend(Millis(millis), 1000 - u32::try_from(millis % 1000).unwrap(), 60);
        }
        assert!(memory.recommended.len() <= 61);
    }

    #[test]
    fn a_wake_is_only_known_if_zero_was_seen() {
        let mut memory = Memory::default();
        memory.see(2, Millis(1));
        assert_eq!(memory.awake_since(), None);
        memory.see(0, Millis(2));
        memory.see(1, Millis(3));
        memory.see(4, Millis(4));
        assert_eq!(memory.awake_since(), Some(Millis(3)));
    }
}
