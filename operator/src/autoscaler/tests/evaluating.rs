//! The whole loop: caches, a fake activator's stream, decisions, steps, events.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::watcher::Event;
use pilotlight_crds::Function;
use pilotlight_crds::control::{FunctionSample, RouteAck};
use pilotlight_crds::status::RungSeconds;
use pilotlight_scaling::Millis;
use pilotlight_scaling::idle::{Gap, Learnt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::fakes::{FakeActivator, FakeCluster, Mood, TOKEN};
use super::knowing::activator_pod;
use super::listening::{batch, line, piece};
use crate::autoscaler::pods::PodChange;
use crate::autoscaler::registry::Registry;
use crate::autoscaler::{
    AutoscalerContext, AutoscalerHandle, AutoscalerMetrics, Leads, ScalingEvent, ScalingEventKind, assemble,
};
use crate::cache::{AdoptedPods, Filler, Kept, Shelf};

pub(super) struct Bench {
    handle: AutoscalerHandle,
    pub(super) cluster: FakeCluster,
    events: mpsc::Receiver<ScalingEvent>,
    _pods: mpsc::Sender<PodChange>,
    _functions: Filler<Function>,
    deployments: Filler<Deployment>,
    shutdown: CancellationToken,
}

impl Bench {
    pub(super) async fn event(&mut self) -> Option<ScalingEvent> {
        self.events.recv().await
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(super) fn function(idle_seconds: u32) -> Function {
    serde_json::from_value(json!({
        "apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function",
        "metadata": { "name": "hello", "namespace": "shop", "resourceVersion": "1" },
        "spec": { "image": "hello", "scaling": { "idleSeconds": idle_seconds } },
        "status": { "route": { "port": 10_000, "revision": "hello-1" } },
    }))
    .unwrap()
}

fn deployment(replicas: u32, version: &str) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {
            "name": "hello-1", "namespace": "shop", "resourceVersion": version,
            "labels": { "pilotlight.dev/function": "hello" },
        },
        "spec": { "replicas": replicas, "selector": {}, "template": {} },
        "status": { "readyReplicas": replicas },
    }))
    .unwrap()
}

fn filled<K: Kept>(object: K) -> (Shelf<K>, Filler<K>) {
    let (shelf, mut filler) = Shelf::new(|_| true);
    for event in [Event::Init, Event::InitApply(object), Event::InitDone] {
        filler.take(event);
    }
    (shelf, filler)
}

/// A client of an API server that nobody runs.
fn no_client() -> kube::Client {
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    kube::Client::try_from(config).unwrap()
}

async fn start(activator: &FakeActivator, idle_seconds: u32, replicas: u32) -> Bench {
    lead(activator, function(idle_seconds), replicas).await
}

/// A leader of this Function begins.
async fn lead(activator: &FakeActivator, function: Function, replicas: u32) -> Bench {
    lead_cluster(activator, function, FakeCluster::new(replicas, vec![activator.peer("a")])).await
}

/// The same where the cluster has pods already.
pub(super) async fn lead_cluster(activator: &FakeActivator, function: Function, cluster: FakeCluster) -> Bench {
    let replicas = cluster.replicas();
    let pods_of = cluster.clone();
    let (functions, function_filler) = filled(function);
    let (shelf, deployments) = filled(deployment(replicas, "100"));
    let (event_sender, events) = mpsc::channel(16);
    let (pods, changes) = mpsc::channel(16);
    let shutdown = CancellationToken::new();
    let context = AutoscalerContext {
        client: no_client(),
        namespace: "pilotlight".to_owned(),
        activator_selector: String::new(),
        token: TOKEN.to_owned(),
        functions,
        deployments: shelf,
        adopted: AdoptedPods::new(&no_client(), &mpsc::unbounded_channel().0),
        pods: Arc::new(move |_, _| pods_of.with(|model| model.whole.iter().cloned().map(Arc::new).collect())),
        metrics: AutoscalerMetrics::default(),
        events: event_sender,
        shutdown: shutdown.clone(),
    };
    let (handle, evaluation) = assemble(context, cluster.clone(), Registry::new(activator.address.port()), changes);
    handle.set_lead("shop", "hello", Leads::Activators, Duration::MAX);
    tokio::spawn(evaluation);
    let pod = Box::new(activator_pod("a", Some("127.0.0.1"), "Running", true));
    let joins = PodChange::Applied { pod, listed: true };
    pods.send(joins).await.unwrap();
    Bench { handle, cluster, events, _pods: pods, deployments, _functions: function_filler, shutdown }
}

pub(super) async fn event(bench: &mut Bench) -> ScalingEvent {
    let event = tokio::time::timeout(Duration::from_secs(20), bench.events.recv()).await;
    event.expect("in time").expect("the loop runs")
}

/// A stream that tells of a minute of silence and then, every second, of silence again.
pub(super) fn silence(activator: &FakeActivator) {
    let script = activator.script();
    let mut first = batch(0, true);
    first.routes.push(RouteAck { namespace: "shop".to_owned(), name: "hello".to_owned(), port: 10_000 });
    script.send(piece(&line(&first))).unwrap();
    for age in (1..=60).rev() {
        script.send(piece(&line(&batch(age * 1000, false)))).unwrap();
    }
    tokio::spawn(async move {
        while script.send(piece(&line(&batch(0, false)))).is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}

#[tokio::test]
async fn silence_ends_at_zero_with_a_reason() {
    let activator = FakeActivator::start(Mood::Drained).await;
    silence(&activator);
    let mut bench = start(&activator, 5, 1).await;
    let event = event(&mut bench).await;
    assert_eq!(event.kind, ScalingEventKind::ScaledToZero, "{}", event.message);
    assert_eq!(bench.cluster.replicas(), 0);
    assert_eq!(activator.drains().len(), 1);
    let decision = bench.handle.decisions("shop", "hello").unwrap();
    assert_eq!(decision["replicas"], 0);
    let change = &decision["lastChange"];
    assert_eq!((&change["from"], &change["to"]), (&json!(1), &json!(0)));
    let message = change["message"].as_str().unwrap();
    assert!(message.starts_with("no request for "), "{message}");
    let addresses = bench.handle.activators().acknowledged("shop", "hello", 10_000);
    assert_eq!(addresses.len(), 1);
    assert!(addresses[0].ready && bench.handle.activators().any_ready());
}

#[tokio::test]
async fn a_step_that_keeps_fewer_pods_takes_the_others_away() {
    let activator = FakeActivator::start(Mood::Drained).await;
    silence(&activator);
    let mut keeping = function(3_600);
    let steps = json!({"steps": [{"afterSeconds": 5, "rung": "Throttled", "replicas": 3}]});
    keeping.spec.scaling.idle = serde_json::from_value(steps).unwrap();
    let mut bench = lead(&activator, keeping, 5).await;
    let down = event(&mut bench).await;
    assert_eq!(down.kind, ScalingEventKind::ScaledDown, "{}", down.message);
    assert!(down.message.contains("Throttled with 3 replicas after 5.0 s"), "{}", down.message);
    assert_eq!(bench.cluster.replicas(), 3);
}

#[tokio::test]
async fn a_deaf_autoscaler_asks_nobody_and_lowers_nothing() {
    let activator = FakeActivator::start(Mood::Drained).await;
    let mut bench = start(&activator, 1, 1).await;
    let quiet = tokio::time::timeout(Duration::from_secs(4), bench.events.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert!(activator.drains().is_empty());
    assert_eq!(bench.cluster.replicas(), 1);
    let decision = bench.handle.decisions("shop", "hello").unwrap();
    assert_eq!(decision["reason"], "DataMissing", "{decision}");
}

#[tokio::test]
async fn a_floor_wakes_and_its_end_lets_go() {
    let activator = FakeActivator::start(Mood::Drained).await;
    silence(&activator);
    let mut bench = start(&activator, 2, 0).await;
    bench.handle.set_initial("shop", "hello", "hello-1", 1);
    let up = event(&mut bench).await;
    assert_eq!(up.kind, ScalingEventKind::ScaledUp, "{}", up.message);
    assert_eq!(bench.cluster.replicas(), 1);
    bench.deployments.take(Event::Apply(deployment(1, "101")));
    bench.handle.clear_initial("shop", "hello", "hello-1");
    let down = event(&mut bench).await;
    assert_eq!(down.kind, ScalingEventKind::ScaledToZero, "{}", down.message);
}

#[tokio::test]
async fn without_activators_every_function_keeps_a_replica() {
    let activator = FakeActivator::start(Mood::Drained).await;
    let mut bench = start(&activator, 2, 0).await;
    bench.handle.set_fail_open(true);
    let up = event(&mut bench).await;
    assert_eq!(up.kind, ScalingEventKind::ScaledUp, "{}", up.message);
    assert_eq!(bench.cluster.replicas(), 1);
}

#[tokio::test]
async fn a_poke_scales_out_at_once() {
    let activator = FakeActivator::start(Mood::Drained).await;
    let script = activator.script();
    script.send(piece(&line(&batch(0, true)))).unwrap();
    let mut poke = batch(0, false);
    poke.poke = true;
    poke.functions.push(FunctionSample {
        namespace: "shop".to_owned(),
        name: "hello".to_owned(),
        queued: 150,
        in_flight: 100,
        ..FunctionSample::default()
    });
    script.send(piece(&line(&poke))).unwrap();
    let mut bench = start(&activator, 60, 1).await;
    let up = event(&mut bench).await;
    assert_eq!(up.kind, ScalingEventKind::ScaledUp);
    assert!(up.message.contains("150 waiting and 100 in flight"), "{}", up.message);
    assert_eq!(bench.cluster.replicas(), 3);
    let log = bench.handle.decisions("shop", "hello").expect("it decided");
    let history = log["history"].as_array().expect("a list");
    let first = history.iter().rev().find(|decision| decision["replicas"] == 3).expect("that was decided");
    assert_eq!(first["trigger"], "Poke", "{log:#}");
}

#[tokio::test]
async fn a_wake_by_an_activator_is_seen_and_kept() {
    let activator = FakeActivator::start(Mood::Drained).await;
    silence(&activator);
    let mut bench = start(&activator, 30, 0).await;
    bench.handle.changed("shop", "hello");
    while bench.handle.decisions("shop", "hello").is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.cluster.with(|model| model.scale(1));
    bench.deployments.take(Event::Apply(deployment(1, "101")));
    bench.handle.changed("shop", "hello");
    let woken = event(&mut bench).await;
    assert_eq!(woken.kind, ScalingEventKind::ScaledUp);
    assert!(woken.message.contains("woken"), "{}", woken.message);
    let undone = tokio::time::timeout(Duration::from_secs(3), bench.events.recv()).await;
    assert!(undone.is_err(), "{undone:?}");
    assert!(activator.drains().is_empty(), "a minute of silence before the wake says nothing of it");
}

#[tokio::test]
async fn an_activator_that_never_agrees_is_told_to_the_author() {
    let activator = FakeActivator::start(Mood::DiesMidway).await;
    silence(&activator);
    let mut bench = start(&activator, 5, 1).await;
    let blocked = event(&mut bench).await;
    assert_eq!(blocked.kind, ScalingEventKind::StepDownBlocked);
    assert!(blocked.message.contains("activator-a"), "{}", blocked.message);
    assert_eq!(bench.cluster.replicas(), 1);
    assert_eq!(activator.drains().len(), 3);
}

/// What another leader wrote of a Function that is called every five minutes, and will be in so many seconds; an hour was counted at zero.
fn timer(seconds: i64) -> Function {
    let mut learnt = Learnt::default();
    for call in 0..20 {
        let at = |call: u64| Millis(call * 300_000);
        learnt.observe_gap(Gap { began: at(call), ended: at(call), next: at(call + 1) });
    }
    let now = jiff::Timestamp::now();
    let called = jiff::Timestamp::from_second(now.as_second() + seconds - 300).unwrap();
    let mut function = function(1);
    function.spec.scaling.idle_seconds = None;
    function.spec.scaling.idle = serde_json::from_value(json!({"policy": "Adaptive"})).unwrap();
    function.status.as_mut().unwrap().idle = serde_json::from_value(json!({
        "since": called, "activeSince": jiff::Timestamp::from_second(called.as_second() - 1).unwrap(), "learnt": learnt.to_text(),
        "cost": {
            "countedUntil": called,
            "rungSeconds": {"active": 60, "zero": 3540},
            "reserved": {"replicaSeconds": 60, "memoryMiBSeconds": 60},
            "alwaysOn": {"replicaSeconds": 3600, "memoryMiBSeconds": 3600},
        },
    }))
    .unwrap();
    function
}

#[tokio::test]
async fn a_new_leader_goes_on_with_what_was_learnt_and_starts_a_pod_for_the_request_that_is_due() {
    let activator = FakeActivator::start(Mood::Drained).await;
    silence(&activator);
    let known = timer(6);
    let learnt = known.status.as_ref().unwrap().idle.as_ref().unwrap().learnt.clone();
    let mut bench = lead(&activator, known, 0).await;
    let up = event(&mut bench).await;
    assert_eq!(up.kind, ScalingEventKind::ScaledUp, "{}", up.message);
    assert!(up.message.contains("known gaps a request comes within the next"), "{}", up.message);
    assert_eq!(bench.cluster.replicas(), 1);
    let told = || bench.handle.idle("shop", "hello", jiff::Timestamp::now()).expect("it was decided");
    while told().plan.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let idle = told();
    assert_eq!(idle.learnt, learnt);
    assert_eq!(idle.plan.expect("it is idle").rung, pilotlight_crds::status::Rung::Active);
    let cost = idle.cost.expect("an account");
    // Since the last count it was at zero until the pod was started.
    let RungSeconds { active, zero, .. } = cost.rung_seconds;
    assert!(active >= 60 && zero >= 3_540 + 290, "{cost:?}");
    assert_eq!(cost.reserved.replica_seconds, active);
    assert!((0..=1).contains(&(cost.always_on.replica_seconds - active - zero)), "{cost:?}");
}
