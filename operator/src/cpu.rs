//! Gives throttled pods their CPU back, from wherever that is needed: the autoscaler, and the release.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use pilotlight_crds::names::MANAGER_AUTOSCALER;
use pilotlight_crds::throttle;

/// Gives a pod its CPU back. Once it has returned, the pod has it, and no throttling that was begun before can take it any more. `false`
/// where the pod is gone, or had what it should.
///
/// Errors are the API server's.
pub async fn give_back(client: Client, namespace: &str, pod: &Pod) -> kube::Result<bool> {
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
    let params = PatchParams { field_manager: Some(MANAGER_AUTOSCALER.to_owned()), ..PatchParams::default() };
    let given = async {
        // First the mark: from then on a resize that was sent for it fails. The answer tells what is left to be done.
        let found = api.patch(&name, &params, &Patch::Strategic(throttle::unmark(&uid))).await?;
        let Some(cpu) = throttle::to_give_back(&found) else { return Ok(throttle::is_marked(pod)) };
        api.patch_subresource("resize", &name, &params, &Patch::Strategic(cpu.resize(&uid, None))).await?;
        Ok(true)
    };
    match given.await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        given => given,
    }
}
