//! Feeds the registry from the API server. What is known stays known while the API server is away (invariant 5): only a complete
//! fresh list removes what it does not show.

mod adopted;

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

/// Watches Functions, and the pods of those that have taken over a Deployment, for ever.
pub async fn functions(shared: Arc<Shared>, registry: Arc<Registry>, client: kube::Client, namespace: Option<String>) {
    let mut adopted = adopted::Watches::new(registry.clone(), client.clone());
    let events = watcher(api::<Function>(client, namespace.as_deref()), watcher::Config::default()).default_backoff();
    pin_mut!(events);
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = Vec::new(),
            Ok(Event::InitApply(function)) => listed.push(function),
            Ok(Event::InitDone) => {
                registry.replace_functions(&listed);
                adopted.replace(&std::mem::take(&mut listed));
                if shared.functions_listed() {
                    info!("functions listed");
                }
            }
            Ok(Event::Apply(function)) => {
                registry.apply_function(&function);
                adopted.apply(&function);
            }
            Ok(Event::Delete(function)) => {
                registry.delete_function(&function);
                adopted.delete(&function);
            }
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
pub async fn slices(registry: Arc<Registry>, client: kube::Client, namespace: Option<String>, own: Vec<IpAddr>) {
    let shared = registry.shared().clone();
    let ours = format!("{}={}", names::LABEL_SLICE_MANAGED_BY, names::SLICE_MANAGED_BY);
    let config = watcher::Config::default().labels(&ours);
    let events = watcher(api::<EndpointSlice>(client, namespace.as_deref()), config).default_backoff();
    pin_mut!(events);
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(slice)) => {
                let key = led::key(&slice);
                let here = shared.led.apply(&slice, &own);
                registry.led(&key, here);
                listed.insert(key);
            }
            Ok(Event::InitDone) => {
                for key in shared.led.retain(&listed) {
                    registry.led(&key, false);
                }
            }
            Ok(Event::Apply(slice)) => {
                let here = shared.led.apply(&slice, &own);
                registry.led(&led::key(&slice), here);
            }
            Ok(Event::Delete(slice)) => {
                shared.led.delete(&slice);
                registry.led(&led::key(&slice), false);
            }
            Err(error) => warn!(%error, "watch of EndpointSlices broke, going on with what is known"),
        }
    }
}
