//! Gives throttled pods their CPU back and ends the boost of starting ones, from wherever that is needed.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use pilotlight_crds::diagnosis::serves;
use pilotlight_crds::names::MANAGER_AUTOSCALER;
use pilotlight_crds::{boost, throttle};

/// What an API server without the subresource `pods/resize` means.
pub const NO_RESIZE: &str = "this cluster cannot resize running pods (Kubernetes can from 1.33 on)";

/// Gives a pod its CPU back. Once it has returned, the pod has it, and no throttling that was begun before can take it any more. `false`
/// where the pod is gone, or had what it should.
///
/// Errors are the API server's.
pub async fn give_back(client: Client, namespace: &str, pod: &Pod) -> kube::Result<bool> {
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
    let params = by_autoscaler();
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

/// Takes from a pod the CPU that it had to start with, and leaves it what it has as a rule. `false` where it is gone, or not boosted.
///
/// Errors are the API server's.
pub async fn end_boost(client: Client, namespace: &str, pod: &Pod) -> kube::Result<bool> {
    let Some(normal) = boost::to_end(pod) else { return Ok(false) };
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let patch = Patch::Strategic(normal.resize(&pod.uid().unwrap_or_default(), None));
    match api.patch_subresource("resize", &pod.name_any(), &by_autoscaler(), &patch).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives a starting pod more CPU. `false` where it is gone.
///
/// Errors are the API server's.
pub async fn begin_boost(client: Client, namespace: &str, pod: &Pod, boosted: &throttle::Cpu) -> kube::Result<bool> {
    let Some(normal) = throttle::Cpu::of(pod) else { return Ok(false) };
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
    let marked = api.patch(&name, &by_autoscaler(), &Patch::Strategic(boost::mark(&uid, &normal, boosted))).await;
    match marked {
        // It became ready meanwhile, or somebody else resized it.
        Ok(pod) if serves(&pod) || throttle::Cpu::of(&pod).as_ref() != Some(&normal) => return Ok(false),
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(false),
        Err(error) => return Err(error),
    }
    let patch = Patch::Strategic(boosted.resize(&uid, None));
    match api.patch_subresource("resize", &name, &by_autoscaler(), &patch).await {
        Ok(_) => Ok(true),
        // Neither the pod nor the subresource: where the pod is still there, it is the latter.
        Err(kube::Error::Api(mut status)) if status.is_not_found() => {
            if api.get_metadata_opt(&name).await?.is_none() {
                return Ok(false);
            }
            status.message = NO_RESIZE.to_owned();
            Err(kube::Error::Api(status))
        }
        Err(error) => Err(error),
    }
}

/// Writes as the autoscaler does, wherever it is done.
pub fn by_autoscaler() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER_AUTOSCALER.to_owned()), ..PatchParams::default() }
}
