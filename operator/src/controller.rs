//! Runs reconciles: when something changed, when one asked to be repeated, and again after an error.
//!
//! What always holds: one Function is reconciled by one task at a time; a bounded number of them at once; one that fails is
//! tried again later and later, and keeps no other from its turn.

use futures::StreamExt;
use kube::ResourceExt;
use kube::runtime::applier;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::ObjectRef;
use pilotlight_crds::Function;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::cache::Identity;
use crate::context::Context;
use crate::metrics::ErrorLabels;
use crate::reconcile::{Error, reconcile};

/// The wait after a first error, doubled by each that follows.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait after an error.
const LONGEST_BACKOFF: Duration = Duration::from_secs(120);

/// Reconciles whatever `triggers` names, until `triggers` ends.
pub async fn run(context: Arc<Context>, triggers: UnboundedReceiver<ObjectRef<Function>>, concurrency: u16) {
    let identities = context.caches.identities.clone();
    let told = Arc::clone(&context);
    let queue = UnboundedReceiverStream::new(triggers)
        .inspect(move |function| {
            let namespace = function.namespace.as_deref().unwrap_or_default();
            told.autoscaler.changed(namespace, &function.name);
            if !told.caches.functions.has(namespace, &function.name) {
                told.free_hostnames();
            }
        })
        .map(|function| {
            let namespace = function.namespace.unwrap_or_default();
            Ok::<ObjectRef<Identity>, Infallible>(ObjectRef::new(&function.name).within(&namespace))
        });
    applier(
        |function, context| Box::pin(spawned(function, context)),
        after_error,
        context,
        identities,
        queue,
        Config::default().concurrency(concurrency),
    )
    .for_each(|_| std::future::ready(()))
    .await;
}

/// In a task of its own, so that one reconcile's work is spread over threads. A panic in one ends the process: it is a bug, and
/// what it left undone is unknown; another process takes over.
async fn spawned(identity: Arc<Identity>, context: Arc<Context>) -> Result<Action, Error> {
    let function = context.caches.functions.get(&identity.namespace().unwrap_or_default(), &identity.name_any());
    let Some(function) = function else { return Ok(Action::await_change()) };
    match tokio::spawn(reconcile(function, context)).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn after_error(function: Arc<Identity>, error: &Error, context: Arc<Context>) -> Action {
    let uid = function.uid().unwrap_or_default();
    let failures = context.with_memory(&uid, |memory| {
        memory.failures = memory.failures.saturating_add(1);
        memory.failures
    });
    let reason = error.reason();
    context.metrics.reconcile_errors.get_or_create(&ErrorLabels { reason }).inc();
    let wait = backoff(failures, rand::random());
    tracing::warn!(
        function = function.name_any(),
        namespace = function.namespace().unwrap_or_default(),
        reason,
        %error,
        wait_seconds = wait.as_secs_f64(),
        "a reconcile failed and is tried again"
    );
    Action::requeue(wait)
}

/// The wait after `failures` errors in a row. `jitter`, from 0 to 1, spreads those who failed together.
fn backoff(failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let wait = FIRST_BACKOFF.saturating_mul(1 << doublings).min(LONGEST_BACKOFF);
    wait.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_bound_and_jitter_only_shortens_it() {
        assert_eq!(backoff(1, 1.0), FIRST_BACKOFF);
        assert_eq!(backoff(2, 1.0), FIRST_BACKOFF * 2);
        assert_eq!(backoff(1, 0.0), FIRST_BACKOFF / 2);
        assert_eq!(backoff(u32::MAX, 1.0), LONGEST_BACKOFF);
    }
}
