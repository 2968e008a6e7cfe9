//! Who may start next. Pure.
//!
//! What always holds: namespaces take turns, so that one that wakes thousands of Functions delays another by one of them; within a namespace those go first
//! who let most callers be answered soonest (Smith's rule: the sum of waits, weighted by callers, is least by callers over time to start); of those only
//! the oldest are compared, so that nobody is passed over for ever.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// So many of a namespace, the oldest, are compared.
const COMPARED: usize = 64;

/// Those that wait to start.
#[derive(Debug)]
pub(super) struct Line<T> {
    namespaces: BTreeMap<Arc<str>, VecDeque<T>>,
    /// In the order of their next turn.
    turns: VecDeque<Arc<str>>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { namespaces: BTreeMap::new(), turns: VecDeque::new() }
    }
}

impl<T> Line<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.namespaces.values().map(VecDeque::len).sum()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// One more.
    pub(super) fn push(&mut self, namespace: &Arc<str>, it: T) {
        let waiting = self.namespaces.entry(namespace.clone()).or_insert_with(|| {
            self.turns.push_back(namespace.clone());
            VecDeque::new()
        });
        waiting.push_back(it);
    }

    /// The next one. `worth`: callers and what it takes until they are answered, in ms.
    pub(super) fn next(&mut self, worth: impl Fn(&T) -> (u32, u64)) -> Option<T> {
        let namespace = self.turns.pop_front()?;
        let waiting = self.namespaces.get_mut(&namespace)?;
        let mut best = (0, worth(waiting.front()?));
        for (at, it) in waiting.iter().enumerate().take(COMPARED).skip(1) {
            let (callers, millis) = worth(it);
            let (most, least) = best.1;
            if u64::from(callers).saturating_mul(least.max(1)) > u64::from(most).saturating_mul(millis.max(1)) {
                best = (at, (callers, millis));
            }
        }
        let next = waiting.remove(best.0);
        if waiting.is_empty() {
            self.namespaces.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        next
    }

    /// Takes out one that waits no more.
    pub(super) fn remove(&mut self, namespace: &str, is: impl Fn(&T) -> bool) {
        let Some(waiting) = self.namespaces.get_mut(namespace) else { return };
        waiting.retain(|it| !is(it));
        if waiting.is_empty() {
            self.namespaces.remove(namespace);
            self.turns.retain(|turn| **turn != *namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(all: &[(&str, &'static str)]) -> Line<&'static str> {
        let mut line = Line::default();
        for (namespace, name) in all {
            line.push(&Arc::from(*namespace), *name);
        }
        line
    }

    fn drain(line: &mut Line<&'static str>, worth: impl Fn(&str) -> (u32, u64)) -> Vec<&'static str> {
        std::iter::from_fn(|| line.next(|name| worth(name))).collect()
    }

    #[test]
    fn namespaces_take_turns() {
        let mut line = line(&[("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("b", "b2")]);
        assert_eq!(line.len(), 5);
        assert_eq!(drain(&mut line, |_| (1, 1)), ["a1", "b1", "a2", "b2", "a3"]);
        assert!(line.is_empty() && line.turns.is_empty());
    }

    #[test]
    fn most_callers_soonest_and_of_equals_the_first() {
        let mut line = line(&[("a", "slow"), ("a", "many"), ("a", "fast"), ("a", "late")]);
        let worth = |name: &str| match name {
            "slow" => (9, 3_000),
            "many" => (10, 400),
            "fast" => (4, 100),
            _ => (4, 100),
        };
        assert_eq!(drain(&mut line, worth), ["fast", "late", "many", "slow"]);
    }

    #[test]
    fn the_oldest_are_not_passed_over_for_ever() {
        let mut line = Line::default();
        let namespace: Arc<str> = Arc::from("a");
        for number in 0..200_u32 {
            line.push(&namespace, number);
        }
        // The younger, the more callers.
        let order: Vec<u32> = std::iter::from_fn(|| line.next(|number| (*number, 1))).collect();
        assert_eq!(order[0], 63, "{order:?}");
        assert_eq!(order.len(), 200);
    }

    #[test]
    fn who_leaves_is_no_part_of_it() {
        let mut line = line(&[("a", "a1"), ("b", "b1"), ("b", "b2")]);
        line.remove("a", |name| *name == "a1");
        line.remove("b", |name| *name == "b1");
        line.remove("nowhere", |_| true);
        assert_eq!(drain(&mut line, |_| (1, 1)), ["b2"]);
    }
}
