//! Traefik in the cluster: a real implementation of the Gateway API, and a real ingress controller, which clients outside reach by a port of the node.

use std::time::Instant;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::chart::repository;
use crate::fixture::{PATIENCE, registry};
use crate::http::{self, Answer};
use crate::namespace::TestNamespace;
use crate::reach::Reach;
use crate::tools;
use crate::wait::until;

/// Class of Gateways and of Ingresses that are Traefik's.
pub const CLASS: &str = "traefik";
/// The address that it writes to its Ingresses.
pub const PUBLISHED: &str = "192.0.2.7";
/// The port that it listens on, as listeners of Gateways name it.
const PORT: u16 = 8000;
/// The port on which it says that it is well.
const PING: u16 = 8081;

/// A Traefik in a namespace of its own.
pub struct Traefik {
    reach: Reach,
    edge: TestNamespace,
    /// What it consists of, in the cluster and in its namespace.
    parts: Value,
    node_port: u16,
}

/// Has the API server know the Gateway API, or no more.
///
/// # Errors
/// When `cargo xtask test` has not put the definitions into their place, or kubectl fails.
pub async fn gateway_api(wanted: bool) -> Result<()> {
    let definitions = repository().join("target/e2e/gateway-api");
    let definitions = definitions.to_str().context("the repository's path is not UTF-8")?;
    let arguments: &[&str] = match wanted {
        true => &["apply", "--server-side", "--force-conflicts", "-f", definitions],
        false => &["delete", "--ignore-not-found", "-f", definitions],
    };
    tools::kubectl(arguments).await?.success()?;
    if wanted {
        let established = ["wait", "--for=condition=Established", "--timeout=60s", "-f", definitions];
        tools::kubectl(&established).await?.success()?;
    }
    Ok(())
}

impl Traefik {
    /// Starts one in the namespace `edge`, and waits until it is ready. It looks at Gateways, or else at Ingresses.
    ///
    /// # Errors
    /// When it does not get ready in time.
    pub async fn begin(reach: &Reach, edge: TestNamespace, gateways: bool) -> Result<Self> {
        let parts = parts(&edge.name, gateways);
        tools::kubectl_with(&["apply", "-f", "-"], parts.to_string().as_bytes()).await?.success()?;
        let services: Api<Service> = Api::namespaced(reach.client.clone(), &edge.name);
        let ports = services.get("traefik").await?.spec.and_then(|spec| spec.ports).unwrap_or_default();
        let node_port = ports.first().and_then(|port| port.node_port).context("its Service has no port of the node")?;
        let traefik = Self { reach: reach.clone(), edge, parts, node_port: u16::try_from(node_port)? };
        let what = "Traefik to be ready";
        let ready = || async { Ok(traefik.reach.ready_pods(&traefik.edge.name, "app=traefik").await?.len()) };
        until(what, PATIENCE, ready, |ready| *ready == 1).await?;
        Ok(traefik)
    }

    /// `GET /` with this `Host`, from outside the cluster: at a port of the node.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, host: &str) -> Result<Answer> {
        let start = Instant::now();
        http::get_over(self.reach.node_port(self.node_port).await?, host, "/", start).await
    }

    /// Takes all of it away.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn end(self) -> Result<()> {
        let arguments = ["delete", "--ignore-not-found", "--wait=false", "-f", "-"];
        tools::kubectl_with(&arguments, self.parts.to_string().as_bytes()).await?.success()?;
        self.edge.delete().await
    }
}

/// Makes a Gateway of Traefik's, to which routes from every namespace may be attached.
///
/// # Errors
/// When the API server refuses.
pub async fn gateway(namespace: &str, name: &str) -> Result<()> {
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "gatewayClassName": CLASS,
            "listeners": [
                {"name": "web", "protocol": "HTTP", "port": PORT, "allowedRoutes": {"namespaces": {"from": "All"}}},
            ],
        },
    });
    tools::kubectl_with(&["apply", "-f", "-"], gateway.to_string().as_bytes()).await?.success()?;
    Ok(())
}

/// What is the whole cluster's has the namespace in its name, but for the class.
fn parts(namespace: &str, gateways: bool) -> Value {
    let name = format!("traefik-{namespace}");
    let class = match gateways {
        true => json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": CLASS},
            "spec": {"controllerName": "traefik.io/gateway-controller"},
        }),
        false => json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": CLASS},
            "spec": {"controller": "traefik.io/ingress-controller"},
        }),
    };
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules(),
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "traefik", "namespace": namespace}],
    });
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "traefik", "namespace": namespace}});
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "traefik", "namespace": namespace},
        "spec": {"type": "NodePort", "selector": {"app": "traefik"}, "ports": [{"port": 80, "targetPort": PORT}]},
    });
    let items = [class, role, binding, account, service, deployment(namespace, gateways)];
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// As Traefik's own documentation has them.
fn rules() -> Value {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let looks = ["get", "list", "watch"];
    let kinds = ["gatewayclasses", "gateways", "httproutes", "grpcroutes", "referencegrants", "backendtlspolicies"];
    let statuses = kinds.map(|kind| format!("{kind}/status"));
    json!([
        rule("", &["namespaces", "services", "secrets", "configmaps", "nodes"], &looks),
        rule("", &["pods"], &["get"]),
        rule("discovery.k8s.io", &["endpointslices"], &looks),
        rule("gateway.networking.k8s.io", &kinds, &looks),
        rule("gateway.networking.k8s.io", &statuses.each_ref().map(String::as_str), &["update"]),
        rule("networking.k8s.io", &["ingresses", "ingressclasses"], &looks),
        rule("networking.k8s.io", &["ingresses/status"], &["update"]),
    ])
}

fn deployment(namespace: &str, gateways: bool) -> Value {
    let mut arguments = vec![
        format!("--entrypoints.web.address=:{PORT}"),
        format!("--entrypoints.traefik.address=:{PING}"),
        "--ping=true".to_owned(),
        "--global.checknewversion=false".to_owned(),
        "--global.sendanonymoususage=false".to_owned(),
        "--log.level=INFO".to_owned(),
    ];
    if gateways {
        arguments.push("--providers.kubernetesgateway=true".to_owned());
    } else {
        arguments.push("--providers.kubernetesingress=true".to_owned());
        arguments.push(format!("--providers.kubernetesingress.ingressendpoint.ip={PUBLISHED}"));
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "traefik", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": "traefik"}},
            "template": {
                "metadata": {"labels": {"app": "traefik"}},
                "spec": {
                    "serviceAccountName": "traefik",
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": "traefik",
                        "image": format!("{}/test-traefik:dev", registry()),
                        "imagePullPolicy": "IfNotPresent",
                        "args": arguments,
                        "readinessProbe": {"httpGet": {"path": "/ping", "port": PING}, "periodSeconds": 1},
                        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                    }],
                },
            },
        },
    })
}

/// HTTPRoutes of a namespace.
pub fn routes(client: &Client, namespace: &str) -> Api<kube::api::DynamicObject> {
    let kind = kube::api::GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
    Api::namespaced_with(client.clone(), namespace, &kube::api::ApiResource::from_gvk(&kind))
}
