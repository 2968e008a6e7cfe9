//! What the data plane needs of a Function, as plain data, and the best known cause why it does not start.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use pilotlight_crds::diagnosis::{Reason, WillItHealAlone};
use pilotlight_crds::policy::Scaling;
use pilotlight_crds::rollout::Rollout;
use pilotlight_crds::status::RouteStatus;
use pilotlight_crds::{Function, condition};

use super::pod::PodView;
use crate::choice::Directions;
use crate::ownership::Record;

/// Namespace and name of a Function; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl FunctionKey {
    /// A key from its parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object; `None` where it has no name or namespace.
    pub fn of(function: &Function) -> Option<Self> {
        let namespace = function.metadata.namespace.as_deref()?;
        let name = function.metadata.name.as_deref()?;
        Some(Self::new(namespace, name))
    }

    /// `name.namespace`, the shortest host name that works from every namespace.
    pub fn host(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }
}

impl fmt::Debug for FunctionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for FunctionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the data plane needs of a Function.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionConfig {
    /// Which Function.
    pub key: FunctionKey,
    /// Its route port, once the operator has chosen one.
    pub port: Option<u16>,
    /// Host names that are the Function's beside its own.
    pub hostnames: Vec<Arc<str>>,
    /// It may be reached from outside the cluster.
    pub external: bool,
    /// The revision that gets new requests, or most of them; its Deployment has the same name.
    pub revision: Option<Arc<str>>,
    /// The revisions that get new requests, where there are several, those with none but by tag or rule too; else empty.
    pub split: Box<[Portion]>,
    /// Which requests go where, whatever the shares.
    pub directions: Arc<Directions>,
    /// The author says which revisions have the traffic (`spec.traffic`): while they have no pod, requests wait, and those of others get none.
    pub named: bool,
    /// That Deployment is not Pilotlight's own (`spec.targetRef`).
    pub adopts: bool,
    /// Replicas to wake to.
    pub wake_replicas: i32,
    /// Hard limit of requests at one pod; 0: none.
    pub limit: u32,
    /// Requests that one pod is meant to have at once.
    pub target: u32,
    /// From a request's arrival at a pod to the end of its response.
    pub request_timeout: Option<Duration>,
    /// Until the head of the response.
    pub response_start_timeout: Option<Duration>,
    /// After how long the head of the response is late, where somebody wants to know.
    pub slow_after: Option<Duration>,
    /// How long streams may stand still.
    pub idle_stream_timeout: Option<Duration>,
    /// How long a request is held while no pod can take it.
    pub cold_start_timeout: Duration,
    /// Requests held at most.
    pub pending_requests: usize,
    /// Bytes of requests held at most.
    pub pending_bytes: u64,
    /// Who may send to its pods.
    pub owner: Option<Record>,
    /// What a `WorkloadReady=False` says that speaks of the present generation.
    pub failing: Option<Failing>,
}

/// A revision's part of new requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    /// The revision.
    pub revision: Arc<str>,
    /// Of a hundred requests; 0: only such as a tag or a rule leads to it.
    pub percent: u32,
}

/// Why the newest revision does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// That revision; `None` where the status does not name it: then whichever gets requests.
    pub revision: Option<Arc<str>>,
    /// The condition's reason.
    pub reason: String,
    /// The condition's message.
    pub message: String,
}

impl FunctionConfig {
    /// Extracts what the data plane needs; `None` where the object has no name or namespace.
    pub fn from_function(function: &Function) -> Option<Self> {
        let key = FunctionKey::of(function)?;
        let spec = &function.spec;
        let route = function.status.as_ref().and_then(|status| status.route.as_ref());
        let directions = Arc::new(Directions::of(&key, function, route));
        Some(Self {
            key,
            port: route.map(|route| route.port).filter(|port| *port != 0),
            hostnames: hostnames(function),
            external: spec.visibility.is_external(),
            revision: route.and_then(|route| route.revision.as_deref()).map(Arc::from),
            split: route.map(|route| split(route, &directions)).unwrap_or_default(),
            directions,
            named: spec.names_revisions(),
            adopts: spec.target_ref.is_some(),
            wake_replicas: wake_replicas(&spec.scaling),
            limit: spec.concurrency.limit,
            target: target(spec.scaling.target_concurrency, spec.concurrency.limit),
            request_timeout: seconds(spec.timeouts.request_seconds),
            response_start_timeout: seconds(spec.timeouts.response_start_seconds),
            slow_after: spec.rollout.as_ref().and_then(slow_after),
            idle_stream_timeout: seconds(spec.timeouts.idle_stream_seconds),
            cold_start_timeout: Duration::from_secs(u64::from(spec.cold_start.timeout_seconds)),
            pending_requests: spec.cold_start.pending_requests as usize,
            pending_bytes: spec.cold_start.pending_bytes,
            owner: route.and_then(|route| route.owner.as_ref()).map(Record::from),
            failing: failing(function),
        })
    }

    /// The revisions that get new requests, each once, the main one first; none while there is no route.
    pub fn portions(&self) -> Vec<Portion> {
        if !self.split.is_empty() {
            return self.split.to_vec();
        }
        self.revision.iter().map(|revision| Portion { revision: revision.clone(), percent: 100 }).collect()
    }

    /// The same for those who serve this revision.
    #[must_use]
    pub fn of_revision(self: &Arc<Self>, revision: Option<&Arc<str>>) -> Arc<Self> {
        if self.revision.as_ref() == revision {
            return self.clone();
        }
        Arc::new(Self { revision: revision.cloned(), ..Self::clone(self) })
    }
}

/// The shares that the operator says, each revision once and only those that get something, be it by tag or rule, the main one first.
fn split(route: &RouteStatus, directions: &Directions) -> Box<[Portion]> {
    let mut portions: Vec<Portion> = Vec::new();
    for share in route.split.iter().filter(|share| share.percent > 0) {
        match portions.iter_mut().find(|portion| *portion.revision == *share.revision) {
            Some(portion) => portion.percent = portion.percent.saturating_add(share.percent),
            None => portions.push(Portion { revision: share.revision.as_str().into(), percent: share.percent }),
        }
    }
    let main = route.revision.as_deref();
    if portions.len() < 2 {
        portions = main.iter().map(|revision| Portion { revision: (*revision).into(), percent: 100 }).collect();
    }
    // While nobody has the traffic, nothing is led anywhere.
    for revision in directions.revisions().filter(|_| main.is_some()) {
        if portions.iter().all(|portion| portion.revision != *revision) {
            portions.push(Portion { revision: revision.clone(), percent: 0 });
        }
    }
    if portions.len() < 2 {
        return Box::default();
    }
    portions.sort_by_key(|portion| Some(&*portion.revision) != main);
    portions.into()
}

/// What a new revision's answers are measured by.
fn slow_after(rollout: &Rollout) -> Option<Duration> {
    let seconds = rollout.abort_on.as_ref()?.latency_p99_seconds?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Those that the operator gave it, as far as the author still asks for them.
fn hostnames(function: &Function) -> Vec<Arc<str>> {
    let given = function.status.iter().flat_map(|status| &status.hostnames);
    given.filter(|host| function.spec.hostnames.contains(host)).map(|host| host.as_str().into()).collect()
}

/// What the autoscaler would ask for at the first request after zero, so that nobody waits for its step from one to more.
fn wake_replicas(scaling: &Scaling) -> i32 {
    let Scaling { min_replicas, min_active_replicas, activation_replicas, max_replicas, .. } = *scaling;
    let least = min_replicas.max(min_active_replicas).max(activation_replicas).min(max_replicas).max(1);
    i32::try_from(least).unwrap_or(1)
}

/// As the autoscaler understands `scaling.targetConcurrency`, where 0 stands for the limit and else for 100.
fn target(target: u32, limit: u32) -> u32 {
    [target, limit].into_iter().find(|value| *value > 0).unwrap_or(100)
}

fn seconds(value: u32) -> Option<Duration> {
    (value > 0).then(|| Duration::from_secs(u64::from(value)))
}

fn failing(function: &Function) -> Option<Failing> {
    let status = function.status.as_ref()?;
    if status.observed_generation < function.metadata.generation {
        return None;
    }
    // A revision whose rollout was aborted starts; whoever names it all the same has to wait for it.
    let speaks = |c: &&Condition| c.type_ == condition::WORKLOAD_READY && c.reason != condition::ROLLOUT_ABORTED;
    let failing = status.conditions.iter().filter(speaks).find(|c| c.status == "False")?;
    Some(Failing {
        revision: status.latest_created_revision.as_deref().map(Arc::from),
        reason: failing.reason.clone(),
        message: failing.message.clone(),
    })
}

/// Why the active revision does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// CamelCase, as in conditions and events.
    pub reason: String,
    /// In plain words, often the container's own.
    pub message: String,
    /// How sure it is that waiting is in vain.
    pub certainty: Certainty,
}

/// How sure a [`Cause`] is that waiting is in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// Every pod shows it now: callers are answered at once.
    Certain,
    /// The Function's condition says so, but it may be about pods of the past: callers are answered after a short while
    /// during which the wake was tried again.
    Reported,
    /// It may heal: it is only named when the time is over.
    Healing,
}

/// The best known cause, from the active revision's pods and else from the Function's condition.
pub fn cause(config: &FunctionConfig, pods: &[Arc<PodView>]) -> Option<Cause> {
    let mut found: Option<Cause> = None;
    let mut starting_well = false;
    let current =
        pods.iter().filter(|pod| !pod.terminating && !pod.finished && Some(&pod.revision) == config.revision.as_ref());
    for pod in current {
        match &pod.diagnosis {
            Some(diagnosis) => {
                let healing = diagnosis.healing == WillItHealAlone::Possibly;
                found.get_or_insert_with(|| Cause {
                    reason: diagnosis.reason.as_str().to_owned(),
                    message: diagnosis.message.clone(),
                    certainty: Certainty::Certain,
                });
                starting_well |= healing;
            }
            None => starting_well = true,
        }
    }
    if let Some(mut cause) = found {
        if starting_well {
            cause.certainty = Certainty::Healing;
        }
        return Some(cause);
    }
    // The condition speaks of the newest revision; the one that gets the traffic may be an older one that is well.
    let speaks = |failing: &&Failing| failing.revision.is_none() || failing.revision == config.revision;
    let Failing { reason, message, .. } = config.failing.as_ref().filter(speaks)?.clone();
    // A failing probe says that the container runs: whether a pod was seen here yet or not, it may answer before the time is over.
    let may_heal = starting_well || reason == Reason::ProbeFailing.as_str();
    let certainty = if may_heal { Certainty::Healing } else { Certainty::Reported };
    Some(Cause { reason, message, certainty })
}
