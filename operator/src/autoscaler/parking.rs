//! The step to the rung Parked, as a hand-shake for each pod, and the way back where no activator goes it.
//!
//! What always holds: a pod is marked, with the image that it has, before its image is swapped; it is swapped only while every activator keeps to
//! having no request there, and only as it was marked, so that whoever takes the mark away has made sure that it does not happen.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pilotlight_crds::control::{DrainPurpose, DrainScope};
use pilotlight_crds::park::{self, Parking, Requests};
use pilotlight_crds::policy::IdleRung;
use pilotlight_crds::workload::PullPolicy;
use pilotlight_crds::{FunctionSpec, names, throttle};
use std::time::Duration;
use tokio::time::Instant;

use super::cluster::{Cluster, ClusterError, is_ready};
use super::stepdown::{StepDown, StepOutcome, Steps, certain, release};
use crate::build::pod::template;

/// Pods that one step parks at most.
const PODS: usize = 16;
/// The status of a refusal that is Pilotlight's own: what was asked for makes no sense.
const UNPROCESSABLE: u16 = 422;

/// Why the pods of a Function whose author states the rung Parked cannot have it, by their shape. `None`: they can, or nobody stated it.
pub fn unfit(spec: &FunctionSpec) -> Option<String> {
    if spec.scaling.states(IdleRung::Parked) { by_shape(spec) } else { None }
}

/// Whether a Function can be parked, as far as its spec tells, and reserves less then.
pub(super) fn saves(spec: &FunctionSpec) -> bool {
    let registry = match spec.image_pull_policy {
        Some(policy) => policy == PullPolicy::Always,
        // As Kubernetes takes it.
        None => {
            !spec.image.contains('@')
                && spec.image.rsplit('/').next().is_none_or(|name| !name.contains(':') || name.ends_with(":latest"))
        }
    };
    !registry && !is_guaranteed(spec) && by_shape(spec).is_none()
}

/// Whether requests are limits, so that they cannot shrink alone.
fn is_guaranteed(spec: &FunctionSpec) -> bool {
    let Some(resources) = &spec.resources else { return false };
    let limits = resources.limits.as_ref();
    ["cpu", "memory"].into_iter().all(|name| {
        let limit = limits.and_then(|limits| limits.get(name));
        let request = resources.requests.as_ref().and_then(|requests| requests.get(name));
        limit.is_some() && (request.is_none() || request == limit)
    })
}

fn by_shape(spec: &FunctionSpec) -> Option<String> {
    if spec.cold_start.beacon == pilotlight_crds::policy::Beacon::Disabled {
        return Some(
            "spec.coldStart.beacon is Disabled, and without a beacon no placeholder is on the pod's node; enable it"
                .to_owned(),
        );
    }
    // Whatever its name, it has the same shape.
    let template = template("function", "function-1", spec);
    let containers = template.spec.map(|spec| spec.containers).unwrap_or_default();
    park::unfit(containers.iter().find(|container| container.name == names::CONTAINER)?)
}

impl<C: Cluster> Steps<'_, C> {
    /// Puts placeholders in the place of the revision's ready pods, or leaves all as it was.
    pub(super) async fn park(&self, step: &StepDown) -> StepOutcome {
        let mut pods = match self.cluster.whole_pods(&step.namespace, &step.revision).await {
            Ok(pods) => pods,
            Err(error) => return StepOutcome::Failed(certain(error)),
        };
        pods.retain(can_be_parked);
        pods.truncate(PODS);
        let mut parked = 0;
        for pod in &pods {
            match self.park_one(step, pod).await {
                StepOutcome::Moved { pods } => parked += pods,
                // What was done is told; the rest is tried again.
                other if parked == 0 => return other,
                _ => break,
            }
        }
        StepOutcome::Moved { pods: parked }
    }

    async fn park_one(&self, step: &StepDown, pod: &Pod) -> StepOutcome {
        if let Err(message) = park::plan(pod) {
            return StepOutcome::Failed(ClusterError::Refused { code: UNPROCESSABLE, message });
        }
        let mut roster = match self.roster().await {
            Ok(roster) => roster,
            Err(outcome) => return outcome,
        };
        let half_time = Instant::now() + self.ttl / 2;
        let uids = pod.uid().into_iter().collect();
        let mut drains = [self.drain(step, DrainScope::Pods { uids }, Duration::ZERO).to(DrainPurpose::Park)];
        let outcome = match self.ask(&mut drains[0], &roster, half_time).await {
            Ok(()) => match self.mark_parked(&step.namespace, pod).await {
                Ok(marked) => {
                    let outcome = match self.ask_newcomers(&mut drains, &mut roster, half_time).await {
                        Ok(()) => self.swap(&step.namespace, &marked, half_time).await,
                        Err(outcome) => outcome,
                    };
                    let undecided = matches!(
                        outcome,
                        StepOutcome::Moved { pods: 1.. } | StepOutcome::Failed(ClusterError::Uncertain(_))
                    );
                    if !undecided {
                        self.unmark(step, &marked).await;
                    }
                    outcome
                }
                Err(ClusterError::Gone | ClusterError::Conflict) => StepOutcome::Moved { pods: 0 },
                Err(error) => StepOutcome::Failed(certain(error)),
            },
            Err(outcome) => outcome,
        };
        // Nothing was swapped: the activators use the pod again.
        let told = if matches!(outcome, StepOutcome::Moved { pods: 0 }) { StepOutcome::Conflict } else { outcome };
        release(&drains, &told).await;
        if matches!(told, StepOutcome::Conflict) { StepOutcome::Moved { pods: 0 } } else { told }
    }

    async fn mark_parked(&self, namespace: &str, pod: &Pod) -> Result<Pod, ClusterError> {
        let plan = park::plan(pod).map_err(|message| ClusterError::Refused { code: UNPROCESSABLE, message })?;
        let uid = pod.uid().unwrap_or_default();
        self.cluster.patch_pod(namespace, &pod.name_any(), park::mark(&uid, &plan)).await
    }

    async fn swap(&self, namespace: &str, marked: &Pod, half_time: Instant) -> StepOutcome {
        if self.shutdown.is_cancelled() {
            return StepOutcome::Ended;
        }
        if Instant::now() >= half_time {
            return StepOutcome::TooLate;
        }
        let (Some(uid), Some(version)) = (marked.uid(), marked.resource_version()) else {
            return StepOutcome::Moved { pods: 0 };
        };
        // Somebody may have written it in between.
        let Ok(plan) = park::plan(marked) else { return StepOutcome::Moved { pods: 0 } };
        match self.cluster.patch_pod(namespace, &marked.name_any(), park::swap(&uid, &version, &plan)).await {
            Ok(_) => StepOutcome::Moved { pods: 1 },
            Err(ClusterError::Conflict | ClusterError::Gone) => StepOutcome::Moved { pods: 0 },
            Err(error) => StepOutcome::Failed(error),
        }
    }

    /// A mark that stays changes nothing: the next request at the pod, or the next look, takes it away.
    async fn unmark(&self, step: &StepDown, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        if let Err(error) = self.cluster.patch_pod(&step.namespace, &pod.name_any(), throttle::unmark(&uid)).await {
            tracing::warn!(function = %step.name, namespace = %step.namespace, pod = %pod.name_any(), %error, "a pod stays marked as parked for now");
        }
    }

    /// Has the revision's pods request what `wanted` says, each only as it was seen. It takes no hand-shake: who uses a pod changes it, so that
    /// what is shrunk is parked.
    pub(super) async fn resize_requests(
        &self,
        step: &StepDown,
        wanted: impl Fn(&Pod) -> Option<Requests>,
    ) -> StepOutcome {
        let pods = match self.cluster.whole_pods(&step.namespace, &step.revision).await {
            Ok(pods) => pods,
            Err(error) => return StepOutcome::Failed(certain(error)),
        };
        let mut resized = 0;
        for pod in &pods {
            let (Some(requests), Some(uid)) = (wanted(pod), pod.uid()) else { continue };
            let patch = requests.resize(&uid, pod.metadata.resource_version.as_deref());
            match self.cluster.resize_pod(&step.namespace, &pod.name_any(), patch).await {
                Ok(()) => resized += 1,
                Err(ClusterError::Gone | ClusterError::Conflict) => {}
                Err(error) => return StepOutcome::Failed(certain(error)),
            }
        }
        StepOutcome::Moved { pods: resized }
    }

    /// Gives the revision's parked pods their function back. A pod whose function has not ended yet is left for the next look.
    pub(super) async fn unpark(&self, step: &StepDown) -> StepOutcome {
        let pods = match self.cluster.whole_pods(&step.namespace, &step.revision).await {
            Ok(pods) => pods,
            Err(error) => return StepOutcome::Failed(certain(error)),
        };
        let mut given = 0;
        for pod in &pods {
            let Some(parking) = Parking::of(pod).filter(can_end) else { continue };
            match self.cluster.patch_pod(&step.namespace, &pod.name_any(), parking.end()).await {
                Ok(back) => {
                    given += 1;
                    if let Some(requests) = park::to_regrow(&back) {
                        let patch = requests.resize(&back.uid().unwrap_or_default(), None);
                        // What fails is tried again at the next look.
                        let _ = self.cluster.resize_pod(&step.namespace, &back.name_any(), patch).await;
                    }
                }
                Err(ClusterError::Gone | ClusterError::Conflict) => {}
                Err(error) => return StepOutcome::Failed(certain(error)),
            }
        }
        StepOutcome::Moved { pods: given }
    }
}

/// Whether nothing is left of a function's process that was told to end, so that a new one cannot be taken for it.
pub fn can_end(parking: &Parking) -> bool {
    !parking.swapped || parking.placeholder_runs
}

/// Whether a pod's function runs again, and requests less than it should.
pub(super) fn owes(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && park::function_runs(pod) && park::to_regrow(pod).is_some()
}

/// Whether a pod serves, is not parked, and has its whole CPU: a placeholder, and a function that starts, is begun with that.
pub(super) fn can_be_parked(pod: &Pod) -> bool {
    let marked_only = Parking::of(pod).is_none_or(|parking| !parking.swapped);
    let whole = throttle::to_give_back(pod).is_none() && throttle::is_carried_out(pod);
    pod.metadata.deletion_timestamp.is_none() && is_ready(pod) && marked_only && whole
}
