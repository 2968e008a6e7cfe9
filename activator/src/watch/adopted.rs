//! The pods of Functions that have taken over a Deployment (`spec.targetRef`): nobody labels them, so each such Function has a watch of its
//! own, by the Deployment's selector. What always holds: one watch for each, of what its status says now; one that breaks or ends takes no
//! other's pods away.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use pilotlight_crds::Function;
use pilotlight_crds::target::Adopted;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use crate::index::FunctionKey;
use crate::registry::Registry;

/// The watches that run.
pub(super) struct Watches {
    registry: Arc<Registry>,
    client: kube::Client,
    running: HashMap<FunctionKey, (Adopted, AbortHandle)>,
}

impl Watches {
    /// None yet.
    pub(super) fn new(registry: Arc<Registry>, client: kube::Client) -> Self {
        Self { registry, client, running: HashMap::new() }
    }

    /// The Function as it is now.
    pub(super) fn apply(&mut self, function: &Function) {
        let Some(key) = FunctionKey::of(function) else { return };
        let wanted = Adopted::of(function);
        if self.running.get(&key).map(|(adopted, _)| adopted) == wanted.as_ref() {
            return;
        }
        let Some(adopted) = wanted else { return self.stop(&key) };
        if let Some((_, before)) = self.running.remove(&key) {
            // The new one's first list takes away what it does not show.
            before.abort();
        }
        info!(function = %key.name, namespace = %key.namespace, selector = adopted.selector, "watching the pods of a Deployment that was taken over");
        let watch = tokio::spawn(follow(self.registry.clone(), self.client.clone(), adopted.clone()));
        self.running.insert(key, (adopted, watch.abort_handle()));
    }

    /// All that there are.
    pub(super) fn replace(&mut self, functions: &[Function]) {
        let listed: HashSet<FunctionKey> = functions.iter().filter_map(FunctionKey::of).collect();
        let gone: Vec<FunctionKey> = self.running.keys().filter(|key| !listed.contains(*key)).cloned().collect();
        gone.iter().for_each(|key| self.stop(key));
        functions.iter().for_each(|function| self.apply(function));
    }

    /// The Function is gone.
    pub(super) fn delete(&mut self, function: &Function) {
        if let Some(key) = FunctionKey::of(function) {
            self.stop(&key);
        }
    }

    fn stop(&mut self, key: &FunctionKey) {
        if let Some((_, watch)) = self.running.remove(key) {
            watch.abort();
            self.registry.retain_pods_of(key, &HashSet::new());
        }
    }
}

/// Watches the pods of one Function, for ever.
async fn follow(registry: Arc<Registry>, client: kube::Client, adopted: Adopted) {
    let key = FunctionKey::new(adopted.namespace.as_str(), adopted.function.as_str());
    let config = watcher::Config::default().labels(&adopted.selector);
    let events = watcher(Api::<Pod>::namespaced(client, &adopted.namespace), config).default_backoff();
    pin_mut!(events);
    let mut listed: HashSet<Arc<str>> = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                if let Some(uid) = take(&registry, &key, &adopted, pod) {
                    listed.insert(uid);
                }
            }
            Ok(Event::InitDone) => registry.retain_pods_of(&key, &listed),
            Ok(Event::Apply(pod)) => drop(take(&registry, &key, &adopted, pod)),
            Ok(Event::Delete(pod)) => registry.forget_pod(&key, pod.metadata.uid.as_deref().unwrap_or_default()),
            Err(error) => {
                warn!(function = %key.name, namespace = %key.namespace, %error, "watch of an adopted Deployment's pods broke, going on with what is known");
            }
        }
    }
}

/// Takes in a pod as one of the Function's, and gives its uid. One that is not, or is not any more, is forgotten.
fn take(registry: &Registry, key: &FunctionKey, adopted: &Adopted, mut pod: Pod) -> Option<Arc<str>> {
    let uid: Arc<str> = pod.metadata.uid.as_deref()?.into();
    if !adopted.adopt(&mut pod) {
        registry.forget_pod(key, &uid);
        return None;
    }
    registry.apply_pod(&pod);
    Some(uid)
}
