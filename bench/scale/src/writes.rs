//! Who wrote how often: the API server's own counters, and the operators'.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use http::Request;
use kube::{Client, ResourceExt as _};
use pilotlight_e2e::reach::{OPERATORS, Reach, SYSTEM_NAMESPACE};

/// Writes so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writes {
    /// By resource, Leases and Events left out; of everybody.
    server: BTreeMap<String, u64>,
    /// Of Functions' objects and their status, by the operators.
    operator: u64,
    /// Seconds and number of the leader's comparisons of all Functions with what it knows of them.
    ticks: (f64, f64),
}

impl Writes {
    /// Reads them from the API server and the operators.
    pub(crate) async fn read(client: &Client) -> Result<Self> {
        let mut writes = Self::default();
        let served = client.request_text(Request::get("/metrics").body(Vec::new())?).await?;
        for line in served.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let writing = ["POST", "PUT", "PATCH", "APPLY", "DELETE"].iter().any(|verb| label(line, "verb") == *verb);
            let resource = label(line, "resource");
            // Reviews ask, and write nothing.
            let counted = !["leases", "events", "tokens", "serviceaccounts"].contains(&resource)
                && !resource.ends_with("reviews");
            if writing && counted && label(line, "code").starts_with('2') {
                let subresource = label(line, "subresource");
                let name =
                    if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
                *writes.server.entry(name).or_default() += value(line)? as u64;
            }
        }
        let reach = Reach::connect().await?;
        for pod in reach.ready_pods(SYSTEM_NAMESPACE, OPERATORS).await? {
            let path = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods/{}:9090/proxy/metrics", pod.name_any());
            let told = client.request_text(Request::get(path).body(Vec::new())?).await?;
            for line in told.lines() {
                if line.starts_with("pilotlight_operator_writes_total") {
                    writes.operator += value(line)? as u64;
                } else if line.starts_with("pilotlight_operator_tick_duration_seconds_sum") {
                    writes.ticks.0 += value(line)?;
                } else if line.starts_with("pilotlight_operator_tick_duration_seconds_count") {
                    writes.ticks.1 += value(line)?;
                }
            }
        }
        Ok(writes)
    }

    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.server.values().sum()
    }

    /// Those of the operators alone.
    pub(crate) fn by_operator(&self) -> u64 {
        self.operator
    }

    /// By resource, what there was of it.
    pub(crate) fn by_resource(&self) -> impl Iterator<Item = (&str, u64)> {
        self.server.iter().map(|(resource, writes)| (resource.as_str(), *writes))
    }

    /// The mean time of a tick, in ms.
    pub(crate) fn tick_ms(&self) -> Option<f64> {
        (self.ticks.1 > 0.0).then(|| 1e3 * self.ticks.0 / self.ticks.1)
    }

    /// Those since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let server = self.server.iter().filter_map(|(resource, now)| {
            let more = now.saturating_sub(before.server.get(resource).copied().unwrap_or(0));
            (more > 0).then(|| (resource.clone(), more))
        });
        Self {
            server: server.collect(),
            operator: self.operator.saturating_sub(before.operator),
            ticks: (self.ticks.0 - before.ticks.0, self.ticks.1 - before.ticks.1),
        }
    }
}

/// A label's value in a line of the text format; empty where it is absent.
fn label<'a>(line: &'a str, name: &str) -> &'a str {
    let found = line.split(['{', ',']).find_map(|part| part.strip_prefix(name)?.strip_prefix("=\""));
    found.and_then(|rest| rest.split('"').next()).unwrap_or_default()
}

fn value(line: &str) -> Result<f64> {
    let number = line.rsplit(' ').next().context("an empty line")?;
    number.parse().with_context(|| format!("no number: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_metrics_is_read() {
        let line = r#"apiserver_request_total{code="200",component="apiserver",dry_run="",group="apps",resource="deployments",scope="resource",subresource="status",verb="PUT",version="v1"} 12"#;
        assert_eq!((label(line, "verb"), label(line, "subresource"), label(line, "dry_run")), ("PUT", "status", ""));
        assert_eq!(label(line, "resource"), "deployments");
        assert!((value(line).unwrap() - 12.0).abs() < f64::EPSILON);
        assert!(value("apiserver_request_total{}").is_err());
    }

    #[test]
    fn a_difference_leaves_out_what_did_not_change() {
        let of = |pods, services| Writes {
            server: BTreeMap::from([("pods".to_owned(), pods), ("services".to_owned(), services)]),
            operator: pods + services,
            ticks: (0.0, 0.0),
        };
        let more = of(5, 7).since(&of(5, 3));
        assert_eq!(more.by_resource().collect::<Vec<_>>(), [("services", 4)]);
        assert_eq!((more.total(), more.by_operator(), more.tick_ms()), (4, 4, None));
    }
}
