//! How a test reaches a Function: as a pod of the cluster would where it stands in the cluster's network, otherwise by a
//! port forward through the API server.

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Namespace that tests and demo install Pilotlight into.
pub const SYSTEM_NAMESPACE: &str = "pilotlight-system";
/// Selects the activators' pods in [`SYSTEM_NAMESPACE`].
pub const ACTIVATORS: &str = "app.kubernetes.io/component=activator";
/// Selects the operators' pods in [`SYSTEM_NAMESPACE`].
pub const OPERATORS: &str = "app.kubernetes.io/component=operator";

/// A byte stream to a Function.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A way to the cluster's insides.
#[derive(Clone)]
pub struct Reach {
    /// Client of the API server.
    pub client: Client,
    network: bool,
}

impl Reach {
    /// Connects to the cluster of `KUBECONFIG`. `PILOTLIGHT_E2E_REACH=network` says that this process stands in the cluster's
    /// network; anything else reaches Functions by port forwards.
    ///
    /// # Errors
    /// When there is no usable kubeconfig.
    pub async fn connect() -> Result<Self> {
        let client = Client::try_default().await.context("no cluster to talk to: is KUBECONFIG set?")?;
        Ok(Self { client, network: std::env::var("PILOTLIGHT_E2E_REACH").is_ok_and(|reach| reach == "network") })
    }

    /// Whether ClusterIPs and pod addresses can be reached from here.
    pub fn in_network(&self) -> bool {
        self.network
    }

    /// A connection to the Function's Service, as a client in the cluster makes one.
    ///
    /// # Errors
    /// When the Service or an activator is missing, or the connection is refused.
    pub async fn function(&self, namespace: &str, name: &str) -> Result<Box<dyn Stream>> {
        if !self.network {
            return self.activator().await;
        }
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let service = services.get(name).await?;
        let address = service.spec.and_then(|spec| spec.cluster_ip).context("the Service has no ClusterIP")?;
        Ok(Box::new(connect(&format!("{address}:80")).await?))
    }

    /// A connection to the port on an activator that serves every host.
    ///
    /// # Errors
    /// When no activator runs, or the connection is refused.
    pub async fn activator(&self) -> Result<Box<dyn Stream>> {
        self.pod_port(SYSTEM_NAMESPACE, ACTIVATORS, 8080).await
    }

    /// A connection to `port` of a running pod that `selector` selects.
    ///
    /// # Errors
    /// When there is none, or the connection is refused.
    pub async fn pod_port(&self, namespace: &str, selector: &str, port: u16) -> Result<Box<dyn Stream>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let all = pods.list(&ListParams::default().labels(selector)).await?;
        let running = all.items.into_iter().find(is_ready);
        let Some(pod) = running else { bail!("no pod of {selector} in {namespace} is ready") };
        if self.network {
            let ip = pod.status.and_then(|status| status.pod_ip).context("the pod has no address")?;
            return Ok(Box::new(connect(&format!("{ip}:{port}")).await?));
        }
        let name = pod.metadata.name.context("the pod has no name")?;
        let mut forward = pods.portforward(&name, &[port]).await?;
        Ok(Box::new(forward.take_stream(port).context("the port forward has no stream")?))
    }
}

async fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether a pod is ready and not on its way out.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}
