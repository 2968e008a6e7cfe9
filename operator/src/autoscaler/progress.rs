//! How far the scaling of one Function has come: what was seen of it, what our own writes made of it before the caches show them, and
//! when a step that failed may be tried again. Pure, but for the log.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use pilotlight_scaling::Millis;
use tracing::{info, warn};

use super::cluster::ClusterError;
use super::events::{ScalingEvent, ScalingEventKind};
use super::ledger::FunctionKey;
use super::situation::{RevisionRead, Step, StepKind};
use super::stepdown::StepOutcome;

/// Steps down in a row that no activator's answer may be missing before the author is told.
const PATIENCE: u32 = 3;
/// Milliseconds that activators may keep to a hand-shake whose end is not certain.
const FENCE_MILLIS: u64 = 10_000;

/// A step that ended.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) key: FunctionKey,
    pub(super) step: Step,
    pub(super) outcome: StepOutcome,
    pub(super) took: Duration,
}

/// What follows from a step that ended.
#[derive(Debug)]
pub(super) struct After {
    pub(super) look_at: Millis,
    pub(super) event: Option<ScalingEvent>,
}

/// When steps of one revision and direction may be tried again.
#[derive(Clone, Copy, Debug, Default)]
struct Retry {
    failures: u32,
    not_before: Millis,
}

/// Replicas that are known better than from the cache, until the cache changes.
#[derive(Clone, Debug)]
struct Correction {
    replicas: u32,
    cached_version: Option<String>,
}

/// The versions of what was looked at.
#[derive(Debug)]
pub(super) struct Versions {
    /// The Function's.
    pub(super) function: Option<String>,
    /// Those of the Deployments that it has, or may have, by name.
    pub(super) deployments: Vec<(String, Option<String>)>,
}

/// How far the scaling of one Function has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The last look.
    pub(super) looked: Option<Millis>,
    /// The uid of the Function that all this is about.
    pub(super) uid: Option<String>,
    /// What the last look was at.
    pub(super) seen: Option<Versions>,
    /// Whether a step is under way.
    pub(super) under_way: bool,
    /// Since when revisions have been out of use.
    pub(super) out_of_use: BTreeMap<String, Millis>,
    corrections: HashMap<String, Correction>,
    cached: HashMap<String, Option<String>>,
    retries: HashMap<(String, &'static str), Retry>,
    /// The active revision and its replicas at the last look.
    active: Option<(String, u32)>,
}

impl Progress {
    /// Puts what is known better in place of what the cache shows, and forgets all about revisions that are gone.
    pub(super) fn correct(&mut self, revisions: &mut [RevisionRead]) {
        self.cached =
            revisions.iter().map(|revision| (revision.name.clone(), revision.resource_version.clone())).collect();
        let cached = &self.cached;
        self.retries.retain(|(name, _), _| cached.contains_key(name));
        self.corrections
            .retain(|name, correction| cached.get(name).is_some_and(|version| *version == correction.cached_version));
        for revision in revisions {
            if let Some(correction) = self.corrections.get(&revision.name) {
                revision.replicas = correction.replicas;
            }
        }
    }

    /// Notes the active revision's replicas; an event, if somebody else took it from zero.
    pub(super) fn notice_wake(&mut self, key: &FunctionKey, active: &RevisionRead) -> Option<ScalingEvent> {
        let now = (active.name.clone(), active.replicas);
        let before = self.active.replace(now)?;
        if before != (active.name.clone(), 0) || active.replicas == 0 {
            return None;
        }
        info!(
            function = %key.name, namespace = %key.namespace, revision = %active.name,
            replicas = active.replicas, "Woken"
        );
        Some(ScalingEvent {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            kind: ScalingEventKind::ScaledUp,
            message: format!("Scaled from 0 to {}: woken for a request", active.replicas),
        })
    }

    /// Whether a step may be tried now.
    pub(super) fn may_try(&self, step: &Step, now: Millis) -> bool {
        self.not_before(step) <= now
    }

    /// When a step may be tried.
    pub(super) fn not_before(&self, step: &Step) -> Millis {
        let retry = self.retries.get(&retry_key(step));
        retry.map_or(Millis(0), |retry| retry.not_before)
    }

    /// Takes note of how a step ended.
    pub(super) fn finish(&mut self, done: &Done, now: Millis) -> After {
        self.under_way = false;
        let mut event = None;
        let wait = match &done.outcome {
            StepOutcome::Scaled { replicas } => {
                self.learn(&done.step.revision, *replicas);
                if let Some((active, before)) = &mut self.active
                    && *active == done.step.revision
                {
                    *before = *replicas;
                }
                self.retries.remove(&retry_key(&done.step));
                event = Some(scaled(done, *replicas));
                0
            }
            StepOutcome::Moved { pods } => {
                self.retries.remove(&retry_key(&done.step));
                event = moved(done, *pods);
                // Until the cache shows it.
                1_000
            }
            StepOutcome::Stale { replicas } => {
                self.learn(&done.step.revision, *replicas);
                0
            }
            StepOutcome::Conflict => {
                self.corrections.remove(&done.step.revision);
                100
            }
            StepOutcome::Ended => 1_000,
            StepOutcome::Busy { .. } => self.put_off(done, now, 1_000, 2_000),
            StepOutcome::TooLate => self.put_off(done, now, 2_000, 30_000),
            StepOutcome::NoActivator | StepOutcome::Unanswered { .. } => {
                let wait = self.put_off(done, now, 2_000, 30_000);
                event = self.blocked(done);
                wait
            }
            StepOutcome::Failed(error) => {
                let (first, longest) = match error {
                    ClusterError::Uncertain(_) => (FENCE_MILLIS, 60_000),
                    // Where the cluster can't, a pod is parked all the same.
                    _ if done.step.kind == StepKind::Shrink => (10_000, 3_600_000),
                    _ => (1_000, 60_000),
                };
                event = refused(done, error);
                self.put_off(done, now, first, longest)
            }
        };
        After { look_at: Millis(now.0 + wait), event }
    }

    fn learn(&mut self, revision: &str, replicas: u32) {
        let correction = Correction { replicas, cached_version: self.cached.get(revision).cloned().flatten() };
        self.corrections.insert(revision.to_owned(), correction);
    }

    /// Puts a step off for `first` ms, twice as long each time it fails again; returns how long.
    fn put_off(&mut self, done: &Done, now: Millis, first: u64, longest: u64) -> u64 {
        let retry = self.retries.entry(retry_key(&done.step)).or_default();
        let wait = (first << retry.failures.min(10)).min(longest);
        retry.failures = retry.failures.saturating_add(1);
        retry.not_before = Millis(now.0 + wait);
        if !matches!(done.outcome, StepOutcome::Busy { .. }) {
            warn!(
                function = %done.key.name, namespace = %done.key.namespace, revision = %done.step.revision,
                from = done.step.from, to = done.step.to, error = %describe(&done.outcome), retry_millis = wait,
                "A scaling step failed; retrying"
            );
        }
        wait
    }

    /// An event the moment that patience is over, not again and again.
    fn blocked(&self, done: &Done) -> Option<ScalingEvent> {
        let retry = self.retries.get(&retry_key(&done.step))?;
        (retry.failures == PATIENCE).then(|| ScalingEvent {
            namespace: done.key.namespace.clone(),
            name: done.key.name.clone(),
            kind: ScalingEventKind::StepDownBlocked,
            message: format!(
                "Stays at {} replicas instead of {}: {}",
                done.step.from,
                done.step.to,
                describe(&done.outcome)
            ),
        })
    }
}

fn retry_key(step: &Step) -> (String, &'static str) {
    (step.revision.clone(), step.direction())
}

fn scaled(done: &Done, replicas: u32) -> ScalingEvent {
    let Step { revision, from, reason, .. } = &done.step;
    let kind = match replicas {
        0 => ScalingEventKind::ScaledToZero,
        more if more > *from => ScalingEventKind::ScaledUp,
        _ => ScalingEventKind::ScaledDown,
    };
    info!(
        function = %done.key.name, namespace = %done.key.namespace, revision = %revision,
        from, to = replicas, reason = %reason, millis = done.took.as_millis(),
        "Scaled"
    );
    ScalingEvent {
        namespace: done.key.namespace.clone(),
        name: done.key.name.clone(),
        kind,
        message: format!("Scaled {revision} from {from} to {replicas}: {reason}"),
    }
}

fn moved(done: &Done, pods: usize) -> Option<ScalingEvent> {
    let Step { revision, reason, kind, .. } = &done.step;
    if pods == 0 {
        return None;
    }
    info!(
        function = %done.key.name, namespace = %done.key.namespace, revision = %revision,
        pods, direction = done.step.direction(), reason = %reason, millis = done.took.as_millis(),
        "Moved pods to another rung"
    );
    let (kind, message) = match kind {
        // Shrinking is part of parking, and regrowing of the way back.
        StepKind::Scale | StepKind::Shrink | StepKind::Regrow => return None,
        StepKind::Throttle => {
            (ScalingEventKind::Throttled, format!("Took the CPU of {pods} pods of {revision}: {reason}"))
        }
        StepKind::Restore => {
            (ScalingEventKind::Restored, format!("Gave {pods} pods of {revision} their CPU back: {reason}"))
        }
        StepKind::Park => (ScalingEventKind::Parked, format!("Parked {pods} pods of {revision}: {reason}")),
        StepKind::Unpark => {
            (ScalingEventKind::Unparked, format!("Gave {pods} pods of {revision} their function back: {reason}"))
        }
    };
    Some(ScalingEvent { namespace: done.key.namespace.clone(), name: done.key.name.clone(), kind, message })
}

/// An event for a refusal that a person should see; a Deployment that is gone or an API server out of reach heals by itself.
fn refused(done: &Done, error: &ClusterError) -> Option<ScalingEvent> {
    let ClusterError::Refused { code: 1.., .. } = error else {
        return None;
    };
    Some(ScalingEvent {
        namespace: done.key.namespace.clone(),
        name: done.key.name.clone(),
        kind: match done.step.kind {
            StepKind::Scale => ScalingEventKind::ScaleRefused,
            StepKind::Throttle | StepKind::Restore | StepKind::Shrink | StepKind::Regrow => {
                ScalingEventKind::ResizeRefused
            }
            StepKind::Park | StepKind::Unpark => ScalingEventKind::ParkRefused,
        },
        message: match done.step.kind {
            StepKind::Scale => {
                format!("Could not scale {} from {} to {}: {error}", done.step.revision, done.step.from, done.step.to)
            }
            StepKind::Park => format!("Could not park the pods of {}: {error}", done.step.revision),
            StepKind::Unpark => {
                format!("Could not give the pods of {} their function back: {error}", done.step.revision)
            }
            StepKind::Shrink => {
                format!("Parked pods of {} reserve as much as others: {error}", done.step.revision)
            }
            StepKind::Regrow => {
                format!("Pods of {} that were parked still reserve next to nothing: {error}", done.step.revision)
            }
            StepKind::Throttle => format!("Could not throttle the pods of {}: {error}", done.step.revision),
            StepKind::Restore => format!("Could not give the pods of {} their CPU back: {error}", done.step.revision),
        },
    })
}

fn describe(outcome: &StepOutcome) -> String {
    match outcome {
        StepOutcome::Unanswered { pod, error } => {
            format!("activator {pod} did not agree to the step: {error}")
        }
        StepOutcome::NoActivator => "no activator runs, so nobody could hold a request".to_owned(),
        StepOutcome::TooLate => "the activators took too long to agree".to_owned(),
        StepOutcome::Failed(error) => error.to_string(),
        StepOutcome::Busy { in_flight: 0, queued: 0 } => "requests a moment ago".to_owned(),
        StepOutcome::Busy { in_flight, queued } => {
            format!("{in_flight} requests in flight and {queued} waiting")
        }
        StepOutcome::Scaled { .. }
        | StepOutcome::Moved { .. }
        | StepOutcome::Stale { .. }
        | StepOutcome::Conflict
        | StepOutcome::Ended => outcome.code().to_owned(),
    }
}
