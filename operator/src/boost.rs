//! Starting pods get the CPU of `coldStart.cpuBoost`, and lose it again once they are ready.
//!
//! What always holds: what is to be done follows from the pods as they are, so a crash between two writes leaves nothing that the next look does
//! not end; a boost that cannot be had delays nobody.

use kube::ResourceExt;
use pilotlight_crds::{Function, boost};

use crate::context::Context;
use crate::cpu::{begin_boost, end_boost};
use crate::observe::{Observed, is_ready};

/// What came of a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boosts {
    /// Why pods do not get more CPU.
    pub refused: Option<String>,
    /// A write did not get through, so there must be another look soon.
    pub again: bool,
}

/// Begins and ends boosts of the Function's pods.
pub async fn apply(context: &Context, function: &Function, observed: &Observed) -> Boosts {
    let wanted = function.spec.cold_start.cpu_boost.as_deref();
    let namespace = function.namespace().unwrap_or_default();
    let uid = function.uid().unwrap_or_default();
    let mut boosts = Boosts::default();
    if wanted.is_some() {
        boosts.refused = context.with_memory(&uid, |memory| memory.boost_refused.clone());
    }
    for pod in &observed.pods {
        let done = if boost::to_end(pod).is_some() && (is_ready(pod) || wanted.is_none()) {
            end_boost(context.client.clone(), &namespace, pod).await.map(|ended| ended.then_some("unboost"))
        } else if let Some(more) = wanted.and_then(|limit| boost::to_begin(pod, limit)) {
            let begun = begin_boost(context.client.clone(), &namespace, pod, &more).await;
            if begun.is_ok() {
                boosts.refused = None;
            }
            begun.map(|begun| begun.then_some("boost"))
        } else {
            continue;
        };
        match done {
            Ok(Some(what)) => {
                context.metrics.wrote("Pod", what);
                tracing::info!(
                    function = function.name_any(),
                    namespace,
                    pod = pod.name_any(),
                    what,
                    "changed the CPU of a starting pod"
                );
            }
            Ok(None) => {}
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && !status.is_conflict() => {
                boosts.refused = Some(status.message);
            }
            Err(error) => {
                tracing::warn!(function = function.name_any(), namespace, pod = pod.name_any(), %error, "cannot change the CPU of a starting pod");
                boosts.again = true;
            }
        }
    }
    context.with_memory(&uid, |memory| memory.boost_refused = boosts.refused.clone());
    boosts
}
