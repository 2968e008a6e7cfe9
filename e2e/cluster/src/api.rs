//! What the cluster's own start-up asks of the API server: whether it answers, the few objects a bare control plane
//! lacks, and whether pods can be scheduled.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::certificates::{COREDNS_USER, KUBELET_API_USER};
use crate::error::{Error, Result};
use crate::network::{DNS_ADDRESS, NODE_ADDRESS, NODE_NAME};
use crate::options::Runtime;

/// A client that reads one kubeconfig and nothing of the environment.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client> {
    let failed = |error: String| Error::Internal(format!("{}: {error}", kubeconfig.display()));
    let file = Kubeconfig::read_from(kubeconfig).map_err(|error| failed(error.to_string()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|error| failed(error.to_string()))?;
    Client::try_from(config).map_err(Error::api("making a client"))
}

/// Asks again until the answer is `Ok`, or the time is over.
pub(crate) async fn until<T, F>(what: &str, limit: Duration, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + limit;
    loop {
        // A question that hangs must not outlive the deadline either.
        let last = match tokio::time::timeout_at(deadline, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(last)) => last,
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() >= deadline {
            return Err(Error::TimedOut { what: what.to_owned(), seconds: limit.as_secs(), last });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether the API server says that it is ready, and if not what it says.
pub(crate) async fn readyz(client: &Client) -> Result<(), String> {
    let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
    client.request_text(request).await.map(drop).map_err(|error| error.to_string())
}

/// Applies what kubeadm's add-ons would: access for CoreDNS and for the API server to the kubelet, and the `kube-dns`
/// Service, which leads to the CoreDNS process on the node; and a RuntimeClass for each of `runtimes`.
pub(crate) async fn bootstrap(client: &Client, runtimes: &[Runtime]) -> Result<(), String> {
    for name in runtimes.iter().map(|runtime| runtime.program()) {
        let class = json!({
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": { "name": name }, "handler": name,
        });
        apply::<RuntimeClass>(Api::all(client.clone()), class).await?;
    }
    let binding = |name: &str, role: &str, user: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
        })
    };
    let coredns = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": COREDNS_USER },
        "rules": [
            { "apiGroups": [""], "resources": ["services", "namespaces", "pods"], "verbs": ["list", "watch"] },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
        ],
    });
    apply::<ClusterRole>(Api::all(client.clone()), coredns).await?;
    let bindings = Api::all(client.clone());
    apply::<ClusterRoleBinding>(bindings.clone(), binding(COREDNS_USER, COREDNS_USER, COREDNS_USER)).await?;
    let kubelet = binding(KUBELET_API_USER, "system:kubelet-api-admin", KUBELET_API_USER);
    apply::<ClusterRoleBinding>(bindings, kubelet).await?;

    let ports = |name: &str, protocol: &str| json!({ "name": name, "port": 53, "protocol": protocol });
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "kube-dns", "labels": { "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS" } },
        "spec": { "clusterIP": DNS_ADDRESS, "ports": [ports("dns", "UDP"), ports("dns-tcp", "TCP")] },
    });
    apply::<Service>(Api::namespaced(client.clone(), "kube-system"), service).await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "kube-dns-node", "labels": { "kubernetes.io/service-name": "kube-dns" } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [NODE_ADDRESS], "conditions": { "ready": true } }],
        "ports": [ports("dns", "UDP"), ports("dns-tcp", "TCP")],
    });
    apply::<EndpointSlice>(Api::namespaced(client.clone(), "kube-system"), slice).await
}

async fn apply<K>(api: Api<K>, object: Value) -> Result<(), String>
where
    K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let name = object["metadata"]["name"].as_str().expect("every object above has a name").to_owned();
    let params = PatchParams::apply("pilotlight-cluster");
    api.patch(&name, &params, &Patch::Apply(&object))
        .await
        .map(drop)
        .map_err(|error| format!("applying {name}: {error}"))
}

/// Whether the node takes pods: it is Ready, and the taint that says otherwise is gone.
pub(crate) async fn node_takes_pods(client: &Client) -> Result<(), String> {
    let node = Api::<Node>::all(client.clone()).get(NODE_NAME).await.map_err(|error| error.to_string())?;
    let ready = node
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default()
        .into_iter()
        .find(|condition| condition.type_ == "Ready")
        .ok_or("the node has no Ready condition yet")?;
    if ready.status != "True" {
        return Err(ready.message.unwrap_or_else(|| "the node is not ready".to_owned()));
    }
    match node.spec.and_then(|spec| spec.taints).unwrap_or_default().first() {
        Some(taint) => Err(format!("the node has the taint {}", taint.key)),
        None => Ok(()),
    }
}

/// Whether pods of the namespace `default` have an account to run under.
pub(crate) async fn default_account(client: &Client) -> Result<(), String> {
    let accounts = Api::<ServiceAccount>::default_namespaced(client.clone());
    accounts.get("default").await.map(drop).map_err(|error| error.to_string())
}

/// Whether the DNS Service's address resolves the API server's name. Asks once; blocks for at most 200 ms.
pub(crate) fn name_resolves() -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{DNS_ADDRESS}: {error}");
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(failed)?;
    socket.set_read_timeout(Some(Duration::from_millis(200))).map_err(failed)?;
    socket.connect(SocketAddr::from((DNS_ADDRESS, 53))).map_err(failed)?;
    socket.send(&query("kubernetes.default.svc.cluster.local")).map_err(failed)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).map_err(failed)?;
    if has_answers(&answer[..length]) { Ok(()) } else { Err("the name does not resolve yet".to_owned()) }
}

/// A query for the IPv4 address of `name`, RFC 1035 section 4.
fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0x70, 0x6c, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("labels of our own names are short"));
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

/// Whether a response says NOERROR and has an answer.
fn has_answers(response: &[u8]) -> bool {
    response.len() > 12 && response[3] & 0x0f == 0 && (response[6], response[7]) != (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_length_prefixed_labels() {
        let message = query("a.bc");
        assert_eq!(&message[12..], &[1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1]);
    }

    #[test]
    fn only_a_response_with_answers_counts() {
        let mut response = [0u8; 32];
        response[7] = 1;
        assert!(has_answers(&response));
        response[3] = 3;
        assert!(!has_answers(&response), "NXDOMAIN");
        assert!(!has_answers(&[0; 12]), "truncated");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_what_was_seen_last() {
        let error = until("a thing", Duration::from_secs(3), || async { Err::<(), _>("not yet".to_owned()) })
            .await
            .unwrap_err()
            .to_string();
        assert_eq!(error, "a thing did not happen within 3 s: not yet");
    }
}
