//! Where a Function's Service leads, and from when on all requests come through the activators. Pure.
//!
//! What always holds: after the Service led to pods, nothing is taken from them until whoever routes for the cluster (kube-proxy or what stands in
//! for it) has had [`FOLLOWS`] to notice that it leads to the activators; until then a pod may have a request that no activator knows.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use pilotlight_crds::condition::{self, ROUTE_READY};
use tokio::time::Instant;

/// How long routers may take to follow an EndpointSlice. kube-proxy writes its rules within a second or two, with thousands of Services within several.
pub(super) const FOLLOWS: Duration = Duration::from_secs(10);

/// Where a Function's Service leads, as its objects say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To nobody.
    Nowhere,
    /// To pods, past the activators.
    Pods,
    /// To the activators alone.
    Activators,
}

/// What the autoscaler knows of that. Only while all requests come through the activators do their samples tell of all there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lead {
    /// None comes through the activators.
    Elsewhere(Leads),
    /// All do, since before anybody looked.
    Always,
    /// All do from this moment on, which may lie ahead.
    From(Instant),
}

impl Lead {
    /// What is known at `now`, when the objects say `leads` and the Function has been reachable for `reachable`; `known`: what was known before.
    pub(super) fn next(known: Option<Self>, leads: Leads, reachable: Duration, now: Instant) -> Self {
        match (known, leads) {
            (_, Leads::Nowhere | Leads::Pods) => Self::Elsewhere(leads),
            // A leader before it may have led it there a moment ago.
            (None, Leads::Activators) => match FOLLOWS.checked_sub(reachable) {
                Some(left) if !left.is_zero() => Self::From(now + left),
                _ => Self::Always,
            },
            (Some(Self::Elsewhere(Leads::Pods)), Leads::Activators) => Self::From(now + FOLLOWS),
            (Some(Self::Elsewhere(_)), Leads::Activators) => Self::From(now),
            (Some(known), Leads::Activators) => known,
        }
    }
}

/// For how long a Function has been reachable by its status; zero where it is not.
pub fn reachable(conditions: &[Condition], now: jiff::Timestamp) -> Duration {
    let ready = condition::get(conditions, ROUTE_READY).filter(|condition| condition.status == "True");
    let age = ready.map(|condition| now.duration_since(condition.last_transition_time.0));
    age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_pods_were_led_to_all_comes_through_activators_once_routers_have_followed() {
        let now = Instant::now();
        let young = Duration::from_secs(3);
        let table = [
            (None, Leads::Nowhere, Lead::Elsewhere(Leads::Nowhere)),
            (Some(Lead::Always), Leads::Pods, Lead::Elsewhere(Leads::Pods)),
            (Some(Lead::Elsewhere(Leads::Pods)), Leads::Activators, Lead::From(now + FOLLOWS)),
            (Some(Lead::Elsewhere(Leads::Nowhere)), Leads::Activators, Lead::From(now)),
            (Some(Lead::From(now + young)), Leads::Activators, Lead::From(now + young)),
            (Some(Lead::Always), Leads::Activators, Lead::Always),
            (None, Leads::Activators, Lead::From(now + (FOLLOWS - young))),
        ];
        for (known, leads, then) in table {
            assert_eq!(Lead::next(known, leads, young, now), then, "{known:?}, {leads:?}");
        }
        for (reachable, then) in [(Duration::ZERO, Lead::From(now + FOLLOWS)), (FOLLOWS, Lead::Always)] {
            assert_eq!(Lead::next(None, Leads::Activators, reachable, now), then, "a new leader, {reachable:?}");
        }
    }

    #[test]
    fn the_status_tells_since_when_it_is_reachable() {
        let now: jiff::Timestamp = "2026-11-22T12:00:10Z".parse().unwrap();
        let condition = |status: &str, since: &str| Condition {
            type_: ROUTE_READY.to_owned(),
            status: status.to_owned(),
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(since.parse().unwrap()),
            message: String::new(),
            observed_generation: None,
            reason: String::new(),
        };
        assert_eq!(reachable(&[condition("True", "2026-11-22T12:00:03Z")], now), Duration::from_secs(7));
        assert_eq!(reachable(&[condition("False", "2026-11-22T12:00:03Z")], now), Duration::ZERO);
        assert_eq!(reachable(&[condition("True", "2026-11-22T12:00:13Z")], now), Duration::ZERO, "clocks differ");
        assert_eq!(reachable(&[], now), Duration::ZERO);
    }
}
