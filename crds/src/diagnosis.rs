//! Why a pod does not start, in a word and in the container's own words. Used for conditions, events and HTTP answers alike,
//! so that all three tell the same story.
//!
//! Pure. What always holds: a pod that is ready or going away has no diagnosis; a message is one line of at most
//! [`MAX_MESSAGE_BYTES`] and names the cause and, where there is one, the field to change.

mod beacon;
mod container;
mod probe;
mod refusal;
mod words;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde::{Deserialize, Serialize};
use std::fmt;

use crate::{park, target};

pub use beacon::{BeaconState, beacon_state, serves};
pub use refusal::diagnose_refusal;

/// Longest message of a diagnosis, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// The cause of a pod's failure, in one CamelCase word: the same in conditions, events, answers, logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// The image's name cannot be parsed.
    InvalidImageName,
    /// The image cannot be pulled.
    ImagePullFailed,
    /// The container cannot be configured: a Secret or ConfigMap is missing, or the image wants to run as root.
    ContainerConfigInvalid,
    /// The container's process cannot be started, for example because its command does not exist.
    StartFailed,
    /// The container's process ended by itself.
    ContainerCrashed,
    /// The kernel ended the container because it used more memory than its limit.
    OOMKilled,
    /// The container runs, but a probe of it fails.
    ProbeFailing,
    /// A volume cannot be mounted.
    VolumeMountFailed,
    /// No node can take the pod.
    Unschedulable,
    /// A ResourceQuota does not leave room for the pod.
    QuotaExceeded,
    /// Pod Security refuses the pod.
    PodSecurityViolation,
    /// The service account that the pods should run as does not exist.
    ServiceAccountNotFound,
    /// Admission refuses the pod for another reason: a webhook, a policy, a LimitRange.
    PodRefused,
    /// The pod was evicted, or its node refused it.
    PodFailed,
}

impl Reason {
    /// The reason's CamelCase word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidImageName => "InvalidImageName",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::ContainerConfigInvalid => "ContainerConfigInvalid",
            Self::StartFailed => "StartFailed",
            Self::ContainerCrashed => "ContainerCrashed",
            Self::OOMKilled => "OOMKilled",
            Self::ProbeFailing => "ProbeFailing",
            Self::VolumeMountFailed => "VolumeMountFailed",
            Self::Unschedulable => "Unschedulable",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::PodSecurityViolation => "PodSecurityViolation",
            Self::ServiceAccountNotFound => "ServiceAccountNotFound",
            Self::PodRefused => "PodRefused",
            Self::PodFailed => "PodFailed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether waiting can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WillItHealAlone {
    /// Somebody has to change something: to answer waiting requests at once is kinder than to hold them.
    No,
    /// It may pass: a slow start, a registry that does not answer right now, a cluster that adds a node.
    Possibly,
}

/// What keeps a pod from starting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The cause in one word.
    pub reason: Reason,
    /// Cause and remedy for a person: one line, at most [`MAX_MESSAGE_BYTES`].
    pub message: String,
    /// Whether waiting can help.
    pub healing: WillItHealAlone,
}

impl Diagnosis {
    /// The same of a pod whose Deployment a Function took over: what is to be changed is the Deployment's, and not in the Function's spec.
    pub fn of_target(self) -> Self {
        let message = self.message.replace(" spec.", " the Deployment's ").replace("(spec.", "(the Deployment's ");
        Self::new(self.reason, self.healing, message)
    }

    /// A diagnosis whose message is made one line of at most [`MAX_MESSAGE_BYTES`].
    pub fn new(reason: Reason, healing: WillItHealAlone, message: impl AsRef<str>) -> Self {
        Self { reason, message: words::head(message.as_ref(), MAX_MESSAGE_BYTES), healing }
    }

    /// The one that tells most of several: what cannot heal alone first, then the order of [`Reason`].
    pub fn most_telling(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        all.into_iter().min_by(|a, b| (a.healing, a.reason).cmp(&(b.healing, b.reason)))
    }
}

/// An Event about a pod, as far as a diagnosis needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodEvent {
    /// The event's `reason`, for example `Unhealthy` or `FailedMount`.
    pub reason: String,
    /// The event's message (`message` of core/v1, `note` of events.k8s.io/v1).
    pub message: String,
}

/// What keeps `pod` from starting, or `None` while nothing does: it is ready, going away, or simply not there yet.
///
/// `events` are those about this pod, oldest first. Without them a failing probe or mount cannot be told from a slow start;
/// everything else is in the pod's status.
pub fn diagnose(pod: &Pod, events: &[PodEvent]) -> Option<Diagnosis> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() == Some("Failed") {
        return Some(failed(
            status.reason.as_deref().unwrap_or_default(),
            status.message.as_deref().unwrap_or_default(),
        ));
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    if serves(pod) || is_on_its_way(pod) {
        return None;
    }
    let found = container::diagnose(pod, events)
        .or_else(|| unschedulable(conditions))
        .or_else(|| mount(events))
        .or_else(|| sandbox(events))
        .or_else(|| probe::diagnose(pod, events));
    if target::is_adopted(pod) { found.map(Diagnosis::of_target) } else { found }
}

/// Whether a pod that was parked is between placeholder and function. What ends there was told to, and where the function does not come back
/// another pod takes its place and shows why; only a function that ends again and again by itself speaks for itself.
fn is_on_its_way(pod: &Pod) -> bool {
    park::turn(pod) > 0 && (park::is_swapped(pod) || !container::crashes(pod))
}

/// Whether Kubernetes says of a pod that was parked that its function will not come back by waiting, or only with an image that must be pulled.
pub fn cannot_come_back(pod: &Pod) -> bool {
    let lost = |cause: Diagnosis| cause.healing == WillItHealAlone::No || cause.reason == Reason::ImagePullFailed;
    park::turn(pod) > 0 && !park::is_swapped(pod) && container::diagnose(pod, &[]).is_some_and(lost)
}

fn is_true(conditions: &[PodCondition], type_: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == "True")
}

fn failed(reason: &str, message: &str) -> Diagnosis {
    let cause = match (reason, message) {
        ("", "") => "The pod failed".to_owned(),
        ("", said) => format!("The pod failed: {said}"),
        ("Evicted", said) => format!("The pod was evicted: {said}"),
        (reason, said) => format!("The pod failed ({reason}): {said}"),
    };
    Diagnosis::new(
        Reason::PodFailed,
        WillItHealAlone::Possibly,
        format!("{}; a new pod replaces it", words::sentence(&cause)),
    )
}

fn unschedulable(conditions: &[PodCondition]) -> Option<Diagnosis> {
    let said = conditions
        .iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")
        .filter(|c| c.reason.as_deref() == Some("Unschedulable"))?;
    let said = words::sentence(said.message.as_deref().unwrap_or("no node fits"));
    let remedy = if said.contains("persistentvolumeclaim") {
        "create the claim that spec.volumes names, or correct the name"
    } else if said.contains("Insufficient") {
        "lower spec.resources.requests or add nodes"
    } else if said.contains("taint") || said.contains("affinity") || said.contains("selector") {
        "check spec.nodeSelector, spec.affinity and spec.tolerations against the nodes"
    } else {
        "check what the pod asks for against the nodes"
    };
    Some(Diagnosis::new(
        Reason::Unschedulable,
        WillItHealAlone::Possibly,
        format!("No node can take the pod: {said}; {remedy}"),
    ))
}

fn last<'a>(events: &'a [PodEvent], reasons: &[&str]) -> Option<&'a PodEvent> {
    events.iter().rev().find(|e| reasons.contains(&e.reason.as_str()))
}

fn mount(events: &[PodEvent]) -> Option<Diagnosis> {
    let event = last(events, &["FailedMount", "FailedAttachVolume"])?;
    let said = words::sentence(&event.message);
    let (healing, remedy) = if said.contains("not found") {
        (WillItHealAlone::No, "create what spec.volumes names, or correct the name")
    } else {
        (WillItHealAlone::Possibly, "check spec.volumes and the volume behind it")
    };
    Some(Diagnosis::new(Reason::VolumeMountFailed, healing, format!("A volume cannot be mounted: {said}; {remedy}")))
}

fn sandbox(events: &[PodEvent]) -> Option<Diagnosis> {
    let event = last(events, &["FailedCreatePodSandBox"])?;
    let said = words::sentence(&event.message);
    Some(Diagnosis::new(
        Reason::StartFailed,
        WillItHealAlone::Possibly,
        format!(
            "The pod's sandbox cannot be created: {said}; check spec.runtimeClassName and the node's network plugin"
        ),
    ))
}
