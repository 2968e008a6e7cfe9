//! The activators that run, as the watch of their pods and their own words tell. Pure.
//!
//! What always holds: the routes of an activator are those of its newest stream; an activator that is only out of reach keeps them,
//! until its pod is gone. One that refuses connections has none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Pod;
use pilotlight_crds::control::RouteAck;
use pilotlight_scaling::ActivatorId;

use super::cluster::{Peer, is_ready, peer};
use super::view::{ActivatorAddress, Routes, Snapshot, ViewedActivator};

/// One activator.
#[derive(Clone, Debug)]
struct Activator {
    id: ActivatorId,
    peer: Peer,
    node: Option<String>,
    ready: bool,
    /// Its process may be running.
    runs: bool,
    /// The last attempt to listen to it did not fail.
    reached: bool,
    /// It has told all of its routes once.
    told: bool,
    routes: Routes,
}

/// The activators that run, by pod uid.
#[derive(Debug)]
pub(super) struct Registry {
    activators: BTreeMap<String, Activator>,
    next: u64,
    /// All that there are have been listed once.
    listed: bool,
    /// The port of the control protocol.
    port: u16,
}

/// What a pod's change means for those who listen to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that matters to a listener.
    None,
    /// It runs and can be listened to at this address.
    Listen {
        /// Its number.
        id: ActivatorId,
        /// Name of its pod.
        pod: String,
        /// Its control port.
        address: SocketAddr,
        /// Whether it wasn't known before.
        joined: bool,
    },
    /// It doesn't run any more.
    Left {
        /// Its number.
        id: ActivatorId,
        /// Name of its pod.
        pod: String,
    },
}

impl Registry {
    /// No activators yet; those to come speak the control protocol on `port`.
    pub(super) fn new(port: u16) -> Self {
        Self { activators: BTreeMap::new(), next: 0, listed: false, port }
    }

    /// A pod was added or changed.
    pub(super) fn apply(&mut self, pod: &Pod) -> Change {
        let Some(uid) = pod.metadata.uid.clone() else {
            return Change::None;
        };
        let Some(peer) = peer(pod, self.port) else {
            return self.left_or_waits(&uid, pod);
        };
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let ready = is_ready(pod) && pod.metadata.deletion_timestamp.is_none();
        let Some(known) = self.activators.get_mut(&uid) else {
            let id = ActivatorId(self.next);
            self.next += 1;
            let change = listen(id, &peer, true);
            let routes = Routes::default();
            let activator = Activator { id, peer, node, ready, runs: true, reached: true, told: false, routes };
            self.activators.insert(uid, activator);
            return change;
        };
        let moved = known.peer.address != peer.address;
        (known.node, known.ready, known.runs, known.peer) = (node, ready, true, peer);
        if moved { listen(known.id, &known.peer, false) } else { Change::None }
    }

    /// A pod of which no process runs: over for good, or between two runs.
    fn left_or_waits(&mut self, uid: &str, pod: &Pod) -> Change {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return self.delete(uid);
        }
        if let Some(known) = self.activators.get_mut(uid) {
            (known.ready, known.runs) = (false, false);
        }
        Change::None
    }

    /// A pod is gone.
    pub(super) fn delete(&mut self, uid: &str) -> Change {
        match self.activators.remove(uid) {
            Some(gone) => Change::Left { id: gone.id, pod: gone.peer.pod },
            None => Change::None,
        }
    }

    /// Nobody listens at an activator's address: its container died, of which kubelet tells a second or more later. Gives the routes
    /// that it had.
    pub(super) fn gone(&mut self, id: ActivatorId) -> Vec<RouteAck> {
        self.routes(id).map(Routes::clear).unwrap_or_default()
    }

    fn routes(&self, id: ActivatorId) -> Option<&Routes> {
        self.activators.values().find(|known| known.id == id).map(|known| &known.routes)
    }

    /// Nobody could listen to it. Returns whether that is news.
    pub(super) fn unreached(&mut self, id: ActivatorId) -> bool {
        let known = self.activators.values_mut().find(|known| known.id == id);
        known.is_some_and(|known| std::mem::replace(&mut known.reached, false))
    }

    /// It was heard, `full`: with all of its routes. Returns whether that is news.
    pub(super) fn heard(&mut self, id: ActivatorId, full: bool) -> bool {
        let Some(known) = self.activators.values_mut().find(|known| known.id == id) else {
            return false;
        };
        let before = (known.reached, known.told);
        (known.reached, known.told) = (true, known.told || full);
        before != (known.reached, known.told)
    }

    /// Uids of the activators that aren't in `listed`, after a watch began anew.
    pub(super) fn missing_from(&mut self, listed: &BTreeSet<String>) -> Vec<String> {
        self.listed = true;
        let known = self.activators.keys();
        known.filter(|uid| !listed.contains(*uid)).cloned().collect()
    }

    /// An activator told the routes that it listens for: all of them, or more of them. Gives those that came or went.
    pub(super) fn acknowledge(&mut self, id: ActivatorId, full: bool, routes: &[RouteAck]) -> Vec<RouteAck> {
        self.routes(id).map(|known| known.acknowledge(full, routes)).unwrap_or_default()
    }

    /// The activators as they can be asked.
    pub(super) fn peers(&self) -> Vec<Peer> {
        let known = self.activators.values();
        known.map(|activator| activator.peer.clone()).collect()
    }

    /// What the rest of the operator may see.
    pub(super) fn snapshot(&self) -> Snapshot {
        let viewed = self.activators.iter().filter_map(|(uid, activator)| {
            let ip: IpAddr = activator.peer.address?.ip();
            let viewed = ViewedActivator {
                pod: activator.peer.pod.clone(),
                address: ActivatorAddress { ip, node: activator.node.clone(), ready: activator.ready },
                runs: activator.runs,
                reached: activator.reached,
                told: activator.told,
                routes: activator.routes.clone(),
            };
            Some((uid.clone(), viewed))
        });
        Snapshot { listed: self.listed, activators: viewed.collect() }
    }
}

fn listen(id: ActivatorId, peer: &Peer, joined: bool) -> Change {
    // Without an address yet there is nobody to listen to; the change that brings it counts as a move.
    match peer.address {
        Some(address) => Change::Listen { id, pod: peer.pod.clone(), address, joined },
        None => Change::None,
    }
}
