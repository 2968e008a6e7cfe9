//! What the rest of the operator may know of the activators: which run, which are ready, and which routes each acknowledged.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use pilotlight_crds::control::RouteAck;
use tokio::sync::watch;

use crate::owner::Runner;

/// Where an activator can be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActivatorAddress {
    /// The pod's address.
    pub ip: IpAddr,
    /// The pod's node.
    pub node: Option<String>,
    /// Whether Kubernetes says that the pod is ready and it isn't being deleted.
    pub ready: bool,
}

/// One activator as the view shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ViewedActivator {
    /// Name of its pod.
    pub(crate) pod: String,
    pub(crate) address: ActivatorAddress,
    /// Its process may be running.
    pub(crate) runs: bool,
    /// The last attempt to listen to it did not fail.
    pub(crate) reached: bool,
    pub(crate) routes: Arc<BTreeSet<RouteAck>>,
}

/// What is known of the activators at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Whether all that there are have been listed once.
    pub(crate) listed: bool,
    /// The activators by pod uid.
    pub(crate) activators: BTreeMap<String, ViewedActivator>,
}

/// The activators that run, and the routes that they acknowledged. Cheap to clone; always the newest state.
#[derive(Clone, Debug)]
pub struct ActivatorView {
    snapshot: watch::Receiver<Snapshot>,
}

impl ActivatorView {
    pub(crate) fn new(snapshot: watch::Receiver<Snapshot>) -> Self {
        Self { snapshot }
    }

    /// The activators that accept connections for this Function on this port, sorted by address; an activator that is being
    /// deleted or isn't ready is in it with `ready: false`.
    pub fn acknowledged(&self, namespace: &str, name: &str, port: u16) -> Vec<ActivatorAddress> {
        let wanted = RouteAck { namespace: namespace.to_owned(), name: name.to_owned(), port };
        let mut addresses: Vec<_> = self
            .snapshot
            .borrow()
            .activators
            .values()
            .filter(|activator| activator.routes.contains(&wanted))
            .map(|activator| activator.address.clone())
            .collect();
        addresses.sort();
        addresses
    }

    /// The activators whose process may be running, by pod uid, as owners of this Function on this port; `None` where they have not
    /// all been listed yet.
    pub fn runners(&self, namespace: &str, name: &str, port: u16) -> Option<Vec<Runner>> {
        let route = RouteAck { namespace: namespace.to_owned(), name: name.to_owned(), port };
        let snapshot = self.snapshot.borrow();
        let running = snapshot.activators.iter().filter(|(_, activator)| activator.runs);
        let runners = running.map(|(uid, activator)| Runner {
            pod: activator.pod.clone(),
            uid: uid.clone(),
            ip: activator.address.ip,
            takes: activator.address.ready && activator.routes.contains(&route),
            reached: activator.reached,
        });
        snapshot.listed.then(|| runners.collect())
    }

    /// Whether at least one activator is ready.
    pub fn any_ready(&self) -> bool {
        self.snapshot.borrow().activators.values().any(|activator| activator.address.ready)
    }

    /// Waits for the next change since the last call; changes in quick succession are one. Returns `false` when the
    /// autoscaler has ended and nothing will change any more.
    pub async fn changed(&mut self) -> bool {
        self.snapshot.changed().await.is_ok()
    }
}

impl Default for ActivatorView {
    fn default() -> Self {
        Self::new(watch::channel(Snapshot::default()).1)
    }
}
