//! Pods that the API server does not even create. The words are those of a Deployment's or ReplicaSet's `ReplicaFailure`
//! condition, or of a `FailedCreate` event.

use super::{Diagnosis, Reason, WillItHealAlone, words};

/// What `message` (of a `ReplicaFailure` condition or a `FailedCreate` event) says about why no pod is created. `None` for an
/// empty message.
pub fn diagnose_refusal(message: &str) -> Option<Diagnosis> {
    let said = words::sentence(message);
    if said.is_empty() {
        return None;
    }
    let (reason, healing, cause, remedy) = if said.contains("exceeded quota") {
        (
            Reason::QuotaExceeded,
            WillItHealAlone::Possibly,
            "A ResourceQuota of the namespace leaves no room for the pod",
            "raise the quota, or lower spec.resources or spec.scaling.maxReplicas",
        )
    } else if said.contains("failed quota") {
        (
            Reason::QuotaExceeded,
            WillItHealAlone::No,
            "A ResourceQuota of the namespace wants every pod to name what it uses",
            "set what it asks for in spec.resources",
        )
    } else if said.contains("violates PodSecurity") {
        (
            Reason::PodSecurityViolation,
            WillItHealAlone::No,
            "Pod Security of the namespace refuses the pod",
            "narrow spec.securityContext and spec.podSecurityContext (Pilotlight's defaults pass `restricted`), or relax the namespace's label",
        )
    } else if said.contains("error looking up service account")
        || (said.contains("serviceaccount") && said.contains("not found"))
    {
        (
            Reason::ServiceAccountNotFound,
            WillItHealAlone::No,
            "The service account of the pods does not exist",
            "create it, or correct spec.serviceAccountName",
        )
    } else if said.contains("RuntimeClass") {
        (
            Reason::PodRefused,
            WillItHealAlone::No,
            "The runtime class of the pods cannot be used",
            "correct spec.runtimeClassName, or install it on the cluster",
        )
    } else {
        (
            Reason::PodRefused,
            if said.contains("failed calling webhook") { WillItHealAlone::Possibly } else { WillItHealAlone::No },
            "The API server does not take the pod",
            "change what it objects to in the Function's spec, or the policy",
        )
    };
    Some(Diagnosis::new(reason, healing, format!("{cause}: {said}; {remedy}")))
}
