//! What a cluster did not do with the pods of one revision when it was tried: the rungs that they could not be put on, and that their requests did not shrink
//! once they were parked. Pure.
//!
//! What always holds: what is remembered was seen of this revision's own pods, and is forgotten once it works, or with the revision; an answer that is over in
//! a moment is no refusal, nor is one that may be about the pod as it was just then, until it comes again and again.

use std::collections::BTreeMap;

use pilotlight_scaling::Rung;

use super::cluster::ClusterError;
use super::situation::{Step, StepKind};
use super::stepdown::StepOutcome;

/// Answers of an API server that say nothing of what was asked for: who asks, and when.
const PASSING: [u16; 3] = [401, 408, 429];

/// What an API server answers where a policy or its own rules do not let an object become what was asked for: by what the cluster is like, or by
/// what somebody else was changing.
const UNFIT: u16 = 422;
/// So often in a row that counts.
const TIMES: u32 = 3;

/// What was seen of a revision's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// They could not be put on a rung, for this reason.
    Refused(Rung, String),
    /// The same, but they may be able to in a moment.
    Unfit(Rung, String),
    /// They could be put on it.
    Moved(Rung),
    /// Parked, they reserve as much as before.
    Rigid,
    /// Parked, they reserve less.
    Shrunk,
}

impl Seen {
    /// What a step that ended shows. `None`: nothing that lasts.
    pub(super) fn of(step: &Step, outcome: &StepOutcome) -> Option<Self> {
        let shrinks = step.kind == StepKind::Shrink;
        match (step.rung(), outcome) {
            (_, StepOutcome::Failed(ClusterError::Refused { code: 0, .. })) => None,
            (_, StepOutcome::Failed(ClusterError::Refused { code, .. })) if PASSING.contains(code) => None,
            (Some(rung), StepOutcome::Failed(ClusterError::Refused { code: UNFIT, message })) => {
                Some(Self::Unfit(rung, message.clone()))
            }
            (Some(rung), StepOutcome::Failed(ClusterError::Refused { message, .. })) => {
                Some(Self::Refused(rung, message.clone()))
            }
            (Some(rung), StepOutcome::Moved { pods: 1.. }) => Some(Self::Moved(rung)),
            (None, StepOutcome::Failed(ClusterError::Refused { .. })) if shrinks => Some(Self::Rigid),
            (None, StepOutcome::Moved { pods: 1.. }) if shrinks => Some(Self::Shrunk),
            _ => None,
        }
    }
}

/// What is remembered of one Function's revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusals {
    revision: String,
    rungs: BTreeMap<Rung, String>,
    /// How often in a row pods did not fit a rung.
    unfit: BTreeMap<Rung, u32>,
    rigid: bool,
}

impl Refusals {
    /// Takes note of what was seen of a revision. Whether that changed anything.
    pub(super) fn note(&mut self, revision: &str, seen: Seen) -> bool {
        let before = self.clone();
        if self.revision != revision {
            *self = Self { revision: revision.to_owned(), ..Self::default() };
        }
        match seen {
            Seen::Refused(rung, why) => drop(self.rungs.insert(rung, why)),
            Seen::Unfit(rung, why) => {
                let times = self.unfit.entry(rung).or_default();
                *times = times.saturating_add(1);
                if *times >= TIMES {
                    self.rungs.insert(rung, why);
                }
            }
            Seen::Moved(rung) => {
                self.unfit.remove(&rung);
                self.rungs.remove(&rung);
            }
            Seen::Rigid => self.rigid = true,
            Seen::Shrunk => self.rigid = false,
        }
        (&self.rungs, self.rigid) != (&before.rungs, before.rigid)
    }

    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.rungs.is_empty() && self.unfit.is_empty() && !self.rigid
    }

    /// The rungs that were refused last, and why.
    pub(super) fn rungs(&self) -> &BTreeMap<Rung, String> {
        &self.rungs
    }

    /// Whether a revision's pods could not be put on a rung.
    pub(super) fn refuses(&self, revision: &str, rung: Rung) -> bool {
        self.revision == revision && self.rungs.contains_key(&rung)
    }

    /// Whether a revision's parked pods reserve as much as others.
    pub(super) fn is_rigid(&self, revision: &str) -> bool {
        self.revision == revision && self.rigid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(kind: StepKind, outcome: &StepOutcome) -> Option<Seen> {
        let step = Step { kind, revision: "hello-1".to_owned(), from: 1, to: 1, reason: String::new() };
        Seen::of(&step, outcome)
    }

    fn refused(code: u16) -> StepOutcome {
        StepOutcome::Failed(ClusterError::Refused { code, message: "no".to_owned() })
    }

    #[test]
    fn a_step_that_is_refused_or_works_shows_what_the_cluster_can() {
        let moved = StepOutcome::Moved { pods: 1 };
        let table = [
            (StepKind::Throttle, Some(Rung::Throttled)),
            (StepKind::Park, Some(Rung::Parked)),
            (StepKind::Restore, None),
            (StepKind::Unpark, None),
            (StepKind::Regrow, None),
            (StepKind::Scale, None),
        ];
        for (kind, rung) in table {
            assert_eq!(seen(kind, &refused(404)), rung.map(|rung| Seen::Refused(rung, "no".to_owned())), "{kind:?}");
            assert_eq!(seen(kind, &moved), rung.map(Seen::Moved), "{kind:?}");
        }
        assert_eq!(seen(StepKind::Shrink, &refused(403)), Some(Seen::Rigid));
        assert_eq!(seen(StepKind::Shrink, &moved), Some(Seen::Shrunk));
    }

    #[test]
    fn what_is_over_in_a_moment_shows_nothing() {
        let lost = || StepOutcome::Failed(ClusterError::Uncertain("the connection broke".to_owned()));
        for kind in [StepKind::Park, StepKind::Shrink] {
            for code in [0, 401, 408, 429] {
                assert_eq!(seen(kind, &refused(code)), None, "{kind:?} {code}");
            }
            for outcome in [lost(), StepOutcome::Moved { pods: 0 }, StepOutcome::Conflict] {
                assert_eq!(seen(kind, &outcome), None, "{kind:?} {outcome:?}");
            }
        }
    }

    #[test]
    fn what_a_pod_did_not_fit_just_then_counts_when_it_comes_again_and_again() {
        let mut refusals = Refusals::default();
        let unfit = || seen(StepKind::Park, &refused(422)).expect("it is seen");
        for _ in 0..2 {
            for _ in 0..2 {
                assert!(!refusals.note("hello-1", unfit()));
                assert!(!refusals.refuses("hello-1", Rung::Parked) && !refusals.is_empty());
            }
            assert!(!refusals.note("hello-1", Seen::Moved(Rung::Parked)), "it worked in between");
            assert!(refusals.is_empty());
        }
        let told: Vec<bool> = (0..4).map(|_| refusals.note("hello-1", unfit())).collect();
        assert_eq!((told, refusals.refuses("hello-1", Rung::Parked)), (vec![false, false, true, false], true));
        assert!(refusals.note("hello-1", Seen::Moved(Rung::Parked)));
        assert!(refusals.is_empty());
    }

    #[test]
    fn each_rung_is_remembered_until_it_works_or_the_revision_goes() {
        let mut refusals = Refusals::default();
        let no = |rung| Seen::Refused(rung, "no".to_owned());
        assert!(refusals.note("hello-1", no(Rung::Throttled)));
        assert!(refusals.note("hello-1", no(Rung::Parked)));
        assert!(refusals.note("hello-1", Seen::Rigid));
        assert!(!refusals.note("hello-1", Seen::Rigid), "nothing new");
        let both = |refusals: &Refusals| [Rung::Throttled, Rung::Parked].map(|rung| refusals.refuses("hello-1", rung));
        assert_eq!((both(&refusals), refusals.is_rigid("hello-1")), ([true, true], true));
        assert!(!refusals.refuses("hello-2", Rung::Parked) && !refusals.is_rigid("hello-2"), "its pods were not tried");
        assert!(refusals.note("hello-1", Seen::Moved(Rung::Throttled)));
        assert_eq!((both(&refusals), refusals.rungs().len()), ([false, true], 1));
        assert!(refusals.note("hello-1", Seen::Shrunk));
        assert!(!refusals.is_rigid("hello-1") && !refusals.is_empty());
        assert!(refusals.note("hello-2", Seen::Moved(Rung::Parked)));
        assert!(refusals.is_empty());
    }
}
