//! Functions as tests need them, and the questions that tests ask of them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use pilotlight_crds::names::LABEL_FUNCTION;
use pilotlight_crds::{Function, FunctionSpec, condition};
use serde_json::{Value, json};

use crate::wait::until;

/// Registry and path that the cluster has the project's images from: `PILOTLIGHT_E2E_REGISTRY`, or `pilotlight.dev`.
pub fn registry() -> String {
    std::env::var("PILOTLIGHT_E2E_REGISTRY").unwrap_or_else(|_| "pilotlight.dev".to_owned())
}

/// The image of an example.
pub fn image(example: &str) -> String {
    format!("{}/example-{example}:dev", registry())
}

/// Image of the example that most tests use, where the registry is not another.
pub const HELLO: &str = "pilotlight.dev/example-hello-go:dev";

/// How long a test waits for what should take seconds.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Functions of one namespace.
#[derive(Clone)]
pub struct Functions {
    client: Client,
    namespace: String,
    api: Api<Function>,
}

impl Functions {
    /// Those of `namespace`.
    pub fn new(client: &Client, namespace: &str) -> Self {
        let api = Api::namespaced(client.clone(), namespace);
        Self { client: client.clone(), namespace: namespace.to_owned(), api }
    }

    /// Creates a Function whose spec is the example `hello-go`'s with `changes` merged in.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn create(&self, name: &str, changes: Value) -> Result<Function> {
        let mut spec = json!({"image": image("hello-go"), "imagePullPolicy": "IfNotPresent"});
        merge(&mut spec, changes);
        let function = Function::new(name, serde_json::from_value::<FunctionSpec>(spec)?);
        Ok(self.api.create(&PostParams::default(), &function).await?)
    }

    /// Merges `changes` into the spec, as `kubectl patch --type merge` does.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn patch(&self, name: &str, changes: Value) -> Result<Function> {
        let patch = Patch::Merge(json!({"spec": changes}));
        Ok(self.api.patch(name, &PatchParams::default(), &patch).await?)
    }

    /// The Function as it is now.
    ///
    /// # Errors
    /// When the API server does not have it.
    pub async fn get(&self, name: &str) -> Result<Function> {
        Ok(self.api.get(name).await?)
    }

    /// Waits until a condition of the current generation has `status`.
    ///
    /// # Errors
    /// When that takes over [`PATIENCE`].
    pub async fn condition(&self, name: &str, kind: &str, status: &str) -> Result<Function> {
        let what = format!("{kind}={status} of {name}");
        until(&what, PATIENCE, || self.get(name), |function| has_condition(function, kind, status)).await
    }

    /// Waits until the Function is Ready.
    ///
    /// # Errors
    /// When that takes over [`PATIENCE`].
    pub async fn ready(&self, name: &str) -> Result<Function> {
        self.condition(name, condition::READY, "True").await
    }

    /// Waits until the Function is Ready, has proved itself, and stands at zero with no pod left.
    ///
    /// # Errors
    /// When that takes over [`PATIENCE`].
    pub async fn at_zero(&self, name: &str) -> Result<()> {
        self.ready(name).await?;
        until(
            &format!("{name} at zero"),
            PATIENCE,
            || async { Ok((self.get(name).await?, self.pods(name).await?)) },
            |(function, pods)| pods.is_empty() && has_condition(function, condition::ACTIVE, "False"),
        )
        .await?;
        Ok(())
    }

    /// The Function's pods, those that terminate included.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn pods(&self, name: &str) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(pods.list(&ListParams::default().labels(&format!("{LABEL_FUNCTION}={name}"))).await?.items)
    }

    /// The Deployment of the revision that gets the traffic.
    ///
    /// # Errors
    /// When the Function has no such revision.
    pub async fn deployment(&self, name: &str) -> Result<Deployment> {
        let status = self.get(name).await?.status.context("the Function has no status")?;
        let revision = status.route.and_then(|route| route.revision).context("no revision gets the traffic")?;
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(deployments.get(&revision).await?)
    }

    /// Replicas that the active revision's Deployment asks for.
    ///
    /// # Errors
    /// When the Function has no such revision.
    pub async fn replicas(&self, name: &str) -> Result<i32> {
        Ok(self.deployment(name).await?.spec.and_then(|spec| spec.replicas).unwrap_or(1))
    }
}

/// Whether a condition has `status` and speaks of the current generation.
pub fn has_condition(function: &Function, kind: &str, status: &str) -> bool {
    let generation = function.metadata.generation;
    let conditions = function.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == kind && c.status == status && c.observed_generation == generation)
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, changes) => *into = changes,
    }
}
