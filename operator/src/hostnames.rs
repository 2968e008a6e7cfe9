//! Which Function has which of the host names that authors ask for (`spec.hostnames`).
//!
//! Pure. What always holds: no two Functions have the same name; who has one keeps it for as long as it asks for it, whoever comes later and
//! however the operator is restarted; of those who have waited for a name, the oldest Function gets it. As with the Gateway API's conflicts, age is
//! `creationTimestamp`, then namespace and name.

mod rules;

pub use rules::{HostnameRule, Refused, Rules};

use std::collections::{BTreeSet, HashMap};

use crate::ports::Claimant;

/// What became of a Function's host names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Those that are its own, in the order that it asks for them.
    pub held: Vec<String>,
    /// Those that another Function has, and which.
    pub taken: Vec<(String, Claimant)>,
    /// Those that nobody in its namespace may have, and why.
    pub refused: Vec<(String, Refused)>,
    /// Other Functions that have a name now which they waited for.
    pub moved: Vec<Claimant>,
}

/// Who has each host name, and who waits for it.
#[derive(Clone, Debug, Default)]
pub struct HostIndex {
    rules: Rules,
    hosts: HashMap<String, Host>,
    /// What each Function asks for, by namespace and name.
    asked: HashMap<(String, String), (Claimant, Vec<String>)>,
}

#[derive(Clone, Debug)]
struct Host {
    holder: Claimant,
    waiting: BTreeSet<Claimant>,
}

impl HostIndex {
    /// An index in which nobody has a name yet. `rules`: who may have which.
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Notes what a Function asks for, in place of what it did.
    pub fn claim(&mut self, claimant: &Claimant, asked: &[String]) -> Answer {
        let key = (claimant.namespace.clone(), claimant.name.clone());
        let before = self.asked.remove(&key);
        let mut answer = Answer::default();
        let (allowed, refused) = self.judge(&claimant.namespace, asked);
        answer.refused = refused;
        if let Some((known, hosts)) = before {
            let same = known.uid == claimant.uid;
            for host in hosts.iter().filter(|host| !same || !allowed.contains(host)) {
                answer.moved.extend(self.give_up(&known, host));
            }
        }
        for host in &allowed {
            let entry = self.hosts.entry(host.clone());
            let held = entry.or_insert_with(|| Host { holder: claimant.clone(), waiting: BTreeSet::new() });
            if held.holder.uid == claimant.uid {
                answer.held.push(host.clone());
            } else {
                held.waiting.insert(claimant.clone());
                answer.taken.push((host.clone(), held.holder.clone()));
            }
        }
        if !allowed.is_empty() {
            self.asked.insert(key, (claimant.clone(), allowed));
        }
        answer
    }

    /// Forgets a Function that is gone. Gives those that have a name now which they waited for.
    pub fn release(&mut self, namespace: &str, name: &str) -> Vec<Claimant> {
        let Some((known, hosts)) = self.asked.remove(&(namespace.to_owned(), name.to_owned())) else {
            return Vec::new();
        };
        hosts.iter().filter_map(|host| self.give_up(&known, host)).collect()
    }

    /// Forgets the Functions for which `lives`, by namespace and name, is false. Gives those that have a name now which they waited for.
    pub fn retain(&mut self, lives: impl Fn(&str, &str) -> bool) -> Vec<Claimant> {
        let gone: Vec<_> = self.asked.keys().filter(|(namespace, name)| !lives(namespace, name)).cloned().collect();
        gone.iter().flat_map(|(namespace, name)| self.release(namespace, name)).collect()
    }

    /// Which of the names its namespace may have.
    fn judge(&self, namespace: &str, asked: &[String]) -> (Vec<String>, Vec<(String, Refused)>) {
        let (mut allowed, mut refused) = (Vec::new(), Vec::new());
        for host in asked {
            match self.rules.check(namespace, host) {
                Ok(()) => allowed.push(host.clone()),
                Err(why) => refused.push((host.clone(), why)),
            }
        }
        (allowed, refused)
    }

    fn give_up(&mut self, claimant: &Claimant, host: &str) -> Option<Claimant> {
        let entry = self.hosts.get_mut(host)?;
        if entry.holder.uid != claimant.uid {
            entry.waiting.remove(claimant);
            return None;
        }
        match entry.waiting.pop_first() {
            Some(next) => {
                entry.holder = next.clone();
                Some(next)
            }
            None => {
                self.hosts.remove(host);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
