//! What tools that wait for objects (kstatus, Flux, Argo CD) say of a Function: of every version that the API server told of, in order.
//!
//! A version is judged as it was stored, by the tools' own libraries: the program of `e2e/gitops`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use pilotlight_crds::Function;
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::chart::repository;
use crate::fixture::PATIENCE;
use crate::tools;
use crate::wait::until;

/// The key of Argo CD's settings under which it looks for the health script of Functions.
const HEALTH: &str = "resource.customizations.health.pilotlight.dev_Function";

/// What each tool says of one version of a Function.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// kstatus: `InProgress`, `Current`, `Failed` or `Terminating`.
    pub kstatus: String,
    /// The same, by the copy that Flux carries.
    pub flux: String,
    /// Argo CD with the health script in `examples/argo-cd`: `Progressing`, `Healthy` or `Degraded`.
    pub argo: String,
    /// kstatus' words.
    pub message: String,
    /// The health script's words.
    pub argo_message: String,
}

/// One version of a Function and what the tools say of it.
#[derive(Clone)]
pub struct Judged {
    /// The Function.
    pub function: Function,
    /// What the tools say.
    pub verdict: Verdict,
}

impl fmt::Debug for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metadata = &self.function.metadata;
        let version = metadata.resource_version.as_deref().unwrap_or_default();
        write!(f, "generation {:?}, version {version}: {:?}", metadata.generation, self.verdict)
    }
}

/// Watches one Function until it is dropped.
pub struct Onlooker {
    seen: Arc<Mutex<Seen>>,
    watch: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    begun: bool,
    versions: Vec<DynamicObject>,
}

impl Onlooker {
    /// Begins to watch, and returns once nothing more can be missed. The Function need not exist yet.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn begin(client: &Client, namespace: &str, function: &str) -> Result<Self> {
        let api = Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Function>(&()));
        let config = watcher::Config::default().fields(&format!("metadata.name={function}"));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let watch = tokio::spawn(follow(api, config, Arc::clone(&seen)));
        let onlooker = Self { seen, watch };
        until("the watch to begin", PATIENCE, || async { Ok(lock(&onlooker.seen).begun) }, |begun| *begun).await?;
        Ok(onlooker)
    }

    /// Has every version judged that was seen so far.
    ///
    /// # Errors
    /// When `e2e/gitops` was not built, or cannot judge one.
    pub async fn judged(&self) -> Result<Vec<Judged>> {
        let versions = lock(&self.seen).versions.clone();
        let mut documents = Vec::new();
        for version in &versions {
            serde_json::to_writer(&mut documents, version)?;
        }
        let printed = tools::gitops(&argo_health_script()?, &documents).await?.success()?;
        let verdicts: Vec<Verdict> = printed.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        ensure!(verdicts.len() == versions.len(), "{} versions, {} verdicts", versions.len(), verdicts.len());
        let judge = |(version, verdict): (DynamicObject, Verdict)| {
            let function = serde_json::from_value(serde_json::to_value(version)?)?;
            Ok(Judged { function, verdict })
        };
        versions.into_iter().zip(verdicts).map(judge).collect()
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// The script as a user gives it to Argo CD.
fn argo_health_script() -> Result<String> {
    #[derive(Deserialize)]
    struct Patch {
        data: BTreeMap<String, String>,
    }
    let path = repository().join("examples/argo-cd/health.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut patch: Patch = serde_saphyr::from_str(&text)?;
    patch.data.remove(HEALTH).with_context(|| format!("{} has no {HEALTH}", path.display()))
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(api: Api<DynamicObject>, config: watcher::Config, seen: Arc<Mutex<Seen>>) {
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    loop {
        match events.try_next().await {
            Ok(Some(Event::Init)) => {}
            Ok(Some(Event::InitDone)) => lock(&seen).begun = true,
            Ok(Some(Event::InitApply(version) | Event::Apply(version))) => lock(&seen).versions.push(version),
            Ok(Some(Event::Delete(_)) | None) => return,
            Err(_) => {} // the watcher starts again by itself
        }
    }
}
