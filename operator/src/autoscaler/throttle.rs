//! The step to the rung Throttled, as a hand-shake, and the way back, which needs none.
//!
//! What always holds: a pod is marked, with the CPU that it has, before its CPU is taken; it is taken only while every activator keeps to
//! having no request there, and only from the pod as it was marked, so that whoever takes the mark away has made sure that it does not happen.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pilotlight_crds::control::{DrainPurpose, DrainScope};
use pilotlight_crds::park::{Parking, to_regrow};
use pilotlight_crds::throttle::{self, Cpu};
use std::time::Duration;
use tokio::time::Instant;

use super::cluster::{Cluster, ClusterError, is_ready};
use super::stepdown::{StepDown, StepOutcome, Steps, certain, release};

/// Pods that one hand-shake throttles at most.
const PODS: usize = 16;

/// A pod that was marked.
struct Marked {
    pod: Pod,
    cpu: Cpu,
}

impl<C: Cluster> Steps<'_, C> {
    /// Takes the CPU of the revision's ready pods, or leaves all as it was.
    pub(super) async fn throttle(&self, step: &StepDown) -> StepOutcome {
        let mut pods = match self.cluster.whole_pods(&step.namespace, &step.revision).await {
            Ok(pods) => pods,
            Err(error) => return StepOutcome::Failed(certain(error)),
        };
        pods.retain(can_be_throttled);
        pods.truncate(PODS);
        if pods.is_empty() {
            return StepOutcome::Moved { pods: 0 };
        }
        let mut roster = match self.roster().await {
            Ok(roster) => roster,
            Err(outcome) => return outcome,
        };
        let half_time = Instant::now() + self.ttl / 2;
        let uids = pods.iter().filter_map(ResourceExt::uid).collect();
        let mut drains = [self.drain(step, DrainScope::Pods { uids }, Duration::ZERO).to(DrainPurpose::Throttle)];
        let outcome = match self.ask(&mut drains[0], &roster, half_time).await {
            Ok(()) => {
                let (marked, failure) = self.mark(&step.namespace, &pods).await;
                let outcome = match (failure, self.ask_newcomers(&mut drains, &mut roster, half_time).await) {
                    (Some(error), _) => StepOutcome::Failed(certain(error)),
                    (None, Err(outcome)) => outcome,
                    (None, Ok(())) => self.take(&step.namespace, &marked, half_time).await,
                };
                if !matches!(outcome, StepOutcome::Moved { .. } | StepOutcome::Failed(ClusterError::Uncertain(_))) {
                    self.give_all_back(&step.namespace, &marked).await;
                }
                outcome
            }
            Err(outcome) => outcome,
        };
        release(&drains, &outcome).await;
        outcome
    }

    /// Marks pods; those of which it is certain, and the first failure.
    async fn mark(&self, namespace: &str, pods: &[Pod]) -> (Vec<Marked>, Option<ClusterError>) {
        let mut marked = Vec::new();
        for pod in pods {
            let (Some(cpu), Some(uid)) = (throttle::to_take(pod), pod.uid()) else { continue };
            match self.cluster.patch_pod(namespace, &pod.name_any(), throttle::mark(&uid, &cpu)).await {
                // Somebody may have resized it in between: then what was noted of its CPU is not what it has.
                Ok(pod) if Cpu::of(&pod).as_ref() == Some(&cpu) => marked.push(Marked { pod, cpu }),
                Ok(_) | Err(ClusterError::Gone | ClusterError::Conflict) => {}
                Err(error) => return (marked, Some(error)),
            }
        }
        (marked, None)
    }

    async fn take(&self, namespace: &str, marked: &[Marked], half_time: Instant) -> StepOutcome {
        let mut pods = 0;
        for Marked { pod, cpu } in marked {
            if self.shutdown.is_cancelled() {
                return StepOutcome::Ended;
            }
            if Instant::now() >= half_time {
                return StepOutcome::TooLate;
            }
            let (Some(less), Some(uid)) = (cpu.throttled(), pod.uid()) else { continue };
            let patch = less.resize(&uid, pod.resource_version().as_deref());
            match self.cluster.resize_pod(namespace, &pod.name_any(), patch).await {
                Ok(()) => pods += 1,
                // It changed since it was marked: the next step sees what it is now.
                Err(ClusterError::Conflict | ClusterError::Gone) => self.give_back(namespace, pod).await,
                Err(error) => return StepOutcome::Failed(error),
            }
        }
        StepOutcome::Moved { pods }
    }

    async fn give_all_back(&self, namespace: &str, marked: &[Marked]) {
        for Marked { pod, .. } in marked {
            self.give_back(namespace, pod).await;
        }
    }

    /// A mark that stays changes nothing: the next request at the pod, or the next look, takes it away.
    async fn give_back(&self, namespace: &str, pod: &Pod) {
        if let Err(error) = self.cluster.give_back(namespace, pod).await {
            tracing::warn!(namespace, pod = %pod.name_any(), %error, "a pod stays marked as throttled for now");
        }
    }

    /// Gives all pods of a revision their CPU back.
    pub(super) async fn restore(&self, step: &StepDown) -> StepOutcome {
        let mut pods = match self.cluster.whole_pods(&step.namespace, &step.revision).await {
            Ok(pods) => pods,
            Err(error) => return StepOutcome::Failed(certain(error)),
        };
        pods.retain(|pod| throttle::to_give_back(pod).is_some());
        let mut given = 0;
        for pod in &pods {
            match self.cluster.give_back(&step.namespace, pod).await {
                Ok(had_less) => given += usize::from(had_less),
                Err(error) => return StepOutcome::Failed(certain(error)),
            }
        }
        StepOutcome::Moved { pods: given }
    }
}

/// Whether a pod serves, and has CPU to give.
pub(super) fn can_be_throttled(pod: &Pod) -> bool {
    let active = pod.metadata.deletion_timestamp.is_none() && is_ready(pod) && Parking::of(pod).is_none();
    active && to_regrow(pod).is_none() && throttle::to_take(pod).is_some()
}
