//! Carries what the index knows into the running Functions, the route table and the listeners.
//!
//! What always holds: what changed of one Function costs the same beside one other as beside ten thousand; only a fresh list of all costs
//! as much as there are.

mod asked;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use pilotlight_crds::control::Beacon;
use pilotlight_crds::{Function, names};
use tokio::sync::Notify;
use tracing::warn;

use crate::beacon::believe::{Disbelief, Word, judge};
use crate::beacon::metrics::CONTRADICTED;
use crate::function::FunctionCell;
use crate::function::group::Group;
use crate::index::{FunctionKey, Index};
use crate::led::SliceKey;
use crate::listen::RoutePorts;
use crate::route::{Domains, RouteTable, Side};
use crate::runtime::Shared;

pub use asked::NotYielded;

/// All Functions at run time.
pub struct Registry {
    shared: Arc<Shared>,
    bind: IpAddr,
    /// How long a drain waits for requests in flight.
    drain: Duration,
    inner: Mutex<Inner>,
    routes: RouteTable<Route>,
    ports: RoutePorts,
    pods_changed: Notify,
}

/// Where a host name leads.
#[derive(Clone)]
pub struct Route {
    /// To this Function: the cell that all ways to it lead to.
    pub door: Arc<FunctionCell>,
    /// To the revision that has this tag, where the name is a tag's.
    pub tag: Option<Arc<str>>,
}

impl Route {
    /// To a Function, whichever of its revisions.
    pub fn to(door: Arc<FunctionCell>) -> Self {
        Self { door, tag: None }
    }
}

#[derive(Default)]
struct Inner {
    index: Index,
    groups: HashMap<FunctionKey, Group>,
}

impl Registry {
    /// Without Functions. Route ports are opened on `bind`; `drain` is how long a drain waits for requests in flight.
    pub fn new(shared: Arc<Shared>, bind: IpAddr, domains: Domains, drain: Duration) -> Self {
        Self {
            shared,
            bind,
            drain,
            inner: Mutex::default(),
            routes: RouteTable::new(domains, []),
            ports: RoutePorts::default(),
            pods_changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all Functions share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Where a host name leads a request that comes from this side. To one from outside there are no other names than those outside, and a Function that
    /// is reached from the cluster alone has none of these.
    pub fn lookup(&self, host: &str, from: Side) -> Option<Route> {
        let found = self.routes.lookup(host)?;
        let may = match found.side {
            Side::Inside => from == Side::Inside,
            Side::Outside => found.to.door.is_external(),
        };
        may.then_some(found.to)
    }

    /// The Function of a key: the cell that all ways to it lead to.
    pub fn get(&self, key: &FunctionKey) -> Option<Arc<FunctionCell>> {
        self.lock().door(key).cloned()
    }

    /// All cells of a Function, the one that [`Registry::get`] gives first; none where it is not known.
    pub fn cells(&self, key: &FunctionKey) -> Vec<Arc<FunctionCell>> {
        self.lock().cells(key)
    }

    /// Every Function's cells.
    pub fn all(&self) -> Vec<Arc<FunctionCell>> {
        self.lock().groups.values().flat_map(Group::cells).cloned().collect()
    }

    /// At a second's end: the cells that it may have anything to do with. Those that are over are forgotten.
    pub fn stirring(&self) -> Vec<Arc<FunctionCell>> {
        let (mut inner, now) = (self.lock(), Instant::now());
        let due: Vec<FunctionKey> =
            inner.groups.iter().filter(|(_, group)| group.is_due(now)).map(|(key, _)| key.clone()).collect();
        for key in &due {
            self.sync(&mut inner, key);
        }
        inner.groups.values().flat_map(Group::cells).filter(|cell| cell.stirs()).cloned().collect()
    }

    /// Takes in a Function.
    pub fn apply_function(&self, function: &Function) {
        let mut inner = self.lock();
        let Some(key) = FunctionKey::of(function) else { return };
        let mut ways = inner.ways(&key);
        inner.index.apply_function(function);
        self.sync(&mut inner, &key);
        ways.extend(inner.ways(&key));
        self.lead(&inner, ways);
    }

    /// Takes in a whole list of Functions; those not in it are gone.
    pub fn replace_functions(&self, functions: &[Function]) {
        let mut inner = self.lock();
        let keys = functions.iter().filter_map(FunctionKey::of).chain(inner.groups.keys().cloned());
        let mut ways: BTreeSet<Way> = keys.flat_map(|key| inner.ways(&key)).collect();
        let listed: HashSet<FunctionKey> = functions.iter().filter_map(|f| inner.index.apply_function(f)).collect();
        let gone = inner.index.retain_functions(&listed);
        for key in listed.iter().chain(&gone) {
            self.sync(&mut inner, key);
        }
        ways.extend(listed.iter().flat_map(|key| inner.ways(key)));
        self.lead(&inner, ways);
    }

    /// Forgets a Function.
    pub fn delete_function(&self, function: &Function) {
        let mut inner = self.lock();
        let ways = FunctionKey::of(function).map(|key| inner.ways(&key)).unwrap_or_default();
        if let Some(key) = inner.index.delete_function(function) {
            self.sync(&mut inner, &key);
            self.lead(&inner, ways);
        }
    }

    /// Takes in a pod.
    pub fn apply_pod(&self, pod: &Pod) {
        let mut inner = self.lock();
        let announced = inner.index.announced(pod);
        if let Some(key) = inner.index.apply_pod(pod) {
            self.check_announced(&inner, &key, pod, announced);
            self.sync(&mut inner, &key);
        }
        drop(inner);
        self.pods_changed.notify_waiters();
    }

    /// Kubernetes' word counts; that a beacon's was another should be known.
    fn check_announced(&self, inner: &Inner, key: &FunctionKey, pod: &Pod, announced: Option<SocketAddr>) {
        let view = inner.index.pod(key, pod.metadata.uid.as_deref().unwrap_or_default());
        let reported = view.and_then(|view| view.address);
        if let (Some(announced), Some(reported)) = (announced, reported)
            && announced != reported
        {
            self.shared.metrics.beacons.count(CONTRADICTED);
            warn!(function = %key.name, namespace = %key.namespace, pod = pod.metadata.name, %announced, %reported, "a beacon had announced another address than Kubernetes reports");
        }
    }

    /// Resolves when a pod was taken in.
    pub fn pods_changed(&self) -> &Notify {
        &self.pods_changed
    }

    /// Judges a beacon's word, which came from `source`.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn judge(&self, key: &FunctionKey, beacon: &Beacon, source: IpAddr) -> Result<Word, Disbelief> {
        judge(beacon, source, self.lock().index.pod(key, &beacon.uid).map(AsRef::as_ref))
    }

    /// Judges a beacon's word and, where it is news, takes it for the pod's address.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn announce(&self, key: &FunctionKey, beacon: &Beacon, source: IpAddr) -> Result<Word, Disbelief> {
        let mut inner = self.lock();
        let word = judge(beacon, source, inner.index.pod(key, &beacon.uid).map(AsRef::as_ref))?;
        if word == Word::News && inner.index.announce(key, &beacon.uid, source) {
            self.sync(&mut inner, key);
        }
        Ok(word)
    }

    /// Believes nothing about a pod any more that Kubernetes does not tell.
    pub fn dispute(&self, key: &FunctionKey, uid: &str) {
        let mut inner = self.lock();
        if inner.index.dispute(key, uid) {
            self.sync(&mut inner, key);
        }
    }

    /// Whether a pod's address is its beacon's word alone.
    pub fn is_unconfirmed(&self, key: &FunctionKey, uid: &str) -> bool {
        self.lock().index.pod(key, uid).is_some_and(|pod| pod.beacon.announced && pod.is_live())
    }

    /// Forgets a pod.
    pub fn delete_pod(&self, pod: &Pod) {
        let mut inner = self.lock();
        if let Some(key) = inner.index.delete_pod(pod) {
            self.sync(&mut inner, &key);
        }
    }

    /// Forgets the pods that are not listed, by uid.
    pub fn retain_pods(&self, listed: &HashSet<Arc<str>>) {
        let mut inner = self.lock();
        for key in inner.index.retain_pods(listed) {
            self.sync(&mut inner, &key);
        }
    }

    /// Forgets a pod by its uid.
    pub fn forget_pod(&self, key: &FunctionKey, uid: &str) {
        let mut inner = self.lock();
        if inner.index.forget_pod(key, uid) {
            self.sync(&mut inner, key);
        }
    }

    /// Forgets the pods of one Function that are not listed, by uid.
    pub fn retain_pods_of(&self, key: &FunctionKey, listed: &HashSet<Arc<str>>) {
        let mut inner = self.lock();
        if inner.index.retain_pods_of(key, listed) {
            self.sync(&mut inner, key);
        }
    }

    /// Whether an EndpointSlice leads here. The clients of an adopted Deployment are led past the activators once it is released, and
    /// then have to leave the connections that they have.
    pub fn led(&self, (namespace, slice): &SliceKey, here: bool) {
        let Some(function) = names::function_of_slice(slice) else { return };
        let cell = self.get(&FunctionKey::new(namespace.as_str(), function));
        if let Some(cell) = cell.filter(|cell| cell.config().adopts) {
            cell.led(here);
        }
    }

    fn sync(&self, inner: &mut Inner, key: &FunctionKey) {
        let Some(config) = inner.index.function(key).cloned() else {
            if let Some(group) = inner.groups.remove(key) {
                group.close();
                self.routes.set(key.host(), None);
            }
            return;
        };
        let before = inner.door(key).and_then(|cell| outlasting(cell.config().request_timeout, self.drain));
        match outlasting(config.request_timeout, self.drain) {
            Some(seconds) if before != Some(seconds) => {
                warn!(function = %key.name, namespace = %key.namespace, request_seconds = seconds, drain_timeout_seconds = self.drain.as_secs(), "a drain would cut the longest requests of this Function: raise --drain-timeout-seconds (activator.drain.timeoutSeconds) above spec.timeouts.requestSeconds");
            }
            _ => {}
        }
        let pods = inner.index.pods(key);
        let group = inner.groups.entry(key.clone()).or_insert_with(|| {
            let cell = Arc::new(FunctionCell::new(config.clone(), self.shared.clone()));
            self.routes.set(key.host(), Some(Route::to(cell.clone())));
            Group::new(cell)
        });
        group.door().set_external(config.external);
        group.update(Instant::now(), &config, pods);
    }

    /// Lets each of these ways lead where the index says.
    fn lead(&self, inner: &Inner, ways: impl IntoIterator<Item = Way>) {
        let cell = |key: Option<&FunctionKey>| key.and_then(|key| inner.door(key)).cloned();
        for way in ways {
            match way {
                Way::Port(port) => self.ports.set(&self.shared, self.bind, port, cell(inner.index.holder(port))),
                Way::Host(host) => {
                    self.routes.set_hostname(&host, cell(inner.index.host_holder(&host)).map(Route::to));
                }
                Way::Tag(host) => {
                    let held = inner.index.tag_holder(&host);
                    let route = held.and_then(|(key, tag)| Some((cell(Some(key))?, tag.clone())));
                    self.routes.set_tag(&host, route.map(|(door, tag)| Route { door, tag: Some(tag) }));
                }
            }
        }
    }
}

/// A way to a Function that no other can have, too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Its route port.
    Port(u16),
    /// A host name that is not its own.
    Host(Arc<str>),
    /// The name that one of its tags makes.
    Tag(Arc<str>),
}

impl Inner {
    fn door(&self, key: &FunctionKey) -> Option<&Arc<FunctionCell>> {
        self.groups.get(key).map(Group::door)
    }

    fn cells(&self, key: &FunctionKey) -> Vec<Arc<FunctionCell>> {
        self.groups.get(key).into_iter().flat_map(Group::cells).cloned().collect()
    }

    /// The ways that a Function claims.
    fn ways(&self, key: &FunctionKey) -> Vec<Way> {
        let Some(config) = self.index.function(key) else { return Vec::new() };
        let hosts = config.hostnames.iter().cloned().map(Way::Host);
        let tags = config.directions.tags.iter().map(|tag| Way::Tag(tag.host.clone()));
        config.port.map(Way::Port).into_iter().chain(hosts).chain(tags).collect()
    }
}

/// The request timeout in seconds, where a drain waits no longer than that. Who sets none has said that requests may last for ever.
fn outlasting(request_timeout: Option<Duration>, drain: Duration) -> Option<u64> {
    request_timeout.filter(|limit| *limit >= drain).map(|limit| limit.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_limits_that_a_drain_would_cut_are_said() {
        let drain = Duration::from_secs(660);
        assert_eq!(outlasting(Some(Duration::from_secs(659)), drain), None);
        assert_eq!(outlasting(Some(Duration::from_secs(660)), drain), Some(660));
        assert_eq!(outlasting(None, drain), None);
    }
}
