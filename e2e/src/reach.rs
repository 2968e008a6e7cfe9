//! How a test reaches a Function: as a pod of the cluster would where it stands in the cluster's network, otherwise by a
//! port forward through the API server.

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Node, Pod, Service, ServiceSpec};
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

/// Where a Function's Service or a pod is; nothing where an activator is reached by a port forward.
#[derive(Clone, Debug)]
pub struct Address(Option<String>);

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
        self.open(&self.address(namespace, name).await?).await
    }

    /// Where the Function's Service is, for clients that connect more than once.
    ///
    /// # Errors
    /// When the Service is missing.
    pub async fn address(&self, namespace: &str, name: &str) -> Result<Address> {
        if !self.network {
            return Ok(Address(None));
        }
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let service = services.get(name).await?;
        let ip = service.spec.and_then(|spec| spec.cluster_ip).context("the Service has no ClusterIP")?;
        Ok(Address(Some(format!("{ip}:80"))))
    }

    /// Where a port of a pod is. Only in the cluster's network.
    ///
    /// # Errors
    /// When the pod has no address, or this process does not stand in the cluster's network.
    pub fn pod_address(&self, pod: &Pod, port: u16) -> Result<Address> {
        ensure!(self.network, "pods have addresses only in the cluster's network (PILOTLIGHT_E2E_REACH=network)");
        Ok(Address(Some(format!("{}:{port}", ip_of(pod)?))))
    }

    /// A connection to a Function's Service, or to a pod's port.
    ///
    /// # Errors
    /// When no activator runs, or the connection is refused.
    pub async fn open(&self, address: &Address) -> Result<Box<dyn Stream>> {
        match &address.0 {
            Some(address) => Ok(Box::new(connect(address).await?)),
            None => self.activator().await,
        }
    }

    /// A connection to the port on an activator that serves every host.
    ///
    /// # Errors
    /// When no activator runs, or the connection is refused.
    pub async fn activator(&self) -> Result<Box<dyn Stream>> {
        self.pod_port(SYSTEM_NAMESPACE, ACTIVATORS, 8080).await
    }

    /// A connection to the activators' port for TLS: that of their Service, where it can be reached.
    ///
    /// # Errors
    /// When there is none, no activator runs, or the connection is refused.
    pub async fn activators_tls(&self) -> Result<Box<dyn Stream>> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let found = services.list(&ListParams::default().labels(ACTIVATORS)).await?;
        let specs = found.items.into_iter().filter_map(|service| service.spec);
        let https = |spec: ServiceSpec| {
            let port = spec.ports?.into_iter().find(|port| port.name.as_deref() == Some("https"))?.port;
            Some(format!("{}:{port}", spec.cluster_ip?))
        };
        let address = specs.filter_map(https).next().context("no Service of the activators has a port for TLS")?;
        match self.network {
            true => Ok(Box::new(connect(&address).await?)),
            false => self.pod_port(SYSTEM_NAMESPACE, ACTIVATORS, 8443).await,
        }
    }

    /// A connection to `port` of a running pod that `selector` selects.
    ///
    /// # Errors
    /// When there is none, or the connection is refused.
    pub async fn pod_port(&self, namespace: &str, selector: &str, port: u16) -> Result<Box<dyn Stream>> {
        let running = self.ready_pods(namespace, selector).await?;
        let Some(pod) = running.first() else { bail!("no pod of {selector} in {namespace} is ready") };
        self.pod(pod, port).await
    }

    /// A connection to a port of a node, as a client outside makes one. Only in the node's network.
    ///
    /// # Errors
    /// When no node has an address, or the connection is refused.
    pub async fn node_port(&self, port: u16) -> Result<Box<dyn Stream>> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let found = nodes.list(&ListParams::default()).await?;
        let addresses = found.items.into_iter().filter_map(|node| node.status?.addresses).flatten();
        let address = addresses.filter(|address| address.type_ == "InternalIP").map(|address| address.address).next();
        Ok(Box::new(connect(&format!("{}:{port}", address.context("no node has an address")?)).await?))
    }

    /// The ready pods that `selector` selects.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn ready_pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let all = pods.list(&ListParams::default().labels(selector)).await?;
        Ok(all.items.into_iter().filter(is_ready).collect())
    }

    /// A connection to `port` of a pod.
    ///
    /// # Errors
    /// When the connection is refused.
    pub async fn pod(&self, pod: &Pod, port: u16) -> Result<Box<dyn Stream>> {
        if self.network {
            return Ok(Box::new(connect(&format!("{}:{port}", ip_of(pod)?)).await?));
        }
        let name = pod.metadata.name.as_deref().context("the pod has no name")?;
        let namespace = pod.metadata.namespace.as_deref().context("the pod has no namespace")?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let mut forward = pods.portforward(name, &[port]).await?;
        Ok(Box::new(forward.take_stream(port).context("the port forward has no stream")?))
    }
}

/// A pod's address.
///
/// # Errors
/// When it has none yet.
pub fn ip_of(pod: &Pod) -> Result<&str> {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    ip.context("the pod has no address")
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
