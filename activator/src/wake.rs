//! Waking a Function: what to do about `/scale` is decided here (pure), and one task for each revision with requests does it while anything
//! waits (single flight, level-triggered: invariant 4).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::function::FunctionCell;
use crate::index::PodView;
use crate::scale::{Scale, ScaleError};

/// How often a wake is asserted again.
pub const ASSERT_EVERY: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// What a Function's waiting requests need.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// Nothing waits, or slots will be free by themselves.
    Nothing,
    /// Nothing can be done but to look again, at the latest at this moment.
    Look {
        /// When.
        at: Option<Instant>,
    },
    /// One replica or more.
    Wake {
        /// The active revision's Deployment.
        deployment: Arc<str>,
        /// How many.
        replicas: i32,
        /// Beside so many whose pods are there and cannot serve.
        beside: i32,
        /// Look again by then, even where nothing happens.
        look_at: Option<Instant>,
    },
    /// A hand-shake ran out: make sure that its step down cannot happen any more.
    Fence {
        /// The Deployment that it is about.
        deployment: Arc<str>,
    },
    /// The functions of parked pods.
    Unpark {
        /// Their uids.
        uids: Vec<Arc<str>>,
    },
    /// A hand-shake about parking ran out: make sure that it cannot happen any more, and which of these pods are parked.
    Recall {
        /// Those in its scope that are still there.
        pods: Vec<Arc<PodView>>,
    },
    /// A hand-shake about throttling ran out: make sure that it cannot happen any more, and that these pods have their CPU.
    Restore {
        /// Those in its scope that are still there.
        pods: Vec<Arc<PodView>>,
    },
}

/// What to write to `/scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It is as it should be.
    Nothing,
    /// So many replicas, on condition of the version read.
    Replicas(i32),
}

/// The write that a wake needs. `beside`: pods that are there and cannot serve; they are the autoscaler's to remove.
pub fn wake_write(read: &Scale, wanted: i32, beside: i32) -> Write {
    if read.replicas > beside { Write::Nothing } else { Write::Replicas(wanted.max(1).saturating_add(beside)) }
}

/// The write that a fence needs: any that changes the version, so that a late step down fails by conflict. At zero the step
/// has happened, and the wake follows.
pub fn fence_write(read: &Scale) -> Write {
    if read.replicas > 0 { Write::Replicas(read.replicas + 1) } else { Write::Nothing }
}

/// Doubles, up to [`ASSERT_EVERY`].
pub fn next_retry(last: Option<Duration>) -> Duration {
    last.map_or(FIRST_RETRY, |last| (last * 2).min(ASSERT_EVERY))
}

/// Runs until nothing waits for a wake. There is one for each cell at most ([`FunctionCell::ensure_wake`]).
pub async fn run(cell: Arc<FunctionCell>) {
    let mut retry: Option<Duration> = None;
    while let Some(need) = cell.wake_step().await {
        let (result, look_at) = match need {
            Need::Nothing => return,
            Need::Look { at } => (Ok(()), at),
            Need::Wake { deployment, replicas, beside, look_at } => {
                (wake(&cell, &deployment, replicas, beside).await, look_at)
            }
            Need::Unpark { uids } => {
                cell.unpark(&uids);
                (Ok(()), Some(Instant::now()))
            }
            Need::Recall { pods } => {
                let result = cell.recall(&pods).await;
                (result, Some(Instant::now()))
            }
            Need::Fence { deployment } => {
                let result = fence(&cell, &deployment).await;
                let now = Instant::now();
                (result, Some(now))
            }
            Need::Restore { pods } => {
                let result = restore_all(&cell, &pods).await;
                let now = Instant::now();
                (result, Some(now))
            }
        };
        let pause = match result {
            Ok(()) => {
                retry = None;
                let until = look_at.map(|at| at.saturating_duration_since(Instant::now()));
                until.map_or(ASSERT_EVERY, |until| until.min(ASSERT_EVERY))
            }
            Err(error) => {
                cell.note_trouble(&error);
                let pause = next_retry(retry);
                retry = Some(pause);
                if matches!(error, ScaleError::Conflict) {
                    Duration::from_millis(2)
                } else {
                    warn!(function = %cell.key.name, namespace = %cell.key.namespace, %error, "wake failed, will try again");
                    pause
                }
            }
        };
        if !pause.is_zero() {
            let _ = tokio::time::timeout(pause, cell.wake_changed()).await;
        }
    }
}

async fn wake(cell: &FunctionCell, deployment: &str, replicas: i32, beside: i32) -> Result<(), ScaleError> {
    let scale = cell.scale();
    let read = scale.get(&cell.key.namespace, deployment).await?;
    if let Write::Replicas(wanted) = wake_write(&read, replicas, beside) {
        scale.set(&cell.key.namespace, deployment, wanted, &read.resource_version).await?;
        cell.count_wake();
        info!(function = %cell.key.name, namespace = %cell.key.namespace, revision = deployment, replicas = wanted, "woke");
    }
    cell.note_patched();
    Ok(())
}

async fn fence(cell: &Arc<FunctionCell>, deployment: &str) -> Result<(), ScaleError> {
    let asked = Instant::now();
    let scale = cell.scale();
    let read = scale.get(&cell.key.namespace, deployment).await?;
    match fence_write(&read) {
        Write::Replicas(replicas) => {
            scale.set(&cell.key.namespace, deployment, replicas, &read.resource_version).await?;
            info!(function = %cell.key.name, namespace = %cell.key.namespace, revision = deployment, replicas, "fenced a step down that was never released");
            cell.fenced(asked, false);
        }
        Write::Nothing => cell.fenced(asked, true),
    }
    Ok(())
}

async fn restore_all(cell: &Arc<FunctionCell>, pods: &[Arc<PodView>]) -> Result<(), ScaleError> {
    let asked = Instant::now();
    for pod in pods {
        match cell.scale().restore(&cell.key.namespace, &pod.name, &pod.uid).await {
            // A pod that is gone is not throttled any more.
            Ok(()) | Err(ScaleError::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    info!(function = %cell.key.name, namespace = %cell.key.namespace, pods = pods.len(), "fenced a throttling that was never released");
    cell.restored(asked);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(replicas: i32) -> Scale {
        Scale { replicas, resource_version: "7".into() }
    }

    #[test]
    fn a_wake_writes_only_at_zero() {
        assert_eq!(wake_write(&at(0), 1, 0), Write::Replicas(1));
        assert_eq!(wake_write(&at(0), 3, 0), Write::Replicas(3));
        assert_eq!(wake_write(&at(1), 3, 0), Write::Nothing);
    }

    #[test]
    fn pods_that_cannot_serve_are_no_replicas() {
        assert_eq!(wake_write(&at(1), 1, 1), Write::Replicas(2));
        assert_eq!(wake_write(&at(2), 1, 1), Write::Nothing, "another is on its way");
        assert_eq!(wake_write(&at(0), 1, 1), Write::Replicas(2), "it may be replaced meanwhile");
    }

    #[test]
    fn a_fence_changes_the_version_unless_the_step_has_happened() {
        assert_eq!(fence_write(&at(2)), Write::Replicas(3));
        assert_eq!(fence_write(&at(0)), Write::Nothing);
    }

    #[test]
    fn retries_grow_to_a_second() {
        let mut pause = None;
        for _ in 0..10 {
            pause = Some(next_retry(pause));
        }
        assert_eq!(next_retry(None), FIRST_RETRY);
        assert_eq!(pause, Some(ASSERT_EVERY));
    }
}
