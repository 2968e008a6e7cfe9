//! What the operator knows of the cluster: one watch for each kind, trimmed to what is used, with an index by Function; packed, where nothing runs.
//!
//! What always holds: a change of an object that belongs to a Function asks for a reconcile of that Function, deletions
//! included; an object that cannot be read is skipped and named in the log, and never stops the rest.

mod adopted;
mod fronts;
mod packed;
mod shelf;
mod trim;

pub use adopted::AdoptedPods;
pub use fronts::{Fronts, Watched};
pub use packed::Packed;
pub use shelf::{Filler, Kept, Shelf};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ObjectMeta};
use kube::core::{DeserializeGuard, PartialObjectMeta, PartialObjectMetaExt};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource};
use pilotlight_crds::{Function, names};
use std::collections::{BTreeSet, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

use crate::gateway::Front;

/// Asks for a reconcile.
pub type Triggers = UnboundedSender<ObjectRef<Function>>;

/// A Function's name, namespace and uid.
pub type Identity = PartialObjectMeta<Function>;

/// Objects of a list that are asked for at once: with all that is trimmed off they are large.
const PAGE: u32 = 100;

/// Everything that is watched. Cheap to clone.
#[derive(Clone)]
pub struct Caches {
    /// Every Function.
    pub functions: Shelf<Function>,
    /// Who they are, for whoever calls for reconciles.
    pub identities: Store<Identity>,
    /// Pods that are labelled as Functions'.
    pub pods: Shelf<Pod>,
    /// Pods of the Deployments that Functions took over.
    pub adopted: AdoptedPods,
    /// Deployments of revisions.
    pub deployments: Shelf<Deployment>,
    /// Services of Functions.
    pub services: Shelf<Service>,
    /// EndpointSlices of these Services: Pilotlight's own, and those that Kubernetes made where it was released before.
    pub slices: Shelf<EndpointSlice>,
    /// What leads to Functions from outside, where the chart has it made.
    pub fronts: Option<Fronts>,
}

impl Caches {
    /// Starts the watches on the current runtime. `front`: what leads to Functions from outside.
    pub fn start(client: &Client, triggers: &Triggers, front: Option<Front>) -> Self {
        let adopted = AdoptedPods::new(client, triggers);
        let (functions, identities) = watch_functions(client.clone(), triggers.clone(), adopted.clone());
        Self {
            fronts: front.map(|front| Fronts::start(client, triggers, &functions, front)),
            functions,
            identities,
            adopted,
            // Whoever looks at a Function with pods looks at these again and again.
            pods: watch_owned(client, triggers, |object, _| trim::pod(object), |_| false),
            deployments: watch_owned(client, triggers, trim::deployment, trim::at_zero),
            services: watch_owned(client, triggers, trim::service, |_| true),
            slices: watch_owned(client, triggers, |object, _| trim::slice(object), |_| true),
        }
    }

    /// Waits until every kind was listed once.
    ///
    /// Errors when a watch has ended, which only a bug can cause.
    pub async fn ready(&self) -> anyhow::Result<()> {
        self.functions.listed().await?;
        self.pods.listed().await?;
        self.deployments.listed().await?;
        self.services.listed().await?;
        self.slices.listed().await?;
        self.adopted.listed().await;
        if let Some(fronts) = &self.fronts {
            fronts.answered().await;
        }
        Ok(())
    }

    /// The pods of a Function.
    pub fn pods_of(&self, namespace: &str, function: &str) -> Vec<Arc<Pod>> {
        self.adopted.of(namespace, function).unwrap_or_else(|| self.pods.of(namespace, function))
    }
}

fn watch_functions(client: Client, triggers: Triggers, adopted: AdoptedPods) -> (Shelf<Function>, Store<Identity>) {
    let (shelf, mut filler) = Shelf::new(trim::without_pods);
    let (identities, mut writer) = store::<Identity>();
    let functions = shelf.clone();
    let api: Api<DeserializeGuard<Function>> = Api::all(client);
    tokio::spawn(async move {
        let mut events = watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff().boxed();
        while let Some(event) = events.next().await {
            let Some(event) = log_failure("Function", event).and_then(readable) else {
                continue;
            };
            let event = event.modify(trim::function);
            let identity = identity(&event);
            let about = match &event {
                watcher::Event::Apply(f) | watcher::Event::InitApply(f) => {
                    adopted.follow(f);
                    Some(ObjectRef::from_obj(f))
                }
                watcher::Event::Delete(f) => {
                    adopted.forget(&ObjectRef::from_obj(f));
                    Some(ObjectRef::from_obj(f))
                }
                watcher::Event::Init | watcher::Event::InitDone => None,
            };
            filler.take(event);
            writer.apply_watcher_event(&identity);
            if let Some(function) = about {
                let _ = triggers.send(function);
            }
            if let watcher::Event::InitDone = identity {
                adopted.retain(|function| {
                    functions.has(function.namespace.as_deref().unwrap_or_default(), &function.name)
                });
                for (namespace, name) in functions.names() {
                    let _ = triggers.send(ObjectRef::new(&name).within(&namespace));
                }
            }
        }
    });
    (shelf, identities)
}

fn identity(event: &watcher::Event<Function>) -> watcher::Event<Identity> {
    let of = |function: &Function| {
        let ObjectMeta { name, namespace, uid, .. } = &function.metadata;
        let metadata =
            ObjectMeta { name: name.clone(), namespace: namespace.clone(), uid: uid.clone(), ..ObjectMeta::default() };
        metadata.into_response_partial::<Function>()
    };
    match event {
        watcher::Event::Apply(function) => watcher::Event::Apply(of(function)),
        watcher::Event::InitApply(function) => watcher::Event::InitApply(of(function)),
        watcher::Event::Delete(function) => watcher::Event::Delete(of(function)),
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitDone => watcher::Event::InitDone,
    }
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

fn watch_owned<K>(client: &Client, triggers: &Triggers, trim: fn(&mut K, Option<&K>), rests: fn(&K) -> bool) -> Shelf<K>
where
    K: Kept + Resource<Scope = kube::core::NamespaceResourceScope> + Debug,
{
    let (shelf, mut filler) = Shelf::new(rests);
    let api: Api<K> = Api::all(client.clone());
    let triggers = triggers.clone();
    tokio::spawn(async move {
        let config = watcher::Config::default().labels(names::LABEL_FUNCTION).page_size(PAGE);
        let mut events = watcher(api, config).default_backoff().boxed();
        let mut listed = HashSet::new();
        while let Some(event) = events.next().await {
            let Some(event) = log_failure(&K::kind(&()), event) else {
                continue;
            };
            let event = event.modify(|object| {
                let before = filler.known(object);
                trim(object, before.as_deref());
            });
            for function in take(&mut filler, &mut listed, event) {
                let _ = triggers.send(function);
            }
        }
    });
    shelf
}

fn log_failure<T>(kind: &str, event: watcher::Result<T>) -> Option<T> {
    event.inspect_err(|error| tracing::warn!(kind, %error, "the watch failed and is started again")).ok()
}

/// Takes an event, and tells which Functions it is about. `listed`: those of a list that is not whole yet.
fn take<K: Kept>(
    filler: &mut Filler<K>,
    listed: &mut HashSet<ObjectRef<Function>>,
    event: watcher::Event<K>,
) -> HashSet<ObjectRef<Function>> {
    let mut about = HashSet::new();
    match &event {
        watcher::Event::Apply(object) | watcher::Event::Delete(object) => about = functions_of(object.meta()),
        watcher::Event::Init => listed.clear(),
        watcher::Event::InitApply(object) => listed.extend(functions_of(object.meta())),
        watcher::Event::InitDone => about = std::mem::take(listed),
    }
    let lost = filler.take(event);
    about.extend(lost.into_iter().map(|(namespace, name)| ObjectRef::new(&name).within(&namespace)));
    about
}

/// The Functions that an object belongs to: by label, and by owner, in case somebody changed the label.
fn functions_of(metadata: &ObjectMeta) -> HashSet<ObjectRef<Function>> {
    let Some(namespace) = metadata.namespace.as_deref() else {
        return HashSet::new();
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
