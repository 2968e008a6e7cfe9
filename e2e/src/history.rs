//! What became of a Function's Deployments and pods while a test looked on: every change that the API server told of, in order.
//!
//! A watch delivers each change once, so a wake too many or a fight over `replicas` cannot slip through between two looks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use futures::TryStreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use pilotlight_crds::names::LABEL_FUNCTION;
use tokio::task::JoinSet;

use crate::fixture::PATIENCE;
use crate::wait::until;

#[derive(Debug, Default)]
struct Seen {
    replicas: BTreeMap<String, Vec<i32>>,
    pods: BTreeSet<String>,
    alive: BTreeSet<String>,
    most_alive: usize,
    begun: usize,
}

/// Watches until it is dropped.
pub struct History {
    seen: Arc<Mutex<Seen>>,
    _watches: JoinSet<()>,
}

impl History {
    /// Begins to watch, and returns once everything that is there already was seen.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn begin(client: &Client, namespace: &str, function: &str) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let config = watcher::Config::default().labels(&format!("{LABEL_FUNCTION}={function}"));
        let mut watches = JoinSet::new();
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        watches.spawn(follow(deployments, config.clone(), Arc::clone(&seen), deployment));
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        watches.spawn(follow(pods, config, Arc::clone(&seen), pod));
        let begun = || async { Ok(lock(&seen).begun) };
        until("both watches to begin", PATIENCE, begun, |begun| *begun == 2).await?;
        Ok(Self { seen, _watches: watches })
    }

    /// The values that a Deployment's `replicas` went through, from the one it had at the beginning.
    pub fn replicas(&self, deployment: &str) -> Vec<i32> {
        lock(&self.seen).replicas.get(deployment).cloned().unwrap_or_default()
    }

    /// How many different pods there were.
    pub fn pods(&self) -> usize {
        lock(&self.seen).pods.len()
    }

    /// The highest number of pods at one moment, those on their way out not counted.
    pub fn most_pods(&self) -> usize {
        lock(&self.seen).most_alive
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn deployment(seen: &mut Seen, deployment: &Deployment, _gone: bool) {
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    let history = seen.replicas.entry(deployment.name_any()).or_default();
    if history.last().copied() != replicas {
        history.extend(replicas);
    }
}

fn pod(seen: &mut Seen, pod: &Pod, gone: bool) {
    let Some(uid) = pod.uid() else { return };
    seen.pods.insert(uid.clone());
    if gone || pod.metadata.deletion_timestamp.is_some() {
        seen.alive.remove(&uid);
    } else {
        seen.alive.insert(uid);
    }
    seen.most_alive = seen.most_alive.max(seen.alive.len());
}

async fn follow<K>(api: Api<K>, config: watcher::Config, seen: Arc<Mutex<Seen>>, note: fn(&mut Seen, &K, bool))
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(_) => continue, // the watcher starts again by itself
        };
        let mut seen = lock(&seen);
        match event {
            Event::Init => {}
            Event::InitDone => seen.begun += 1,
            Event::InitApply(object) | Event::Apply(object) => note(&mut seen, &object, false),
            Event::Delete(object) => note(&mut seen, &object, true),
        }
    }
}
