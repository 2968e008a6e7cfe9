//! Which revisions a Function must have: whether the spec needs a new one, which are kept, which may go.
//!
//! Pure. What always holds: a number is given once; the newest revision matches the spec; revisions with traffic, or named for it, and the
//! newest are never given up, and no other one before it is at zero.

use k8s_openapi::api::apps::v1::Deployment;
use pilotlight_crds::FunctionStatus;
use pilotlight_crds::status::RouteStatus;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::build::deployment::{Revision, revision_number};

/// Revisions without traffic that are kept, for going back.
pub const KEPT_REVISIONS: usize = 5;

/// What the choice of revisions depends on.
pub struct RevisionInput<'a> {
    /// Hash of the spec's parts that shape pods; `None` if the spec is invalid and nothing may be built from it.
    pub hash: Option<&'a str>,
    /// Builds the revision of this number from the spec.
    pub build: &'a dyn Fn(u64) -> Revision,
    /// The Function's `metadata.generation`.
    pub generation: Option<i64>,
    /// The status as it was written last.
    pub status: &'a FunctionStatus,
    /// The revisions that the author names in `spec.traffic`.
    pub named: &'a [&'a str],
    /// The Deployments that the Function owns.
    pub deployments: &'a [Arc<Deployment>],
    /// Revisions that this process has seen, by number.
    pub remembered: &'a BTreeMap<u64, Revision>,
}

/// What has to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RevisionPlan {
    /// Revisions whose Deployment must exist as it was built, newest first. The first is the newest of all, if there is any.
    pub wanted: Vec<Revision>,
    /// Numbers of the revisions whose Deployment may go.
    pub discarded: Vec<u64>,
    /// Whether the first of `wanted` did not exist before.
    pub creates: bool,
}

impl RevisionPlan {
    /// The newest revision.
    pub fn latest(&self) -> Option<&Revision> {
        self.wanted.first()
    }
}

/// Decides on the revisions.
pub fn plan(input: &RevisionInput<'_>) -> RevisionPlan {
    let mut known = known(input);
    let newest = newest_number(input, &known);
    let creates = ensure_newest(input, newest, &mut known);
    let latest = known.keys().next_back().copied();
    let used = used(input);
    let is_spare = |number: &u64| Some(*number) != latest && !used.contains(number);
    let mut discarded = Vec::new();
    let spare: Vec<u64> = known.keys().rev().copied().filter(is_spare).collect();
    for number in spare.into_iter().skip(KEPT_REVISIONS) {
        if at_zero(input.deployments, number) {
            known.remove(&number);
            discarded.push(number);
        }
    }
    RevisionPlan { wanted: known.into_values().rev().collect(), discarded, creates }
}

/// Numbers of the revisions that have traffic, or shall have some.
fn used(input: &RevisionInput<'_>) -> Vec<u64> {
    let route = input.status.route.as_ref();
    let served = route.map(RouteStatus::revisions).unwrap_or_default();
    let from = input.status.rollout.iter().map(|rollout| rollout.from.as_str());
    served.into_iter().chain(from).chain(input.named.iter().copied()).filter_map(number_of).collect()
}

/// The number in a revision's name.
fn number_of(name: &str) -> Option<u64> {
    name.rsplit_once('-')?.1.parse().ok()
}

/// What this process remembers is believed before what a Deployment's annotations say: those may have been changed.
fn known(input: &RevisionInput<'_>) -> BTreeMap<u64, Revision> {
    let mut known: BTreeMap<u64, Revision> = input
        .deployments
        .iter()
        .filter_map(|deployment| Revision::from_deployment(deployment))
        .map(|revision| (revision.number, revision))
        .collect();
    known.extend(input.remembered.iter().map(|(number, revision)| (*number, revision.clone())));
    known
}

fn newest_number(input: &RevisionInput<'_>, known: &BTreeMap<u64, Revision>) -> Option<u64> {
    let in_status = input.status.revisions.iter().filter_map(|revision| u64::try_from(revision.number).ok());
    let deployed = input.deployments.iter().filter_map(|d| revision_number(d));
    known.keys().copied().chain(in_status).chain(deployed).max()
}

/// Makes the newest revision match the spec. Returns whether that took a new one.
fn ensure_newest(input: &RevisionInput<'_>, newest: Option<u64>, known: &mut BTreeMap<u64, Revision>) -> bool {
    let Some(hash) = input.hash else {
        return false;
    };
    let number = match newest {
        None => 1,
        Some(number) => match known.get(&number) {
            Some(revision) if revision.hash == hash => return false,
            Some(_) => number + 1,
            // Its Deployment went while no operator ran. The spec is still the one that it was made from if nobody changed
            // it since.
            None if input.generation == input.status.observed_generation => {
                known.insert(number, (input.build)(number));
                return false;
            }
            None => number + 1,
        },
    };
    known.insert(number, (input.build)(number));
    true
}

fn at_zero(deployments: &[Arc<Deployment>], number: u64) -> bool {
    deployments.iter().filter(|deployment| revision_number(deployment) == Some(number)).all(|deployment| {
        let asked = deployment.spec.as_ref().and_then(|s| s.replicas);
        let there = deployment.status.as_ref().and_then(|s| s.replicas);
        asked == Some(0) && there.unwrap_or(0) == 0
    })
}

#[cfg(test)]
mod tests;
