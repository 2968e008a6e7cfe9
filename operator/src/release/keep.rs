//! Looks after the EndpointSlices, and after who owns which Function, while no operator does: during a release nobody leads, and neither a
//! Service nor another activator must go on to lead to an activator that goes.
//!
//! What always holds: a slice that leads somewhere is never emptied; what it is given instead accepts connections already.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use pilotlight_crds::names;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::TcpStream;

use super::owners::Owners;
use crate::observe::is_ready;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// For a connection to an activator to be accepted.
const CONNECT: Duration = Duration::from_millis(500);

/// What is to become of a slice.
#[derive(Debug, PartialEq)]
enum Step {
    /// It leads to nobody who goes, or not to activators.
    Nothing,
    /// These of its endpoints stay.
    Keep(Vec<Endpoint>),
    /// All of them go: another activator has to be found.
    Replace,
}

/// Decides. `ready` are the activators that stay, with their nodes.
fn decide(slice: &EndpointSlice, ready: &BTreeMap<IpAddr, Option<String>>) -> Step {
    // In a slice of Pilotlight's own, what names no pod is an activator: they live in another namespace.
    if slice.endpoints.is_empty() || slice.endpoints.iter().any(|endpoint| endpoint.target_ref.is_some()) {
        return Step::Nothing;
    }
    let stays = |endpoint: &&Endpoint| {
        let mut addresses = endpoint.addresses.iter().filter_map(|address| address.parse().ok());
        addresses.any(|ip: IpAddr| ready.contains_key(&ip))
    };
    let kept: Vec<Endpoint> = slice.endpoints.iter().filter(stays).cloned().collect();
    if kept.is_empty() {
        Step::Replace
    } else if kept.len() == slice.endpoints.len() {
        Step::Nothing
    } else {
        Step::Keep(kept)
    }
}

/// Keeps the slices right until it is dropped. `selector` selects the activators' pods in `namespace`.
pub(super) async fn keep(client: Client, namespace: &str, selector: &str) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let activators = ListParams::default().labels(selector);
    let mut owners = Owners::default();
    loop {
        look.tick().await;
        let pods = match pods.list(&activators).await {
            Ok(pods) => pods.items,
            Err(error) => {
                tracing::warn!(%error, "cannot look at the activators");
                continue;
            }
        };
        if let Err(error) = slices(&client, &pods).await {
            tracing::warn!(%error, "cannot look after the EndpointSlices");
        }
        if let Err(error) = owners.round(&client, &pods).await {
            tracing::warn!(%error, "cannot look after who owns Functions");
        }
    }
}

async fn slices(client: &Client, pods: &[Pod]) -> kube::Result<()> {
    let ready: BTreeMap<IpAddr, Option<String>> = pods.iter().filter_map(activator).collect();
    let ours = format!("{}={}", names::LABEL_SLICE_MANAGED_BY, names::SLICE_MANAGED_BY);
    let slices = Api::<EndpointSlice>::all(client.clone()).list(&ListParams::default().labels(&ours)).await?;
    for slice in slices {
        let endpoints = match decide(&slice, &ready) {
            Step::Nothing => continue,
            Step::Keep(endpoints) => endpoints,
            Step::Replace => match accepting(&slice, &ready).await {
                Some(endpoint) => vec![endpoint],
                // The pods themselves follow; until then it is as good as any other.
                None => continue,
            },
        };
        write(client, &slice, &endpoints).await?;
    }
    Ok(())
}

/// The address of an activator that is ready and stays.
fn activator(pod: &Pod) -> Option<(IpAddr, Option<String>)> {
    let ip = pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
    is_ready(pod).then(|| (ip, pod.spec.as_ref().and_then(|spec| spec.node_name.clone())))
}

/// Whether connections to this port are accepted.
pub(super) async fn accepts(ip: IpAddr, port: u16) -> bool {
    matches!(tokio::time::timeout(CONNECT, TcpStream::connect((ip, port))).await, Ok(Ok(_)))
}

/// An activator that accepts connections on the slice's port, as the slice's endpoint.
async fn accepting(slice: &EndpointSlice, ready: &BTreeMap<IpAddr, Option<String>>) -> Option<Endpoint> {
    let port = slice.ports.as_ref()?.first()?.port.and_then(|port| u16::try_from(port).ok())?;
    let before = slice.endpoints.first()?;
    for (ip, node) in ready {
        let same_family = ip.is_ipv4() == (slice.address_type == "IPv4");
        if same_family && accepts(*ip, port).await {
            return Some(Endpoint {
                addresses: vec![ip.to_string()],
                node_name: node.clone(),
                conditions: before.conditions.clone(),
                ..Endpoint::default()
            });
        }
    }
    None
}

/// On condition that nobody wrote it since it was read.
async fn write(client: &Client, slice: &EndpointSlice, endpoints: &[Endpoint]) -> kube::Result<()> {
    let (name, namespace) = (slice.name_any(), slice.namespace().unwrap_or_default());
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), &namespace);
    let patch = Patch::Merge(json!({
        "metadata": {"resourceVersion": slice.metadata.resource_version},
        "endpoints": endpoints,
    }));
    let by_operator = PatchParams { field_manager: Some(names::MANAGER_OPERATOR.to_owned()), ..PatchParams::default() };
    match slices.patch(&name, &by_operator, &patch).await {
        Ok(_) => tracing::info!(slice = name, namespace, "took an activator that goes out of an EndpointSlice"),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(endpoints: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json!({"addressType": "IPv4", "endpoints": endpoints, "metadata": {}})).unwrap()
    }

    fn ready(ips: &[&str]) -> BTreeMap<IpAddr, Option<String>> {
        ips.iter().map(|ip| (ip.parse().unwrap(), None)).collect()
    }

    #[test]
    fn who_goes_is_taken_out_and_nothing_is_ever_emptied() {
        let both = slice(json!([{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]));
        let one = slice(json!([{"addresses": ["10.0.0.1"]}]));
        assert_eq!(decide(&both, &ready(&["10.0.0.1", "10.0.0.2", "10.0.0.3"])), Step::Nothing);
        assert_eq!(decide(&both, &ready(&["10.0.0.1", "10.0.0.3"])), Step::Keep(one.endpoints.clone()));
        assert_eq!(decide(&both, &ready(&["10.0.0.3"])), Step::Replace);
        assert_eq!(decide(&one, &ready(&[])), Step::Replace);
        let failed_open =
            slice(json!([{"addresses": ["10.0.0.9"], "targetRef": {"kind": "Pod", "name": "hello-1-abc"}}]));
        assert_eq!(decide(&failed_open, &ready(&["10.0.0.1"])), Step::Nothing, "pods are not activators");
        assert_eq!(decide(&slice(json!([])), &ready(&["10.0.0.1"])), Step::Nothing);
    }
}
