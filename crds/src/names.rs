//! Names, labels, annotations and ports that operator, activator, chart and tests must agree on.

/// API group of every Pilotlight resource.
pub const GROUP: &str = "pilotlight.dev";
/// Label on everything that belongs to a Function; its value is the Function's name.
pub const LABEL_FUNCTION: &str = "pilotlight.dev/function";
/// Label on a revision's Deployment and pods; its value is the revision's name, `<function>-<n>`.
pub const LABEL_REVISION: &str = "pilotlight.dev/revision";
/// Label on a revision's Deployment, where there are several: its part of the traffic, of a hundred requests. For people to look at.
pub const LABEL_TRAFFIC: &str = "pilotlight.dev/traffic";
/// Label on a revision's Deployment, where there are several: `Pending`, `Ready` or `Failed`, as in `status.revisions`. For people to look at.
pub const LABEL_STATE: &str = "pilotlight.dev/state";
/// Recommended Kubernetes label: the Function's name.
pub const LABEL_APP_NAME: &str = "app.kubernetes.io/name";
/// Recommended Kubernetes label: always [`MANAGED_BY`].
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`LABEL_MANAGED_BY`].
pub const MANAGED_BY: &str = "pilotlight";
/// Annotation on a revision's Deployment: hash of what shapes its pods.
pub const ANNOTATION_REVISION_HASH: &str = "pilotlight.dev/revision-hash";
/// Annotation on a revision's Deployment: its number, decimal.
pub const ANNOTATION_REVISION_NUMBER: &str = "pilotlight.dev/revision-number";
/// Label on a pod: the rung of the idle ladder that it was put on; absent where it serves as it was made.
pub const LABEL_RUNG: &str = "pilotlight.dev/rung";
/// Value of [`LABEL_RUNG`]: little CPU.
pub const RUNG_THROTTLED: &str = "Throttled";
/// Value of [`LABEL_RUNG`]: a placeholder in the function's place.
pub const RUNG_PARKED: &str = "Parked";
/// Annotation on a pod that was parked: the function's image with its digest.
pub const ANNOTATION_IMAGE: &str = "pilotlight.dev/image";
/// Annotation on a pod that was parked: what its function's container requests as a rule, `<cpu>/<memory>`, with `-` for nothing.
pub const ANNOTATION_REQUESTS: &str = "pilotlight.dev/requests";
/// Annotation on a pod that was throttled or boosted: the CPU that its function's container had, `<request>/<limit>`.
pub const ANNOTATION_CPU: &str = "pilotlight.dev/cpu";
/// Annotation on a pod that was given more CPU to start with: how much, `<request>/<limit>`.
pub const ANNOTATION_BOOST: &str = "pilotlight.dev/cpu-boost";
/// Annotation on a Service that a Function took over with its Deployment: the selector that it had, in JSON.
pub const ANNOTATION_SELECTOR: &str = "pilotlight.dev/selector";
/// Annotation on a Service that a Function took over with its Deployment: the replicas that the Deployment had, decimal.
pub const ANNOTATION_REPLICAS: &str = "pilotlight.dev/replicas";
/// Finalizer of a Function that took over a Deployment: it goes once both are as they were.
pub const FINALIZER_RELEASE: &str = "pilotlight.dev/release";
/// Annotation on a pod that kube-controller-manager reads when it chooses victims.
pub const ANNOTATION_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Label of an EndpointSlice that names its Service.
pub const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label of an EndpointSlice that names who writes it.
pub const LABEL_SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Value of [`LABEL_SLICE_MANAGED_BY`].
pub const SLICE_MANAGED_BY: &str = "pilotlight.dev";

/// Field manager of the operator's server-side apply.
pub const MANAGER_OPERATOR: &str = "pilotlight";
/// Field manager of the autoscaler's writes to `/scale`.
pub const MANAGER_AUTOSCALER: &str = "pilotlight-autoscaler";
/// Field manager of an activator's writes to `/scale`.
pub const MANAGER_ACTIVATOR: &str = "pilotlight-activator";

/// Name of the function's container in its pods.
pub const CONTAINER: &str = "function";
/// Name of the container beside it that announces the pod's address.
pub const BEACON_CONTAINER: &str = "beacon";
/// Port on which activators listen for beacons, unless told otherwise.
pub const BEACON_PORT: u16 = 9092;
/// Annotation on a revision's Deployment: the beacon's container that its pods have, in JSON; absent where they have none.
pub const ANNOTATION_BEACON: &str = "pilotlight.dev/beacon";
/// Port of every Function's Service.
pub const SERVICE_PORT: u16 = 80;
/// The ports of which each Function gets one for its route. They end below the kernel's ephemeral range, so that a listener
/// never collides with an outgoing connection.
pub const ROUTE_PORTS: std::ops::RangeInclusive<u16> = 10_000..=32_767;

/// Header that tells why the activator itself answered.
pub const HEADER_REASON: &str = "pilotlight-reason";
/// Header of every answer that comes from the placeholder of a parked pod, and from no function.
pub const HEADER_PLACEHOLDER: &str = "pilotlight-placeholder";
/// Header of a request that names the entry of `spec.traffic` that it is for, by its `tag`.
pub const HEADER_TAG: &str = "pilotlight-tag";
/// Header of a response whose request found no ready pod: `true`.
pub const HEADER_COLD_START: &str = "pilotlight-cold-start";

/// Name at which a tag of `function` answers: `<tag>-<function>`. Also its Service's name.
pub fn tag_name(tag: &str, function: &str) -> String {
    format!("{tag}-{function}")
}

/// Name of revision `number` of `function`: `<function>-<n>`. Also its Deployment's name.
pub fn revision_name(function: &str, number: u64) -> String {
    format!("{function}-{number}")
}

const SLICE_SUFFIX: &str = "-pilotlight";

/// Name of the EndpointSlice that the operator writes for `function`.
pub fn endpoint_slice_name(function: &str) -> String {
    format!("{function}{SLICE_SUFFIX}")
}

/// Whose EndpointSlice of the operator's this is, by its name.
pub fn function_of_slice(slice: &str) -> Option<&str> {
    slice.strip_suffix(SLICE_SUFFIX)
}
