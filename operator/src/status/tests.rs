//! Conditions and verdicts over situations, as a table and as stories.

mod named;
mod promotion;
mod rollout;
mod rungs;
mod target;
mod warnings;

pub(super) use promotion::NOTHING;

use super::rollout::Seen;
use super::*;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateWaiting, ContainerStatus, Pod, PodCondition, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ObjectMeta;
use pilotlight_crds::FunctionSpec;
use pilotlight_crds::condition::get;
use pilotlight_crds::diagnosis::PodEvent;
use pilotlight_scaling::Rung as ScalingRung;
use std::sync::Arc;
use std::time::Duration;

use crate::apply::Refusal;
use crate::build::pod::template;
use crate::build::slice::Target;
use crate::route::Route;

/// A Function in a situation, and what its status says.
struct Situation {
    function: Function,
    observed: Observed,
    problems: Vec<Problem>,
    applied: Applied,
    wanted: Vec<Revision>,
    /// Which rung pods could not be put on, and why.
    refused: BTreeMap<ScalingRung, String>,
    hostnames: Answer,
    /// What activators saw of the revision that is being rolled out.
    seen: Seen,
    domain: Option<&'static str>,
    now: i64,
}

impl Situation {
    /// A Function whose first revision was just created, with an activator that took its route.
    fn new() -> Self {
        let spec = FunctionSpec { image: "example.com/hello:1".to_owned(), ..FunctionSpec::default() };
        let mut function = Function::new("hello", spec);
        function.metadata.namespace = Some("shop".to_owned());
        function.metadata.generation = Some(4);
        let mut situation = Self {
            function,
            observed: Observed::default(),
            problems: Vec::new(),
            applied: applied(Ok(()), Ok(()), routed()),
            wanted: Vec::new(),
            refused: BTreeMap::new(),
            hostnames: Answer::default(),
            seen: Seen::default(),
            domain: None,
            now: 1000,
        };
        situation.add_revision(1);
        situation
    }

    fn add_revision(&mut self, number: u64) {
        let name = names::revision_name("hello", number);
        self.wanted.insert(
            0,
            Revision { number, hash: number.to_string(), template: template("hello", &name, &self.function.spec) },
        );
        self.set_deployment(&name, 0, None);
    }

    fn set_deployment(&mut self, name: &str, replicas: i32, refused: Option<&str>) {
        self.observed.deployments.retain(|d| d.metadata.name.as_deref() != Some(name));
        let conditions = refused.map(|message| {
            vec![DeploymentCondition {
                type_: "ReplicaFailure".to_owned(),
                status: "True".to_owned(),
                message: Some(message.to_owned()),
                ..DeploymentCondition::default()
            }]
        });
        self.observed.deployments.push(Arc::new(Deployment {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            spec: Some(DeploymentSpec { replicas: Some(replicas), ..DeploymentSpec::default() }),
            status: Some(DeploymentStatus { conditions, ..DeploymentStatus::default() }),
        }));
    }

    /// One pod of the revision, in place of those it had.
    fn set_pod(&mut self, revision: &str, status: PodStatus) {
        self.remove_pods(revision);
        self.set_deployment(revision, 1, None);
        self.observed.pods.push(Arc::new(Pod {
            metadata: ObjectMeta {
                name: Some(format!("{revision}-abc")),
                uid: Some(format!("uid-{revision}")),
                labels: Some([(names::LABEL_REVISION.to_owned(), revision.to_owned())].into()),
                ..ObjectMeta::default()
            },
            status: Some(status),
            ..Pod::default()
        }));
    }

    fn remove_pods(&mut self, revision: &str) {
        self.set_deployment(revision, 0, None);
        self.observed.pods.retain(|pod| crate::observe::label(pod, names::LABEL_REVISION) != Some(revision));
    }

    /// What the status says now; the next look sees it as the status before.
    fn look(&mut self) -> FunctionStatus {
        let now = Timestamp::from_second(self.now).unwrap();
        let mut verdicts = judge("hello", &self.wanted, &self.observed, now);
        let current = self.observed.status.route.as_ref().and_then(|route| route.revision.as_deref());
        let route = self.observed.status.route.clone().unwrap_or_default();
        let input = TrafficInput {
            verdicts: &verdicts,
            current,
            split: &route.split,
            tags: &route.tags,
            matches: &route.matches,
            rollout: self.observed.status.rollout.as_ref(),
            seen: self.seen,
            now,
            promoting: None,
        };
        let traffic = Traffic::decide(&self.function.spec, &input);
        condemn(&mut verdicts, traffic.aborted.as_ref());
        let status = build(&StatusInput {
            function: &self.function,
            observed: &self.observed,
            problems: &self.problems,
            applied: &self.applied,
            verdicts: &verdicts,
            traffic: &traffic,
            owner: None,
            contested: Contention::of_replicas(&self.observed.deployments, now).as_slice(),
            idle: None,
            rungs_refused: &self.refused,
            boost_refused: self.refused.values().next().map(String::as_str),
            domain: self.domain,
            hostnames: &self.hostnames,
            gateway: None,
            now,
        });
        self.observed.status = status.clone();
        status
    }
}

fn applied(workload: Result<(), Refusal>, service: Result<(), Refusal>, route: Route) -> Applied {
    Applied::of_target(Ok(12_345), workload, service, route)
}

fn routed() -> Route {
    Route::Activators(Target { port: 12_345, addresses: Vec::new() })
}

fn ready_pod() -> PodStatus {
    PodStatus {
        phase: Some("Running".to_owned()),
        conditions: Some(vec![PodCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    }
}

fn starting_pod() -> PodStatus {
    PodStatus { phase: Some("Pending".to_owned()), ..PodStatus::default() }
}

fn waiting_pod(reason: &str, message: &str) -> PodStatus {
    PodStatus {
        phase: Some("Pending".to_owned()),
        container_statuses: Some(vec![ContainerStatus {
            name: names::CONTAINER.to_owned(),
            state: Some(ContainerState {
                waiting: Some(ContainerStateWaiting {
                    reason: Some(reason.to_owned()),
                    message: Some(message.to_owned()),
                }),
                ..ContainerState::default()
            }),
            ..ContainerStatus::default()
        }]),
        ..PodStatus::default()
    }
}

fn unschedulable_pod() -> PodStatus {
    PodStatus {
        phase: Some("Pending".to_owned()),
        conditions: Some(vec![PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: Some("Unschedulable".to_owned()),
            message: Some("0/1 nodes are available: 1 Insufficient cpu.".to_owned()),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    }
}

/// `Ready=True/Available …`, in the order of the status.
fn words(status: &FunctionStatus) -> String {
    let words: Vec<_> = status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect();
    words.join(" ")
}

fn condition<'a>(status: &'a FunctionStatus, type_: &str) -> &'a Condition {
    get(&status.conditions, type_).unwrap_or_else(|| panic!("no {type_} in {status:?}"))
}

#[test]
fn every_situation_has_its_words() {
    let refusal = |reason| Err(Refusal { reason, message: "no".to_owned() });
    type Change = Box<dyn Fn(&mut Situation)>;
    let table: Vec<(&str, Change, &str)> = vec![
        (
            "just created",
            Box::new(|_| {}),
            "Ready=Unknown/RevisionStarting WorkloadReady=Unknown/RevisionStarting RouteReady=True/Routed \
             Active=Unknown/Starting Reconciling=True/RevisionStarting",
        ),
        (
            "its pod is ready",
            Box::new(|s| s.set_pod("hello-1", ready_pod())),
            "Ready=True/Available WorkloadReady=True/RevisionReady RouteReady=True/Routed Active=True/Running",
        ),
        (
            "its secret is missing",
            Box::new(|s| {
                s.set_pod("hello-1", waiting_pod("CreateContainerConfigError", "secret \"x\" not found"));
            }),
            "Ready=False/ContainerConfigInvalid WorkloadReady=False/ContainerConfigInvalid RouteReady=True/Routed \
             Active=Unknown/Starting Stalled=True/ContainerConfigInvalid",
        ),
        (
            "no node has room",
            Box::new(|s| s.set_pod("hello-1", unschedulable_pod())),
            "Ready=False/Unschedulable WorkloadReady=False/Unschedulable RouteReady=True/Routed \
             Active=Unknown/Starting Reconciling=True/Unschedulable",
        ),
        (
            "the quota has no room",
            Box::new(|s| s.set_deployment("hello-1", 1, Some("exceeded quota: q"))),
            "Ready=False/QuotaExceeded WorkloadReady=False/QuotaExceeded RouteReady=True/Routed \
             Active=Unknown/Starting Reconciling=True/QuotaExceeded",
        ),
        (
            "it starts at its first request",
            Box::new(|s| s.function.spec.scaling.initial_replicas = 0),
            "Ready=True/Available WorkloadReady=True/NotTried RouteReady=True/Routed Active=False/ScaledToZero",
        ),
        (
            "no activator yet",
            Box::new(|s| {
                s.set_pod("hello-1", ready_pod());
                s.applied = applied(Ok(()), Ok(()), Route::Keep);
            }),
            "Ready=False/NoActivator WorkloadReady=True/RevisionReady RouteReady=False/NoActivator \
             Active=True/Running Reconciling=True/NoActivator",
        ),
        (
            "failed open",
            Box::new(|s| {
                s.set_pod("hello-1", ready_pod());
                let Route::Activators(target) = routed() else { unreachable!() };
                s.applied = applied(Ok(()), Ok(()), Route::Pods(target));
            }),
            "Ready=True/Available WorkloadReady=True/RevisionReady RouteReady=True/FailedOpen Active=True/Running",
        ),
        (
            "a Service has its name",
            Box::new(move |s| {
                s.applied = applied(Ok(()), refusal(condition::NAME_TAKEN), Route::Keep);
            }),
            "Ready=False/NameTaken WorkloadReady=Unknown/RevisionStarting RouteReady=False/NameTaken \
             Active=Unknown/Starting Stalled=True/NameTaken",
        ),
        (
            "its Deployment is refused",
            Box::new(move |s| {
                s.applied = applied(refusal(condition::REVISION_REFUSED), Ok(()), routed());
            }),
            "Ready=False/RevisionRefused WorkloadReady=False/RevisionRefused RouteReady=True/Routed \
             Active=False/ScaledToZero Stalled=True/RevisionRefused",
        ),
        (
            "its spec contradicts itself",
            Box::new(|s| {
                s.problems = vec![Problem { field: "spec.env[0].name".to_owned(), message: "no".to_owned() }];
            }),
            "Ready=False/InvalidSpec WorkloadReady=False/InvalidSpec RouteReady=True/Routed \
             Active=Unknown/Starting Stalled=True/InvalidSpec",
        ),
    ];
    for (name, change, expected) in table {
        let mut situation = Situation::new();
        change(&mut situation);
        let status = situation.look();
        assert_eq!(words(&status), expected, "{name}");
        assert_eq!(status.observed_generation, Some(4), "{name}");
        for c in &status.conditions {
            assert_eq!(c.observed_generation, Some(4), "{name}: {}", c.type_);
        }
        situation.now += 1;
        assert_eq!(situation.look(), status, "{name}: a second look differs");
    }
}

#[test]
fn a_revision_that_failed_keeps_its_reason_when_its_pods_are_gone_and_heals_by_a_ready_one() {
    let mut s = Situation::new();
    s.set_pod("hello-1", waiting_pod("CreateContainerConfigError", "secret \"x\" not found"));
    let failed = s.look();
    s.remove_pods("hello-1");
    let gone = s.look();
    assert_eq!(gone.revisions[0].state, RevisionState::Failed);
    assert_eq!(condition(&gone, condition::READY), condition(&failed, condition::READY));
    assert_eq!(condition(&gone, condition::STALLED).status, "True");
    s.set_pod("hello-1", ready_pod());
    let healed = s.look();
    assert_eq!(healed.revisions[0].state, RevisionState::Ready);
    assert_eq!(condition(&healed, condition::READY).status, "True");
    assert!(get(&healed.conditions, condition::STALLED).is_none());
}

#[test]
fn what_could_pass_fails_the_revision_only_after_a_while() {
    let mut s = Situation::new();
    s.set_pod("hello-1", unschedulable_pod());
    assert_eq!(s.look().revisions[0].state, RevisionState::Pending);
    s.now += PATIENCE.as_secs() - 1;
    assert_eq!(s.look().revisions[0].state, RevisionState::Pending);
    s.now += 1;
    let failed = s.look();
    assert_eq!(failed.revisions[0].state, RevisionState::Failed);
    assert_eq!(condition(&failed, condition::STALLED).reason, "Unschedulable");
    assert!(get(&failed.conditions, condition::RECONCILING).is_none());
}

#[test]
fn probes_that_fail_while_a_container_starts_tell_nothing_yet() {
    let mut s = Situation::new();
    let mut status = waiting_pod("", "");
    let container = &mut status.container_statuses.as_mut().unwrap()[0];
    container.state = Some(ContainerState {
        running: Some(ContainerStateRunning { started_at: Some(Time(Timestamp::from_second(s.now).unwrap())) }),
        ..ContainerState::default()
    });
    s.set_pod("hello-1", status);
    s.observed.pod_events.insert(
        "uid-hello-1".to_owned(),
        vec![PodEvent {
            reason: "Unhealthy".to_owned(),
            message: "Readiness probe failed: connection refused".to_owned(),
        }],
    );
    let reason = |s: &mut Situation| condition(&s.look(), condition::READY).reason.clone();
    assert_eq!(reason(&mut s), condition::REVISION_STARTING);
    s.now += evidence::PROBE_GRACE.as_secs();
    assert_eq!(reason(&mut s), "ProbeFailing");
}

#[test]
fn traffic_stays_with_the_old_revision_until_the_new_one_proved_itself() {
    let mut s = Situation::new();
    s.set_pod("hello-1", ready_pod());
    s.look();
    s.add_revision(2);
    s.set_pod("hello-2", waiting_pod("InvalidImageName", "no"));
    let failed = s.look();
    let revision = |status: &FunctionStatus| status.route.clone().unwrap().revision.unwrap();
    assert_eq!(revision(&failed), "hello-1");
    assert_eq!(failed.latest_created_revision.as_deref(), Some("hello-2"));
    assert_eq!(failed.latest_ready_revision.as_deref(), Some("hello-1"));
    let ready = condition(&failed, condition::READY);
    assert_eq!(ready.status, "False");
    assert!(ready.message.contains("hello-1 still answers"), "{}", ready.message);
    s.set_pod("hello-2", ready_pod());
    assert_eq!(revision(&s.look()), "hello-2");
}
