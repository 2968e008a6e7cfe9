//! Which revision gets the traffic.
//!
//! Pure. What always holds: traffic goes to the newest revision that proved itself, and moves there only when enough of its
//! pods are ready for the load that the old one bears, or the wait for them was long enough.

use pilotlight_crds::FunctionSpec;
use pilotlight_crds::status::RevisionState;
use std::time::Duration;

use super::Verdict;

/// How long a ready revision waits for as many ready pods as the old one has.
pub const PROMOTION_PATIENCE: Duration = Duration::from_secs(30);

/// Which revision gets the traffic, and which is being made ready for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The revision that gets it now.
    pub revision: Option<String>,
    /// The revision that will get it, while it still needs pods.
    pub promotion: Option<Promotion>,
}

/// A revision that proved itself and needs pods before it takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// Its name.
    pub revision: String,
    /// Pods that it needs.
    pub replicas: u32,
}

impl Traffic {
    /// Decides. `verdicts` are newest first, `current` is the revision that had the traffic, and `waited` is for how long the
    /// revision that proved itself has been waiting for pods.
    pub fn decide(spec: &FunctionSpec, verdicts: &[Verdict], current: Option<&str>, waited: Duration) -> Self {
        // Nothing tries a revision that starts with no pod but a request: it gets the requests at once.
        let eligible = |v: &&Verdict| {
            v.state == RevisionState::Ready || (v.state == RevisionState::Pending && spec.scaling.initial_replicas == 0)
        };
        let Some(next) = verdicts.iter().find(eligible).or(verdicts.first()) else {
            return Self::default();
        };
        let settled = Self { revision: Some(next.name.clone()), promotion: None };
        let old = verdicts.iter().find(|v| Some(v.name.as_str()) == current && v.name != next.name);
        let Some(old) = old else { return settled };
        let needed = u32::try_from(old.evidence.ready).unwrap_or(0).min(spec.scaling.max_replicas);
        let ready = u32::try_from(next.evidence.ready).unwrap_or(0);
        if next.state != RevisionState::Ready || ready >= needed || waited >= PROMOTION_PATIENCE {
            return settled;
        }
        Self {
            revision: Some(old.name.clone()),
            promotion: Some(Promotion { revision: next.name.clone(), replicas: needed }),
        }
    }
}
