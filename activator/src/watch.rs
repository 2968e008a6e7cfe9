//! Feeds the registry from the API server. What is known stays known while the API server is away (invariant 5): only a complete
//! fresh list removes what it does not show.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use pilotlight_crds::{Function, names};
use tracing::{info, warn};

use crate::led;
use crate::registry::Registry;
use crate::runtime::Shared;

fn api<K>(client: kube::Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// Watches Functions, for ever.
pub async fn functions(shared: Arc<Shared>, registry: Arc<Registry>, client: kube::Client, namespace: Option<String>) {
    let events = watcher(api::<Function>(client, namespace.as_deref()), watcher::Config::default()).default_backoff();
    pin_mut!(events);
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = Vec::new(),
            Ok(Event::InitApply(function)) => listed.push(function),
            Ok(Event::InitDone) => {
                registry.replace_functions(&std::mem::take(&mut listed));
                if shared.functions_listed() {
                    info!("functions listed");
                }
            }
            Ok(Event::Apply(function)) => registry.apply_function(&function),
            Ok(Event::Delete(function)) => registry.delete_function(&function),
            Err(error) => warn!(%error, "watch of functions broke, going on with what is known"),
        }
    }
}

/// Watches the pods of Functions, for ever.
pub async fn pods(shared: Arc<Shared>, registry: Arc<Registry>, client: kube::Client, namespace: Option<String>) {
    let config = watcher::Config::default().labels(names::LABEL_FUNCTION);
    let events = watcher(api::<Pod>(client, namespace.as_deref()), config).default_backoff();
    pin_mut!(events);
    let mut listed: HashSet<Arc<str>> = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.extend(pod.metadata.uid.as_deref().map(Arc::from));
                registry.apply_pod(&pod);
            }
            Ok(Event::InitDone) => {
                registry.retain_pods(&listed);
                if shared.pods_listed() {
                    info!("pods listed");
                }
            }
            Ok(Event::Apply(pod)) => registry.apply_pod(&pod),
            Ok(Event::Delete(pod)) => registry.delete_pod(&pod),
            Err(error) => warn!(%error, "watch of pods broke, going on with what is known"),
        }
    }
}

/// Watches Pilotlight's EndpointSlices for those that lead to one of the addresses `own`, for ever.
pub async fn slices(shared: Arc<Shared>, client: kube::Client, namespace: Option<String>, own: Vec<IpAddr>) {
    let ours = format!("{}={}", names::LABEL_SLICE_MANAGED_BY, names::SLICE_MANAGED_BY);
    let config = watcher::Config::default().labels(&ours);
    let events = watcher(api::<EndpointSlice>(client, namespace.as_deref()), config).default_backoff();
    pin_mut!(events);
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(slice)) => {
                listed.insert(led::key(&slice));
                shared.led.apply(&slice, &own);
            }
            Ok(Event::InitDone) => shared.led.retain(&listed),
            Ok(Event::Apply(slice)) => shared.led.apply(&slice, &own),
            Ok(Event::Delete(slice)) => shared.led.delete(&slice),
            Err(error) => warn!(%error, "watch of EndpointSlices broke, going on with what is known"),
        }
    }
}
