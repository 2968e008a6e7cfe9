//! What a Function's cell does about ownership ([`crate::ownership`]): claims as the owner, yields to another, finds the way to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use pilotlight_crds::status::ActivatorRef;
use tracing::{info, warn};

use super::FunctionCell;
use super::admission::Waiter;
use super::state::State;
use crate::ownership::{Peer, Role, claim};
use crate::relay::line::{self, Line};

impl FunctionCell {
    /// Starts to ask the activators that have to be asked.
    pub(super) fn claim(self: &Arc<Self>) {
        let (epoch, uids) = self.lock().to_ask();
        if !uids.is_empty() {
            info!(function = %self.key.name, namespace = %self.key.namespace, epoch, others = uids.len(), "owns the function: claiming its slots");
        }
        for uid in uids {
            tokio::spawn(claim::run(Arc::downgrade(self), epoch, uid));
        }
    }

    /// The activator that still has to be asked, and who asks; `None` where the claim is over.
    pub fn asks(&self, epoch: i64, uid: &str) -> Option<(Peer, Peer)> {
        let state = self.lock();
        let ownership = state.ownership();
        Some((ownership.asks(epoch, uid)?.clone(), ownership.claimant(epoch)?.clone()))
    }

    /// An activator has yielded, and holds this.
    pub fn claim_answered(self: &Arc<Self>, epoch: i64, uid: &str, held: BTreeMap<String, u32>) {
        let now = Instant::now();
        self.lock().own(now, |ownership| ownership.answered(epoch, uid, held));
        self.hand_out(now);
    }

    /// Whether an activator that does not answer has to be taken for gone by now.
    pub fn outwaited(&self, epoch: i64) -> bool {
        let state = self.lock();
        state.ownership().outwaited(Instant::now(), epoch, state.config().request_timeout)
    }

    /// Yields to the owner that another activator's claim names. `false` where this one knows of a newer epoch.
    pub fn yield_to(self: &Arc<Self>, epoch: i64, owner: &ActivatorRef) -> bool {
        let now = Instant::now();
        let yielded = self.lock().yield_to(now, epoch, &owner.into());
        self.claim();
        self.hand_out(now);
        yielded
    }

    /// A relayed request, which has come to this door, says that `epoch` names this activator: wherever it goes on, that has to be known.
    /// The operator's own word follows with the watch.
    pub fn named_owner(self: &Arc<Self>, epoch: i64) {
        let Some(uid) = self.shared.peers.uid.clone() else { return };
        let me = Peer { uid, pod: "".into(), ip: None };
        self.named(epoch, &me);
        self.split.others().iter().for_each(|cell| cell.named(epoch, &me));
    }

    fn named(&self, epoch: i64, me: &Peer) {
        if self.lock().ownership().epoch() < epoch {
            // Where something newer is known by now, that holds.
            let _ = self.lock().yield_to(Instant::now(), epoch, me);
        }
    }

    /// The newest epoch that is known.
    pub fn epoch(&self) -> i64 {
        self.lock().ownership().epoch()
    }

    /// Requests at each pod, by its uid.
    pub fn at_pods(&self) -> BTreeMap<String, u32> {
        self.lock().at_pods()
    }

    /// The way to the owner, where requests have to be handed to it.
    pub(super) fn line(&self, state: &State<Waiter>) -> Option<Arc<Line>> {
        let ownership = state.ownership();
        if ownership.role() != Role::Relay {
            return None;
        }
        let owner = ownership.owner()?;
        let address = SocketAddr::new(owner.ip?, state.config().port?);
        let key = self.shared.peers.keys.current();
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = line.as_ref()
            && line.leads_to(ownership.epoch(), owner, address, key.as_ref())
        {
            return Some(line.clone());
        }
        let new = Arc::new(Line::new(ownership.epoch(), owner, address, key, &self.shared));
        *line = Some(new.clone());
        Some(new)
    }

    /// The owner could not be reached.
    pub(super) fn lost_owner(self: &Arc<Self>, line: &Arc<Line>) {
        if self.lock().own(Instant::now(), |ownership| ownership.lost(line.epoch)) {
            warn!(function = %self.key.name, namespace = %self.key.namespace, owner = %line.address, epoch = line.epoch, "the owner of a function cannot be reached, requests wait");
            tokio::spawn(line::find(self.clone(), line.clone()));
        }
    }

    /// Whether the owner of this epoch is still out of reach, and still the owner.
    pub fn misses_owner(&self, epoch: i64) -> bool {
        self.lock().ownership().is_lost(epoch)
    }

    /// The owner of this epoch can be reached again.
    pub fn found_owner(self: &Arc<Self>, epoch: i64) {
        let now = Instant::now();
        self.lock().own(now, |ownership| ownership.found(epoch));
        self.hand_out(now);
    }
}
