//! The pods of Deployments that Functions took over: they do not carry Pilotlight's labels, so each such Function has a watch of its own, by the
//! selector of its Deployment.
//!
//! What always holds: a pod that is here looks like one of the Function's ([`Adopted::adopt`]); a watch that fails keeps what it has shown, and is
//! started again; what a new list does not show is gone.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use pilotlight_crds::Function;
use pilotlight_crds::target::Adopted;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::{Triggers, log_failure, trim};

/// Longest wait for the first lists: what a broken watch holds back must not keep all else from going on.
const FIRST_LISTS: Duration = Duration::from_secs(5);

type Pods = Arc<RwLock<BTreeMap<String, Arc<Pod>>>>;

/// Cheap to clone.
#[derive(Clone)]
pub struct AdoptedPods {
    client: Client,
    triggers: Triggers,
    watches: Arc<Mutex<HashMap<ObjectRef<Function>, Watch>>>,
}

struct Watch {
    adopted: Adopted,
    pods: Pods,
    listed: watch::Receiver<bool>,
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl AdoptedPods {
    /// None yet.
    pub fn new(client: &Client, triggers: &Triggers) -> Self {
        Self { client: client.clone(), triggers: triggers.clone(), watches: Arc::default() }
    }

    /// The pods of this Function; `None`: it has not taken over a Deployment.
    pub fn of(&self, namespace: &str, function: &str) -> Option<Vec<Arc<Pod>>> {
        let pods = Arc::clone(&self.lock().get(&ObjectRef::new(function).within(namespace))?.pods);
        let pods = pods.read().unwrap_or_else(PoisonError::into_inner);
        Some(pods.values().cloned().collect())
    }

    /// The Function that took over this Deployment, and how its pods are found and read.
    pub fn by_deployment(&self, namespace: &str, deployment: &str) -> Option<Adopted> {
        let watches = self.lock();
        let mut all = watches.values().map(|watch| &watch.adopted);
        all.find(|adopted| adopted.namespace == namespace && adopted.deployment == deployment).cloned()
    }

    /// Begins or ends the watch that the Function needs, on the current runtime.
    pub(super) fn follow(&self, function: &Function) {
        let key = ObjectRef::from_obj(function);
        let Some(adopted) = Adopted::of(function) else {
            return self.forget(&key);
        };
        let mut watches = self.lock();
        let known = watches.get(&key);
        if known.is_some_and(|watch| watch.adopted == adopted) {
            return;
        }
        // What was known stays until the new list is there.
        let pods = known.map(|watch| Arc::clone(&watch.pods)).unwrap_or_default();
        let (told, listed) = watch::channel(false);
        let watching = follow_pods(
            Api::namespaced(self.client.clone(), &adopted.namespace),
            adopted.clone(),
            Arc::clone(&pods),
            told,
            key.clone(),
            self.triggers.clone(),
        );
        let task = tokio::spawn(watching).abort_handle();
        watches.insert(key, Watch { adopted, pods, listed, task });
    }

    /// Ends the watch of a Function that is gone.
    pub(super) fn forget(&self, function: &ObjectRef<Function>) {
        self.lock().remove(function);
    }

    /// Ends the watches of Functions for which `lives` is false.
    pub(super) fn retain(&self, lives: impl Fn(&ObjectRef<Function>) -> bool) {
        self.lock().retain(|function, _| lives(function));
    }

    /// Waits until each of them was listed once, for a while.
    pub(super) async fn listed(&self) {
        let all: Vec<_> = self.lock().values().map(|watch| watch.listed.clone()).collect();
        let lists = futures::future::join_all(all.into_iter().map(|mut listed| async move {
            let _ = listed.wait_for(|listed| *listed).await;
        }));
        if tokio::time::timeout(FIRST_LISTS, lists).await.is_err() {
            tracing::warn!("the pods of a Deployment that a Function took over cannot be listed");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef<Function>, Watch>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn follow_pods(
    api: Api<Pod>,
    adopted: Adopted,
    pods: Pods,
    listed: watch::Sender<bool>,
    function: ObjectRef<Function>,
    triggers: Triggers,
) {
    let config = watcher::Config::default().labels(&adopted.selector);
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut fresh = BTreeMap::new();
    while let Some(event) = events.next().await {
        let Some(event) = log_failure("Pod", event) else {
            continue;
        };
        let done = matches!(event, watcher::Event::InitDone);
        if take(&adopted, &mut pods.write().unwrap_or_else(PoisonError::into_inner), &mut fresh, event) {
            let _ = triggers.send(function.clone());
        }
        if done {
            listed.send_replace(true);
        }
    }
}

/// Takes an event into `pods`; a list grows in `fresh` until it is whole. Returns whether that is news.
fn take(
    adopted: &Adopted,
    pods: &mut BTreeMap<String, Arc<Pod>>,
    fresh: &mut BTreeMap<String, Arc<Pod>>,
    event: watcher::Event<Pod>,
) -> bool {
    let read = |mut pod: Pod| {
        adopted.adopt(&mut pod).then(|| {
            trim::pod(&mut pod);
            Arc::new(pod)
        })
    };
    match event {
        watcher::Event::Init => fresh.clear(),
        watcher::Event::InitApply(pod) => fresh.extend(read(pod).map(|pod| (pod.name_any(), pod))),
        watcher::Event::InitDone => {
            *pods = std::mem::take(fresh);
            return true;
        }
        watcher::Event::Apply(pod) => {
            let name = pod.name_any();
            return match read(pod) {
                Some(pod) => {
                    pods.insert(name, pod);
                    true
                }
                None => pods.remove(&name).is_some(),
            };
        }
        watcher::Event::Delete(pod) => return pods.remove(&pod.name_any()).is_some(),
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use watcher::Event;

    fn pod(name: &str, replica_set: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "shop", "labels": {"app": "api", "pod-template-hash": "5d"},
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": replica_set, "uid": "u", "controller": true},
                ],
            },
            "spec": {"containers": [{"name": "app"}]},
        }))
        .expect("a pod")
    }

    #[test]
    fn only_the_target_s_pods_are_there_and_a_list_takes_the_place_of_all() {
        let function: Function = serde_json::from_value(json!({
            "apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}},
            "status": {"selector": "app=api", "route": {"port": 12000, "revision": "api", "targetPort": 8080}},
        }))
        .expect("a Function");
        let adopted = Adopted::of(&function).expect("it is");
        let (mut pods, mut fresh) = (BTreeMap::new(), BTreeMap::new());
        let mut tell = |event| {
            let news = take(&adopted, &mut pods, &mut fresh, event);
            (news, pods.keys().cloned().collect::<Vec<_>>().join(" "))
        };
        assert_eq!(tell(Event::Apply(pod("old", "api-5d"))), (true, "old".to_owned()));
        assert_eq!(tell(Event::Apply(pod("stranger", "other-5d"))), (false, "old".to_owned()));
        assert_eq!(tell(Event::Init), (false, "old".to_owned()));
        assert_eq!(tell(Event::InitApply(pod("new", "api-5d"))), (false, "old".to_owned()), "until it is whole");
        assert_eq!(tell(Event::InitApply(pod("stranger", "other-5d"))), (false, "old".to_owned()));
        assert_eq!(tell(Event::InitDone), (true, "new".to_owned()));
        assert_eq!(tell(Event::Apply(pod("new", "other-5d"))), (true, String::new()), "it was orphaned");
        tell(Event::Apply(pod("new", "api-5d")));
        assert_eq!(tell(Event::Delete(pod("new", "api-5d"))), (true, String::new()));
    }
}
