//! What one test stands on: a way to the cluster, a namespace of its own, and short ways to ask the questions that tests ask.

use std::fmt::Debug;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::{Api, Resource};
use pilotlight_crds::Function;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fixture::{Functions, PATIENCE};
use crate::http::{self, Answer};
use crate::namespace::TestNamespace;
use crate::reach::{Reach, SYSTEM_NAMESPACE};
use crate::tools::{self, Printed};
use crate::wait::until;

/// A test's stage.
pub struct Stage {
    /// Way to the cluster.
    pub reach: Reach,
    /// Name of the test's own namespace.
    pub namespace: String,
    /// The Functions of that namespace.
    pub functions: Functions,
    owned: TestNamespace,
}

impl Stage {
    /// Connects, and makes a namespace whose name starts with `prefix`.
    ///
    /// # Errors
    /// When there is no cluster, or it refuses the namespace.
    pub async fn set(prefix: &str) -> Result<Self> {
        let reach = Reach::connect().await?;
        let owned = TestNamespace::create(&reach.client, prefix).await?;
        let namespace = owned.name.clone();
        let functions = Functions::new(&reach.client, &namespace);
        Ok(Self { reach, namespace, functions, owned })
    }

    /// The same, with the Function `hello` as the example's, with `changes` to its spec, and ready.
    ///
    /// # Errors
    /// When there is no cluster, it refuses, or the Function does not get ready in time.
    pub async fn with_hello(prefix: &str, changes: Value) -> Result<Self> {
        let stage = Self::set(prefix).await?;
        stage.functions.create("hello", changes).await?;
        stage.ready("hello").await?;
        Ok(stage)
    }

    /// Deletes the namespace: the test is over and went well.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn strike(self) -> Result<()> {
        self.owned.delete().await
    }

    /// Objects of a kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.reach.client.clone(), &self.namespace)
    }

    /// Waits until the Function is Ready and its Service takes connections: a node's kube-proxy learns of a new EndpointSlice a
    /// moment after the API server.
    ///
    /// # Errors
    /// When that takes over [`PATIENCE`].
    pub async fn ready(&self, name: &str) -> Result<Function> {
        let ready = self.functions.ready(name).await?;
        self.reachable(name).await?;
        Ok(ready)
    }

    /// Waits until the Function's Service takes connections.
    ///
    /// # Errors
    /// When that takes over [`PATIENCE`].
    pub async fn reachable(&self, name: &str) -> Result<()> {
        let what = format!("the Service {name} to take connections");
        let connects = || async { self.reach.function(&self.namespace, name).await.map(drop) };
        until(&what, PATIENCE, connects, |()| true).await
    }

    /// `GET path` at a Function by its in-cluster name.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, name: &str, path: &str) -> Result<Answer> {
        http::get(&self.reach, &self.namespace, name, path).await
    }

    /// `GET path` at a Function, which must answer 200.
    ///
    /// # Errors
    /// When it does not; with what it said.
    pub async fn ok(&self, name: &str, path: &str) -> Result<Answer> {
        let answer = self.get(name, path).await?;
        ensure!(
            answer.status.as_u16() == 200,
            "{name} answered {} (reason {:?}): {}",
            answer.status,
            answer.header("pilotlight-reason"),
            answer.text()
        );
        Ok(answer)
    }

    /// Asks until the Function answers 200, as after a correction.
    ///
    /// # Errors
    /// When it does not within [`PATIENCE`]; with what it last said.
    pub async fn answers(&self, name: &str) -> Result<Answer> {
        let what = format!("{name} to answer 200");
        let all = || self.get(name, "/");
        until(&what, PATIENCE, all, |answer| answer.status.as_u16() == 200).await
    }

    /// `kubectl` in the namespace.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Printed> {
        let all = [&["--namespace", &self.namespace], arguments].concat();
        tools::kubectl(&all).await
    }

    /// `kubectl` in the namespace, which must go well; what it printed.
    ///
    /// # Errors
    /// When it does not; with its words.
    pub async fn kubectl_ok(&self, arguments: &[&str]) -> Result<String> {
        let printed = self.kubectl(arguments).await?.success();
        printed.with_context(|| format!("kubectl {}", arguments.join(" ")))
    }

    /// `kubectl apply` of a document in the namespace.
    ///
    /// # Errors
    /// When kubectl cannot be started.
    pub async fn apply(&self, document: &str) -> Result<Printed> {
        let arguments = ["--namespace", &self.namespace, "apply", "-f", "-"];
        tools::kubectl_with(&arguments, document.as_bytes()).await
    }

    /// Name of the operator's pod that leads.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn leader(&self) -> Result<String> {
        let leases: Api<Lease> = Api::namespaced(self.reach.client.clone(), SYSTEM_NAMESPACE);
        let lease = leases.get("pilotlight-operator").await?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity);
        holder.filter(|holder| !holder.is_empty()).context("nobody leads")
    }

    /// What the leader tells of its decisions for a Function, asked as a user would.
    ///
    /// # Errors
    /// When nobody leads, or the leader has decided nothing yet.
    pub async fn decisions(&self, function: &str) -> Result<Value> {
        let (leader, namespace) = (self.leader().await?, &self.namespace);
        let path = format!(
            "/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods/{leader}:9090/proxy/decisions?namespace={namespace}&name={function}"
        );
        Ok(serde_json::from_str(&self.kubectl_ok(&["get", "--raw", &path]).await?)?)
    }

    /// The events about an object of the namespace.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn events(&self, kind: &str, name: &str) -> Result<Vec<Event>> {
        let about = format!("involvedObject.kind={kind},involvedObject.name={name}");
        let events = self.api::<Event>();
        Ok(events.list(&ListParams::default().fields(&about)).await?.items)
    }

    /// Waits until an object is gone, garbage collection included.
    ///
    /// # Errors
    /// When that takes over [`PATIENCE`].
    pub async fn gone<K>(&self, name: &str) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let what = format!("{name} to be gone");
        until(&what, PATIENCE, || async { Ok(api.get_opt(name).await?) }, Option::is_none).await?;
        Ok(())
    }

    /// Waits until an object exists as another one than that of uid `old`.
    ///
    /// # Errors
    /// When that takes over [`PATIENCE`].
    pub async fn again<K>(&self, name: &str, old: &str) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let what = format!("{name} to be made again");
        until(
            &what,
            PATIENCE,
            || async { Ok(api.get(name).await?) },
            |found: &K| found.meta().uid.as_deref() != Some(old),
        )
        .await
    }
}

/// A condition of a Function.
pub fn condition<'a>(function: &'a Function, kind: &str) -> Option<&'a Condition> {
    let status = function.status.as_ref()?;
    status.conditions.iter().find(|c| c.type_ == kind)
}

/// Waits at most until `limit` after `start` for a condition of the current generation to be `status` with any reason for which
/// `holds` is true.
///
/// # Errors
/// When that takes longer.
pub async fn condition_by(
    stage: &Stage,
    name: &str,
    (kind, status): (&str, &str),
    (start, limit): (Instant, std::time::Duration),
    holds: impl Fn(&Condition) -> bool,
) -> Result<Condition> {
    let what = format!("{kind}={status} of {name} with its cause");
    let function = until(
        &what,
        limit.saturating_sub(start.elapsed()),
        || stage.functions.get(name),
        |function| {
            condition(function, kind).is_some_and(|c| {
                c.status == status && c.observed_generation == function.metadata.generation && holds(c)
            })
        },
    )
    .await?;
    let found = condition(&function, kind).context("the condition was there a moment ago")?;
    Ok(found.clone())
}
