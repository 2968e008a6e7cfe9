//! The EndpointSlice of a Function: where its Service leads.
//!
//! What always holds: all addresses are of one family (a slice can hold no more), sorted, and of ready endpoints only.

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use pilotlight_crds::workload::Protocol;
use pilotlight_crds::{Function, names};
use std::net::IpAddr;

use super::pod::port_name;
use super::service::app_protocol;
use super::{labels, owned_metadata};

/// Where one endpoint can be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Its address.
    pub ip: IpAddr,
    /// Its node.
    pub node: Option<String>,
    /// Name of the pod in the Function's own namespace; `None` for an activator, which lives elsewhere.
    pub pod: Option<String>,
}

/// What the slice holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Port that every address is reached on.
    pub port: u16,
    /// The addresses, all ready.
    pub addresses: Vec<Address>,
}

/// The EndpointSlice that leads to `target`. Where IPv4 and IPv6 are mixed, IPv4 is kept.
pub fn slice(function: &Function, protocol: Protocol, target: &Target) -> EndpointSlice {
    let port = EndpointPort {
        name: Some(port_name(protocol).to_owned()),
        app_protocol: Some(app_protocol(protocol).to_owned()),
        ..EndpointPort::default()
    };
    leading(metadata(function), port, target)
}

/// The EndpointSlice of a Service that a Function took over. The Service owns it, so that it goes with that, and not with the Function; its port has the name of
/// the Service's.
pub fn adopted_slice(function: &Function, service: &Service, target: &Target) -> EndpointSlice {
    let mut metadata = metadata(function);
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        name: service.metadata.name.clone().unwrap_or_default(),
        uid: service.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }]);
    let port = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).next();
    let port = EndpointPort {
        name: port.and_then(|port| port.name.clone()).filter(|name| !name.is_empty()),
        app_protocol: port.and_then(|port| port.app_protocol.clone()),
        ..EndpointPort::default()
    };
    leading(metadata, port, target)
}

fn metadata(function: &Function) -> ObjectMeta {
    let name = function.metadata.name.clone().unwrap_or_default();
    let mut labels = labels(&name);
    labels.insert(names::LABEL_SERVICE_NAME.to_owned(), name.clone());
    labels.insert(names::LABEL_SLICE_MANAGED_BY.to_owned(), names::SLICE_MANAGED_BY.to_owned());
    owned_metadata(function, names::endpoint_slice_name(&name), labels)
}

fn leading(metadata: ObjectMeta, port: EndpointPort, target: &Target) -> EndpointSlice {
    let v4 = target.addresses.iter().any(|a| a.ip.is_ipv4()) || target.addresses.is_empty();
    let mut addresses: Vec<_> = target.addresses.iter().filter(|a| a.ip.is_ipv4() == v4).collect();
    addresses.sort();
    addresses.dedup();
    let namespace = metadata.namespace.clone();
    EndpointSlice {
        metadata,
        address_type: if v4 { "IPv4" } else { "IPv6" }.to_owned(),
        endpoints: addresses.iter().map(|a| endpoint(a, namespace.as_deref())).collect(),
        ports: Some(vec![EndpointPort {
            port: Some(i32::from(target.port)),
            protocol: Some("TCP".to_owned()),
            ..port
        }]),
    }
}

fn endpoint(address: &Address, namespace: Option<&str>) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) }),
        node_name: address.node.clone(),
        target_ref: address.pod.as_ref().map(|pod| ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(pod.clone()),
            namespace: namespace.map(str::to_owned),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}
