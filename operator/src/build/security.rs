//! Security contexts: Pod Security's `restricted` defaults under what the author set.
//!
//! What always holds: a field that the author set stays as it is, and a pod whose author set nothing passes `restricted`.
//! `readOnlyRootFilesystem` and `runAsUser` are left alone: `restricted` does not ask for them, and ordinary images, which
//! Pilotlight promises to run, break by them.

use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};

/// The pod's security context.
pub fn pod(authored: Option<&PodSecurityContext>) -> PodSecurityContext {
    let mut context = authored.cloned().unwrap_or_default();
    // Who asks for user 0 wants root; `runAsNonRoot` would only turn that into a pod that never starts.
    if context.run_as_non_root.is_none() && context.run_as_user != Some(0) {
        context.run_as_non_root = Some(true);
    }
    if context.seccomp_profile.is_none() {
        context.seccomp_profile = Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None });
    }
    context
}

/// The container's security context.
pub fn container(authored: Option<&SecurityContext>) -> SecurityContext {
    let mut context = authored.cloned().unwrap_or_default();
    if context.run_as_user == Some(0) && context.run_as_non_root.is_none() {
        context.run_as_non_root = Some(false);
    }
    if context.allow_privilege_escalation.is_none() && !implies_escalation(&context) {
        context.allow_privilege_escalation = Some(false);
    }
    let capabilities = context.capabilities.get_or_insert_with(Capabilities::default);
    if capabilities.drop.is_none() && context.privileged != Some(true) {
        capabilities.drop = Some(vec!["ALL".to_owned()]);
    }
    context
}

/// Whether the API server would refuse `allowPrivilegeEscalation: false` beside the rest.
fn implies_escalation(context: &SecurityContext) -> bool {
    let adds_sys_admin = context
        .capabilities
        .iter()
        .flat_map(|c| c.add.iter().flatten())
        .any(|capability| capability == "SYS_ADMIN" || capability == "CAP_SYS_ADMIN");
    context.privileged == Some(true) || adds_sys_admin
}
