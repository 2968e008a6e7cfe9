//! The in-flight guard: a request's place at a pod, or its way to the activator that owns the Function.
//!
//! What always holds: a place is given back exactly once, wherever the request's future is dropped, and what became of the request is told with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Version;
use tracing::info;

use super::FunctionCell;
use super::endpoints::SlotRef;
use super::outlier;
use super::watch::Watch;
use crate::endpoint::Upstream;
use crate::relay::line::Line;

/// The in-flight guard: a reserved place at an endpoint, given back when dropped; or the way to the activator that owns the
/// Function, where nothing is counted.
pub struct Slot {
    cell: Arc<FunctionCell>,
    place: Place,
    armed: bool,
    watch: Watch,
}

enum Place {
    Pod(SlotRef),
    Owner { line: Arc<Line>, client: Version },
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({:?} at {})", self.cell.key, self.upstream().address)
    }
}

impl Slot {
    /// A reserved place.
    pub(super) fn at_pod(cell: Arc<FunctionCell>, slot: SlotRef) -> Self {
        Self { cell, place: Place::Pod(slot), armed: true, watch: Watch::default() }
    }

    /// The way to the owner.
    pub(super) fn at_owner(cell: Arc<FunctionCell>, line: Arc<Line>) -> Self {
        let place = Place::Owner { line, client: Version::HTTP_11 };
        Self { cell, place, armed: false, watch: Watch::default() }
    }

    /// Whoever calls this gives the place back instead, where there is one.
    pub(super) fn disarm(&mut self) -> Option<&SlotRef> {
        self.armed = false;
        match &self.place {
            Place::Pod(slot) => Some(slot),
            Place::Owner { .. } => None,
        }
    }

    /// The connections of the endpoint, or of the owner.
    pub fn upstream(&self) -> &Arc<Upstream> {
        match &self.place {
            Place::Pod(slot) => &slot.upstream,
            Place::Owner { line, client } => line.upstream(*client),
        }
    }

    /// The way to the owner, where it is one.
    pub fn line(&self) -> Option<&Arc<Line>> {
        match &self.place {
            Place::Pod(_) => None,
            Place::Owner { line, .. } => Some(line),
        }
    }

    /// The version of HTTP that the client speaks, which is spoken to the owner, too.
    pub fn speak(&mut self, version: Version) {
        if let Place::Owner { client, .. } = &mut self.place {
            *client = version;
        }
    }

    /// Its pod is throttled.
    pub(super) fn is_starved(&self) -> bool {
        matches!(&self.place, Place::Pod(slot) if slot.starved)
    }

    /// The request goes to its pod at `now`. `slow_after`: the head of the answer is late after so long; `due`: its caller gives up then.
    pub fn begin(&mut self, now: Instant, slow_after: Option<Duration>, due: Option<Instant>) {
        self.watch = Watch::begin(now, slow_after, due);
    }

    /// The request fails, and its pod is to blame: so the operator is told, whatever is thought of the pod here.
    pub fn blame(&mut self) {
        self.watch.fail();
    }

    /// The pod began to answer.
    pub fn answered(&mut self, now: Instant) {
        self.watch.answered(now);
        if let Place::Pod(slot) = &mut self.place
            && slot.unanswered
        {
            self.cell.lock().answered(slot);
            self.cell.hand_out(now);
        }
    }

    /// The pod did what it should.
    pub fn succeeded(&self) {
        self.upstream().note_success();
    }

    /// The pod failed, in one of the ways that speak against it ([`outlier`]).
    pub fn failed(&self) {
        let Place::Pod(slot) = &self.place else { return };
        let failures = slot.upstream.note_failure();
        if failures < outlier::CONSECUTIVE || !self.cell.lock().eject(Instant::now(), slot) {
            return;
        }
        self.cell.metrics().balance.ejections.inc();
        let key = &self.cell.key;
        info!(function = %key.name, namespace = %key.namespace, pod = %slot.upstream.pod, failures, "ejected a pod that keeps failing");
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.armed
            && let Place::Pod(slot) = &self.place
        {
            let now = Instant::now();
            self.cell.end(now, slot, self.watch.end(now));
        }
    }
}
