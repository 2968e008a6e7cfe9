//! When to look at which Function again. Pure.
//!
//! What always holds: each Function is in it at most once, at the earliest time that was asked for.

use std::collections::{BTreeSet, HashMap};

use pilotlight_scaling::Millis;

use super::ledger::FunctionKey;

/// What makes the autoscaler look at a Function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// An activator said at once that a request found no free slot.
    Poke,
    /// An activator told of a second with traffic.
    Sample,
    /// The Function, one of its Deployments or what else was told of it changed.
    Change,
    /// Time alone.
    Time,
}

impl Trigger {
    /// A CamelCase word for JSON.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Poke => "Poke",
            Self::Sample => "Sample",
            Self::Change => "Change",
            Self::Time => "Time",
        }
    }
}

/// When to look at which Function again.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    order: BTreeSet<(Millis, FunctionKey)>,
    due: HashMap<FunctionKey, (Millis, Trigger)>,
}

impl Schedule {
    /// Looks at the Function at `at` because of `trigger`, or earlier if that was asked for before.
    pub(super) fn at(&mut self, key: &FunctionKey, at: Millis, trigger: Trigger) {
        if let Some((due, because)) = self.due.get_mut(key) {
            if *due <= at {
                // It is met by the earlier look, and says more of why than time does.
                if trigger == Trigger::Poke {
                    *because = trigger;
                }
                return;
            }
            self.order.remove(&(*due, key.clone()));
        }
        self.due.insert(key.clone(), (at, trigger));
        self.order.insert((at, key.clone()));
    }

    /// The earliest time.
    pub(super) fn next(&self) -> Option<Millis> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes a Function that is due, and why it is.
    pub(super) fn take(&mut self, now: Millis) -> Option<(FunctionKey, Trigger)> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        let (_, trigger) = self.due.remove(&key)?;
        Some((key, trigger))
    }

    /// Forgets a Function.
    pub(super) fn forget(&mut self, key: &FunctionKey) {
        if let Some((due, _)) = self.due.remove(key) {
            self.order.remove(&(due, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_wish_counts_and_each_is_taken_once() {
        let (a, b) = (FunctionKey::new("ns", "a"), FunctionKey::new("ns", "b"));
        let mut schedule = Schedule::default();
        schedule.at(&a, Millis(50), Trigger::Time);
        schedule.at(&b, Millis(30), Trigger::Sample);
        schedule.at(&a, Millis(10), Trigger::Poke);
        schedule.at(&a, Millis(40), Trigger::Change);
        assert_eq!(schedule.take(Millis(9)), None);
        assert_eq!(schedule.take(Millis(30)), Some((a.clone(), Trigger::Poke)));
        assert_eq!(schedule.take(Millis(30)), Some((b.clone(), Trigger::Sample)));
        assert_eq!(schedule.take(Millis(1_000)), None);
        schedule.at(&b, Millis(60), Trigger::Time);
        schedule.forget(&b);
        assert_eq!(schedule.next(), None);
    }
}
