//! What the decision about traffic is made from: the status, what this process remembers, and what the activators saw.

use std::time::Instant;

use jiff::Timestamp;
use kube::ResourceExt;
use pilotlight_crds::Function;

use crate::context::Context;
use crate::observe::Observed;
use crate::status::{Traffic, TrafficInput, Verdict};

/// Decides which revisions get the traffic, and notes since when one has been getting pods for it.
pub(crate) fn decide(
    context: &Context,
    function: &Function,
    observed: &Observed,
    verdicts: &[Verdict],
    now: Timestamp,
) -> Traffic {
    let uid = function.uid().unwrap_or_default();
    let route = observed.status.route.clone().unwrap_or_default();
    let rollout = observed.status.rollout.as_ref();
    let (namespace, name) = (function.namespace().unwrap_or_default(), function.name_any());
    let seen = rollout.map(|state| context.autoscaler.rollout_seen(&namespace, &name, &state.revision, state.percent));
    if rollout.is_none() {
        context.autoscaler.forget_rollout(&namespace, &name);
    }
    context.with_memory(&uid, |memory| {
        let promoting = memory.promoting.as_ref().map(|(revision, since)| (revision.as_str(), since.elapsed()));
        let input = TrafficInput {
            verdicts,
            current: route.revision.as_deref(),
            split: &route.split,
            tags: &route.tags,
            matches: &route.matches,
            rollout,
            seen: seen.unwrap_or_default(),
            now,
            promoting,
        };
        let traffic = Traffic::decide(&function.spec, &input);
        memory.promoting = traffic.promotion.as_ref().map(|promotion| {
            let before = memory.promoting.take();
            before
                .filter(|(revision, _)| *revision == promotion.revision)
                .unwrap_or_else(|| (promotion.revision.clone(), Instant::now()))
        });
        traffic
    })
}
