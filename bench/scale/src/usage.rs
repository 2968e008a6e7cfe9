//! What Pilotlight's processes cost, as kubelet tells it (its stats summary): CPU time so far and resident memory.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use pilotlight_e2e::reach::SYSTEM_NAMESPACE;
use serde::Deserialize;

#[derive(Deserialize)]
struct Summary {
    pods: Vec<PodStats>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStats {
    pod_ref: PodRef,
    containers: Vec<ContainerStats>,
}

#[derive(Deserialize)]
struct PodRef {
    name: String,
    namespace: String,
}

#[derive(Deserialize)]
struct ContainerStats {
    name: String,
    cpu: Option<Cpu>,
    memory: Option<Memory>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cpu {
    time: Timestamp,
    usage_core_nano_seconds: Option<u64>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    rss_bytes: Option<u64>,
}

/// One container at one moment.
struct Moment {
    at: Timestamp,
    cpu_nanos: u64,
    rss_bytes: u64,
}

/// What all containers of Pilotlight have used so far, by component and pod.
pub(crate) struct Usage(BTreeMap<(String, String), Moment>);

/// What the costliest container of a component used over a stretch of time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) rss_mib: f64,
    pub(crate) cpu_percent: f64,
}

/// What operator and activator used over a stretch of time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Costs {
    pub(crate) operator: Cost,
    pub(crate) activator: Cost,
}

impl Usage {
    /// Reads it from every node's kubelet.
    pub(crate) async fn read(client: &Client) -> Result<Self> {
        let nodes: Api<Node> = Api::all(client.clone());
        let mut all = BTreeMap::new();
        for node in nodes.list(&ListParams::default()).await? {
            let path = format!("/api/v1/nodes/{}/proxy/stats/summary", node.name_any());
            let summary: Summary = client.request(Request::get(path).body(Vec::new())?).await?;
            for pod in summary.pods.into_iter().filter(|pod| pod.pod_ref.namespace == SYSTEM_NAMESPACE) {
                for container in pod.containers {
                    let (Some(cpu), Some(memory)) = (container.cpu, container.memory) else { continue };
                    let moment = Moment {
                        at: cpu.time,
                        cpu_nanos: cpu.usage_core_nano_seconds.context("kubelet tells of no CPU time")?,
                        rss_bytes: memory.rss_bytes.context("kubelet tells of no resident memory")?,
                    };
                    all.insert((container.name, pod.pod_ref.name.clone()), moment);
                }
            }
        }
        Ok(Self(all))
    }

    /// What was used since `before`; the memory is that of now.
    pub(crate) fn since(&self, before: &Self) -> Result<Costs> {
        let mut costs = Costs::default();
        for (key, now) in &self.0 {
            let cost = match key.0.as_str() {
                "operator" => &mut costs.operator,
                "activator" => &mut costs.activator,
                _ => continue,
            };
            let then = before.0.get(key).with_context(|| format!("{} was not there before", key.1))?;
            let nanos = now.at.duration_since(then.at).as_secs_f64() * 1e9;
            ensure!(nanos > 0.0, "kubelet has not looked at {} again", key.1);
            let percent = 100.0 * (now.cpu_nanos.saturating_sub(then.cpu_nanos)) as f64 / nanos;
            cost.cpu_percent = cost.cpu_percent.max(percent);
            cost.rss_mib = cost.rss_mib.max(now.rss_bytes as f64 / f64::from(1 << 20));
        }
        ensure!(
            costs.operator.rss_mib > 0.0 && costs.activator.rss_mib > 0.0,
            "kubelet does not tell of Pilotlight's pods"
        );
        Ok(costs)
    }
}
