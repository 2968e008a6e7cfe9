//! Failing probes. A pod's status says only that it is not ready; why is in kubelet's `Unhealthy` events.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::{Diagnosis, PodEvent, Reason, WillItHealAlone, words};
use crate::names::CONTAINER;

/// The container runs, and kubelet has said that a probe fails.
pub(super) fn diagnose(pod: &Pod, events: &[PodEvent]) -> Option<Diagnosis> {
    let status = pod.status.as_ref()?;
    let running = status
        .container_statuses
        .iter()
        .flatten()
        .any(|c| c.name == CONTAINER && !c.ready && c.state.as_ref().is_some_and(|s| s.running.is_some()));
    let event = events.iter().rev().find(|e| e.reason == "Unhealthy")?;
    running.then(|| failing(&event.message, ""))
}

/// The container is stopped again and again because its liveness or startup probe fails.
pub(super) fn stopped(status: &ContainerStatus, events: &[PodEvent]) -> Option<Diagnosis> {
    let event = events
        .iter()
        .rev()
        .find(|e| e.reason == "Unhealthy" && (e.message.starts_with("Liveness") || e.message.starts_with("Startup")))?;
    let times = match status.restart_count {
        0 => " and stops it".to_owned(),
        1 => " and has restarted it once".to_owned(),
        n => format!(" and has restarted it {n} times"),
    };
    Some(failing(&event.message, &times))
}

fn failing(said: &str, consequence: &str) -> Diagnosis {
    let said = words::sentence(said);
    let field = if said.starts_with("Liveness") {
        "spec.livenessProbe"
    } else if said.starts_with("Startup") {
        "spec.startupProbe"
    } else {
        "spec.readinessProbe"
    };
    let remedy = if said.contains("connection refused") {
        format!("let the container listen on the port in PORT (spec.port), on all addresses, or correct {field}")
    } else {
        format!("correct {field} or what answers it")
    };
    Diagnosis::new(
        Reason::ProbeFailing,
        WillItHealAlone::Possibly,
        format!("The container runs, but kubelet finds it failing{consequence}: {said}; {remedy}"),
    )
}
