//! When to look at which Function again. Pure.
//!
//! What always holds: each Function is in it at most once, at the earliest time that was asked for.

use std::collections::{BTreeSet, HashMap};

use pilotlight_scaling::Millis;

use super::ledger::FunctionKey;

/// When to look at which Function again.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    order: BTreeSet<(Millis, FunctionKey)>,
    due: HashMap<FunctionKey, Millis>,
}

impl Schedule {
    /// Looks at the Function at `at`, or earlier if that was asked for before.
    pub(super) fn at(&mut self, key: &FunctionKey, at: Millis) {
        if let Some(due) = self.due.get(key) {
            if *due <= at {
                return;
            }
            self.order.remove(&(*due, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.order.insert((at, key.clone()));
    }

    /// The earliest time.
    pub(super) fn next(&self) -> Option<Millis> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes a Function that is due.
    pub(super) fn take(&mut self, now: Millis) -> Option<FunctionKey> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.due.remove(&key);
        Some(key)
    }

    /// Forgets a Function.
    pub(super) fn forget(&mut self, key: &FunctionKey) {
        if let Some(due) = self.due.remove(key) {
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
        schedule.at(&a, Millis(50));
        schedule.at(&b, Millis(30));
        schedule.at(&a, Millis(10));
        schedule.at(&a, Millis(40));
        assert_eq!(schedule.take(Millis(9)), None);
        assert_eq!(schedule.take(Millis(30)), Some(a.clone()));
        assert_eq!(schedule.take(Millis(30)), Some(b.clone()));
        assert_eq!(schedule.take(Millis(1_000)), None);
        schedule.at(&b, Millis(60));
        schedule.forget(&b);
        assert_eq!(schedule.next(), None);
    }
}
