//! Whether somebody beside Pilotlight writes the replicas of a Function's Deployments: a HorizontalPodAutoscaler, a GitOps tool, a person.
//!
//! Pure. Every write of a field leaves its writer's name in the object's managed fields, until another writer changes the field: the
//! autoscaler undoes a foreign write within moments, so the cache carries what it saw on from one version of a Deployment to the next. What
//! always holds: Pilotlight's own writes are never contention, and one that was not repeated for [`HOLD`] is over.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use crate::drift::is_ours;

/// How long after a foreign write it counts as one that goes on: two of the longest pauses between syncs that GitOps tools have by default.
pub const HOLD: SignedDuration = SignedDuration::from_mins(10);

/// Annotation that only lives in the operator's cache: the last foreign write of `replicas`, as JSON. It stands for the managed fields, which
/// the cache drops.
pub const CACHED_FOREIGN_REPLICAS: &str = "cache.pilotlight.dev/foreign-replicas";

/// A write of `replicas` that was not Pilotlight's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignWrite {
    /// The field manager: the writer's name for itself.
    manager: String,
    /// Whether it was a write of `/scale`, not of the Deployment.
    scale: bool,
    /// When it was made, or first seen: the API server notes no time for writes of `/scale`.
    at: Timestamp,
    /// Whether the newest version of the Deployment shows it: then nobody has written since.
    stands: bool,
}

/// The last foreign write of `replicas` that the managed fields show; `known` is the one of the version before.
fn foreign_write(
    managed_fields: &[ManagedFieldsEntry],
    known: Option<&ForeignWrite>,
    now: Timestamp,
) -> Option<ForeignWrite> {
    let foreign = managed_fields.iter().filter(|entry| !is_ours(entry)).filter_map(|entry| {
        entry.fields_v1.as_ref()?.0.pointer("/f:spec/f:replicas")?;
        let manager = entry.manager.clone().unwrap_or_default();
        let scale = entry.subresource.as_deref() == Some("scale");
        let same = known.filter(|known| known.stands && known.manager == manager && known.scale == scale);
        let at = entry.time.as_ref().map(|time| time.0).or(same.map(|known| known.at)).unwrap_or(now);
        Some(ForeignWrite { manager, scale, at, stands: true })
    });
    foreign.max_by_key(|write| write.at)
}

fn cached(deployment: &Deployment) -> Option<ForeignWrite> {
    serde_json::from_str(deployment.annotations().get(CACHED_FOREIGN_REPLICAS)?).ok()
}

/// What the cache keeps of the managed fields of a Deployment, as the value of [`CACHED_FOREIGN_REPLICAS`]; `before` is the same Deployment
/// as the cache had it.
pub fn to_cache(managed_fields: &[ManagedFieldsEntry], before: Option<&Deployment>, now: Timestamp) -> Option<String> {
    let known = before.and_then(cached);
    let shown = foreign_write(managed_fields, known.as_ref(), now);
    let past = known.map(|known| ForeignWrite { stands: false, ..known });
    let newest = past.into_iter().chain(shown).max_by_key(|write| write.at)?;
    serde_json::to_string(&newest).ok()
}

/// That somebody else writes the replicas of a Function's Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contention {
    deployment: String,
    write: ForeignWrite,
}

impl Contention {
    /// The newest foreign write of any of these Deployments, if it was within [`HOLD`] of `now`.
    pub fn of(deployments: &[Arc<Deployment>], now: Timestamp) -> Option<Self> {
        let found = deployments.iter().filter_map(|deployment| {
            let write = cached(deployment)?;
            (now.duration_since(write.at) < HOLD).then(|| Self { deployment: deployment.name_any(), write })
        });
        found.max_by_key(|contention| contention.write.at)
    }

    /// Whether it was before `then`: how many replicas a Deployment has before it is taken over is its owner's business.
    pub fn was_before(&self, then: Timestamp) -> bool {
        self.write.at <= then
    }

    /// When it is over, if it is not repeated.
    pub fn until(&self) -> Timestamp {
        self.write.at.saturating_add(HOLD).unwrap_or(Timestamp::MAX)
    }

    /// Who does what, and what to do about it.
    pub fn message(&self, function: &str) -> String {
        let ForeignWrite { manager, scale, .. } = &self.write;
        let deployment = &self.deployment;
        let way = if *scale { "by /scale" } else { "in its spec" };
        let remedy = match manager.as_str() {
            "kube-controller-manager" if *scale => format!(
                "delete the HorizontalPodAutoscaler whose target it is, and set spec.scaling of the Function {function} instead"
            ),
            kubectl if kubectl.starts_with("kubectl") => format!(
                "scale the Function instead: `kubectl scale function {function} --replicas N` sets spec.scaling.minReplicas"
            ),
            argo if argo.contains("argocd") => {
                "let the Application manage the Function only, or ignore /spec/replicas of Deployments in its ignoreDifferences".to_owned()
            }
            _ => format!("let it leave the replicas alone, and set spec.scaling of the Function {function} instead"),
        };
        format!(
            "{manager:?} wrote the replicas of Deployment {deployment} {way}; Pilotlight sets them by load and undoes that: {remedy}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, Time};
    use pilotlight_crds::names::{MANAGER_ACTIVATOR, MANAGER_AUTOSCALER};
    use serde_json::{Value, json};

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn entry(manager: &str, subresource: Option<&str>, at: i64, fields: Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            subresource: subresource.map(str::to_owned),
            time: Some(Time(second(at))),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        }
    }

    fn replicas() -> Value {
        json!({"f:spec": {"f:replicas": {}}})
    }

    /// The Deployment as the cache has it after each of these versions.
    fn deployment(versions: &[&[ManagedFieldsEntry]]) -> Arc<Deployment> {
        let seen: Vec<_> = versions.iter().map(|fields| (1_000, *fields)).collect();
        deployment_seen(&seen)
    }

    /// The same, with the second when each version was seen.
    fn deployment_seen(versions: &[(i64, &[ManagedFieldsEntry])]) -> Arc<Deployment> {
        let mut deployment = Deployment::default();
        for (now, fields) in versions {
            let mut next = Deployment::default();
            next.metadata.name = Some("hello-2".to_owned());
            if let Some(kept) = to_cache(fields, Some(&deployment), second(*now)) {
                next.annotations_mut().insert(CACHED_FOREIGN_REPLICAS.to_owned(), kept);
            }
            deployment = next;
        }
        Arc::new(deployment)
    }

    #[test]
    fn our_own_writes_and_other_fields_are_none() {
        let ours = [
            entry(MANAGER_AUTOSCALER, Some("scale"), 10, replicas()),
            entry(MANAGER_ACTIVATOR, Some("scale"), 11, replicas()),
            entry("pilotlight-create", None, 9, replicas()),
            entry("kube-controller-manager", Some("status"), 12, json!({"f:status": {"f:replicas": {}}})),
            entry("kubectl-rollout", None, 12, json!({"f:spec": {"f:template": {}}})),
        ];
        assert_eq!(Contention::of(&[deployment(&[&ours])], second(13)), None);
    }

    #[test]
    fn a_write_that_was_undone_at_once_is_still_told_for_a_while() {
        let hpa = [entry("kube-controller-manager", Some("scale"), 100, replicas())];
        let undone = [entry(MANAGER_AUTOSCALER, Some("scale"), 101, replicas())];
        let all = [deployment(&[&hpa, &undone])];
        let contention = Contention::of(&all, second(102)).unwrap();
        assert_eq!(contention.until(), second(700));
        assert!(Contention::of(&all, second(699)).is_some());
        assert_eq!(Contention::of(&all, second(700)), None);
        // Again and again: the newest counts.
        let again = [entry("kube-controller-manager", Some("scale"), 115, replicas())];
        let all = [deployment(&[&hpa, &undone, &again, &undone])];
        assert_eq!(Contention::of(&all, second(120)).unwrap().until(), second(715));
    }

    #[test]
    fn a_write_without_a_time_counts_from_when_it_was_first_seen() {
        let scaled = [ManagedFieldsEntry { time: None, ..entry("kubectl", Some("scale"), 0, replicas()) }];
        let undone = [entry(MANAGER_AUTOSCALER, Some("scale"), 101, replicas())];
        let until = |versions: &[(i64, &[ManagedFieldsEntry])]| {
            Contention::of(&[deployment_seen(versions)], second(200)).unwrap().until()
        };
        assert_eq!(until(&[(100, &scaled), (110, &scaled), (120, &undone), (130, &undone)]), second(700));
        assert_eq!(until(&[(100, &scaled), (120, &undone), (150, &scaled)]), second(750), "it was made again");
    }

    #[test]
    fn the_words_name_who_and_what_to_do() {
        let words = |manager: &str, subresource| {
            let all = [deployment(&[&[entry(manager, subresource, 100, replicas())]])];
            Contention::of(&all, second(101)).unwrap().message("hello")
        };
        let hpa = words("kube-controller-manager", Some("scale"));
        assert!(hpa.contains("HorizontalPodAutoscaler") && hpa.contains("hello-2 by /scale"), "{hpa}");
        let person = words("kubectl", Some("scale"));
        assert!(person.contains("kubectl scale function hello"), "{person}");
        let argo = words("argocd-controller", None);
        assert!(argo.contains("ignoreDifferences") && argo.contains("in its spec"), "{argo}");
        assert!(words("my-script", None).contains("set spec.scaling of the Function hello"));
    }
}
