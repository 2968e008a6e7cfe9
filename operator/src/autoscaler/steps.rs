//! Carries one step out, up or down, in a task of its own.

use std::sync::Arc;

use pilotlight_crds::park;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, ClusterError, Peer};
use super::control::ControlClient;
use super::drain::TTL;
use super::ledger::FunctionKey;
use super::progress::Done;
use super::situation::{Step, StepKind};
use super::stepdown::{StepDown, StepOutcome, Steps};

/// One step and what it works with.
pub(super) struct Task<C> {
    pub(super) cluster: Arc<C>,
    pub(super) control: ControlClient,
    /// Activators that the watch knows.
    pub(super) known: Vec<Peer>,
    pub(super) shutdown: CancellationToken,
    pub(super) key: FunctionKey,
    pub(super) step: Step,
}

impl<C: Cluster> Task<C> {
    /// Carries it out.
    pub(super) async fn run(self) -> Done {
        let begun = Instant::now();
        let outcome = if self.step.kind == StepKind::Scale && self.step.to > self.step.from {
            self.up().await
        } else {
            self.by_hand_shake().await
        };
        Done { key: self.key, step: self.step, outcome, took: begun.elapsed() }
    }

    async fn up(&self) -> StepOutcome {
        let (namespace, name) = (self.key.namespace.as_str(), self.step.revision.as_str());
        let read = match self.cluster.read_scale(namespace, name).await {
            Ok(read) if read.replicas == self.step.from => read,
            Ok(read) => {
                let replicas = read.replicas;
                return StepOutcome::Stale { replicas };
            }
            Err(error) => return StepOutcome::Failed(error),
        };
        if self.shutdown.is_cancelled() {
            return StepOutcome::Ended;
        }
        let replicas = self.step.to;
        match self.cluster.write_scale(namespace, name, &read, replicas).await {
            Ok(()) => StepOutcome::Scaled { replicas },
            Err(ClusterError::Conflict) => StepOutcome::Conflict,
            Err(error) => StepOutcome::Failed(error),
        }
    }

    async fn by_hand_shake(&self) -> StepOutcome {
        let steps = Steps {
            cluster: self.cluster.as_ref(),
            control: &self.control,
            known: &self.known,
            shutdown: &self.shutdown,
            ttl: TTL,
        };
        let down = StepDown {
            namespace: self.key.namespace.clone(),
            name: self.key.name.clone(),
            revision: self.step.revision.clone(),
            from: self.step.from,
            to: self.step.to,
        };
        match self.step.kind {
            StepKind::Scale => steps.run(&down).await,
            StepKind::Throttle => steps.throttle(&down).await,
            StepKind::Restore => steps.restore(&down).await,
            StepKind::Park => steps.park(&down).await,
            StepKind::Unpark => steps.unpark(&down).await,
            StepKind::Shrink => steps.resize_requests(&down, park::to_shrink).await,
            StepKind::Regrow => steps.resize_requests(&down, park::to_regrow).await,
        }
    }
}
