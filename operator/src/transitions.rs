//! What changed between two statuses that an author wants to hear of as an Event. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::EventType;
use pilotlight_crds::condition::{self, get};
use pilotlight_crds::{FunctionStatus, names};

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Normal or Warning.
    pub type_: EventType,
    /// CamelCase reason.
    pub reason: String,
    /// What happened.
    pub note: String,
    /// What the operator was doing.
    pub action: &'static str,
    /// Deployment that it is about.
    pub deployment: Option<String>,
}

/// Everything to tell about the step from `before` to `after`.
pub fn transitions(before: &FunctionStatus, after: &FunctionStatus) -> Vec<Transition> {
    let mut all = Vec::new();
    revision(before, after, &mut all);
    for (type_, action) in [
        (condition::WORKLOAD_READY, "StartRevision"),
        (condition::ROUTE_READY, "Route"),
        (condition::TRAFFIC_READY, "Route"),
        (condition::HOSTNAMES_READY, "Route"),
        (condition::GATEWAY_READY, "Route"),
    ] {
        let deployment = (type_ == condition::WORKLOAD_READY).then(|| after.latest_created_revision.clone()).flatten();
        part(before, after, type_, action, deployment, &mut all);
    }
    contested(before, after, &mut all);
    beacon(before, after, &mut all);
    ready(before, after, &mut all);
    traffic(before, after, &mut all);
    rollout(before, after, &mut all);
    woken(before, after, &mut all);
    all
}

fn revision(before: &FunctionStatus, after: &FunctionStatus, all: &mut Vec<Transition>) {
    if let Some(latest) = &after.latest_created_revision
        && before.latest_created_revision.as_ref() != Some(latest)
    {
        all.push(Transition {
            type_: EventType::Normal,
            reason: "RevisionCreated".to_owned(),
            note: format!("Created revision {latest}"),
            action: "CreateRevision",
            deployment: Some(latest.clone()),
        });
    }
}

/// A part that fails, or that works again or in another way.
fn part(
    before: &FunctionStatus,
    after: &FunctionStatus,
    type_: &str,
    action: &'static str,
    deployment: Option<String>,
    all: &mut Vec<Transition>,
) {
    let Some(now) = get(&after.conditions, type_) else {
        return;
    };
    let was = get(&before.conditions, type_);
    if was.is_some_and(|was| says_the_same(was, now)) {
        return;
    }
    let type_ = match now.status.as_str() {
        "True" if now.reason == condition::FAILED_OPEN => EventType::Warning,
        "True" if now.reason == condition::NOT_TRIED => return,
        "True" => EventType::Normal,
        // A route is without an activator for a moment each time that a Function is made.
        "False" if now.reason == condition::NO_ACTIVATOR && was.is_none() => return,
        "False" => EventType::Warning,
        _ => return,
    };
    all.push(Transition { type_, reason: now.reason.clone(), note: now.message.clone(), action, deployment });
}

/// That others write what is Pilotlight's, once for each that does.
fn contested(before: &FunctionStatus, after: &FunctionStatus, all: &mut Vec<Transition>) {
    for (type_, action) in [(condition::REPLICAS_CONTESTED, "Scale"), (condition::SELECTOR_CONTESTED, "Route")] {
        let message =
            |status: &FunctionStatus| get(&status.conditions, type_).map(|condition| condition.message.clone());
        if let Some(now) = message(after).filter(|now| message(before).as_ref() != Some(now)) {
            let (reason, deployment) = (type_.to_owned(), None);
            all.push(Transition { type_: EventType::Warning, reason, note: now, action, deployment });
        }
    }
}

/// That the beacon does not run, once: its words change with each attempt.
fn beacon(before: &FunctionStatus, after: &FunctionStatus, all: &mut Vec<Transition>) {
    let Some(now) = get(&after.conditions, condition::BEACON_FAILING) else { return };
    if get(&before.conditions, condition::BEACON_FAILING).is_none() {
        all.push(Transition {
            type_: EventType::Warning,
            reason: condition::BEACON_FAILING.to_owned(),
            note: now.message.clone(),
            action: "StartBeacon",
            deployment: None,
        });
    }
}

fn ready(before: &FunctionStatus, after: &FunctionStatus, all: &mut Vec<Transition>) {
    let is_true =
        |status: &FunctionStatus| get(&status.conditions, condition::READY).is_some_and(|c| c.status == "True");
    if is_true(after) && !is_true(before) {
        all.push(Transition {
            type_: EventType::Normal,
            reason: condition::READY.to_owned(),
            note: format!("The Function answers at {}", after.url.as_deref().unwrap_or_default()),
            action: "Reconcile",
            deployment: None,
        });
    }
}

fn traffic(before: &FunctionStatus, after: &FunctionStatus, all: &mut Vec<Transition>) {
    let revision = |status: &FunctionStatus| status.route.as_ref().and_then(|r| r.revision.clone());
    if let (Some(old), Some(new)) = (revision(before), revision(after))
        && old != new
    {
        all.push(Transition {
            type_: EventType::Normal,
            reason: "TrafficMoved".to_owned(),
            note: format!("Requests go to revision {new}, no longer to {old}"),
            action: "Route",
            deployment: Some(new),
        });
    }
}

/// Each step of a rollout. That it was aborted is told of the workload.
fn rollout(before: &FunctionStatus, after: &FunctionStatus, all: &mut Vec<Transition>) {
    let Some(now) = &after.rollout else { return };
    if before.rollout.as_ref().is_some_and(|was| (&was.revision, was.percent) == (&now.revision, now.percent)) {
        return;
    }
    all.push(Transition {
        type_: EventType::Normal,
        reason: "RolloutStep".to_owned(),
        note: format!("Revision {} has {} % of the traffic, {} the rest", now.revision, now.percent, now.from),
        action: "Route",
        deployment: Some(now.revision.clone()),
    });
}

/// The step down is told by the autoscaler, which knows why.
fn woken(before: &FunctionStatus, after: &FunctionStatus, all: &mut Vec<Transition>) {
    let at_zero = |status: &FunctionStatus| {
        get(&status.conditions, condition::ACTIVE).is_some_and(|c| c.reason == condition::SCALED_TO_ZERO)
    };
    let same_revision = before.latest_created_revision == after.latest_created_revision;
    if at_zero(before) && !at_zero(after) && same_revision {
        all.push(Transition {
            type_: EventType::Normal,
            reason: "Woken".to_owned(),
            note: "A pod is starting; the Function had none".to_owned(),
            action: "Scale",
            deployment: after.route.as_ref().and_then(|r| r.revision.clone()),
        });
    }
}

fn says_the_same(a: &Condition, b: &Condition) -> bool {
    a.status == b.status && a.reason == b.reason
}

/// The longest note that the API server takes in an Event, in bytes.
const MAX_NOTE_BYTES: usize = 1024;

/// Cuts a note to what the API server takes.
pub fn cut(note: &str) -> String {
    let mut end = note.len().min(MAX_NOTE_BYTES);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note[..end].to_owned()
}

/// Name of the controller in Events.
pub const REPORTER: &str = names::SLICE_MANAGED_BY;

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use pilotlight_crds::condition::{Desired, set};

    fn status(conditions: &[(&str, Option<bool>, &str)]) -> FunctionStatus {
        let mut status =
            FunctionStatus { latest_created_revision: Some("hello-1".to_owned()), ..FunctionStatus::default() };
        for (type_, value, reason) in conditions {
            let desired = Desired { type_, status: *value, reason, message: "words" };
            let at = Time(jiff::Timestamp::UNIX_EPOCH);
            set(&mut status.conditions, &desired, Some(1), &at);
        }
        status
    }

    fn reasons(before: &FunctionStatus, after: &FunctionStatus) -> Vec<String> {
        let all = transitions(before, after);
        all.into_iter().map(|t| t.reason).collect()
    }

    #[test]
    fn the_same_status_tells_nothing() {
        let status = status(&[(condition::READY, Some(true), condition::AVAILABLE)]);
        assert_eq!(transitions(&status, &status), []);
    }

    #[test]
    fn another_writer_is_told_once() {
        for type_ in [condition::REPLICAS_CONTESTED, condition::SELECTOR_CONTESTED] {
            let contested = status(&[(type_, Some(true), condition::FOREIGN_WRITER)]);
            assert_eq!(reasons(&status(&[]), &contested), [type_]);
            assert_eq!(reasons(&contested, &contested), [""; 0]);
            assert_eq!(reasons(&contested, &status(&[])), [""; 0]);
        }
    }

    #[test]
    fn a_beacon_that_does_not_run_is_told_once_whatever_its_reason() {
        let failing = |reason| status(&[(condition::BEACON_FAILING, Some(true), reason)]);
        assert_eq!(reasons(&status(&[]), &failing("ErrImagePull")), ["BeaconFailing"]);
        assert_eq!(reasons(&failing("ErrImagePull"), &failing("ImagePullBackOff")), [""; 0]);
        assert_eq!(reasons(&failing("ImagePullBackOff"), &status(&[])), [""; 0]);
    }

    #[test]
    fn a_first_deploy_tells_its_revision_and_that_it_is_ready() {
        let after = status(&[
            (condition::READY, Some(true), condition::AVAILABLE),
            (condition::WORKLOAD_READY, Some(true), condition::REVISION_READY),
            (condition::ROUTE_READY, Some(true), condition::ROUTED),
        ]);
        assert_eq!(
            reasons(&FunctionStatus::default(), &after),
            ["RevisionCreated", "RevisionReady", "Routed", "Ready"]
        );
    }

    #[test]
    fn a_failure_is_a_warning_and_so_is_another_cause() {
        let starting = status(&[(condition::WORKLOAD_READY, None, condition::REVISION_STARTING)]);
        let pull = status(&[(condition::WORKLOAD_READY, Some(false), "ImagePullFailed")]);
        let crash = status(&[(condition::WORKLOAD_READY, Some(false), "ContainerCrashed")]);
        for (before, after, reason) in [(&starting, &pull, "ImagePullFailed"), (&pull, &crash, "ContainerCrashed")] {
            let all = transitions(before, after);
            assert_eq!(all.len(), 1);
            assert_eq!(all[0].reason, reason);
            assert_eq!(all[0].type_, EventType::Warning);
        }
    }

    #[test]
    fn waking_is_told_and_a_new_revision_that_starts_is_not_waking() {
        let zero = status(&[(condition::ACTIVE, Some(false), condition::SCALED_TO_ZERO)]);
        let starting = status(&[(condition::ACTIVE, None, "Starting")]);
        assert_eq!(reasons(&zero, &starting), ["Woken"]);
        let mut next = starting;
        next.latest_created_revision = Some("hello-2".to_owned());
        assert_eq!(reasons(&zero, &next), ["RevisionCreated"]);
    }
}
