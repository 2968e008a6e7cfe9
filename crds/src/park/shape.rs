//! Which functions a placeholder can stand in for. Of a running pod only the image can be changed: command, arguments, environment, ports and
//! probes stay the author's, and the placeholder has to live with them.
//!
//! What always holds: whatever kubelet asks of a function that is fit, the placeholder can answer.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Port on which a placeholder says what it is, so that nobody takes it for the function.
pub const PORT: u16 = 9095;
/// Environment variable of the function's container: ports of its probes besides `PORT`, separated by commas. Absent where there are none.
pub const ENV_PROBE_PORTS: &str = "PILOTLIGHT_PROBE_PORTS";
/// Below it a process needs a capability to listen, which the placeholder may not have.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Why a placeholder cannot stand in for this container, and what helps. `None`: it can.
pub fn unfit(container: &Container) -> Option<String> {
    if container.command.as_ref().is_some_and(|command| !command.is_empty()) {
        return Some("spec.command names a program of the function's own image, which the placeholder does not have; make it the image's entry point and leave spec.command out".to_owned());
    }
    for (name, probe) in probes(container) {
        if let Some(why) = unanswerable(probe) {
            return Some(format!("spec.{name} {why}"));
        }
    }
    let serving = serving_port(container)?;
    let told = env(container, ENV_PROBE_PORTS);
    let told: BTreeSet<u16> = told.unwrap_or_default().split(',').filter_map(|port| port.parse().ok()).collect();
    let probed = probe_ports(container);
    if let Some(port) = probed.difference(&told).next() {
        return Some(format!(
            "its pods were made by an earlier version of Pilotlight and do not tell the placeholder of port {port}; a new revision does"
        ));
    }
    let mut all = probed.into_iter().chain([serving]);
    match all.find(|port| *port < FIRST_UNPRIVILEGED || *port == PORT) {
        Some(PORT) => Some(format!("it uses port {PORT}, which is the placeholder's own; use another")),
        Some(port) => Some(format!(
            "it listens on port {port}, which takes a privilege that the placeholder does not have; use one of {FIRST_UNPRIVILEGED} or more"
        )),
        None => None,
    }
}

/// The ports of a container's probes besides the one that it serves on.
pub fn probe_ports(container: &Container) -> BTreeSet<u16> {
    let serving = serving_port(container);
    let ports = probes(container).filter_map(|(_, probe)| port_of(container, probe));
    ports.filter(|port| Some(*port) != serving).collect()
}

fn probes(container: &Container) -> impl Iterator<Item = (&'static str, &Probe)> {
    let all = [
        ("startupProbe", container.startup_probe.as_ref()),
        ("readinessProbe", container.readiness_probe.as_ref()),
        ("livenessProbe", container.liveness_probe.as_ref()),
    ];
    all.into_iter().filter_map(|(name, probe)| Some((name, probe?)))
}

fn unanswerable(probe: &Probe) -> Option<&'static str> {
    if probe.exec.is_some() {
        return Some(
            "runs a program of the function's own image, which the placeholder does not have; use httpGet, tcpSocket or grpc",
        );
    }
    let get = probe.http_get.as_ref();
    if get.is_some_and(|get| get.scheme.as_deref().is_some_and(|scheme| !scheme.eq_ignore_ascii_case("http"))) {
        return Some("asks by HTTPS, and the placeholder has no certificate; use the scheme HTTP, tcpSocket or grpc");
    }
    let named = get.is_some_and(|get| {
        get.http_headers.iter().flatten().any(|header| header.name.eq_ignore_ascii_case("user-agent"))
    });
    if named {
        return Some("sets User-Agent, by which the placeholder tells kubelet from others; leave it out");
    }
    let host =
        get.is_some_and(|get| get.host.is_some()) || probe.tcp_socket.as_ref().is_some_and(|tcp| tcp.host.is_some());
    host.then_some("asks another host than the pod, which says nothing of it; leave host out")
}

fn port_of(container: &Container, probe: &Probe) -> Option<u16> {
    let port = match (&probe.http_get, &probe.tcp_socket, &probe.grpc) {
        (Some(get), _, _) => &get.port,
        (_, Some(tcp), _) => &tcp.port,
        (_, _, Some(grpc)) => return u16::try_from(grpc.port).ok(),
        _ => return None,
    };
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name))?.container_port
        }
    };
    u16::try_from(number).ok()
}

fn serving_port(container: &Container) -> Option<u16> {
    env(container, "PORT")?.parse().ok()
}

/// A variable's value; of several the last counts, as for Kubernetes.
fn env<'c>(container: &'c Container, name: &str) -> Option<&'c str> {
    let found = container.env.iter().flatten().rev().find(|variable| variable.name == name);
    found?.value.as_deref()
}
