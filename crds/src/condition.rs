//! The conditions of a Function, the reasons that they carry, and how one is set.
//!
//! What always holds: `lastTransitionTime` moves only when `status` does; a reason is CamelCase and never empty, a message is
//! within the schema's bound. Where pods are the cause, the reason is that of a [`crate::diagnosis::Reason`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// `True` when the Function can answer, at zero pods included.
pub const READY: &str = "Ready";
/// Whether the newest revision's pods start and pass their probes.
pub const WORKLOAD_READY: &str = "WorkloadReady";
/// Whether requests to the Function's names reach an activator, or its pods where it failed open.
pub const ROUTE_READY: &str = "RouteReady";
/// Whether pods run. `False` with reason [`SCALED_TO_ZERO`] at zero.
pub const ACTIVE: &str = "Active";
/// Whether all of `spec.hostnames` lead to the Function; absent where there are none. `Ready` does not depend on it: the Function's own names answer.
pub const HOSTNAMES_READY: &str = "HostnamesReady";
/// Whether the gateway or Ingress in front of the cluster leads the Function's external names to it; absent where the chart names none, or the Function has
/// no such name. `Ready` does not depend on it.
pub const GATEWAY_READY: &str = "GatewayReady";
/// Whether the traffic goes to the revisions that `spec.traffic` names; absent where it names none. `Ready` is `False` where this is.
pub const TRAFFIC_READY: &str = "TrafficReady";
/// Abnormal-true (kstatus): the operator is still working towards the spec.
pub const RECONCILING: &str = "Reconciling";
/// Abnormal-true (kstatus): it cannot go on without a change from outside.
pub const STALLED: &str = "Stalled";
/// Abnormal-true: somebody else writes the replicas of the Function's Deployments, too.
pub const REPLICAS_CONTESTED: &str = "ReplicasContested";
/// Abnormal-true: somebody else writes the selector of the Service that the Function has taken over.
pub const SELECTOR_CONTESTED: &str = "SelectorContested";
/// Abnormal-true: the beacon beside the function does not run, so wakes take longer. The function itself is well.
pub const BEACON_FAILING: &str = "BeaconFailing";
/// Abnormal-true: a rung of `scaling.idle` cannot be had. Pods stay on the one before, or go to the one after.
pub const RUNG_UNAVAILABLE: &str = "RungUnavailable";
/// Abnormal-true: starting pods do not get the CPU of `coldStart.cpuBoost`.
pub const BOOST_UNAVAILABLE: &str = "BoostUnavailable";

/// Reason of `Active=False` at zero pods.
pub const SCALED_TO_ZERO: &str = "ScaledToZero";
/// Reason of `Active=False`: placeholders hold the place of pods, and the next request brings the function back.
pub const PARKED: &str = "Parked";
/// Reason of `RungUnavailable=True`: the shape of the Function's pods forbids it.
pub const SHAPE_UNFIT: &str = "ShapeUnfit";
/// Reason of `RungUnavailable=True`: pods cannot be parked, or the API server does not let them be.
pub const PARK_REFUSED: &str = "ParkRefused";
/// Reason of `Active=True`: pods that nobody uses have next to no CPU.
pub const THROTTLED: &str = "Throttled";
/// Reason of `RungUnavailable=True` and `BoostUnavailable=True`: the API server does not let pods be resized.
pub const RESIZE_REFUSED: &str = "ResizeRefused";
/// Reason of `Active=True`.
pub const RUNNING: &str = "Running";
/// Reason of `Ready=True`.
pub const AVAILABLE: &str = "Available";
/// Reason of `WorkloadReady=True`: a pod of the newest revision was ready.
pub const REVISION_READY: &str = "RevisionReady";
/// Reason of `WorkloadReady=Unknown` and `Reconciling=True`: the newest revision's first pod is on its way.
pub const REVISION_STARTING: &str = "RevisionStarting";
/// Reason of `WorkloadReady=True` where `scaling.initialReplicas` is 0: nothing was tried, nothing failed.
pub const NOT_TRIED: &str = "NotTried";
/// Reason of `WorkloadReady=False` and `Stalled=True`: the API server refuses the revision's Deployment.
pub const REVISION_REFUSED: &str = "RevisionRefused";
/// Reason of `RouteReady=True`: the Service leads to activators that know the Function.
pub const ROUTED: &str = "Routed";
/// Reason of `RouteReady=True` while the Service leads to the pods themselves.
pub const FAILED_OPEN: &str = "FailedOpen";
/// Reason of `RouteReady=False` while no activator has said that it serves the Function's route port.
pub const NO_ACTIVATOR: &str = "NoActivator";
/// Reason of `RouteReady=False` and `Stalled=True`: every route port is taken.
pub const NO_ROUTE_PORT: &str = "NoRoutePort";
/// Reason of `RouteReady=False` and `Stalled=True`: an object that is not the Function's has the name that it needs.
pub const NAME_TAKEN: &str = "NameTaken";
/// Reason of `TrafficReady=True`: the revision that `spec.traffic` names has the traffic, whichever is the newest.
pub const REVISION_PINNED: &str = "RevisionPinned";
/// Reason of `TrafficReady=True`: several revisions have the traffic, as `spec.traffic` says.
pub const TRAFFIC_SPLIT: &str = "TrafficSplit";
/// Reason of `TrafficReady=False` and `Stalled=True`: there is no revision of the name in `spec.traffic`.
pub const REVISION_MISSING: &str = "RevisionMissing";
/// Reason of `TrafficReady=False` and `Stalled=True`: the revision that `spec.traffic` names did not start.
pub const REVISION_FAILED: &str = "RevisionFailed";
/// Reason of `WorkloadReady=False` and `Stalled=True`: the newest revision's requests failed or were slow more often than `spec.rollout.abortOn` allows, and
/// the traffic went back.
pub const ROLLOUT_ABORTED: &str = "RolloutAborted";
/// Reason of `HostnamesReady=True`.
pub const HOSTNAMES_HELD: &str = "HostnamesHeld";
/// Reason of `HostnamesReady=False`: another Function has one of them, and keeps it.
pub const HOSTNAME_TAKEN: &str = "HostnameTaken";
/// Reason of `HostnamesReady=False`: the Function's namespace may not have one of them.
pub const HOSTNAME_NOT_ALLOWED: &str = "HostnameNotAllowed";
/// Reason of `GatewayReady=True`: every gateway has accepted the Function's HTTPRoutes. Where it is `False`, the reason is the gateway's own as a rule.
pub const ROUTE_ACCEPTED: &str = "RouteAccepted";
/// Reason of `GatewayReady=Unknown`: no gateway's controller has said anything yet.
pub const ROUTE_PENDING: &str = "RoutePending";
/// Reason of `GatewayReady=False`: the API server refuses the HTTPRoute or Ingress.
pub const ROUTE_REFUSED: &str = "RouteRefused";
/// Reason of `GatewayReady=False`: the cluster does not know HTTPRoutes.
pub const GATEWAY_API_MISSING: &str = "GatewayApiMissing";
/// Reason of `GatewayReady=True`: a controller has written an address to the Function's Ingress.
pub const INGRESS_PUBLISHED: &str = "IngressPublished";
/// Reason of `GatewayReady=Unknown`: the Ingress is there, and no controller has written an address to it.
pub const INGRESS_CREATED: &str = "IngressCreated";

/// Reason of `WorkloadReady=True`: the Deployment that `spec.targetRef` names is as it must be.
pub const TARGET_ACCEPTED: &str = "TargetAccepted";
/// Reason of `RouteReady=False` while a Function that is deleted gives its target back.
pub const RELEASING: &str = "Releasing";
/// Reason of `Ready=False` and `Stalled=True`: there is no Deployment as `spec.targetRef` says.
pub const TARGET_MISSING: &str = "TargetMissing";
/// Reason of `Ready=False` and `Stalled=True`: the Deployment's owner has not consented, by a label, to this Function.
pub const TARGET_NOT_LABELLED: &str = "TargetNotLabelled";
/// Reason of `Ready=False` and `Stalled=True`: another object controls the Deployment.
pub const TARGET_CONTROLLED: &str = "TargetControlled";
/// Reason of `Ready=False` and `Stalled=True`: the API server does not let Pilotlight write what taking over or giving back takes.
pub const TARGET_REFUSED: &str = "TargetRefused";
/// Reason of `Ready=False` and `Stalled=True`: there is no Service of the Function's name.
pub const SERVICE_MISSING: &str = "ServiceMissing";
/// Reason of `Ready=False` and `Stalled=True`: the Service's owner has not consented, by a label, to this Function.
pub const SERVICE_NOT_LABELLED: &str = "ServiceNotLabelled";
/// Reason of `Ready=False` and `Stalled=True`: another object controls the Service.
pub const SERVICE_CONTROLLED: &str = "ServiceControlled";
/// Reason of `Ready=False` and `Stalled=True`: the Service does not lead to the Deployment, or not by one TCP port.
pub const SERVICE_UNFIT: &str = "ServiceUnfit";

/// Reason of `ReplicasContested=True` and `SelectorContested=True`: the message names the other writer.
pub const FOREIGN_WRITER: &str = "ForeignWriter";

/// Longest message that the API server takes in a condition, in bytes.
const MAX_MESSAGE_BYTES: usize = 32_768;

/// What a condition should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired<'a> {
    /// Its type, one of this module's.
    pub type_: &'a str,
    /// Its status; `None` is `Unknown`.
    pub status: Option<bool>,
    /// One CamelCase word, for programs.
    pub reason: &'a str,
    /// A sentence, for people.
    pub message: &'a str,
}

/// Sets the condition in `conditions`, for a Function of this `generation` and at the time `now`. `lastTransitionTime` stays
/// where the status does not change. Returns whether the status changed, which is worth an event.
pub fn set(conditions: &mut Vec<Condition>, desired: &Desired<'_>, generation: Option<i64>, now: &Time) -> bool {
    let status = match desired.status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let mut end = desired.message.len().min(MAX_MESSAGE_BYTES);
    while !desired.message.is_char_boundary(end) {
        end -= 1;
    }
    let old = conditions.iter().position(|c| c.type_ == desired.type_);
    let changed = old.is_none_or(|at| conditions[at].status != status);
    let last_transition_time = match old {
        Some(at) if !changed => conditions[at].last_transition_time.clone(),
        _ => now.clone(),
    };
    let new = Condition {
        type_: desired.type_.to_owned(),
        status: status.to_owned(),
        reason: desired.reason.to_owned(),
        message: desired.message[..end].to_owned(),
        observed_generation: generation,
        last_transition_time,
    };
    match old {
        Some(at) => conditions[at] = new,
        None => conditions.push(new),
    }
    changed
}

/// Takes the condition away, as befits [`RECONCILING`] and [`STALLED`] once they are over. Returns whether it was there.
pub fn clear(conditions: &mut Vec<Condition>, type_: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|c| c.type_ != type_);
    conditions.len() != before
}

/// The condition of that type.
pub fn get<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).expect("a valid time"))
    }

    fn desired<'a>(status: Option<bool>, reason: &'a str, message: &'a str) -> Desired<'a> {
        Desired { type_: READY, status, reason, message }
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let mut all = Vec::new();
        assert!(set(&mut all, &desired(None, REVISION_STARTING, "a"), Some(1), &at(1)));
        assert!(set(&mut all, &desired(Some(true), AVAILABLE, "b"), Some(1), &at(2)));
        assert!(!set(&mut all, &desired(Some(true), FAILED_OPEN, "c"), Some(2), &at(3)));
        let ready = get(&all, READY).expect("it was set");
        assert_eq!(ready.last_transition_time, at(2));
        assert_eq!((ready.reason.as_str(), ready.message.as_str()), (FAILED_OPEN, "c"));
        assert_eq!((ready.status.as_str(), ready.observed_generation), ("True", Some(2)));
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn clears_one_and_keeps_the_others() {
        let mut all = Vec::new();
        set(&mut all, &desired(Some(true), AVAILABLE, ""), None, &at(1));
        assert!(!clear(&mut all, STALLED));
        assert!(clear(&mut all, READY));
        assert!(all.is_empty());
    }

    #[test]
    fn bounds_the_message_at_a_character() {
        let mut all = Vec::new();
        let long = "é".repeat(MAX_MESSAGE_BYTES);
        set(&mut all, &desired(Some(true), AVAILABLE, &long), None, &at(1));
        assert_eq!(all[0].message.len(), MAX_MESSAGE_BYTES);
    }
}
