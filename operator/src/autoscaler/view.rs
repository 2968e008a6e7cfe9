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

    /// The changes since the autoscaler began, so that none is lost to whoever has read the view before.
    pub fn changes(&self) -> ActivatorChanges {
        ActivatorChanges { snapshot: self.snapshot.clone(), seen: Snapshot::default() }
    }
}

/// The Functions that a change of the activators may matter to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affected {
    /// All: activators came, went, or changed as such.
    All,
    /// Those whose routes alone changed, by namespace and name.
    Some(BTreeSet<(String, String)>),
}

/// Changes of the activators, one after the other.
#[derive(Debug)]
pub struct ActivatorChanges {
    snapshot: watch::Receiver<Snapshot>,
    seen: Snapshot,
}

impl ActivatorChanges {
    /// Waits for the next change; changes in quick succession are one. `None` when the autoscaler has ended and nothing will change any more.
    pub async fn next(&mut self) -> Option<Affected> {
        self.snapshot.changed().await.ok()?;
        let now = self.snapshot.borrow_and_update().clone();
        let affected = affected(&self.seen, &now);
        self.seen = now;
        Some(affected)
    }
}

/// A new Function's route is acknowledged by each activator: were that news for all the others, many would cost the square of their number.
fn affected(before: &Snapshot, now: &Snapshot) -> Affected {
    let same_activators = before.listed == now.listed
        && before.activators.len() == now.activators.len()
        && before.activators.iter().zip(&now.activators).all(|((old_uid, old), (uid, new))| {
            (old_uid, &old.pod, &old.address, old.runs, old.reached)
                == (uid, &new.pod, &new.address, new.runs, new.reached)
        });
    if !same_activators {
        return Affected::All;
    }
    let pairs = before.activators.values().zip(now.activators.values());
    let moved = pairs.filter(|(old, new)| !Arc::ptr_eq(&old.routes, &new.routes));
    let routes = moved.flat_map(|(old, new)| old.routes.symmetric_difference(&new.routes));
    Affected::Some(routes.map(|route| (route.namespace.clone(), route.name.clone())).collect())
}

impl Default for ActivatorView {
    fn default() -> Self {
        Self::new(watch::channel(Snapshot::default()).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(ready: bool, routes: &[(&str, u16)]) -> Snapshot {
        let ack = |(name, port): &(&str, u16)| RouteAck { namespace: "shop".into(), name: (*name).into(), port: *port };
        let address = ActivatorAddress { ip: [10, 0, 0, 1].into(), node: None, ready };
        let routes = Arc::new(routes.iter().map(ack).collect());
        let activator = ViewedActivator { pod: "a".into(), address, runs: true, reached: true, routes };
        Snapshot { listed: true, activators: BTreeMap::from([("uid".into(), activator)]) }
    }

    fn names(affected: Affected) -> Option<Vec<String>> {
        match affected {
            Affected::All => None,
            Affected::Some(functions) => Some(functions.into_iter().map(|(_, name)| name).collect()),
        }
    }

    #[test]
    fn a_route_is_news_for_its_function_and_an_activator_for_all() {
        let before = snapshot(true, &[("one", 1), ("two", 2)]);
        let more = snapshot(true, &[("one", 1), ("two", 2), ("three", 3)]);
        assert_eq!(names(affected(&before, &more)).unwrap(), ["three"]);
        let moved = snapshot(true, &[("one", 1), ("two", 4)]);
        assert_eq!(names(affected(&before, &moved)).unwrap(), ["two"]);
        assert_eq!(names(affected(&before, &snapshot(true, &[("one", 1)]))).unwrap(), ["two"]);
        assert!(names(affected(&before, &before)).unwrap().is_empty());
        assert_eq!(affected(&before, &snapshot(false, &[("one", 1), ("two", 2)])), Affected::All);
        assert_eq!(affected(&before, &Snapshot { listed: true, ..Snapshot::default() }), Affected::All);
    }

    #[tokio::test]
    async fn what_changed_while_nobody_looked_is_told_as_one() {
        let (show, shown) = watch::channel(Snapshot::default());
        let view = ActivatorView::new(shown);
        show.send_replace(snapshot(true, &[]));
        let mut changes = view.changes();
        assert_eq!(changes.next().await, Some(Affected::All), "from before anybody asked");
        show.send_replace(snapshot(true, &[("one", 1)]));
        show.send_replace(snapshot(true, &[("one", 1), ("two", 2)]));
        assert_eq!(names(changes.next().await.unwrap()).unwrap(), ["one", "two"]);
        drop(show);
        assert_eq!(changes.next().await, None);
    }
}
