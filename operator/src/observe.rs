//! What is, for one Function: read from the caches; Events are asked for only about pods that do not start.
//!
//! What always holds: an object counts as the Function's only if the Function is its controlling owner. Pods are their
//! ReplicaSet's, so there the labels decide.

use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use pilotlight_crds::diagnosis::{PodEvent, serves};
use pilotlight_crds::park::is_swapped;
use pilotlight_crds::throttle::is_throttled;
use pilotlight_crds::{Function, FunctionStatus, names};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::autoscaler::Leads;
use crate::build::owns;
use crate::context::Context;

/// A pod that is not ready by this age may have a problem that only Events name.
const EVENTS_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_secs(3);
/// How long the Events of a pod are believed to be the newest.
const EVENTS_FRESH: Duration = Duration::from_secs(5);
/// Pods of one Function whose Events are asked for; more would tell nothing else.
const EVENTS_PODS: usize = 3;

/// What is.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The status as it was written last.
    pub status: FunctionStatus,
    /// Deployments that the Function owns.
    pub deployments: Vec<Arc<Deployment>>,
    /// The Function's Service, if it owns one of its name.
    pub service: Option<Arc<Service>>,
    /// The Services of its tags.
    pub tag_services: Vec<Arc<Service>>,
    /// The Function's own EndpointSlice.
    pub slice: Option<Arc<EndpointSlice>>,
    /// EndpointSlices of the Service that somebody else writes: Kubernetes did while Pilotlight had released it.
    pub other_slices: Vec<Arc<EndpointSlice>>,
    /// The Function's pods.
    pub pods: Vec<Arc<Pod>>,
    /// Events about pods that do not start, by pod uid.
    pub pod_events: HashMap<String, Vec<PodEvent>>,
}

impl Observed {
    /// Whether the Service leads to the activators, at this route port, and nowhere else.
    pub fn leads_to(&self, port: Option<u16>) -> bool {
        self.leads(port) == Leads::Activators
    }

    /// Where the Service leads, if its route port is `port`.
    pub fn leads(&self, port: Option<u16>) -> Leads {
        let selects = self.service.iter().flat_map(|service| &service.spec).any(|spec| spec.selector.is_some());
        let own = self.slice.as_ref().filter(|slice| !slice.endpoints.is_empty());
        match own {
            _ if selects || !self.other_slices.is_empty() => Leads::Pods,
            None => Leads::Nowhere,
            Some(slice) => {
                let ports = slice.ports.iter().flatten().filter_map(|p| p.port);
                if ports.eq(port.map(i32::from)) { Leads::Activators } else { Leads::Pods }
            }
        }
    }

    /// The Deployment of the revision with this name.
    pub fn deployment(&self, revision: &str) -> Option<&Arc<Deployment>> {
        self.deployments.iter().find(|d| d.metadata.name.as_deref() == Some(revision))
    }

    /// The pods of the revision with this name.
    pub fn pods_of<'a>(&'a self, revision: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.pods.iter().map(AsRef::as_ref).filter(move |pod| label(pod, names::LABEL_REVISION) == Some(revision))
    }
}

/// The value of a pod's label.
pub fn label<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// Whether a process of the pod may be running: one that never started or is over, or whose containers all wait to be restarted, has no
/// request and can answer nothing.
pub fn may_run(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    let phase = status.phase.as_deref();
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let runs = |container: &ContainerStatus| container.state.as_ref().is_some_and(|state| state.running.is_some());
    match phase {
        Some("Succeeded" | "Failed") => false,
        // kubelet's word on containers may be missing or late; only a definite "none runs" counts as one.
        Some("Pending") if containers.is_empty() => false,
        _ => containers.is_empty() || containers.iter().any(runs),
    }
}

/// Whether Kubernetes says that the pod is ready, or would but for its beacon, and it is not going away.
pub fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && serves(pod)
}

/// Whether there are any of these pods that count, and all of them have lost their CPU.
pub fn all_throttled<'p>(pods: impl IntoIterator<Item = &'p Pod>) -> bool {
    all(pods, is_throttled)
}

/// Whether there are any of these pods that count, and a placeholder is in the place of each one's function.
pub fn all_parked<'p>(pods: impl IntoIterator<Item = &'p Pod>) -> bool {
    all(pods, is_swapped)
}

fn all<'p>(pods: impl IntoIterator<Item = &'p Pod>, is: impl Fn(&Pod) -> bool) -> bool {
    let mut pods = pods.into_iter().filter(|pod| counts(pod)).peekable();
    pods.peek().is_some() && pods.all(is)
}

/// Whether the pod counts as one of the Function's: it is not going away and has not ended.
pub fn counts(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
}

/// Gathers what is.
pub async fn observe(context: &Context, function: &Function) -> Observed {
    let namespace = function.metadata.namespace.as_deref().unwrap_or_default();
    let name = function.metadata.name.as_deref().unwrap_or_default();
    let uid = function.metadata.uid.as_deref().unwrap_or_default();
    let caches = &context.caches;
    let (mine, others): (Vec<_>, Vec<_>) = caches
        .slices
        .of(namespace, name)
        .into_iter()
        .filter(|slice| service_of(slice) == Some(name))
        .partition(|slice| owns(function, &slice.metadata) && is_ours(slice));
    let pods = caches.pods_of(namespace, name);
    let mut observed = Observed {
        status: context.last_status(function),
        deployments: caches.deployments.of(namespace, name),
        service: caches.services.get(namespace, name).filter(|service| owns(function, &service.metadata)),
        tag_services: caches.services.of(namespace, name),
        slice: mine.into_iter().next(),
        other_slices: others,
        pod_events: HashMap::new(),
        pods,
    };
    observed.deployments.retain(|deployment| owns(function, &deployment.metadata));
    let is_tags =
        |service: &Service| service.metadata.name.as_deref() != Some(name) && owns(function, &service.metadata);
    observed.tag_services.retain(|service| is_tags(service));
    observed.pod_events = pod_events(context, uid, namespace, &observed.pods).await;
    observed
}

fn service_of(slice: &EndpointSlice) -> Option<&str> {
    let labels = slice.metadata.labels.as_ref()?;
    labels.get(names::LABEL_SERVICE_NAME).map(String::as_str)
}

pub(crate) fn is_ours(slice: &EndpointSlice) -> bool {
    slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(names::LABEL_SLICE_MANAGED_BY))
        .is_some_and(|by| by == names::SLICE_MANAGED_BY)
}

pub(crate) async fn pod_events(
    context: &Context,
    uid: &str,
    namespace: &str,
    pods: &[Arc<Pod>],
) -> HashMap<String, Vec<PodEvent>> {
    let now = jiff::Timestamp::now();
    let troubled: Vec<&str> = pods
        .iter()
        .filter(|pod| !is_ready(pod) && counts(pod))
        .filter(|pod| {
            let created = pod.metadata.creation_timestamp.as_ref();
            created.is_some_and(|created| now.duration_since(created.0) >= EVENTS_AFTER)
        })
        .filter_map(|pod| pod.metadata.uid.as_deref())
        .take(EVENTS_PODS)
        .collect();
    let mut known = context.with_memory(uid, |memory| {
        memory.pod_events.retain(|pod, _| troubled.contains(&pod.as_str()));
        memory.pod_events.clone()
    });
    let stale =
        troubled.into_iter().filter(|pod| known.get(*pod).is_none_or(|(asked, _)| asked.elapsed() >= EVENTS_FRESH));
    let api: Api<Event> = Api::namespaced(context.client.clone(), namespace);
    let fetched = join_all(stale.map(|pod| events_of(&api, pod))).await;
    for (pod, events) in fetched.into_iter().flatten() {
        known.insert(pod, (Instant::now(), events));
    }
    context.with_memory(uid, |memory| memory.pod_events.clone_from(&known));
    known.into_iter().map(|(pod, (_, events))| (pod, events)).collect()
}

/// The Events about one pod, oldest first. Without them a diagnosis knows less; that is no reason to fail.
async fn events_of(api: &Api<Event>, pod: &str) -> Option<(String, Vec<PodEvent>)> {
    let about = ListParams::default().fields(&format!("involvedObject.uid={pod}"));
    let mut events = match api.list(&about).await {
        Ok(list) => list.items,
        Err(error) => {
            tracing::warn!(pod, %error, "cannot list the events of a pod that does not start");
            return None;
        }
    };
    events.sort_by_key(|event| {
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        last.or_else(|| event.event_time.as_ref().map(|time| time.0))
    });
    let events = events
        .into_iter()
        .map(|event| PodEvent { reason: event.reason.unwrap_or_default(), message: event.message.unwrap_or_default() })
        .collect();
    Some((pod.to_owned(), events))
}
