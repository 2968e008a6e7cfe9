//! From flags and a Service to what beacons are built from. Beacons get addresses, not a name: a pod may have no DNS, and a lookup would
//! cost some of the time that a beacon gains.
//!
//! What always holds: until the Service was read once, nothing is known, and no Deployment is changed for that.

use anyhow::{Context as _, bail};
use arc_swap::ArcSwapOption;
use k8s_openapi::api::core::v1::{PodTemplateSpec, Service};
use kube::{Api, Client};
use pilotlight_crds::FunctionSpec;
use pilotlight_crds::names::BEACON_PORT;
use pilotlight_crds::policy::Beacon;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::build::beacon::{Pilot, Wanted, container};
use crate::cli::BeaconArgs;

/// Knows what beacons are built from.
pub struct PilotSource {
    args: BeaconArgs,
    services: Api<Service>,
    known: ArcSwapOption<Pilot>,
}

impl PilotSource {
    /// Reads the Service from `namespace`, Pilotlight's own.
    pub fn new(client: Client, namespace: &str, args: BeaconArgs) -> Self {
        Self { args, services: Api::namespaced(client, namespace), known: ArcSwapOption::empty() }
    }

    /// Which beacon the pods of `revision` should have.
    pub fn wanted(&self, function: &str, spec: &FunctionSpec, revision: &str, template: &PodTemplateSpec) -> Wanted {
        if self.args.image().is_none() || spec.cold_start.beacon == Beacon::Disabled {
            return Wanted::None;
        }
        match self.known.load_full() {
            Some(pilot) => Wanted::This(Box::new(container(&pilot, function, revision, template))),
            None => Wanted::Unknown,
        }
    }

    /// Reads the Service again. `true` where something changed.
    pub async fn refresh(&self) -> bool {
        let Some(image) = self.args.image() else { return false };
        let activators = match self.read().await {
            Ok(activators) => activators,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "cannot read where activators listen for beacons");
                return false;
            }
        };
        let pilot = Pilot { image: image.to_owned(), pull_policy: self.args.beacon_pull_policy.clone(), activators };
        let changed = self.known.load().as_deref() != Some(&pilot);
        if changed {
            tracing::info!(image = pilot.image, activators = ?pilot.activators, "pods get beacons");
            self.known.store(Some(Arc::new(pilot)));
        }
        changed
    }

    async fn read(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let name = &self.args.beacon_service;
        let service = self.services.get(name).await.with_context(|| format!("--beacon-service {name}"))?;
        let activators = addresses(&service);
        if activators.is_empty() {
            bail!("--beacon-service {name}: it has no cluster IP; it must be of type ClusterIP and not headless");
        }
        Ok(activators)
    }
}

/// A Service's addresses, with its first port.
fn addresses(service: &Service) -> Vec<SocketAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let port = spec.ports.iter().flatten().next().and_then(|port| u16::try_from(port.port).ok());
    let ips = spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse::<IpAddr>().ok());
    ips.map(|ip| SocketAddr::new(ip, port.unwrap_or(BEACON_PORT))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_address_of_the_service_counts_and_a_headless_one_has_none() {
        let service = |ips: &[&str]| {
            let spec = json!({"spec": {"clusterIPs": ips, "ports": [{"port": 19092}]}});
            addresses(&serde_json::from_value(spec).unwrap())
        };
        let both: Vec<SocketAddr> = vec!["10.96.0.9:19092".parse().unwrap(), "[fd00::9]:19092".parse().unwrap()];
        assert_eq!(service(&["10.96.0.9", "fd00::9"]), both);
        assert!(service(&["None"]).is_empty());
    }
}
