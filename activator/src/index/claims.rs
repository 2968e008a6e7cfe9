//! Who claims what only one Function can have: a route port, a host name, the name that a tag makes.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use super::FunctionKey;

/// The claimants of each thing.
#[derive(Debug)]
pub(super) struct Claims<T>(HashMap<T, BTreeSet<FunctionKey>>);

impl<T> Default for Claims<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash> Claims<T> {
    pub(super) fn add(&mut self, key: &FunctionKey, things: impl IntoIterator<Item = T>) {
        for thing in things {
            self.0.entry(thing).or_default().insert(key.clone());
        }
    }

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &FunctionKey, thing: &Q)
    where
        T: Borrow<Q>,
    {
        if let Some(claimants) = self.0.get_mut(thing) {
            claimants.remove(key);
            if claimants.is_empty() {
                self.0.remove(thing);
            }
        }
    }

    /// Who has it. Where two claim it, the first by name: the operator lets them do so for no longer than a change of hands takes, but for tags, which
    /// authors choose without it.
    pub(super) fn holder<Q: Eq + Hash + ?Sized>(&self, thing: &Q) -> Option<&FunctionKey>
    where
        T: Borrow<Q>,
    {
        self.0.get(thing)?.first()
    }
}
