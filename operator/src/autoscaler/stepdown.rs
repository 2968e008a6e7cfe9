//! A step down of one revision, as a hand-shake (ARCHITECTURE.md, "Step-down hand-shake").
//!
//! What always holds: `/scale` is lowered only with the resource version that was read before the activators agreed, or, for some
//! pods, read while they kept to it; and only within half of the time that they keep to it. Where it is not certain whether the
//! write will be carried out, nothing is released: the activators fence.

use std::time::Duration;

use pilotlight_crds::control::{DrainOutcome, DrainScope};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, ClusterError, Peer, PodRead, RemovalClass, ScaleRead};
use super::control::ControlClient;
use super::drain::{Asked, Drain};

/// Pods that one hand-shake removes at most, where some remain.
const VICTIMS: usize = 16;
/// Pods that one hand-shake asks about at most.
const CANDIDATES: usize = 48;
/// For how long pods that are busy are asked about again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(40);
/// For how long a pod gets no new requests so that its present ones may end.
const LINGER: Duration = Duration::from_millis(2_500);
/// How often new activators may appear during one hand-shake.
const NEWCOMERS: usize = 3;

/// What to lower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StepDown {
    /// Namespace of the Function.
    pub(super) namespace: String,
    /// Name of the Function.
    pub(super) name: String,
    /// Name of the revision and its Deployment.
    pub(super) revision: String,
    /// Replicas that the decision saw.
    pub(super) from: u32,
    /// Replicas that it wants.
    pub(super) to: u32,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum StepOutcome {
    /// The Deployment has this many replicas now: those wanted, or more where not enough pods were free.
    Scaled { replicas: u32 },
    /// So many pods were throttled or parked, or got back what they had.
    Moved { pods: usize },
    /// The Deployment has other replicas than the decision saw: decide again.
    Stale { replicas: u32 },
    /// The Deployment changed during the hand-shake: decide again.
    Conflict,
    /// Requests are at the pods, or wait.
    Busy { in_flight: u32, queued: u32 },
    /// An activator gave no answer.
    Unanswered { pod: String, error: String },
    /// No activator runs.
    NoActivator,
    /// The half time was over before the write.
    TooLate,
    /// The API server refused or gave no certain answer.
    Failed(ClusterError),
    /// The autoscaler ended.
    Ended,
}

impl StepOutcome {
    /// A CamelCase word for the metric.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Scaled { .. } | Self::Moved { .. } => "Committed",
            Self::Stale { .. } => "Stale",
            Self::Conflict => "Conflict",
            Self::Busy { .. } => "Busy",
            Self::Unanswered { .. } => "Unanswered",
            Self::NoActivator => "NoActivator",
            Self::TooLate => "TooLate",
            Self::Failed(ClusterError::Uncertain(_)) => "Uncertain",
            Self::Failed(_) => "Refused",
            Self::Ended => "Ended",
        }
    }
}

/// What a step down works with.
pub(super) struct Steps<'a, C> {
    pub(super) cluster: &'a C,
    pub(super) control: &'a ControlClient,
    /// Activators that the watch knows.
    pub(super) known: &'a [Peer],
    pub(super) shutdown: &'a CancellationToken,
    /// For how long an activator keeps to a drain without a release.
    pub(super) ttl: Duration,
}

impl<C: Cluster> Steps<'_, C> {
    /// Carries a step down out, or leaves all as it was.
    pub(super) async fn run(&self, step: &StepDown) -> StepOutcome {
        let read = match self.cluster.read_scale(&step.namespace, &step.revision).await {
            Ok(read) if read.replicas == step.from => read,
            Ok(read) => {
                return StepOutcome::Stale { replicas: read.replicas };
            }
            Err(error) => return StepOutcome::Failed(error),
        };
        if step.to == 0 { self.to_zero(step, &read).await } else { self.shrink(step).await }
    }

    async fn to_zero(&self, step: &StepDown, read: &ScaleRead) -> StepOutcome {
        let mut roster = match self.roster().await {
            Ok(roster) => roster,
            Err(outcome) => return outcome,
        };
        let half_time = Instant::now() + self.ttl / 2;
        let revision = step.revision.clone();
        let mut drains = vec![self.drain(step, DrainScope::All { revision }, Duration::ZERO)];
        let outcome = match self.ask(&mut drains[0], &roster, half_time).await {
            Ok(()) => match self.ask_newcomers(&mut drains, &mut roster, half_time).await {
                Ok(()) => self.write(step, read, 0, half_time).await,
                Err(outcome) => outcome,
            },
            Err(outcome) => outcome,
        };
        release(&drains, &outcome).await;
        outcome
    }

    /// Removes pods one by one from those that no activator has a request at.
    async fn shrink(&self, step: &StepDown) -> StepOutcome {
        let pods = match self.cluster.pods(&step.namespace, &step.revision).await {
            Ok(pods) => pods,
            Err(error) => return StepOutcome::Failed(error),
        };
        let mut roster = match self.roster().await {
            Ok(roster) => roster,
            Err(outcome) => return outcome,
        };
        let half_time = Instant::now() + self.ttl / 2;
        let wanted = pods.len().saturating_sub(usize::try_from(step.to).unwrap_or(usize::MAX));
        let mut chosen = self.choose(step, &pods, wanted, &roster, half_time).await;
        let outcome = match chosen.refusal.take() {
            Some(refusal) if chosen.victims.is_empty() || !is_busy(&refusal) => refusal,
            _ => {
                let drains = &mut chosen.drains;
                match self.ask_newcomers(drains, &mut roster, half_time).await {
                    Ok(()) => self.remove(step, &pods, &chosen.victims, wanted, half_time).await,
                    Err(outcome) => outcome,
                }
            }
        };
        release(&chosen.drains, &outcome).await;
        outcome
    }

    /// Asks about pods in the order in which Kubernetes would remove them. A busy pod is passed over for others like it, but never for
    /// one that Kubernetes would only remove after it.
    ///
    /// An activator answers for the moment only, and under load a pod is free for moments only: so it asks again and again for a while.
    async fn choose<'p>(
        &self,
        step: &StepDown,
        pods: &'p [PodRead],
        wanted: usize,
        roster: &[Peer],
        half_time: Instant,
    ) -> Chosen<'_, 'p> {
        let mut chosen = Chosen::default();
        let mut candidates = in_removal_order(pods);
        candidates.truncate(CANDIDATES);
        let give_up = Instant::now() + PATIENCE;
        loop {
            self.choose_now(step, &mut candidates, wanted, roster, half_time, &mut chosen).await;
            let settled = chosen.refusal.as_ref().is_none_or(|refusal| !is_busy(refusal));
            if settled || chosen.victims.len() >= wanted.min(VICTIMS) {
                return chosen;
            }
            if Instant::now() >= give_up {
                self.choose_lingering(step, &candidates, roster, half_time, &mut chosen).await;
                return chosen;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Where all pods are busy whenever they are asked about: keeps new requests from the first until its present ones have ended.
    async fn choose_lingering<'a, 'p>(
        &'a self,
        step: &StepDown,
        candidates: &[&'p PodRead],
        roster: &[Peer],
        half_time: Instant,
        chosen: &mut Chosen<'a, 'p>,
    ) {
        let Some(pod) = candidates.first().filter(|_| chosen.victims.is_empty()) else { return };
        let mut drain = self.drain(step, DrainScope::Pods { uids: vec![pod.uid.clone()] }, LINGER);
        match self.ask(&mut drain, roster, half_time).await {
            Ok(()) => {
                chosen.victims.push(pod);
                chosen.drains.push(drain);
                chosen.refusal = None;
            }
            Err(busy) if is_busy(&busy) => drain.release(DrainOutcome::Aborted).await,
            Err(other) => {
                chosen.drains.push(drain);
                chosen.refusal = Some(other);
            }
        }
    }

    /// Asks once about each candidate; those that are free become victims.
    async fn choose_now<'a, 'p>(
        &'a self,
        step: &StepDown,
        candidates: &mut Vec<&'p PodRead>,
        wanted: usize,
        roster: &[Peer],
        half_time: Instant,
        chosen: &mut Chosen<'a, 'p>,
    ) {
        let mut busy_class: Option<RemovalClass> = None;
        let mut busy_pods = Vec::new();
        chosen.refusal = None;
        for pod in std::mem::take(candidates) {
            let enough = chosen.victims.len() >= wanted.min(VICTIMS);
            let out_of_order = busy_class.is_some_and(|busy| busy < pod.class);
            if enough || out_of_order || chosen.refusal.as_ref().is_some_and(|refusal| !is_busy(refusal)) {
                busy_pods.push(pod);
                continue;
            }
            let uids = vec![pod.uid.clone()];
            let mut drain = self.drain(step, DrainScope::Pods { uids }, Duration::ZERO);
            match self.ask(&mut drain, roster, half_time).await {
                Ok(()) => {
                    chosen.victims.push(pod);
                    chosen.drains.push(drain);
                }
                Err(busy) if is_busy(&busy) => {
                    drain.release(DrainOutcome::Aborted).await;
                    busy_class = Some(pod.class);
                    chosen.refusal = Some(busy);
                    busy_pods.push(pod);
                }
                Err(other) => {
                    chosen.drains.push(drain);
                    chosen.refusal = Some(other);
                }
            }
        }
        *candidates = busy_pods;
    }

    /// Marks the victims so that Kubernetes removes them and no others, and lowers the scale by as many.
    async fn remove(
        &self,
        step: &StepDown,
        pods: &[PodRead],
        victims: &[&PodRead],
        wanted: usize,
        half_time: Instant,
    ) -> StepOutcome {
        let lowest = pods.iter().map(|pod| pod.cost).min().unwrap_or(0);
        let cost = lowest.saturating_sub(1);
        for pod in victims {
            if let Err(error) = self.cluster.set_deletion_cost(&step.namespace, &pod.name, cost).await {
                return StepOutcome::Failed(certain(error));
            }
        }
        let read = match self.cluster.read_scale(&step.namespace, &step.revision).await {
            Ok(read) if read.replicas == step.from => read,
            Ok(read) => {
                return StepOutcome::Stale { replicas: read.replicas };
            }
            Err(error) => return StepOutcome::Failed(certain(error)),
        };
        // Fewer victims than wanted: as many pods stay as are busy, beside those that do not exist yet.
        let spared = u32::try_from(wanted - victims.len()).unwrap_or(u32::MAX);
        let to = step.to.saturating_add(spared);
        if to >= step.from {
            return StepOutcome::Conflict;
        }
        self.write(step, &read, to, half_time).await
    }

    async fn write(&self, step: &StepDown, read: &ScaleRead, to: u32, half_time: Instant) -> StepOutcome {
        if self.shutdown.is_cancelled() {
            return StepOutcome::Ended;
        }
        if Instant::now() >= half_time {
            return StepOutcome::TooLate;
        }
        let written = self.cluster.write_scale(&step.namespace, &step.revision, read, to).await;
        match written {
            Ok(()) => StepOutcome::Scaled { replicas: to },
            Err(ClusterError::Conflict) => StepOutcome::Conflict,
            Err(error) => StepOutcome::Failed(error),
        }
    }

    pub(super) fn drain(&self, step: &StepDown, scope: DrainScope, wait: Duration) -> Drain<'_> {
        let function = (step.namespace.as_str(), step.name.as_str());
        Drain::new(self.control, function, scope, self.ttl, wait)
    }

    /// Every activator that runs: those that the watch knows and those that the API server lists.
    pub(super) async fn roster(&self) -> Result<Vec<Peer>, StepOutcome> {
        let mut roster = self.known.to_vec();
        roster.extend(self.newcomers(&roster).await?);
        if roster.is_empty() {
            return Err(StepOutcome::NoActivator);
        }
        Ok(roster)
    }

    async fn newcomers(&self, roster: &[Peer]) -> Result<Vec<Peer>, StepOutcome> {
        let mut listed = self.cluster.activators().await.map_err(|error| StepOutcome::Failed(certain(error)))?;
        listed.retain(|peer| !roster.iter().any(|known| known.uid == peer.uid));
        Ok(listed)
    }

    /// Lists the activators once more, and asks those that appeared since, until there are none.
    pub(super) async fn ask_newcomers(
        &self,
        drains: &mut [Drain<'_>],
        roster: &mut Vec<Peer>,
        until: Instant,
    ) -> Result<(), StepOutcome> {
        for _ in 0..NEWCOMERS {
            let newcomers = self.newcomers(roster).await?;
            if newcomers.is_empty() {
                return Ok(());
            }
            for drain in &mut *drains {
                self.ask(drain, &newcomers, until).await?;
            }
            roster.extend(newcomers);
        }
        Err(StepOutcome::TooLate)
    }

    pub(super) async fn ask(&self, drain: &mut Drain<'_>, peers: &[Peer], until: Instant) -> Result<(), StepOutcome> {
        let asked = tokio::select! {
            asked = drain.ask(peers, until) => asked,
            () = self.shutdown.cancelled() => return Err(StepOutcome::Ended),
        };
        match asked {
            Asked::Drained => Ok(()),
            Asked::Busy { in_flight, queued } => Err(StepOutcome::Busy { in_flight, queued }),
            Asked::Unanswered { pod, error } => Err(StepOutcome::Unanswered { pod, error }),
        }
    }
}

/// Pods that may be removed, the hand-shakes that keep them free, and why there are not more.
#[derive(Default)]
struct Chosen<'a, 'p> {
    drains: Vec<Drain<'a>>,
    victims: Vec<&'p PodRead>,
    refusal: Option<StepOutcome>,
}

/// Ends the hand-shakes by what became of the step. Where that isn't certain they are left to end by fencing.
pub(super) async fn release(drains: &[Drain<'_>], outcome: &StepOutcome) {
    let outcome = match outcome {
        StepOutcome::Scaled { .. } | StepOutcome::Moved { .. } => DrainOutcome::Committed,
        StepOutcome::Failed(ClusterError::Uncertain(_)) => return,
        _ => DrainOutcome::Aborted,
    };
    futures::future::join_all(drains.iter().map(|drain| drain.release(outcome))).await;
}

/// The failure of a call that does not lower the scale: whatever became of it, the step was not taken.
pub(super) fn certain(error: ClusterError) -> ClusterError {
    match error {
        ClusterError::Uncertain(message) => ClusterError::Refused { code: 0, message },
        other => other,
    }
}

fn is_busy(outcome: &StepOutcome) -> bool {
    matches!(outcome, StepOutcome::Busy { .. })
}

/// Pods in the order in which Kubernetes removes them; among equals first those without their function, then those that are marked already,
/// then the youngest.
fn in_removal_order(pods: &[PodRead]) -> Vec<&PodRead> {
    let mut ordered: Vec<_> = pods.iter().collect();
    ordered.sort_by_key(|pod| (pod.class, !pod.parked, pod.cost, std::cmp::Reverse(pod.created)));
    ordered
}
