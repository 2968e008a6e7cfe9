//! What a cell's state has to know of the Function's other cells, where several revisions share its traffic.
//!
//! What always holds: requests that other cells still have at a pod count against its limit; a hand-shake blocks its pods in whichever cell they
//! are, and is fenced by those that it is about.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use pilotlight_crds::control::{DrainPurpose, DrainScope};

use crate::function::endpoints::{Endpoint, Endpoints};
use crate::function::handshake::covers;
use crate::index::PodView;
use crate::ownership::Ownership;

use super::State;

/// What changes with the Function's other cells.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// Endpoints that another cell handed over.
    pub endpoints: Vec<Endpoint>,
    /// Requests that other cells have at this one's pods, by uid.
    pub elsewhere: BTreeMap<String, u32>,
    /// The newest that any cell knows of who may send.
    pub ownership: Ownership,
}

/// Whether a hand-shake is about a cell of this revision with these pods.
fn is_about(scope: &DrainScope, revision: Option<&Arc<str>>, pods: &[Arc<PodView>], endpoints: &Endpoints) -> bool {
    let whole = matches!(scope, DrainScope::All { revision: scoped } if revision.is_some_and(|own| **own == **scoped));
    whole
        || pods.iter().any(|pod| covers(scope, &pod.revision, &pod.uid))
        || endpoints.iter().any(|endpoint| covers(scope, &endpoint.revision, &endpoint.uid))
}

impl<W> State<W> {
    /// Whether the Function has no other cells.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// The Function has no other cells any more.
    pub fn stand_alone(&mut self) {
        self.alone = true;
        self.elsewhere.clear();
    }

    /// The revision that samples name: that of this cell, where the Function has several.
    pub fn told_revision(&self) -> Option<Arc<str>> {
        self.config.revision.clone().filter(|_| !self.alone)
    }

    /// Whether other cells have requests at this one's pods. The count is only right until one of them ends.
    pub fn counts_elsewhere(&self) -> bool {
        !self.elsewhere.is_empty()
    }

    /// Begins with what another cell of the Function knows of hand-shakes and of who may send.
    pub fn inherit(&mut self, other: &Self) {
        self.handshakes = other.handshakes.for_another();
        self.ownership = other.ownership.for_another();
    }

    /// Gives up the endpoints whose pods are another cell's from now on.
    pub fn part(&mut self, now: Instant, stays: impl Fn(&str) -> bool) -> Vec<Endpoint> {
        let handed = self.endpoints.part(stays);
        if !handed.is_empty() {
            self.refresh(now);
        }
        handed
    }

    /// Takes in how it is with the other cells; [`State::update`] must follow.
    pub fn meet(&mut self, neighbours: Neighbours) {
        self.alone = false;
        self.elsewhere = neighbours.elsewhere;
        self.endpoints.receive(neighbours.endpoints);
        if neighbours.ownership.epoch() > self.ownership.epoch() {
            self.ownership = neighbours.ownership.for_another();
        }
    }

    /// Whether nothing is in it, and nothing that was has to be told any more.
    pub fn is_idle(&mut self, now: Instant) -> bool {
        let micros = self.micros(now);
        self.sampler.advance(micros);
        self.in_flight == 0 && self.queue.is_empty() && self.sampler.has_told_all()
    }

    /// Whether a hand-shake is about this cell's revision, or about pods of it.
    pub fn is_about(&self, scope: &DrainScope) -> bool {
        is_about(scope, self.config.revision.as_ref(), &self.pods, &self.endpoints)
    }

    /// No hand-shake for this purpose that had run out at `asked` can come true any more: forgets them, as far as this cell had to see to
    /// that, and gives their scopes.
    pub(super) fn fence(&mut self, asked: Instant, purpose: DrainPurpose) -> Vec<DrainScope> {
        let (revision, pods, endpoints) = (self.config.revision.as_ref(), &self.pods, &self.endpoints);
        self.handshakes.fenced(asked, purpose, |scope| is_about(scope, revision, pods, endpoints))
    }
}
