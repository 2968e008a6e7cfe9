//! What the operator knows of the cluster: one watch for each kind, trimmed to what is used, with an index by Function.
//!
//! What always holds: a change of an object that belongs to a Function asks for a reconcile of that Function, deletions
//! included; an object that cannot be read is skipped and named in the log, and never stops the rest.

mod adopted;
mod trim;

pub use adopted::AdoptedPods;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ObjectMeta};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Lookup, ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource};
use pilotlight_crds::{Function, names};
use serde::de::DeserializeOwned;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::mpsc::UnboundedSender;

/// Asks for a reconcile.
pub type Triggers = UnboundedSender<ObjectRef<Function>>;

/// Which objects of a kind belong to which Function, by namespace and Function name.
type Index = Arc<RwLock<HashMap<(String, String), BTreeSet<String>>>>;

/// The objects of one kind that carry the label `pilotlight.dev/function`.
pub struct Owned<K: 'static + Lookup<DynamicType = ()> + Clone> {
    /// All of them.
    pub store: Store<K>,
    index: Index,
}

impl<K: 'static + Lookup<DynamicType = ()> + Clone> Clone for Owned<K> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), index: Arc::clone(&self.index) }
    }
}

impl<K: 'static + Lookup<DynamicType = ()> + Clone> Owned<K> {
    /// Those that are labelled with this Function's name, by name. Whether the Function owns them is another question.
    pub fn of(&self, namespace: &str, function: &str) -> Vec<Arc<K>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), function.to_owned());
        index
            .get(&key)
            .into_iter()
            .flatten()
            .filter_map(|name| self.store.get(&ObjectRef::new(name).within(namespace)))
            .collect()
    }
}

/// Everything that is watched. Cheap to clone.
#[derive(Clone)]
pub struct Caches {
    /// Every Function.
    pub functions: Store<Function>,
    /// Pods that are labelled as Functions'.
    pub pods: Owned<Pod>,
    /// Pods of the Deployments that Functions took over.
    pub adopted: AdoptedPods,
    /// Deployments of revisions.
    pub deployments: Owned<Deployment>,
    /// Services of Functions.
    pub services: Owned<Service>,
    /// EndpointSlices of these Services: Pilotlight's own, and those that Kubernetes made where it was released before.
    pub slices: Owned<EndpointSlice>,
}

impl Caches {
    /// Starts the watches on the current runtime.
    pub fn start(client: &Client, triggers: &Triggers) -> Self {
        let adopted = AdoptedPods::new(client, triggers);
        Self {
            functions: watch_functions(client.clone(), triggers.clone(), adopted.clone()),
            adopted,
            pods: watch_owned(client, triggers, |object, _| trim::pod(object)),
            deployments: watch_owned(client, triggers, trim::deployment),
            services: watch_owned(client, triggers, trim::service),
            slices: watch_owned(client, triggers, |object, _| trim::slice(object)),
        }
    }

    /// Waits until every kind was listed once.
    ///
    /// Errors when a watch has ended, which only a bug can cause.
    pub async fn ready(&self) -> Result<(), kube::runtime::reflector::store::WriterDropped> {
        self.functions.wait_until_ready().await?;
        self.pods.store.wait_until_ready().await?;
        self.deployments.store.wait_until_ready().await?;
        self.services.store.wait_until_ready().await?;
        self.slices.store.wait_until_ready().await?;
        self.adopted.listed().await;
        Ok(())
    }

    /// The pods of a Function.
    pub fn pods_of(&self, namespace: &str, function: &str) -> Vec<Arc<Pod>> {
        self.adopted.of(namespace, function).unwrap_or_else(|| self.pods.of(namespace, function))
    }
}

fn watch_functions(client: Client, triggers: Triggers, adopted: AdoptedPods) -> Store<Function> {
    let (reader, mut writer) = store::<Function>();
    let api: Api<DeserializeGuard<Function>> = Api::all(client);
    tokio::spawn(async move {
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        while let Some(event) = events.next().await {
            let Some(event) = log_failure("Function", event).and_then(readable) else {
                continue;
            };
            let event = event.modify(trim::function);
            writer.apply_watcher_event(&event);
            if let watcher::Event::Apply(f) | watcher::Event::InitApply(f) = &event {
                adopted.follow(f);
                let _ = triggers.send(ObjectRef::from_obj(f));
            }
            if let watcher::Event::Delete(f) = &event {
                adopted.forget(&ObjectRef::from_obj(f));
            }
            if let watcher::Event::InitDone = event {
                adopted.retain(|function| writer.as_reader().get(function).is_some());
                for function in writer.as_reader().state() {
                    let _ = triggers.send(ObjectRef::from_obj(&*function));
                }
            }
        }
    });
    reader
}

/// Drops what cannot be read: such a Function stays as it last was.
fn readable(event: watcher::Event<DeserializeGuard<Function>>) -> Option<watcher::Event<Function>> {
    let read = |guard: DeserializeGuard<Function>| match guard.0 {
        Ok(function) => Some(function),
        Err(invalid) => {
            tracing::error!(
                namespace = invalid.metadata.namespace.as_deref().unwrap_or_default(),
                function = invalid.metadata.name.as_deref().unwrap_or_default(),
                error = invalid.error,
                "cannot read this Function; it is left as it is until it is corrected"
            );
            None
        }
    };
    match event {
        watcher::Event::Apply(guard) => read(guard).map(watcher::Event::Apply),
        watcher::Event::InitApply(guard) => read(guard).map(watcher::Event::InitApply),
        // A Function that goes needs no readable spec.
        watcher::Event::Delete(guard) => {
            let function = guard.0.unwrap_or_else(|invalid| {
                let mut function = Function::new("", Default::default());
                function.metadata = invalid.metadata;
                function
            });
            Some(watcher::Event::Delete(function))
        }
        watcher::Event::Init => Some(watcher::Event::Init),
        watcher::Event::InitDone => Some(watcher::Event::InitDone),
    }
}

fn watch_owned<K>(client: &Client, triggers: &Triggers, trim: fn(&mut K, Option<&K>)) -> Owned<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
    K::DynamicType: Hash + Eq,
{
    let (reader, mut writer) = store::<K>();
    let index = Index::default();
    let owned = Owned { store: reader, index: Arc::clone(&index) };
    let api: Api<K> = Api::all(client.clone());
    let triggers = triggers.clone();
    tokio::spawn(async move {
        let config = watcher::Config::default().labels(names::LABEL_FUNCTION);
        let mut events = watcher(api, config).default_backoff().boxed();
        while let Some(event) = events.next().await {
            let Some(event) = log_failure(&K::kind(&()), event) else {
                continue;
            };
            let known = writer.as_reader();
            let event = event.modify(|object| {
                let before = known.get(&ObjectRef::from_obj(object));
                trim(object, before.as_deref());
            });
            take(&mut writer, &index, &event);
            announce(&writer, &triggers, &event);
        }
    });
    owned
}

fn log_failure<T>(kind: &str, event: watcher::Result<T>) -> Option<T> {
    event.inspect_err(|error| tracing::warn!(kind, %error, "the watch failed and is started again")).ok()
}

fn take<K>(writer: &mut Writer<K>, index: &Index, event: &watcher::Event<K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    writer.apply_watcher_event(event);
    let mut index = index.write().unwrap_or_else(PoisonError::into_inner);
    match event {
        watcher::Event::Apply(object) => {
            if let Some((key, name)) = index_entry(object.meta()) {
                index.entry(key).or_default().insert(name);
            }
        }
        watcher::Event::Delete(object) => {
            if let Some((key, name)) = index_entry(object.meta())
                && let Some(names) = index.get_mut(&key)
            {
                names.remove(&name);
                if names.is_empty() {
                    index.remove(&key);
                }
            }
        }
        watcher::Event::InitDone => {
            index.clear();
            for object in writer.as_reader().state() {
                if let Some((key, name)) = index_entry(object.meta()) {
                    index.entry(key).or_default().insert(name);
                }
            }
        }
        watcher::Event::Init | watcher::Event::InitApply(_) => {}
    }
}

fn announce<K>(writer: &Writer<K>, triggers: &Triggers, event: &watcher::Event<K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    match event {
        watcher::Event::Apply(object) | watcher::Event::Delete(object) => {
            for function in functions_of(object.meta()) {
                let _ = triggers.send(function);
            }
        }
        watcher::Event::InitDone => {
            for object in writer.as_reader().state() {
                for function in functions_of(object.meta()) {
                    let _ = triggers.send(function);
                }
            }
        }
        watcher::Event::Init | watcher::Event::InitApply(_) => {}
    }
}

fn index_entry(metadata: &ObjectMeta) -> Option<((String, String), String)> {
    let function = metadata.labels.as_ref()?.get(names::LABEL_FUNCTION)?;
    Some(((metadata.namespace.clone()?, function.clone()), metadata.name.clone()?))
}

/// The Functions that an object belongs to: by label, and by owner, in case somebody changed the label.
fn functions_of(metadata: &ObjectMeta) -> Vec<ObjectRef<Function>> {
    let Some(namespace) = metadata.namespace.as_deref() else {
        return Vec::new();
    };
    let labelled = metadata.labels.as_ref().and_then(|labels| labels.get(names::LABEL_FUNCTION)).map(String::as_str);
    let owners = metadata
        .owner_references
        .iter()
        .flatten()
        .filter(|owner| owner.kind == <Function as Resource>::kind(&()))
        .map(|owner| owner.name.as_str());
    let functions: BTreeSet<&str> = labelled.into_iter().chain(owners).collect();
    functions.into_iter().map(|name| ObjectRef::new(name).within(namespace)).collect()
}
