//! Whether this activator may send to a Function's pods, and how much room each has. Pure.
//!
//! What always holds: knowledge of epochs only grows, so whoever yielded to an epoch never sends under an older one; an owner sends
//! nothing until every activator that could still have requests at the pods has yielded, and counts those as its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::record::{Peer, Record, Sender};

/// What this activator does with a Function's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends them to pods, as every activator does.
    Everyone,
    /// Sends them to pods, as the only one.
    Owner,
    /// Hands them to the owner.
    Relay,
    /// Lets them wait: there is no owner, or it cannot be reached.
    Nobody,
}

/// What another activator answered to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing yet: it may have anything at any pod.
    Silent,
    /// It sends no more, and has this at the pods, by uid. Empty: nothing, for good.
    Holds(BTreeMap<String, u32>),
}

/// The claim of this activator in the present epoch.
#[derive(Clone, Debug)]
struct Claim {
    began: Instant,
    /// `None` until the operator's list is known.
    answers: Option<BTreeMap<Arc<str>, (Peer, Answer)>>,
    /// Those whom a task asks.
    asked: Vec<Arc<str>>,
    /// Requests of others at each pod.
    occupied: HashMap<Arc<str>, u32>,
    open: bool,
}

impl Claim {
    fn new(began: Instant) -> Self {
        Self { began, answers: None, asked: Vec::new(), occupied: HashMap::new(), open: false }
    }

    /// Takes in the operator's list. Within an epoch it only shrinks; who started later knows the epoch from the beginning.
    fn list(&mut self, others: &[Peer], me: Option<&Arc<str>>) {
        let mut known = self.answers.take();
        let others = others.iter().filter(|peer| Some(&peer.uid) != me);
        let next = others.filter_map(|peer| {
            let answer = match &mut known {
                None => Answer::Silent,
                Some(known) => known.remove(&peer.uid)?.1,
            };
            Some((peer.uid.clone(), (peer.clone(), answer)))
        });
        self.answers = Some(next.collect());
        self.settle();
    }

    fn settle(&mut self) {
        self.occupied.clear();
        let Some(answers) = &self.answers else { return };
        self.open = true;
        for (_, answer) in answers.values() {
            match answer {
                Answer::Silent => self.open = false,
                Answer::Holds(held) => {
                    for (pod, count) in held {
                        let at_pod = self.occupied.entry(pod.as_str().into()).or_default();
                        *at_pod = at_pod.saturating_add(*count);
                    }
                }
            }
        }
    }
}

/// What this activator knows of who may send.
#[derive(Clone, Debug, Default)]
pub struct Ownership {
    me: Option<Arc<str>>,
    record: Option<Record>,
    claim: Option<Claim>,
    /// The owner of this epoch cannot be reached.
    unreachable: Option<i64>,
}

impl Ownership {
    /// Nothing is known. `me`: uid of this activator's pod; without one it never owns anything.
    pub fn new(me: Option<Arc<str>>) -> Self {
        Self { me, ..Self::default() }
    }

    /// The same knowledge, for one that has asked nobody yet.
    pub fn for_another(&self) -> Self {
        let mut other = self.clone();
        if let Some(claim) = &mut other.claim {
            claim.asked.clear();
        }
        other
    }

    /// The epoch; the smallest number where there never was one.
    pub fn epoch(&self) -> i64 {
        self.record.as_ref().map_or(i64::MIN, |record| record.epoch)
    }

    /// Takes in what the Function's status says. What is older than what is known changes nothing.
    pub fn watch(&mut self, now: Instant, told: Option<&Record>) {
        let Some(told) = told else { return };
        if told.epoch > self.epoch() {
            self.adopt(now, told.clone());
        } else if told.epoch == self.epoch() {
            if let (Some(claim), Some(others)) = (&mut self.claim, &told.others) {
                claim.list(others, self.me.as_ref());
            }
            self.record = Some(told.clone());
        }
    }

    /// Takes in what another activator says: that `owner` is named by `epoch`. `false` where a newer epoch, or another owner, is known:
    /// then nothing changes.
    #[must_use]
    pub fn hear(&mut self, now: Instant, epoch: i64, owner: &Peer) -> bool {
        if epoch > self.epoch() {
            self.adopt(now, Record { epoch, sender: Sender::One(owner.clone()), others: None });
            return true;
        }
        epoch == self.epoch() && self.named().is_some_and(|named| named.uid == owner.uid)
    }

    fn adopt(&mut self, now: Instant, record: Record) {
        self.unreachable = None;
        self.claim = None;
        if let Sender::One(owner) = &record.sender
            && Some(&owner.uid) == self.me.as_ref()
        {
            let mut claim = Claim::new(now);
            if let Some(others) = &record.others {
                claim.list(others, self.me.as_ref());
            }
            self.claim = Some(claim);
        }
        self.record = Some(record);
    }

    fn named(&self) -> Option<&Peer> {
        match &self.record.as_ref()?.sender {
            Sender::One(owner) => Some(owner),
            Sender::Everyone | Sender::Nobody => None,
        }
    }

    /// What to do with a request.
    pub fn role(&self) -> Role {
        match self.record.as_ref().map(|record| &record.sender) {
            None | Some(Sender::Everyone) => Role::Everyone,
            Some(Sender::Nobody) => Role::Nobody,
            Some(Sender::One(_)) if self.claim.is_some() => Role::Owner,
            Some(Sender::One(_)) if self.unreachable == Some(self.epoch()) => Role::Nobody,
            Some(Sender::One(_)) => Role::Relay,
        }
    }

    /// The activator to hand requests to.
    pub fn owner(&self) -> Option<&Peer> {
        self.named().filter(|_| self.claim.is_none())
    }

    /// Whether this activator may send to pods now, under a limit of `limit`.
    pub fn may_send(&self, limit: u32) -> bool {
        match &self.claim {
            Some(claim) => limit == 0 || claim.open,
            None => self.role() == Role::Everyone,
        }
    }

    /// Requests that other activators still have at a pod.
    pub fn occupied(&self, pod: &str) -> u32 {
        let occupied = self.claim.as_ref().map(|claim| &claim.occupied);
        occupied.filter(|occupied| !occupied.is_empty()).and_then(|occupied| occupied.get(pod).copied()).unwrap_or(0)
    }

    /// The owner of `epoch` could not be reached: requests wait until it can be, or another is named. `true` where that is news.
    pub fn lost(&mut self, epoch: i64) -> bool {
        self.role() == Role::Relay && epoch == self.epoch() && self.unreachable.replace(epoch).is_none()
    }

    /// The owner of `epoch` can be reached again.
    pub fn found(&mut self, epoch: i64) {
        self.unreachable.take_if(|lost| *lost == epoch);
    }

    /// Whether the owner of `epoch` is still the one, and still out of reach.
    pub fn is_lost(&self, epoch: i64) -> bool {
        self.epoch() == epoch && self.unreachable == Some(epoch)
    }

    /// Activators that have to be asked and are not being asked yet, by uid. The caller must ask them, in this epoch.
    pub fn to_ask(&mut self) -> Vec<Arc<str>> {
        let Some(Claim { answers: Some(answers), asked, .. }) = &mut self.claim else { return Vec::new() };
        let new: Vec<_> = answers.keys().filter(|uid| !asked.contains(uid)).cloned().collect();
        asked.extend(new.iter().cloned());
        new
    }

    /// The activator that still has to be asked, as it is known now; `None` where it has nothing any more, or the epoch is over.
    pub fn asks(&self, epoch: i64, uid: &str) -> Option<&Peer> {
        let claim = self.claim.as_ref().filter(|_| self.epoch() == epoch)?;
        let (peer, answer) = claim.answers.as_ref()?.get(uid)?;
        let clear = matches!(answer, Answer::Holds(held) if held.is_empty());
        (!clear).then_some(peer)
    }

    /// The present owner, as the claim names it.
    pub fn claimant(&self, epoch: i64) -> Option<&Peer> {
        self.named().filter(|_| self.claim.is_some() && self.epoch() == epoch)
    }

    /// An activator answered: it has yielded to `epoch`, and holds this.
    pub fn answered(&mut self, epoch: i64, uid: &str, held: BTreeMap<String, u32>) {
        let known = self.epoch();
        let Some(claim) = self.claim.as_mut().filter(|_| known == epoch) else { return };
        if let Some((_, answer)) = claim.answers.as_mut().and_then(|answers| answers.get_mut(uid)) {
            *answer = Answer::Holds(held);
        }
        claim.settle();
    }

    /// Whether the time that a request may take is over since the claim of `epoch` began: then one that does not answer is taken
    /// for gone.
    pub fn outwaited(&self, now: Instant, epoch: i64, request_timeout: Option<Duration>) -> bool {
        let claim = self.claim.as_ref().filter(|_| self.epoch() == epoch);
        claim.zip(request_timeout).is_some_and(|(claim, timeout)| now.saturating_duration_since(claim.began) >= timeout)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
