//! Which pods have an address, as the API server knows it: asked once before a beacon is believed.

use std::net::IpAddr;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

/// A pod that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its uid.
    pub uid: String,
    /// Namespace and name, for a log.
    pub name: String,
}

/// Tells who has an address. Tests bring their own.
pub trait AddressPort: Send + Sync + 'static {
    /// The pods, of all namespaces, that have `address` and are not over.
    fn holders(&self, address: IpAddr) -> BoxFuture<'_, Result<Vec<Holder>, kube::Error>>;
}

/// Asks the API server.
pub struct KubeAddresses {
    client: kube::Client,
}

impl KubeAddresses {
    /// Asks by `client`.
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }
}

impl AddressPort for KubeAddresses {
    fn holders(&self, address: IpAddr) -> BoxFuture<'_, Result<Vec<Holder>, kube::Error>> {
        Box::pin(async move {
            let pods: Api<Pod> = Api::all(self.client.clone());
            // From the API server's cache: it has the address of every pod that has run for a moment.
            let with_address = ListParams::default().match_any().fields(&format!("status.podIP={address}"));
            let found = pods.list(&with_address).await?;
            Ok(found.items.iter().filter_map(holder).collect())
        })
    }
}

/// `None` for a pod that is over: its address may be another's by now.
fn holder(pod: &Pod) -> Option<Holder> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Some(Holder { uid: pod.metadata.uid.clone()?, name: format!("{namespace}/{name}") })
}
