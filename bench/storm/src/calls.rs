//! What a storm asks of the container runtime, as kubelet counts it: on few cores, these calls are what a storm spends.

use anyhow::{Context as _, Result};
use http::Request;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

/// The calls that change something; kubelet's regular looks are left out.
const CHANGES: [&str; 7] = [
    "run_podsandbox",
    "stop_podsandbox",
    "create_container",
    "start_container",
    "stop_container",
    "remove_container",
    "update_container",
];

/// Calls so far, on all nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls(f64);

impl Calls {
    /// Reads them from every node's kubelet.
    pub(crate) async fn read(client: &Client) -> Result<Self> {
        let nodes: Api<Node> = Api::all(client.clone());
        let mut all = 0.0;
        for node in nodes.list(&ListParams::default()).await? {
            let path = format!("/api/v1/nodes/{}/proxy/metrics", node.name_any());
            let told = client.request_text(Request::get(path).body(Vec::new())?).await?;
            all += changes(&told)?;
        }
        Ok(Self(all))
    }

    /// How many there were since `before`.
    pub(crate) fn since(self, before: &Self) -> f64 {
        self.0 - before.0
    }
}

fn changes(metrics: &str) -> Result<f64> {
    let counted = |line: &&str| {
        let labels = line.strip_prefix("kubelet_runtime_operations_total{");
        labels.is_some_and(|labels| CHANGES.iter().any(|call| labels.contains(&format!("operation_type=\"{call}\""))))
    };
    let values = metrics.lines().filter(counted).map(|line| {
        let number = line.rsplit(' ').next().context("an empty line")?;
        number.parse::<f64>().with_context(|| format!("no number: {line}"))
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_change_something_are_counted() {
        let metrics = "# TYPE kubelet_runtime_operations_total counter\n\
            kubelet_runtime_operations_total{operation_type=\"create_container\"} 12\n\
            kubelet_runtime_operations_total{operation_type=\"container_status\"} 900\n\
            kubelet_runtime_operations_total{operation_type=\"run_podsandbox\"} 6\n\
            kubelet_runtime_operations_errors_total{operation_type=\"run_podsandbox\"} 1\n";
        assert!((changes(metrics).unwrap() - 18.0).abs() < f64::EPSILON);
    }
}
