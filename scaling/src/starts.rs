//! How many Functions may be starting at once.
//!
//! What a start takes is mostly work of its node: of the container runtime, then of the function itself. Where many start at once they share the
//! processors, all get on slowly, and nobody is answered before nearly all are. A few at a time, half of them are answered in half the time, and
//! the last no later. How many a cluster can start at once nobody has told, so it is found out as by hill climbing on throughput (Welsh and
//! Culler, "Adaptive overload control for busy Internet servers", USITS 2003; the measure is that of BBR, Cardwell et al., "Congestion-based
//! congestion control", ACM Queue 2016): twice as many must bring clearly more answers a second, or it is undone; half as many that bring nearly as
//! many are enough.
//!
//! What always holds: [`LEAST`] may start whatever was seen; only rounds in which somebody waited all the time are compared, so that what is not
//! used is never changed; a Function that does not start at all is no part of a round.

use crate::time::Millis;

/// So many may always start at once.
const LEAST: usize = 4;
/// So many may start at once before anything is known.
const FIRST: usize = 16;
/// More are not limited.
const MOST: usize = 4_096;
/// Twice as many at once must bring this many percent of what there was. Where there is room they bring 200, where there is none 100.
const WORTH: u64 = 140;
/// Half as many at once may bring this many percent of what there was. Where there is room they bring 50, where there is none 100.
const ENOUGH: u64 = 85;
/// Rounds until what was found out is put to the test again.
const SETTLED: u32 = 16;

/// What is noted of a start that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    at: Millis,
    round: u64,
}

/// What the present limit is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    /// Nothing is known of it.
    Unknown,
    /// It is half of what brought so much; half of what there was before that, too, unless this is the `first` trial.
    Fewer { rate: u64, first: bool },
    /// It is twice what brought so much.
    More { rate: u64 },
    /// It is best, for so many rounds more.
    None { rounds: u32 },
}

/// How many may be starting at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartLimit {
    limit: usize,
    trial: Trial,
    round: u64,
    /// Those that began in this round and have answered.
    answered: u64,
    /// What they took together, in ms.
    took: u64,
}

impl Default for StartLimit {
    fn default() -> Self {
        Self { limit: FIRST, trial: Trial::Unknown, round: 0, answered: 0, took: 0 }
    }
}

impl StartLimit {
    /// How many.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// A start begins.
    #[must_use]
    pub fn begin(&self, now: Millis) -> Begun {
        Begun { at: now, round: self.round }
    }

    /// A start has ended with an answer. `crowded`: there are others that were not let begin yet.
    pub fn end(&mut self, now: Millis, begun: Begun, crowded: bool) {
        if !crowded {
            self.next_round();
            return;
        }
        // What began under another limit says nothing about this one.
        if begun.round != self.round {
            return;
        }
        self.answered += 1;
        self.took = self.took.saturating_add(now.since(begun.at).max(1));
        let limit = self.limit as u64;
        if self.answered < limit / 2 {
            return;
        }
        // Little's law: as many as may be were under way all the time, each for so long on average.
        let rate = limit.saturating_mul(self.answered).saturating_mul(1_000_000) / self.took;
        self.conclude(rate);
        self.next_round();
    }

    fn next_round(&mut self) {
        (self.round, self.answered, self.took) = (self.round + 1, 0, 0);
    }

    /// What follows from a round that brought so much.
    fn conclude(&mut self, rate: u64) {
        match self.trial {
            Trial::None { rounds: rounds @ 1.. } => self.trial = Trial::None { rounds: rounds - 1 },
            Trial::Unknown | Trial::None { rounds: 0 } => self.try_fewer(rate, true),
            Trial::Fewer { rate: before, .. } if rate >= percent(before, ENOUGH) => self.try_fewer(rate, false),
            Trial::Fewer { rate: before, first } => {
                self.limit *= 2;
                if first { self.try_more(before) } else { self.settle() }
            }
            Trial::More { rate: before } if rate >= percent(before, WORTH) => self.try_more(rate),
            Trial::More { .. } => {
                self.limit /= 2;
                self.settle();
            }
        }
    }

    fn try_fewer(&mut self, rate: u64, first: bool) {
        if self.limit / 2 >= LEAST {
            self.limit /= 2;
            self.trial = Trial::Fewer { rate, first };
        } else if first {
            self.try_more(rate);
        } else {
            self.settle();
        }
    }

    fn try_more(&mut self, rate: u64) {
        if self.limit * 2 <= MOST {
            self.limit *= 2;
            self.trial = Trial::More { rate };
        } else {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.trial = Trial::None { rounds: SETTLED };
    }
}

fn percent(of: u64, percent: u64) -> u64 {
    of.saturating_mul(percent) / 100
}

#[cfg(test)]
mod tests;
