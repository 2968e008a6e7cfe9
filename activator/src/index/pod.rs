//! What the data plane needs of a pod, as plain data: its address, how to tell that it answers, and why it does not start.
//!
//! Port, protocol and probes come from the pod itself rather than from the Function, because an older revision's pods may
//! differ from the present spec.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pilotlight_crds::diagnosis::{Diagnosis, cannot_come_back, diagnose, serves};
use pilotlight_crds::names;
use pilotlight_crds::park::{self, Parking};
use pilotlight_crds::throttle;
use pilotlight_crds::workload::Protocol;

use super::function::FunctionKey;

/// A pod of a Function.
#[derive(Clone, Debug, PartialEq)]
pub struct PodView {
    /// The pod's uid.
    pub uid: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
    /// Whose pod it is.
    pub function: FunctionKey,
    /// Which revision it runs.
    pub revision: Arc<str>,
    /// Where requests go, once the pod has an IP.
    pub address: Option<SocketAddr>,
    /// What it speaks there.
    pub protocol: Protocol,
    /// What must pass before it gets requests.
    pub checks: Vec<ProbeCheck>,
    /// It has a deletion timestamp.
    pub terminating: bool,
    /// Its phase is Succeeded or Failed.
    pub finished: bool,
    /// Kubernetes' own Ready condition.
    pub ready: bool,
    /// Why it does not start, where that shows.
    pub diagnosis: Option<Diagnosis>,
    /// What its beacon may say, and has said.
    pub beacon: PodBeacon,
    /// It is throttled, or is about to be: requests at it need its CPU back.
    pub throttled: bool,
    /// A placeholder is in the function's place, or is about to be: requests need the function back.
    pub parking: Option<Parking>,
    /// How often placeholder and function have changed places.
    pub turn: u64,
    /// Kubernetes says that the function's own process runs.
    pub function_runs: bool,
    /// Kubernetes says why the function of a pod that was parked does not come back.
    pub stuck: bool,
}

/// What a pod's beacon may say, and has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodBeacon {
    /// It may say something: the pod has one, and was made for its revision's Deployment.
    pub expected: bool,
    /// It has a node to run on.
    pub scheduled: bool,
    /// The port that requests go to.
    pub port: u16,
    /// The address was its word, and Kubernetes has not reported one yet.
    pub announced: bool,
    /// Somebody announced another pod's address for this one: nothing is believed about it any more.
    pub disputed: bool,
}

/// One thing to look at before a pod gets requests. All of a pod's checks must pass, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeCheck {
    /// A connection is accepted.
    Tcp {
        /// On this port.
        port: u16,
    },
    /// `GET` answers 200–399, as for kubelet, and not by a placeholder.
    Http {
        /// On this port.
        port: u16,
        /// Path with query.
        path: String,
        /// Extra header fields.
        headers: Vec<(String, String)>,
        /// How long it may take.
        timeout: Duration,
    },
    /// The pod's Ready condition is true: for exec, gRPC and HTTPS probes, which only kubelet can run.
    Kubernetes,
}

impl PodView {
    /// Extracts what the data plane needs; `None` for a pod without Pilotlight's labels.
    pub fn from_pod(pod: &Pod) -> Option<Self> {
        let labels = pod.metadata.labels.as_ref()?;
        let namespace = pod.metadata.namespace.as_deref()?;
        let function = FunctionKey::new(namespace, labels.get(names::LABEL_FUNCTION)?.as_str());
        let revision: Arc<str> = labels.get(names::LABEL_REVISION)?.as_str().into();
        let spec = pod.spec.as_ref()?;
        let container = spec.containers.iter().find(|c| c.name == names::CONTAINER)?;
        let (port, protocol) = serving_port(container)?;
        let status = pod.status.as_ref();
        let ip = status.and_then(|s| s.pod_ip.as_deref()).and_then(|ip| ip.parse::<IpAddr>().ok());
        let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
        Some(Self {
            uid: pod.metadata.uid.as_deref()?.into(),
            name: pod.metadata.name.as_deref()?.into(),
            beacon: PodBeacon {
                expected: expects_beacon(pod, &revision),
                scheduled: spec.node_name.as_ref().is_some_and(|node| !node.is_empty()),
                port,
                ..PodBeacon::default()
            },
            function,
            revision,
            address: ip.map(|ip| SocketAddr::new(ip, port)),
            protocol,
            checks: checks(container, port),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            finished: matches!(phase, "Succeeded" | "Failed"),
            // Of a pod that was parked Kubernetes' word may be about the placeholder.
            ready: serves(pod) && (park::turn(pod) == 0 || park::function_runs(pod)),
            diagnosis: diagnose(pod, &[]),
            throttled: throttle::to_give_back(pod).is_some(),
            parking: Parking::of(pod),
            turn: park::turn(pod),
            function_runs: park::function_runs(pod),
            stuck: cannot_come_back(pod),
        })
    }

    /// Whether it may get requests, now or later.
    pub fn is_live(&self) -> bool {
        !self.terminating && !self.finished
    }
}

/// Whether the pod has a beacon, and is controlled by a ReplicaSet of its revision's Deployment.
fn expects_beacon(pod: &Pod, revision: &str) -> bool {
    let has_one = pod.spec.iter().flat_map(|spec| &spec.containers).any(|c| c.name == names::BEACON_CONTAINER);
    let owners = pod.metadata.owner_references.iter().flatten();
    has_one
        && owners.filter(|owner| owner.controller == Some(true) && owner.kind == "ReplicaSet").any(|owner| {
            owner
                .name
                .strip_prefix(revision)
                .and_then(|rest| rest.strip_prefix('-'))
                .is_some_and(|hash| !hash.is_empty() && !hash.contains('-'))
        })
}

fn serving_port(container: &Container) -> Option<(u16, Protocol)> {
    let ports = container.ports.as_deref().unwrap_or_default();
    let named = |name: &str| ports.iter().find(|p| p.name.as_deref() == Some(name));
    let (port, protocol) = if let Some(port) = named("h2c") {
        (port, Protocol::H2C)
    } else {
        (named("http1").or(ports.first())?, Protocol::HTTP1)
    };
    Some((u16::try_from(port.container_port).ok()?, protocol))
}

fn checks(container: &Container, serving: u16) -> Vec<ProbeCheck> {
    let probes = [container.startup_probe.as_ref(), container.readiness_probe.as_ref()];
    let mut checks: Vec<ProbeCheck> = Vec::new();
    for probe in probes.into_iter().flatten() {
        let check = check(container, probe);
        if !checks.contains(&check) {
            checks.push(check);
        }
    }
    if checks.is_empty() {
        checks.push(ProbeCheck::Tcp { port: serving });
    }
    checks
}

fn check(container: &Container, probe: &Probe) -> ProbeCheck {
    if let Some(get) = &probe.http_get {
        let plain = get.scheme.as_deref().is_none_or(|s| s.eq_ignore_ascii_case("http"));
        if let (true, None, Some(port)) = (plain, &get.host, resolve(container, &get.port)) {
            let headers = get.http_headers.as_deref().unwrap_or_default();
            let path = get.path.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "/".into());
            return ProbeCheck::Http {
                port,
                path: if path.starts_with('/') { path } else { format!("/{path}") },
                headers: headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect(),
                timeout: Duration::from_secs(probe.timeout_seconds.unwrap_or(1).max(1).unsigned_abs().into()),
            };
        }
    }
    if let Some(tcp) = &probe.tcp_socket
        && let (None, Some(port)) = (&tcp.host, resolve(container, &tcp.port))
    {
        return ProbeCheck::Tcp { port };
    }
    ProbeCheck::Kubernetes
}

fn resolve(container: &Container, port: &IntOrString) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let ports = container.ports.as_deref().unwrap_or_default();
            ports.iter().find(|p| p.name.as_deref() == Some(name)).map(|p| p.container_port)?
        }
    };
    u16::try_from(number).ok().filter(|port| *port != 0)
}
