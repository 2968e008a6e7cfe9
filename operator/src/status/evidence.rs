//! What the pods of a revision show: how many there are, how many are ready, and what keeps them from it.
//!
//! Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use pilotlight_crds::diagnosis::{BeaconState, Diagnosis, Reason, beacon_state, diagnose, diagnose_refusal};
use pilotlight_crds::names;

use crate::observe::{Observed, counts, is_ready};

/// What the pods of one revision show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Pods that exist and are not going away.
    pub replicas: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// What keeps the pods from starting; only where none is ready.
    pub diagnosis: Option<Diagnosis>,
    /// How the beacons of the pods fare, the worst of them; `None` while none tells.
    pub beacon: Option<BeaconState>,
}

/// How long a container may run with failing probes before that tells anything: all of them fail while it starts.
pub const PROBE_GRACE: SignedDuration = SignedDuration::from_secs(10);

/// Looks at the pods of `revision`.
pub fn of(revision: &str, observed: &Observed, now: Timestamp) -> Evidence {
    let pods: Vec<_> = observed.pods_of(revision).filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let replicas = pods.iter().filter(|pod| counts(pod)).count();
    let from_pods = pods.iter().filter_map(|pod| {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let events = observed.pod_events.get(uid).map(Vec::as_slice);
        diagnose(pod, events.unwrap_or_default())
            .filter(|d| d.reason != Reason::ProbeFailing || !just_started(pod, now))
    });
    let refused = observed.deployment(revision).and_then(|deployment| refusal(deployment));
    Evidence {
        replicas: count(replicas),
        ready: count(ready),
        diagnosis: if ready > 0 { None } else { Diagnosis::most_telling(from_pods.chain(refused)) },
        beacon: worst(pods.iter().filter_map(|pod| beacon_state(pod))),
    }
}

/// One that fails, where one does.
pub fn worst(states: impl Iterator<Item = BeaconState>) -> Option<BeaconState> {
    states.max_by_key(|state| *state != BeaconState::Runs)
}

/// Why not even pods are created. A Deployment that wants none is refused none.
fn refusal(deployment: &Deployment) -> Option<Diagnosis> {
    deployment.spec.as_ref()?.replicas.filter(|n| *n > 0)?;
    deployment
        .status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "ReplicaFailure" && c.status == "True")
        .and_then(|c| diagnose_refusal(c.message.as_deref().unwrap_or_default()))
}

/// Whether the container runs for the first time, and not for long.
fn just_started(pod: &Pod, now: Timestamp) -> bool {
    pod.status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .filter(|status| status.name == names::CONTAINER && status.restart_count == 0)
        .filter_map(|status| status.state.as_ref()?.running.as_ref()?.started_at.as_ref())
        .any(|started| now.duration_since(started.0) < PROBE_GRACE)
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
