//! Whether somebody beside Pilotlight writes what is Pilotlight's to write: the replicas of a Function's Deployments, and the selector of a Service
//! that it has taken over. A HorizontalPodAutoscaler, a GitOps tool, a person.
//!
//! Pure. Every write of a field leaves its writer's name in the object's managed fields, until another writer changes the field: Pilotlight
//! undoes a foreign write within moments, so the cache carries what it saw on from one version of an object to the next. What
//! always holds: Pilotlight's own writes are never contention, and one that was not repeated for [`HOLD`] is over.

mod words;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;
use pilotlight_crds::condition;
use serde::{Deserialize, Serialize};

use crate::drift::is_ours;

/// How long after a foreign write it counts as one that goes on: two of the longest pauses between syncs that GitOps tools have by default.
pub const HOLD: SignedDuration = SignedDuration::from_mins(10);

/// A field that nobody but Pilotlight should write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The replicas of a Deployment.
    Replicas,
    /// The selector of a Service that was taken over.
    Selector,
}

impl Field {
    /// Annotation that only lives in the operator's cache: the last foreign write of the field, as JSON. It stands for the managed fields,
    /// which the cache drops.
    pub const fn cached(self) -> &'static str {
        match self {
            Self::Replicas => "cache.pilotlight.dev/foreign-replicas",
            Self::Selector => "cache.pilotlight.dev/foreign-selector",
        }
    }

    /// The condition that tells of it.
    pub const fn condition(self) -> &'static str {
        match self {
            Self::Replicas => condition::REPLICAS_CONTESTED,
            Self::Selector => condition::SELECTOR_CONTESTED,
        }
    }

    /// Where managed fields have it.
    const fn path(self) -> &'static str {
        match self {
            Self::Replicas => "/f:spec/f:replicas",
            Self::Selector => "/f:spec/f:selector",
        }
    }

    fn read(self, object: &impl ResourceExt) -> Option<ForeignWrite> {
        serde_json::from_str(object.annotations().get(self.cached())?).ok()
    }
}

/// A write that was not Pilotlight's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignWrite {
    /// The field manager: the writer's name for itself.
    manager: String,
    /// Whether it was a write of `/scale`, not of the object.
    scale: bool,
    /// When it was made, or first seen: the API server notes no time for writes of `/scale`.
    at: Timestamp,
    /// Whether the newest version of the object shows it: then nobody has written since.
    stands: bool,
}

/// The last foreign write of the field that the managed fields show; `known` is the one of the version before, and what has no time was made at `seen`.
fn foreign_write(
    field: Field,
    managed_fields: &[ManagedFieldsEntry],
    known: Option<&ForeignWrite>,
    seen: Timestamp,
) -> Option<ForeignWrite> {
    let foreign = managed_fields.iter().filter(|entry| !is_ours(entry)).filter_map(|entry| {
        entry.fields_v1.as_ref()?.0.pointer(field.path())?;
        let manager = entry.manager.clone().unwrap_or_default();
        let scale = entry.subresource.as_deref() == Some("scale");
        let same = known.filter(|known| known.stands && known.manager == manager && known.scale == scale);
        let at = entry.time.as_ref().map(|time| time.0).or(same.map(|known| known.at)).unwrap_or(seen);
        Some(ForeignWrite { manager, scale, at, stands: true })
    });
    foreign.max_by_key(|write| write.at)
}

/// What the cache keeps of the managed fields of an object, as the value of [`Field::cached`]; `before` is the same object as the cache had it.
pub fn to_cache(
    field: Field,
    managed_fields: &[ManagedFieldsEntry],
    before: Option<&impl ResourceExt>,
    now: Timestamp,
) -> Option<String> {
    let known = before.and_then(|before| field.read(before));
    // How long ago it was that is there at the first look, nobody can tell: whoever goes on will write again.
    let seen = if before.is_some() { now } else { Timestamp::UNIX_EPOCH };
    let shown = foreign_write(field, managed_fields, known.as_ref(), seen);
    let past = known.map(|known| ForeignWrite { stands: false, ..known });
    let newest = past.into_iter().chain(shown).max_by_key(|write| write.at)?;
    serde_json::to_string(&newest).ok()
}

/// That somebody else writes what is Pilotlight's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contention {
    field: Field,
    /// Name of the Deployment or Service.
    object: String,
    write: ForeignWrite,
}

impl Contention {
    /// The newest foreign write of the replicas of any of these Deployments, if it was within [`HOLD`] of `now`.
    pub fn of_replicas(deployments: &[Arc<Deployment>], now: Timestamp) -> Option<Self> {
        let found = deployments.iter().filter_map(|deployment| Self::of(Field::Replicas, deployment.as_ref(), now));
        found.max_by_key(|contention| contention.write.at)
    }

    /// The newest foreign write of the Service's selector, if it was within [`HOLD`] of `now`.
    pub fn of_selector(service: &Service, now: Timestamp) -> Option<Self> {
        Self::of(Field::Selector, service, now)
    }

    fn of(field: Field, object: &impl ResourceExt, now: Timestamp) -> Option<Self> {
        let write = field.read(object)?;
        (now.duration_since(write.at) < HOLD).then(|| Self { field, object: object.name_any(), write })
    }

    /// What is contested.
    pub fn field(&self) -> Field {
        self.field
    }

    /// Whether it was before `then`: what the owner writes before Pilotlight takes over is the owner's business.
    pub fn was_before(&self, then: Timestamp) -> bool {
        self.write.at <= then
    }

    /// When it is over, if it is not repeated.
    pub fn until(&self) -> Timestamp {
        self.write.at.saturating_add(HOLD).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests;
