//! One reconcile of a Function that takes over a Deployment.

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use pilotlight_crds::{Function, condition};
use std::time::{Duration, Instant};

use super::carry::carry;
use super::fit::{Fit, Unfit};
use super::next::{Aim, Rest, Step, next};
use super::seen::{Seen, cached, live, target_of};
use super::status::{Accepted, contentions, report};
use crate::apply::{ApplyError, Refusal, is_refusal};
use crate::autoscaler::{Leads, reachable};
use crate::build::slice::adopted_slice;
use crate::contention::Contention;
use crate::context::Context;
use crate::observe::Observed;
use crate::reconcile::{Error, WATCHFUL, claim_port, decide_route, hold, resync};
use crate::route::Route;
use crate::transitions::Transition;
use crate::validate::{Problem, validate};
use crate::write::{Written, publish};

/// Writes of one reconcile; more than any way from one rest to another has.
const MOST_WRITES: usize = 16;
/// Between two looks while a release waits.
const RELEASING: Duration = Duration::from_millis(500);

/// What was found and done.
pub(super) struct Outcome {
    pub(super) seen: Seen,
    pub(super) fit: Result<Fit, Unfit>,
    pub(super) rest: Rest,
    /// The API server's well-founded no to the next write.
    pub(super) refused: Option<Refusal>,
}

/// Reconciles `function`.
pub async fn reconcile(function: &Function, context: &Context) -> Result<Action, Error> {
    let problems = validate(function);
    let Some(seen) = cached(context, function).await? else {
        return Ok(Action::await_change());
    };
    let accepted = Accepted::of(&seen, &problems);
    let observed = super::status::observe(context, &seen, accepted.as_ref()).await;
    let port = accepted.is_some().then(|| claim_port(context, function, &observed)).transpose();
    let route = match (&accepted, &port) {
        (Some(accepted), Ok(Some(port))) => {
            decide_route(context, function, &observed, target_of(function), accepted.pod_port, *port)
        }
        _ => Route::Keep,
    };
    // The activators listen for the route before the Service leads to them: what they wait for is told first.
    let told = accepted.as_ref().is_some_and(|accepted| accepted.is_told(&observed.status));
    let gives_back = aim(function, &seen.fit(), &problems) == Aim::Release;
    let at = port.as_ref().ok().copied().flatten();
    tell_lead(context, function, &observed, !gives_back && observed.leads_to(at));
    if accepted.is_some() && gives_back {
        // Before anything is written: nothing goes to zero any more.
        let replicas = seen.noted_replicas();
        hold(context, function, replicas.map(|replicas| (target_of(function).to_owned(), replicas)));
    }
    let Some(outcome) = settle(context, seen, &problems, &route, told).await? else {
        return Ok(Action::await_change());
    };
    lead(context, function, &observed, &outcome, &route);
    let accepted = accepted.filter(|_| outcome.rest != Rest::Released);
    let port = port.transpose().filter(|_| accepted.is_some());
    let outside = super::status::front(context, function, &observed, &outcome).await;
    let word = outside.word.as_ref();
    let contested =
        report(context, function, &observed, &problems, &outcome, accepted.as_ref(), port, &route, word).await?;
    let contested = match contested {
        Written::Outdated => return Ok(Action::requeue(RELEASING)),
        Written::Done => contested_until(context, function, &observed),
    };
    hold_replicas(context, function, &outcome, &route);
    let starting = observed.pods.iter().any(|pod| !crate::observe::is_ready(pod));
    Ok(outside.next_look(match outcome.rest {
        Rest::Released if function.metadata.deletion_timestamp.is_some() => Action::await_change(),
        Rest::Held | Rest::Released => Action::requeue(WATCHFUL * 5),
        Rest::AwaitsEndpoints | Rest::Lingers => Action::requeue(RELEASING),
        Rest::AwaitsActivators => Action::requeue(WATCHFUL),
        Rest::Adopted if starting || !matches!(route, Route::Activators(_)) => Action::requeue(WATCHFUL),
        Rest::Adopted => {
            let resync = resync();
            Action::requeue(contested.map_or(resync, |over| over.clamp(WATCHFUL, resync)))
        }
    }))
}

/// Writes until there is nothing left to do. `None`: the Function is gone.
async fn settle(
    context: &Context,
    mut seen: Seen,
    problems: &[Problem],
    route: &Route,
    told: bool,
) -> Result<Option<Outcome>, Error> {
    let uid = seen.function.uid().unwrap_or_default();
    let mut is_live = false;
    let mut writes = 0;
    loop {
        let fit = seen.fit();
        let aim = aim(&seen.function, &fit, problems);
        let slice = desired_slice(&seen, route, told);
        let mut scene = seen.scene(aim, slice.as_ref());
        context.with_memory(&uid, |memory| memory.waits.note(&mut scene, Instant::now()));
        let step = next(&scene);
        if let Step::Rest(rest) = step {
            return Ok(Some(Outcome { seen, fit, rest, refused: None }));
        }
        if is_live {
            if let Err(error) = carry(&context.client, &seen, &step, slice.as_ref()).await {
                let refused = Some(refusal(error)?);
                return Ok(Some(Outcome { seen, fit, rest: Rest::Held, refused }));
            }
            tell(context, &seen, &fit, &step).await;
            writes += 1;
            if writes > MOST_WRITES {
                // Somebody undoes what is written; later is soon enough.
                return Err(Error::Apply(unsettled(&seen)));
            }
        }
        match live(&context.client, &seen.function).await? {
            Some(now) => seen = now,
            None => return Ok(None),
        }
        is_live = true;
    }
}

fn refusal(error: ApplyError) -> Result<Refusal, ApplyError> {
    match error.source.as_ref() {
        kube::Error::Api(status) if is_refusal(status) => {
            Ok(Refusal { reason: condition::TARGET_REFUSED, message: format!("The API server refuses it: {error}") })
        }
        _ => Err(error),
    }
}

fn unsettled(seen: &Seen) -> ApplyError {
    ApplyError {
        operation: "settle",
        kind: "target of Function",
        name: seen.function.name_any(),
        source: Box::new(kube::Error::Service("its objects are changed again and again by somebody else".into())),
    }
}

fn aim(function: &Function, fit: &Result<Fit, Unfit>, problems: &[Problem]) -> Aim {
    match fit {
        _ if function.metadata.deletion_timestamp.is_some() => Aim::Release,
        Err(unfit) if unfit.consent => Aim::Release,
        Ok(_) if problems.is_empty() => Aim::Adopt,
        _ => Aim::Hold,
    }
}

/// Pilotlight's slice as it should be, where that is known. A Service that still leads to pods by itself is not led to them in another way.
fn desired_slice(seen: &Seen, route: &Route, told: bool) -> Option<EndpointSlice> {
    let begins = seen.slice.is_none();
    if begins && (!told || !matches!(route, Route::Activators(_))) {
        return None;
    }
    Some(adopted_slice(&seen.function, seen.service.as_ref()?, route.target()?))
}

/// Tells the autoscaler where the Service leads.
fn lead(context: &Context, function: &Function, observed: &Observed, outcome: &Outcome, route: &Route) {
    let led = match route {
        Route::Activators(_) => true,
        Route::Keep => {
            let port = observed.status.route.as_ref().map(|route| route.port);
            let slice = outcome.seen.slice.as_ref();
            slice.is_some_and(|slice| slice.ports.iter().flatten().filter_map(|p| p.port).eq(port.map(i32::from)))
        }
        Route::Pods(_) => false,
    };
    let led = led && outcome.rest == Rest::Adopted;
    tell_lead(context, function, observed, led);
}

/// A Service that was there before its Function leads to pods where it does not lead to the activators.
fn tell_lead(context: &Context, function: &Function, observed: &Observed, to_activators: bool) {
    let leads = if to_activators { Leads::Activators } else { Leads::Pods };
    let reachable = reachable(&observed.status.conditions, jiff::Timestamp::now());
    context.autoscaler.set_lead(&function.namespace().unwrap_or_default(), &function.name_any(), leads, reachable);
}

/// While the target is neither taken over nor given back, it keeps the replicas that it had.
fn hold_replicas(context: &Context, function: &Function, outcome: &Outcome, route: &Route) {
    let target = target_of(function).to_owned();
    let routed = function.status.as_ref().is_some_and(|status| status.route.is_some());
    if outcome.rest == Rest::Released && routed {
        // The autoscaler does not know it yet: until then it keeps what it was told.
        return;
    }
    let floor = match (outcome.rest, route) {
        (Rest::Adopted, Route::Pods(_)) => Some(1),
        (Rest::Adopted | Rest::Released, _) => None,
        _ => outcome.seen.noted_replicas(),
    };
    hold(context, function, floor.map(|replicas| (target, replicas)));
}

async fn tell(context: &Context, seen: &Seen, fit: &Result<Fit, Unfit>, step: &Step) {
    if let Some((kind, operation)) = step.writes() {
        context.metrics.wrote(kind, operation);
    }
    let (name, target) = (seen.function.name_any(), target_of(&seen.function));
    let (type_, reason, note) = match step {
        Step::Unselect => {
            let replicas = seen.noted_replicas().unwrap_or(1);
            let note = format!(
                "Took over Deployment {target}, which had {replicas} replicas, and the Service {name}: requests go through the activators"
            );
            (EventType::Normal, "Adopted", note)
        }
        Step::Forget => {
            let why = match fit {
                Err(unfit) if unfit.consent => unfit.message.clone(),
                _ => "the Function is deleted".to_owned(),
            };
            let note = format!("Gave back Deployment {target} and the Service {name}: {why}");
            (EventType::Normal, "Released", note)
        }
        _ => return,
    };
    tracing::info!(
        function = name,
        namespace = seen.function.namespace().unwrap_or_default(),
        reason,
        note,
        "a target changed hands"
    );
    let (reason, deployment) = (reason.to_owned(), Some(target.to_owned()));
    publish(&context.recorder, &seen.function, &Transition { type_, reason, note, action: "Adopt", deployment }).await;
}

/// For how long others' writes will be told, if there were any.
fn contested_until(context: &Context, function: &Function, observed: &Observed) -> Option<Duration> {
    let now = Timestamp::now();
    let contested = contentions(context, function, observed, now);
    let over = contested.iter().map(Contention::until).min()?;
    Duration::try_from(over.duration_since(now)).ok()
}
