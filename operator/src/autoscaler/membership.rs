//! Activators that come and go, as the evaluation loop takes it in: who is listened to, and what the rest of the operator sees.
//!
//! What always holds: each activator that runs has exactly one listener.

use pilotlight_scaling::{Millis, Origin};
use tracing::info;

use super::cluster::Cluster;
use super::evaluation::Evaluation;
use super::pods::PodChange;
use super::registry::Change;
use super::stream::Listener;

impl<C: Cluster> Evaluation<C> {
    pub(super) fn pod(&mut self, change: PodChange) {
        let now = self.clock.now();
        match change {
            PodChange::Applied { pod, listed } => {
                let origin = if listed { Origin::Unknown } else { Origin::Born };
                let change = self.registry.apply(&pod);
                self.activator(change, origin, now);
            }
            PodChange::Deleted { uid } => {
                let change = self.registry.delete(&uid);
                self.activator(change, Origin::Born, now);
            }
            PodChange::AllListed { uids } => {
                for uid in self.registry.missing_from(&uids) {
                    let change = self.registry.delete(&uid);
                    self.activator(change, Origin::Born, now);
                }
            }
        }
        self.show();
    }

    fn activator(&mut self, change: Change, origin: Origin, now: Millis) {
        match change {
            Change::None => {}
            Change::Listen { id, pod, address, joined } => {
                if joined {
                    info!(pod = %pod, "An activator joined");
                }
                self.ledger.join(id, now, origin);
                let listener = Listener {
                    id,
                    pod,
                    address,
                    control: self.control.clone(),
                    clock: self.clock,
                    heard: self.heard_sender.clone(),
                    metrics: self.metrics.clone(),
                };
                let task = tokio::spawn(listener.run()).abort_handle();
                if let Some(before) = self.listeners.insert(id, task) {
                    before.abort();
                }
            }
            Change::Left { id, pod } => {
                info!(pod = %pod, "An activator left");
                self.ledger.depart(id, now);
                if let Some(listener) = self.listeners.remove(&id) {
                    listener.abort();
                }
            }
        }
        self.metrics.listening(self.listeners.len());
    }

    /// Shows the activators to the rest of the operator, if anything changed.
    pub(super) fn show(&self) {
        let snapshot = self.registry.snapshot();
        self.view.send_if_modified(|shown| {
            let changed = *shown != snapshot;
            if changed {
                *shown = snapshot;
            }
            changed
        });
    }
}
