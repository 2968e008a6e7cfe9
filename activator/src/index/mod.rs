//! What the watches have told, as synchronous in-memory state: Functions and their pods in, plain values out. It is never
//! cleared while the API server is away (invariant 5), and one odd object never stops the rest.

mod claims;
pub mod function;
pub mod pod;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use pilotlight_crds::{Function, names};

use claims::Claims;
pub use function::{Cause, FunctionConfig, FunctionKey, Portion};
pub use pod::{PodBeacon, PodView, ProbeCheck};

/// Functions and pods as last seen.
#[derive(Debug, Default)]
pub struct Index {
    functions: HashMap<FunctionKey, Arc<FunctionConfig>>,
    ports: Claims<u16>,
    hostnames: Claims<Arc<str>>,
    tags: Claims<Arc<str>>,
    pods: HashMap<FunctionKey, BTreeMap<Arc<str>, Arc<PodView>>>,
}

impl Index {
    /// Takes in a Function. Gives its key, where the object is usable.
    pub fn apply_function(&mut self, function: &Function) -> Option<FunctionKey> {
        let config = FunctionConfig::from_function(function)?;
        let key = config.key.clone();
        self.remove_function(&key);
        self.ports.add(&key, config.port);
        self.hostnames.add(&key, config.hostnames.iter().cloned());
        self.tags.add(&key, config.directions.tags.iter().map(|tag| tag.host.clone()));
        self.functions.insert(key.clone(), Arc::new(config));
        Some(key)
    }

    /// Forgets a Function.
    pub fn delete_function(&mut self, function: &Function) -> Option<FunctionKey> {
        let key = FunctionKey::of(function)?;
        self.remove_function(&key);
        Some(key)
    }

    fn remove_function(&mut self, key: &FunctionKey) {
        let Some(config) = self.functions.remove(key) else { return };
        if let Some(port) = config.port {
            self.ports.remove(key, &port);
        }
        for host in &config.hostnames {
            self.hostnames.remove(key, host);
        }
        for tag in &config.directions.tags {
            self.tags.remove(key, &tag.host);
        }
    }

    /// Forgets the Functions that a fresh list did not show. Gives their keys.
    pub fn retain_functions(&mut self, listed: &HashSet<FunctionKey>) -> Vec<FunctionKey> {
        let gone: Vec<_> = self.functions.keys().filter(|key| !listed.contains(*key)).cloned().collect();
        for key in &gone {
            self.remove_function(key);
        }
        gone
    }

    /// Takes in a pod. Gives its Function's key, where it has one. What its beacon said stands until Kubernetes reports an address, which
    /// is then the pod's, whatever the beacon said.
    pub fn apply_pod(&mut self, pod: &Pod) -> Option<FunctionKey> {
        let mut view = PodView::from_pod(pod)?;
        let key = view.function.clone();
        let pods = self.pods.entry(key.clone()).or_default();
        if let Some(before) = pods.get(&view.uid) {
            view.beacon.disputed = before.beacon.disputed;
            if before.beacon.announced && view.address.is_none() && view.is_live() {
                view.address = before.address;
                view.beacon.announced = true;
            }
        }
        pods.insert(view.uid.clone(), Arc::new(view));
        Some(key)
    }

    /// A pod of a Function that is known.
    pub fn pod(&self, key: &FunctionKey, uid: &str) -> Option<&Arc<PodView>> {
        self.functions.get(key)?;
        self.pods.get(key)?.get(uid)
    }

    /// The address that a pod's beacon has announced, where Kubernetes had not reported one so far.
    pub fn announced(&self, pod: &Pod) -> Option<SocketAddr> {
        let metadata = &pod.metadata;
        let function = metadata.labels.as_ref()?.get(names::LABEL_FUNCTION)?;
        let key = FunctionKey::new(metadata.namespace.as_deref()?, function.as_str());
        let known = self.pods.get(&key)?.get(metadata.uid.as_deref()?)?;
        known.address.filter(|_| known.beacon.announced)
    }

    /// Notes the address that a pod's beacon announced. `false` where the pod is gone.
    pub fn announce(&mut self, key: &FunctionKey, uid: &str, address: IpAddr) -> bool {
        self.change_pod(key, uid, |pod| {
            pod.address = Some(SocketAddr::new(address, pod.beacon.port));
            pod.beacon.announced = true;
        })
    }

    /// Believes nothing about a pod any more that it is not told by Kubernetes, what was announced before included.
    pub fn dispute(&mut self, key: &FunctionKey, uid: &str) -> bool {
        self.change_pod(key, uid, |pod| {
            pod.beacon.disputed = true;
            if std::mem::take(&mut pod.beacon.announced) {
                pod.address = None;
            }
        })
    }

    fn change_pod(&mut self, key: &FunctionKey, uid: &str, change: impl FnOnce(&mut PodView)) -> bool {
        let Some(pod) = self.pods.get_mut(key).and_then(|pods| pods.get_mut(uid)) else { return false };
        change(Arc::make_mut(pod));
        true
    }

    /// Forgets a pod.
    pub fn delete_pod(&mut self, pod: &Pod) -> Option<FunctionKey> {
        let view = PodView::from_pod(pod)?;
        self.remove_pod(&view.function, &view.uid);
        Some(view.function)
    }

    /// Forgets a pod by its uid. `false` where it was not known.
    pub fn forget_pod(&mut self, key: &FunctionKey, uid: &str) -> bool {
        let known = self.pods.get(key).is_some_and(|pods| pods.contains_key(uid));
        self.remove_pod(key, uid);
        known
    }

    /// Forgets the pods of one Function that a fresh list of them did not show. `false` where it showed all.
    pub fn retain_pods_of(&mut self, key: &FunctionKey, listed: &HashSet<Arc<str>>) -> bool {
        let Some(pods) = self.pods.get_mut(key) else { return false };
        let before = pods.len();
        pods.retain(|uid, _| listed.contains(uid));
        let lost = pods.len() < before;
        if pods.is_empty() {
            self.pods.remove(key);
        }
        lost
    }

    /// Forgets the pods that a fresh list of all with Pilotlight's label did not show. Gives the keys of the Functions that lost one. Those of a
    /// Function that has taken over a Deployment carry no such label and stay.
    pub fn retain_pods(&mut self, listed: &HashSet<Arc<str>>) -> HashSet<FunctionKey> {
        let gone: Vec<(FunctionKey, Arc<str>)> = self
            .pods
            .iter()
            .filter(|(key, _)| !self.functions.get(*key).is_some_and(|function| function.adopts))
            .flat_map(|(key, pods)| pods.keys().map(move |uid| (key.clone(), uid.clone())))
            .filter(|(_, uid)| !listed.contains(uid))
            .collect();
        for (key, uid) in &gone {
            self.remove_pod(key, uid);
        }
        gone.into_iter().map(|(key, _)| key).collect()
    }

    fn remove_pod(&mut self, key: &FunctionKey, uid: &str) {
        if let Some(pods) = self.pods.get_mut(key) {
            pods.remove(uid);
            if pods.is_empty() {
                self.pods.remove(key);
            }
        }
    }

    /// A Function, as last seen.
    pub fn function(&self, key: &FunctionKey) -> Option<&Arc<FunctionConfig>> {
        self.functions.get(key)
    }

    /// Every Function.
    pub fn functions(&self) -> impl Iterator<Item = &Arc<FunctionConfig>> {
        self.functions.values()
    }

    /// The pods of a Function, over all revisions, by uid.
    pub fn pods(&self, key: &FunctionKey) -> Vec<Arc<PodView>> {
        self.pods.get(key).map(|pods| pods.values().cloned().collect()).unwrap_or_default()
    }

    /// Why the Function's active revision does not start, where that is known. See [`Cause`].
    pub fn cause(&self, key: &FunctionKey) -> Option<Cause> {
        let config = self.functions.get(key)?;
        let pods = self.pods(key);
        function::cause(config, &pods)
    }

    /// Which Function a route port leads to.
    pub fn holder(&self, port: u16) -> Option<&FunctionKey> {
        self.ports.holder(&port)
    }

    /// Which Function a host name leads to that is not a Function's own.
    pub fn host_holder(&self, host: &str) -> Option<&FunctionKey> {
        self.hostnames.holder(host)
    }

    /// Which Function's tag makes this host name, `tag-name.namespace`, and which one.
    pub fn tag_holder(&self, host: &str) -> Option<(&FunctionKey, &Arc<str>)> {
        let key = self.tags.holder(host)?;
        let tag = self.functions.get(key)?.directions.tags.iter().find(|tag| *tag.host == *host)?;
        Some((key, &tag.tag))
    }
}

#[cfg(test)]
mod tests;
