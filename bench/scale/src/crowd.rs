//! The many Functions: made as fast as the API server takes them, watched until each is Ready, and taken away.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use pilotlight_crds::{Function, FunctionSpec, condition};
use pilotlight_e2e::fixture::{has_condition, image};
use serde_json::json;

/// Selects them.
const LABEL: &str = "pilotlight.dev/bench";
/// Functions of one namespace.
const EACH: u32 = 1_000;
/// Requests to the API server at once.
const AT_ONCE: usize = 16;

/// Functions at zero, in namespaces of their own.
pub(crate) struct Crowd {
    client: Client,
    functions: u32,
}

impl Crowd {
    /// So many; none exists yet.
    pub(crate) fn new(client: &Client, functions: u32) -> Self {
        Self { client: client.clone(), functions }
    }

    /// Creates all and waits until each is Ready; how many became so in a second.
    pub(crate) async fn create(&self) -> Result<f64> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for number in 0..self.functions.div_ceil(EACH) {
            let name = namespace(number);
            let namespace =
                json!({"metadata": {"name": name, "labels": {LABEL: "scale", "pilotlight.dev/test": "true"}}});
            let namespace: Namespace = serde_json::from_value(namespace)?;
            namespaces.create(&PostParams::default(), &namespace).await.with_context(|| name)?;
        }
        let begun = Instant::now();
        let created = stream::iter(0..self.functions)
            .map(|number| self.create_one(number))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>();
        let (created, ready) = tokio::join!(created, self.all_ready());
        created?;
        ready?;
        Ok(f64::from(self.functions) / begun.elapsed().as_secs_f64())
    }

    async fn create_one(&self, number: u32) -> Result<()> {
        let spec = json!({"image": image("hello-go"), "scaling": {"initialReplicas": 0}});
        let mut function = Function::new(&format!("f{number}"), serde_json::from_value::<FunctionSpec>(spec)?);
        function.labels_mut().insert(LABEL.to_owned(), "scale".to_owned());
        let functions: Api<Function> = Api::namespaced(self.client.clone(), &namespace(number / EACH));
        functions.create(&PostParams::default(), &function).await.with_context(|| format!("creating f{number}"))?;
        Ok(())
    }

    async fn all_ready(&self) -> Result<()> {
        let all: Api<Function> = Api::all(self.client.clone());
        let config = watcher::Config::default().labels(LABEL);
        let mut events = std::pin::pin!(watcher(all, config).default_backoff());
        let limit = Duration::from_secs(300) + Duration::from_millis(500) * self.functions;
        let begun = Instant::now();
        let mut ready = BTreeSet::new();
        while ready.len() < self.functions as usize {
            let left = limit.saturating_sub(begun.elapsed());
            let event = tokio::time::timeout(left, events.next()).await;
            let event = event.with_context(|| format!("{} of {} are Ready", ready.len(), self.functions))?;
            // A broken watch starts again by itself.
            let Some(Ok(Event::Apply(function) | Event::InitApply(function))) = event else { continue };
            if has_condition(&function, condition::READY, "True")
                && ready.insert(function.uid())
                && ready.len() % 500 == 0
            {
                let (done, took) = (ready.len(), begun.elapsed().as_secs_f64());
                let left = (self.functions as usize - done) as f64 * took / done as f64;
                eprintln!("  {done} of {} are Ready after {took:.0} s; about {left:.0} s to go", self.functions);
            }
        }
        Ok(())
    }

    /// Takes the namespaces away; what is in them goes after them.
    pub(crate) async fn strike(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for number in 0..self.functions.div_ceil(EACH) {
            match namespaces.delete(&namespace(number), &DeleteParams::background()).await {
                Err(kube::Error::Api(refusal)) if refusal.is_not_found() => {}
                deleted => ensure!(deleted.is_ok(), "{}: {:?}", namespace(number), deleted.err()),
            }
        }
        Ok(())
    }
}

fn namespace(number: u32) -> String {
    format!("bench-scale-{number}")
}
