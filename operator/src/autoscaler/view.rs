//! What the rest of the operator may know of the activators: which run, which are ready, and which routes each acknowledged.
//!
//! What always holds: a route that an activator acknowledges costs the same beside one other as beside ten thousand; whoever follows the
//! changes hears of every Function whose routes changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use pilotlight_crds::control::RouteAck;
use tokio::sync::{Notify, watch};

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
    /// It has told all of its routes once.
    pub(crate) told: bool,
    pub(crate) routes: Routes,
}

/// The routes that an activator listens for: one set, which the registry changes and the view shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes(Arc<RwLock<BTreeSet<RouteAck>>>);

/// Whether they are the same activator's: what is in them changes in place.
impl PartialEq for Routes {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Routes {}

impl Routes {
    /// Takes in what the activator told: all of its routes, or more of them. Gives the Functions for which that is news.
    pub(crate) fn acknowledge(&self, full: bool, told: &[RouteAck]) -> Vec<RouteAck> {
        let mut routes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if full {
            let all: BTreeSet<RouteAck> = told.iter().cloned().collect();
            let changed = routes.symmetric_difference(&all).cloned().collect();
            *routes = all;
            return changed;
        }
        told.iter().filter(|route| routes.insert((*route).clone())).cloned().collect()
    }

    /// Takes all away, and gives them.
    pub(crate) fn clear(&self) -> Vec<RouteAck> {
        let mut routes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *routes).into_iter().collect()
    }

    fn contains(&self, route: &RouteAck) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(route)
    }
}

/// Functions whose routes changed and that nobody was told of yet.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    functions: Mutex<BTreeSet<(String, String)>>,
    news: Notify,
}

impl Moved {
    /// These routes changed.
    pub(crate) fn tell(&self, routes: Vec<RouteAck>) {
        if routes.is_empty() {
            return;
        }
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        functions.extend(routes.into_iter().map(|route| (route.namespace, route.name)));
        self.news.notify_one();
    }

    fn take(&self) -> BTreeSet<(String, String)> {
        std::mem::take(&mut *self.functions.lock().unwrap_or_else(PoisonError::into_inner))
    }
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
    moved: Arc<Moved>,
}

impl ActivatorView {
    pub(crate) fn new(snapshot: watch::Receiver<Snapshot>, moved: Arc<Moved>) -> Self {
        Self { snapshot, moved }
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

    /// Whether a route that no ready activator acknowledged is one that none has: all activators are known, and each that is ready has told
    /// its routes, or cannot be reached. A leader that has just begun, or is slow, knows nothing yet.
    pub fn is_settled(&self) -> bool {
        let snapshot = self.snapshot.borrow();
        let mut ready = snapshot.activators.values().filter(|activator| activator.address.ready);
        snapshot.listed && ready.all(|activator| activator.told || !activator.reached)
    }

    /// Whether at least one activator is ready.
    pub fn any_ready(&self) -> bool {
        self.snapshot.borrow().activators.values().any(|activator| activator.address.ready)
    }

    /// The changes since the autoscaler began, so that none is lost to whoever has read the view before. One may follow them.
    pub fn changes(&self) -> ActivatorChanges {
        ActivatorChanges { snapshot: self.snapshot.clone(), moved: Arc::clone(&self.moved) }
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
    moved: Arc<Moved>,
}

impl ActivatorChanges {
    /// Waits for the next change; changes in quick succession are one. `None` when the autoscaler has ended and nothing will change any more.
    pub async fn next(&mut self) -> Option<Affected> {
        tokio::select! {
            biased;
            changed = self.snapshot.changed() => changed.ok().map(|()| {
                self.snapshot.mark_unchanged();
                // All of them are looked at, those whose routes changed, too.
                self.moved.take();
                Affected::All
            }),
            () = self.moved.news.notified() => Some(Affected::Some(self.moved.take())),
        }
    }
}

impl Default for ActivatorView {
    fn default() -> Self {
        Self::new(watch::channel(Snapshot::default()).1, Arc::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(name: &str, port: u16) -> RouteAck {
        RouteAck { namespace: "shop".into(), name: name.into(), port }
    }

    fn names(routes: Vec<RouteAck>) -> Vec<String> {
        routes.into_iter().map(|route| route.name).collect()
    }

    #[test]
    fn what_an_activator_tells_is_news_for_the_functions_whose_routes_changed_alone() {
        let routes = Routes::default();
        let shown = routes.clone();
        assert_eq!(names(routes.acknowledge(true, &[ack("one", 1), ack("two", 2)])), ["one", "two"]);
        assert_eq!(names(routes.acknowledge(false, &[ack("two", 2), ack("three", 3)])), ["three"]);
        assert!(shown.contains(&ack("three", 3)), "who looks sees it at once");
        assert!(routes.acknowledge(true, &[ack("one", 1), ack("two", 2), ack("three", 3)]).is_empty());
        assert_eq!(names(routes.acknowledge(true, &[ack("one", 1), ack("two", 4), ack("three", 3)])), ["two", "two"]);
        assert_eq!(names(routes.clear()), ["one", "three", "two"]);
        assert!(!shown.contains(&ack("one", 1)));
    }

    #[tokio::test]
    async fn what_changed_while_nobody_looked_is_told_as_one() {
        let (show, shown) = watch::channel(Snapshot::default());
        let moved = Arc::new(Moved::default());
        let view = ActivatorView::new(shown, moved.clone());
        show.send_replace(Snapshot { listed: true, ..Snapshot::default() });
        moved.tell(vec![ack("early", 9)]);
        let mut changes = view.changes();
        assert_eq!(changes.next().await, Some(Affected::All), "from before anybody asked");
        moved.tell(vec![ack("one", 1)]);
        moved.tell(vec![ack("two", 2)]);
        moved.tell(Vec::new());
        let told = loop {
            // What was told to all before may leave an empty word behind.
            match changes.next().await {
                Some(Affected::Some(functions)) if functions.is_empty() => {}
                told => break told,
            }
        };
        let shop = |name: &str| ("shop".to_owned(), name.to_owned());
        assert_eq!(told, Some(Affected::Some(BTreeSet::from([shop("one"), shop("two")]))));
        drop(show);
        assert_eq!(changes.next().await, None);
    }
}
