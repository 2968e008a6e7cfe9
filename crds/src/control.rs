//! Messages of the control protocol: between the operator's leader and each activator, and between activators. ARCHITECTURE.md,
//! "Control protocol" and "Hard concurrency limits", has their order and what each promises.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::status::ActivatorRef;

/// Port that an activator serves the control protocol on.
pub const CONTROL_PORT: u16 = 9091;
/// Path of the stream of [`SampleBatch`], one JSON document a line.
pub const PATH_SAMPLES: &str = "/v1/samples";
/// Path of [`DrainRequest`] → [`DrainResponse`].
pub const PATH_DRAIN: &str = "/v1/drain";
/// Path of [`ReleaseRequest`] → 204.
pub const PATH_RELEASE: &str = "/v1/release";
/// Path of [`ClaimRequest`] → a stream of [`ClaimLine`], one JSON document a line.
pub const PATH_CLAIM: &str = "/v1/claim";

/// Path of [`Beacon`], on the port for beacons → 200 and the addresses of other activators, one a line; without a token.
pub const PATH_BEACON: &str = "/v1/beacon";

/// A starting pod's word about its own address. Nothing in it is believed by itself: ARCHITECTURE.md, "Beacons".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Beacon {
    /// The pod's namespace.
    pub namespace: String,
    /// The Function that it belongs to.
    pub function: String,
    /// The revision that it runs.
    pub revision: String,
    /// Its uid.
    pub uid: String,
    /// Its address.
    pub ip: IpAddr,
}

/// What one activator saw in one second. A Function left out had no traffic in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SampleBatch {
    /// How long ago the covered second ended, in milliseconds: 0 for live batches, more for replayed history. Relative, so
    /// that clocks need not agree.
    pub age_millis: u64,
    /// Whether `routes` is the whole list (first batch of a stream) or only what was added since.
    pub full: bool,
    /// Routes that this activator listens for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteAck>,
    /// Sent at once, because a request found no free slot; covers less than a second and must not be counted as one.
    #[serde(default)]
    pub poke: bool,
    /// Traffic of each Function that had some.
    pub functions: Vec<FunctionSample>,
}

/// An activator's word that it accepts connections for a Function on its route port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteAck {
    /// Namespace of the Function.
    pub namespace: String,
    /// Name of the Function.
    pub name: String,
    /// The route port it listens on.
    pub port: u16,
}

/// One Function's traffic in one second at one activator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionSample {
    /// Namespace of the Function.
    pub namespace: String,
    /// Name of the Function.
    pub name: String,
    /// The revision that it went to, where several share the Function's traffic; absent: the one in `status.route.revision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Time-weighted average of requests in flight and waiting, in thousandths.
    pub concurrency_milli: u64,
    /// Time-weighted average of requests in flight alone, in thousandths. 0 from an activator that does not tell it.
    #[serde(default)]
    pub busy_milli: u64,
    /// Highest number of requests in flight and waiting at one moment.
    pub peak: u32,
    /// Requests that arrived.
    pub arrivals: u32,
    /// Requests whose time at a pod ended. 0 from an activator that does not tell it: then nobody knows how long one lasts.
    #[serde(default)]
    pub completed: u32,
    /// Those of `completed` that failed at the pod: answered with 5xx or a gRPC status that blames the server, or not answered through the pod's fault.
    #[serde(default)]
    pub errors: u32,
    /// Those of `completed` whose pod took longer to begin to answer than `spec.rollout.abortOn.latencyP99Seconds`.
    #[serde(default)]
    pub slow: u32,
    /// Requests that no pod answered, because none of the revision started.
    #[serde(default)]
    pub unanswered: u32,
    /// Requests that wait for a slot at the end of the second.
    pub queued: u32,
    /// Requests at a pod at the end of the second.
    pub in_flight: u32,
    /// Milliseconds from the beginning of the last wake to its first reachable pod, where this activator saw one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_millis: Option<u64>,
}

/// Asks an activator to stop using pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainRequest {
    /// Namespace of the Function.
    pub namespace: String,
    /// Name of the Function.
    pub name: String,
    /// Unique for each hand-shake.
    pub handshake: String,
    /// Which pods.
    pub scope: DrainScope,
    /// What becomes of them.
    #[serde(default)]
    pub purpose: DrainPurpose,
    /// For how long the activator keeps to it without a release, in milliseconds.
    pub ttl_millis: u64,
    /// For scope `Pods`: how long the activator may wait for requests at these pods to end, sending them no new ones, before it
    /// answers `busy`; in milliseconds.
    #[serde(default)]
    pub wait_millis: u64,
}

/// What becomes of the pods that a hand-shake is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DrainPurpose {
    /// They go.
    #[default]
    Remove,
    /// They lose their CPU, and are used again.
    Throttle,
    /// A placeholder takes the function's place, until a request asks for it again.
    Park,
}

/// The pods that a hand-shake is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DrainScope {
    /// Every pod of the revision (its name): requests that arrive meanwhile wait.
    All {
        /// Name of the revision.
        revision: String,
    },
    /// Pods by uid; the others go on.
    Pods {
        /// Their uids.
        uids: Vec<String>,
    },
}

/// The answer to a [`DrainRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DrainResponse {
    /// Nothing is in flight at these pods and nothing will be until release, or a fence after the ttl.
    Drained,
    /// Something is in flight or waiting, or for throttling and parking was so a moment ago; the activator goes on as before.
    Busy {
        /// Requests at the pods in scope.
        in_flight: u32,
        /// Requests that wait.
        queued: u32,
    },
}

/// Ends a hand-shake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseRequest {
    /// Namespace of the Function.
    pub namespace: String,
    /// Name of the Function.
    pub name: String,
    /// That of the [`DrainRequest`].
    pub handshake: String,
    /// What became of the step.
    pub outcome: DrainOutcome,
}

/// What became of a step down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DrainOutcome {
    /// What the hand-shake was for has been asked of Kubernetes: the pods in scope are going, or are throttled or parked.
    Committed,
    /// They stay.
    Aborted,
}

/// The new owner of a Function with a hard concurrency limit asks another activator to stop sending to its pods, for good under
/// any older epoch, and to tell what it still has there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRequest {
    /// Namespace of the Function.
    pub namespace: String,
    /// Name of the Function.
    pub name: String,
    /// The epoch that names the new owner.
    pub epoch: i64,
    /// The new owner.
    pub owner: ActivatorRef,
}

/// What an activator still has at a Function's pods after a claim. Sent at once, at each change, and once a second. It only ever
/// shrinks; after the line that is empty the stream ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimLine {
    /// Requests at each pod, by its uid.
    #[serde(default)]
    pub held: BTreeMap<String, u32>,
}
