//! A namespace of a test's own, so that tests run side by side and leave nothing behind.

use anyhow::Result;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, Client};

/// A namespace that holds its pods to Pod Security `restricted`.
pub struct TestNamespace {
    /// Its name.
    pub name: String,
    client: Client,
}

impl TestNamespace {
    /// Makes one whose name starts with `prefix`.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn create(client: &Client, prefix: &str) -> Result<Self> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let labels = [("pod-security.kubernetes.io/enforce", "restricted"), ("pilotlight.dev/test", "true")];
        let namespace = Namespace {
            metadata: ObjectMeta {
                generate_name: Some(format!("{prefix}-")),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let created = namespaces.create(&PostParams::default(), &namespace).await?;
        Ok(Self { name: created.metadata.name.unwrap_or_default(), client: client.clone() })
    }

    /// Deletes it and all in it. A test that fails leaves it, to be looked at where
    /// the cluster was made for the tests and is kept.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete(self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.name, &DeleteParams::background()).await?;
        Ok(())
    }
}
