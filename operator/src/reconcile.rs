//! One reconcile of one Function: observe → validate → build → apply → status → write.
//!
//! What always holds: the spec is never written; what is decided is decided by pure functions over what was observed, so a
//! reconcile that is repeated changes nothing.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use pilotlight_crds::status::{RevisionState, RouteOwner};
use pilotlight_crds::workload::Protocol;
use pilotlight_crds::{Function, names, park};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::adopt;
use crate::apply::{self, Applied, ApplyError};
use crate::autoscaler::{Leads, reachable};
use crate::boost;
use crate::build::deployment::Revision;
use crate::build::hash::revision_hash;
use crate::build::pod::{port_name, template};
use crate::build::slice::Address;
use crate::contention::Contention;
use crate::context::{Context, lock};
use crate::hostnames;
use crate::observe::{Observed, is_ready, observe};
use crate::owner::{self, OwnerInput};
use crate::ports::{Claimant, PortsExhausted};
use crate::revisions::{RevisionInput, RevisionPlan, plan};
use crate::route::{self, Route, RouteInput};
use crate::status::{self, StatusInput, Traffic, Verdict};
use crate::traffic;
use crate::validate::{Problem, validate};
use crate::write::{WriteError, Written, write};

/// A look at everything, in case a change went unnoticed: by a bug, as a watch that broke lists all anew.
const RESYNC: Duration = Duration::from_secs(8 * 3600);
/// The next look while pods start, a route is awaited, or a refusal may be over.
pub(crate) const WATCHFUL: Duration = Duration::from_secs(2);
/// The next look after the cache turned out to be behind the API server; its news comes first as a rule.
const OUTDATED: Duration = Duration::from_millis(200);
/// How long a revision that failed keeps its pods, for Kubernetes to try again, before it costs nothing any more.
const FAILED_HOLD: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// Why a reconcile failed. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The status could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Error {
    /// A CamelCase reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Apply(error) => error.reason(),
            Self::Write(error) => error.reason(),
        }
    }
}

/// When all is looked at again; not for all that were looked at together at once.
pub(crate) fn resync() -> Duration {
    RESYNC.mul_f64(rand::random_range(0.5..1.0))
}

/// Reconciles `function`.
pub async fn reconcile(function: Arc<Function>, context: Arc<Context>) -> Result<Action, Error> {
    let adopts = function.spec.target_ref.is_some();
    // What it owns goes with it; to write now would only bring some of it back. What it took over it has to give back.
    if function.metadata.deletion_timestamp.is_some() && !adopts {
        return Ok(Action::await_change());
    }
    let started = Instant::now();
    let result = if adopts { adopt::reconcile(&function, &context).await } else { run(&function, &context).await };
    context.metrics.reconcile_duration.observe(started.elapsed().as_secs_f64());
    let uid = function.uid().unwrap_or_default();
    if result.is_ok() {
        context.with_memory(&uid, |memory| memory.failures = 0);
    }
    result
}

async fn run(function: &Function, context: &Context) -> Result<Action, Error> {
    let observed = observe(context, function).await;
    // First: a pod that starts has use for it now.
    let boosts = boost::apply(context, function, &observed).await;
    let problems = validate(function);
    let port = claim_port(context, function, &observed);
    let plan = plan_revisions(context, function, &observed, &problems);
    let now = Timestamp::now();
    let mut verdicts = status::judge(&function.name_any(), &plan.wanted, &observed, now);
    let traffic = traffic::decide(context, function, &observed, &verdicts, now);
    status::condemn(&mut verdicts, traffic.aborted.as_ref());
    let revision = traffic.revision.as_deref().unwrap_or_default();
    let pod_port = pod_port(function, &plan, revision);
    let at = port.as_ref().copied().unwrap_or_default();
    let route = decide_route(context, function, &observed, revision, pod_port, at);
    let owner = decide_owner(context, function, port.as_ref().ok(), now);
    let protocol = protocol(function, &plan, &traffic);
    let desired = apply::Desired { plan: &plan, protocol, verdicts: &verdicts, traffic: &traffic, port, route };
    let led = observed.leads(desired.port.as_ref().ok().copied());
    let reachable = reachable(&observed.status.conditions, now);
    context.autoscaler.set_lead(&namespace_of(function), &function.name_any(), led, reachable);
    let applied = apply::apply(context, function, &observed, &desired).await?;
    let leads = match applied.route {
        Route::Activators(_) if applied.service.is_ok() => Leads::Activators,
        Route::Keep => led,
        Route::Activators(_) | Route::Pods(_) => Leads::Pods,
    };
    context.autoscaler.set_lead(&namespace_of(function), &function.name_any(), leads, reachable);
    let hostnames = claim_hostnames(context, function);
    let outside = apply::gateway::apply_behind(context, function, &observed.status, &hostnames.held, &applied).await;
    let contested = Contention::of_replicas(&observed.deployments, now);
    let idle = context.autoscaler.idle(&namespace_of(function), &function.name_any(), now);
    let refused = context.autoscaler.rungs_refused(&namespace_of(function), &function.name_any());
    let input = StatusInput {
        function,
        observed: &observed,
        problems: &problems,
        applied: &applied,
        verdicts: &verdicts,
        traffic: &traffic,
        owner: owner.as_ref(),
        contested: contested.as_slice(),
        idle: idle.as_ref(),
        rungs_refused: &refused,
        boost_refused: boosts.refused.as_deref(),
        domain: context.domain.as_deref(),
        hostnames: &hostnames,
        gateway: outside.word.as_ref(),
        now,
    };
    let status = status::build(&input);
    // Before anybody learns from the status that the revision has the traffic: it starts with as many pods as its proof takes, not with
    // minReplicas first.
    hold_floor(context, function, &observed, &verdicts, &traffic, &applied, now);
    if write(context, function, &observed.status, &status).await? == Written::Outdated {
        return Ok(Action::requeue(OUTDATED));
    }
    if boosts.again {
        return Ok(Action::requeue(WATCHFUL));
    }
    Ok(outside.next_look(next_look(function, &verdicts, &traffic, &applied, contested.as_ref(), context)))
}

fn namespace_of(function: &Function) -> String {
    function.namespace().unwrap_or_default()
}

pub(crate) fn claim_port(context: &Context, function: &Function, observed: &Observed) -> Result<u16, PortsExhausted> {
    let wanted = observed.status.route.as_ref().map(|route| route.port);
    let claimed = lock(&context.ports).claim(&claimant(function), wanted)?;
    context.reconcile_all(claimed.evicted.as_slice());
    Ok(claimed.port)
}

pub(crate) fn claim_hostnames(context: &Context, function: &Function) -> hostnames::Answer {
    let asked = &function.spec.hostnames;
    let answer = lock(&context.hostnames).claim(&claimant(function), asked);
    context.reconcile_all(&answer.moved);
    answer
}

/// Who `function` is to the ports and to the host names.
pub fn claimant(function: &Function) -> Claimant {
    Claimant {
        created: function.creation_timestamp().map(|time| time.0),
        namespace: function.namespace().unwrap_or_default(),
        name: function.name_any(),
        uid: function.uid().unwrap_or_default(),
    }
}

fn plan_revisions(context: &Context, function: &Function, observed: &Observed, problems: &[Problem]) -> RevisionPlan {
    let uid = function.uid().unwrap_or_default();
    let name = function.name_any();
    let hash = revision_hash(&function.spec);
    let packed = context.with_memory(&uid, |memory| memory.revisions.clone());
    let remembered = packed.into_iter().filter_map(|(number, revision)| Some((number, revision.open()?))).collect();
    plan(&RevisionInput {
        hash: problems.is_empty().then_some(hash.as_str()),
        build: &|number| Revision {
            number,
            hash: hash.clone(),
            template: template(&name, &names::revision_name(&name, number), &function.spec),
        },
        generation: function.metadata.generation,
        status: &observed.status,
        named: &function.spec.named_revisions().collect::<Vec<_>>(),
        deployments: &observed.deployments,
        remembered: &remembered,
    })
}

/// Where the Service leads. `pod_port`: the port of the revision's pods.
pub(crate) fn decide_route(
    context: &Context,
    function: &Function,
    observed: &Observed,
    revision: &str,
    pod_port: u16,
    port: u16,
) -> Route {
    let uid = function.uid().unwrap_or_default();
    let namespace = function.namespace().unwrap_or_default();
    let acknowledged = context.activators.acknowledged(&namespace, &function.name_any(), port);
    let ready = acknowledged.iter().any(|activator| activator.ready);
    let settled = context.activators.is_settled();
    let unready_for = context
        .with_memory(&uid, |memory| route::unready_for(&mut memory.unready_since, ready, settled, Instant::now()));
    let pods: Vec<Address> = observed.pods_of(revision).filter_map(address).collect();
    route::decide(&RouteInput { port, pod_port, acknowledged: &acknowledged, unready_for, pods: &pods })
}

/// Who may send to the pods. Decided on the Function as the cache shows it, because the write names that version.
pub(crate) fn decide_owner(
    context: &Context,
    function: &Function,
    port: Option<&u16>,
    now: Timestamp,
) -> Option<RouteOwner> {
    let (namespace, name) = (function.namespace().unwrap_or_default(), function.name_any());
    let route = function.status.as_ref().and_then(|status| status.route.as_ref());
    let running = context.activators.runners(&namespace, &name, port.copied().unwrap_or_default());
    owner::decide(&OwnerInput {
        namespace: &namespace,
        name: &name,
        limit: function.spec.concurrency.limit,
        new: route.is_none(),
        current: route.and_then(|route| route.owner.as_ref()),
        running: running.as_deref(),
        now: now.as_second(),
    })
}

fn address(pod: &k8s_openapi::api::core::v1::Pod) -> Option<Address> {
    let ip = pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
    (is_ready(pod) && park::function_runs(pod)).then(|| Address {
        ip,
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        pod: pod.metadata.name.clone(),
    })
}

/// The port of the revision's template, which may differ from the newest spec's: its number and its name.
fn template_port(function: &Function, plan: &RevisionPlan, revision: &str) -> Option<(u16, String)> {
    let name = function.name_any();
    let revision = plan.wanted.iter().find(|r| r.name(&name) == revision)?;
    let spec = revision.template.spec.as_ref()?;
    let port = spec.containers.first()?.ports.as_ref()?.first()?;
    Some((u16::try_from(port.container_port).ok()?, port.name.clone()?))
}

fn pod_port(function: &Function, plan: &RevisionPlan, revision: &str) -> u16 {
    template_port(function, plan, revision).map_or(function.spec.port, |(port, _)| port)
}

/// What the revision with traffic speaks.
fn protocol(function: &Function, plan: &RevisionPlan, traffic: &Traffic) -> Protocol {
    let revision = traffic.revision.as_deref().unwrap_or_default();
    match template_port(function, plan, revision) {
        Some((_, name)) if name == port_name(Protocol::H2C) => Protocol::H2C,
        Some(_) => Protocol::HTTP1,
        None => function.spec.protocol,
    }
}

/// The revision that must have pods whatever its load, and how many.
fn floor(
    function: &Function,
    observed: &Observed,
    verdicts: &[Verdict],
    traffic: &Traffic,
    applied: &Applied,
    now: Timestamp,
) -> Option<(String, u32)> {
    if let Some(promotion) = &traffic.promotion {
        return Some((promotion.revision.clone(), promotion.replicas));
    }
    let latest = verdicts.first()?;
    let initial = function.spec.scaling.initial_replicas;
    let proving = match latest.state {
        RevisionState::Pending => true,
        RevisionState::Failed if latest.is_aborted() => false,
        RevisionState::Failed => status::failing_since(&observed.status, &latest.name)
            .is_some_and(|since| now.duration_since(since) < FAILED_HOLD),
        RevisionState::Ready => false,
    };
    if initial > 0 && proving && applied.workload.is_ok() {
        return Some((latest.name.clone(), initial));
    }
    match (&applied.route, &traffic.revision) {
        (Route::Pods(_), Some(revision)) => Some((revision.clone(), 1)),
        _ => None,
    }
}

fn hold_floor(
    context: &Context,
    function: &Function,
    observed: &Observed,
    verdicts: &[Verdict],
    traffic: &Traffic,
    applied: &Applied,
    now: Timestamp,
) {
    hold(context, function, floor(function, observed, verdicts, traffic, applied, now));
}

/// Has the autoscaler keep this revision at so many pods or more, and no other of the Function.
pub(crate) fn hold(context: &Context, function: &Function, wanted: Option<(String, u32)>) {
    let uid = function.uid().unwrap_or_default();
    let (namespace, name) = (function.namespace().unwrap_or_default(), function.name_any());
    let held = context.with_memory(&uid, |memory| std::mem::replace(&mut memory.floor, wanted.clone()));
    let handle = &context.autoscaler;
    if let Some((revision, _)) = held
        && wanted.as_ref().is_none_or(|(wanted, _)| *wanted != revision)
    {
        handle.clear_initial(&namespace, &name, &revision);
    }
    if let Some((revision, replicas)) = wanted {
        handle.set_initial(&namespace, &name, &revision, replicas);
    }
}

fn next_look(
    function: &Function,
    verdicts: &[Verdict],
    traffic: &Traffic,
    applied: &Applied,
    contested: Option<&Contention>,
    context: &Context,
) -> Action {
    let uid = function.uid().unwrap_or_default();
    let starting = verdicts.iter().any(|v| v.evidence.replicas > v.evidence.ready || v.evidence.diagnosis.is_some());
    let refused = applied.workload.is_err() || applied.service.is_err() || applied.port.is_err();
    let moving = traffic.promotion.is_some() || traffic.rollout.is_some();
    let waiting = moving || !matches!(applied.route, Route::Activators(_));
    let floored = context.with_memory(&uid, |memory| memory.floor.is_some());
    if refused {
        Action::requeue(WATCHFUL * 5)
    } else if starting || waiting || floored {
        Action::requeue(WATCHFUL)
    } else {
        // When nobody disputes the replicas any more the condition goes.
        let over = contested.map(|contention| contention.until().duration_since(Timestamp::now()));
        let over = over.and_then(|over| Duration::try_from(over).ok()).map(|over| over.max(WATCHFUL));
        let resync = resync();
        Action::requeue(over.map_or(resync, |over| over.min(resync)))
    }
}
