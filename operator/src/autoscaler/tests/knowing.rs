//! What is known of activators and load: the registry, the ledger, and what is to be done about revisions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use pilotlight_crds::control::{FunctionSample, RouteAck, SampleBatch};
use pilotlight_scaling::idle::Rungs;
use pilotlight_scaling::{ActivatorId, Millis, Origin, Policy, Rung};
use serde_json::json;
use tokio::sync::watch;

use super::listening::batch;
use crate::autoscaler::ActivatorView;
use crate::autoscaler::ledger::{FunctionKey, Ledger, Part, Scene, Touched};
use crate::autoscaler::registry::{Change, Registry};
use crate::autoscaler::situation::{RevisionRead, SUPERSEDED_MILLIS, others};

pub(super) fn activator_pod(uid: &str, ip: Option<&str>, phase: &str, ready: bool) -> Pod {
    let state = if phase == "Running" { json!({ "running": {} }) } else { json!({ "waiting": {} }) };
    serde_json::from_value(json!({
        "metadata": { "name": format!("activator-{uid}"), "uid": uid },
        "spec": { "nodeName": "node-1", "containers": [] },
        "status": {
            "phase": phase,
            "podIP": ip,
            "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
            "containerStatuses": [{
                "name": "activator", "image": "", "imageID": "", "ready": ready, "restartCount": 0, "state": state,
            }],
        },
    }))
    .unwrap()
}

fn ack(name: &str, port: u16) -> RouteAck {
    RouteAck { namespace: "shop".to_owned(), name: name.to_owned(), port }
}

fn acknowledged(registry: &Registry, name: &str, port: u16) -> Vec<(String, bool)> {
    let (_sender, snapshot) = watch::channel(registry.snapshot());
    let view = ActivatorView::new(snapshot, Arc::default());
    let addresses = view.acknowledged("shop", name, port);
    addresses.into_iter().map(|a| (a.ip.to_string(), a.ready)).collect()
}

#[test]
fn an_activator_is_listened_to_from_its_address_to_its_end() {
    let mut registry = Registry::new(9091);
    assert_eq!(registry.apply(&activator_pod("a", None, "Pending", false)), Change::None);
    let joined = registry.apply(&activator_pod("a", Some("10.0.0.1"), "Running", false));
    let Change::Listen { id, address, joined: true, .. } = joined else {
        panic!("{joined:?}");
    };
    assert_eq!(address.to_string(), "10.0.0.1:9091");
    assert_eq!(registry.apply(&activator_pod("a", Some("10.0.0.1"), "Running", true)), Change::None);
    assert!(!registry.acknowledge(id, true, &[ack("hello", 10_000)]).is_empty());
    assert_eq!(acknowledged(&registry, "hello", 10_000), [("10.0.0.1".to_owned(), true)]);
    assert!(acknowledged(&registry, "hello", 10_001).is_empty(), "another port is another route");
    let left = registry.apply(&activator_pod("a", Some("10.0.0.1"), "Succeeded", false));
    assert!(matches!(left, Change::Left { id: gone, .. } if gone == id), "{left:?}");
    assert!(acknowledged(&registry, "hello", 10_000).is_empty());
}

#[test]
fn a_container_between_two_runs_is_not_ready_but_known() {
    let mut registry = Registry::new(9091);
    registry.apply(&activator_pod("a", Some("10.0.0.1"), "Running", true));
    registry.acknowledge(ActivatorId(0), true, &[ack("hello", 10_000)]);
    let mut restarting = activator_pod("a", Some("10.0.0.1"), "Pending", false);
    restarting.status.as_mut().unwrap().phase = Some("Running".to_owned());
    assert_eq!(registry.apply(&restarting), Change::None);
    assert_eq!(acknowledged(&registry, "hello", 10_000), [("10.0.0.1".to_owned(), false)]);
}

#[test]
fn an_activator_that_refuses_connections_serves_nothing_until_it_tells_again() {
    let mut registry = Registry::new(9091);
    registry.apply(&activator_pod("a", Some("10.0.0.1"), "Running", true));
    let id = ActivatorId(0);
    registry.acknowledge(id, true, &[ack("hello", 10_000)]);
    assert_eq!(registry.gone(id).len(), 1);
    assert!(acknowledged(&registry, "hello", 10_000).is_empty(), "Kubernetes still calls it ready");
    assert!(registry.gone(id).is_empty() && registry.gone(ActivatorId(9)).is_empty(), "nothing new");
    assert!(!registry.acknowledge(id, true, &[ack("hello", 10_000)]).is_empty());
    assert_eq!(acknowledged(&registry, "hello", 10_000), [("10.0.0.1".to_owned(), true)]);
}

#[test]
fn routes_add_up_until_a_new_stream_lists_them_all() {
    let mut registry = Registry::new(9091);
    registry.apply(&activator_pod("a", Some("10.0.0.1"), "Running", true));
    let id = ActivatorId(0);
    assert!(!registry.acknowledge(id, true, &[ack("one", 10_000)]).is_empty());
    assert!(!registry.acknowledge(id, false, &[ack("two", 10_001)]).is_empty());
    assert!(registry.acknowledge(id, false, &[ack("two", 10_001)]).is_empty());
    assert!(registry.acknowledge(id, false, &[]).is_empty());
    assert_eq!(acknowledged(&registry, "one", 10_000).len(), 1);
    assert!(!registry.acknowledge(id, true, &[ack("two", 10_001)]).is_empty());
    assert!(acknowledged(&registry, "one", 10_000).is_empty());
    assert_eq!(acknowledged(&registry, "two", 10_001).len(), 1);
}

#[test]
fn a_watch_that_begins_anew_finds_who_is_gone() {
    let mut registry = Registry::new(9091);
    registry.apply(&activator_pod("a", Some("10.0.0.1"), "Running", true));
    registry.apply(&activator_pod("b", Some("10.0.0.2"), "Running", true));
    assert!(!registry.snapshot().listed);
    let listed = BTreeSet::from(["b".to_owned(), "c".to_owned()]);
    assert_eq!(registry.missing_from(&listed), ["a"]);
    assert!(registry.snapshot().listed);
}

pub(super) const A: ActivatorId = ActivatorId(1);
const B: ActivatorId = ActivatorId(2);

fn key() -> FunctionKey {
    FunctionKey::new("shop", "hello")
}

fn with_load(age_millis: u64, requests: u32) -> SampleBatch {
    let mut batch = batch(age_millis, false);
    batch.functions.push(FunctionSample {
        namespace: "shop".to_owned(),
        name: "hello".to_owned(),
        concurrency_milli: u64::from(requests) * 1000,
        busy_milli: u64::from(requests) * 1000,
        peak: requests,
        arrivals: requests,
        in_flight: requests,
        ..FunctionSample::default()
    });
    batch
}

pub(super) fn scene(current: u32) -> Scene {
    Scene {
        policy: Policy { concurrency_limit: 10, target_utilization_percent: 100, ..Policy::default() },
        current,
        ready: current,
        floor: None,
        floor_until: None,
        led_since: Some(Millis(0)),
        rung: if current == 0 { Rung::Zero } else { Rung::Active },
        available: Rungs::ALL,
        adaptive: None,
    }
}

pub(super) fn at(second: u64) -> Millis {
    Millis(10_000_900 + second * 1000)
}

#[test]
fn replayed_history_lets_a_new_leader_decide_at_once() {
    let mut ledger = Ledger::default();
    ledger.join(A, at(0), Origin::Unknown);
    ledger.hear(A, at(0), &batch(0, true), |_, _| Some(Part::Main));
    for age in (0..=61).rev() {
        ledger.hear(A, at(1), &with_load(age * 1000, 35), |_, _| Some(Part::Main));
    }
    let decision = ledger.decide(&key(), Part::Main, at(1), &scene(8));
    assert_eq!(decision.replicas, 4, "{}", decision.reason);
}

#[test]
fn silence_from_before_the_route_led_to_the_activators_is_no_idle_time() {
    let mut ledger = Ledger::default();
    ledger.join(A, at(0), Origin::Unknown);
    ledger.hear(A, at(0), &batch(0, true), |_, _| Some(Part::Main));
    for age in (0..=61).rev() {
        ledger.hear(A, at(1), &batch(age * 1000, false), |_, _| Some(Part::Main));
    }
    let led = |since| Scene { led_since: since, ..scene(1) };
    assert_eq!(ledger.decide(&key(), Part::Main, at(1), &led(None)).replicas, 1);
    assert_eq!(ledger.decide(&key(), Part::Main, at(1), &led(Some(at(0)))).replicas, 1);
    for second in 2..=60 {
        ledger.hear(A, at(second), &batch(0, false), |_, _| Some(Part::Main));
        assert_eq!(ledger.decide(&key(), Part::Main, at(second), &led(Some(at(0)))).replicas, 1, "after {second} s");
    }
    for second in 61..=64 {
        ledger.hear(A, at(second), &batch(0, false), |_, _| Some(Part::Main));
    }
    assert_eq!(ledger.decide(&key(), Part::Main, at(64), &led(Some(at(0)))).replicas, 0);
}

#[test]
fn without_history_a_new_leader_waits_for_a_whole_window() {
    let mut ledger = Ledger::default();
    ledger.join(A, at(0), Origin::Unknown);
    ledger.hear(A, at(0), &batch(0, true), |_, _| Some(Part::Main));
    let mut lowered_at = None;
    for second in 1..200 {
        ledger.hear(A, at(second), &with_load(0, 35), |_, _| Some(Part::Main));
        if ledger.decide(&key(), Part::Main, at(second), &scene(8)).replicas < 8 {
            lowered_at = Some(second);
            break;
        }
    }
    assert!(matches!(lowered_at, Some(60..=62)), "{lowered_at:?}");
}

#[test]
fn one_activator_that_is_not_heard_keeps_all_replicas() {
    let mut ledger = Ledger::default();
    ledger.join(A, at(0), Origin::Unknown);
    ledger.join(B, at(0), Origin::Unknown);
    for second in 1..300 {
        ledger.hear(A, at(second), &batch(0, false), |_, _| Some(Part::Main));
        let decision = ledger.decide(&key(), Part::Main, at(second), &scene(3));
        assert_eq!(decision.replicas, 3, "second {second}: {}", decision.reason);
    }
    ledger.depart(B, at(300));
    let mut zero_at = None;
    for second in 300..500 {
        ledger.hear(A, at(second), &batch(0, false), |_, _| Some(Part::Main));
        if ledger.decide(&key(), Part::Main, at(second), &scene(3)).replicas == 0 {
            zero_at = Some(second);
            break;
        }
    }
    assert!(matches!(zero_at, Some(360..=362)), "{zero_at:?}");
}

#[test]
fn the_list_of_routes_is_no_second_of_silence() {
    let mut ledger = Ledger::default();
    ledger.join(A, at(0), Origin::Unknown);
    for second in 1..200 {
        ledger.hear(A, at(second), &batch(0, true), |_, _| Some(Part::Main));
        assert_eq!(ledger.decide(&key(), Part::Main, at(second), &scene(1)).replicas, 1);
    }
}

#[test]
fn a_poke_asks_for_slots_at_once_and_is_no_second() {
    let mut ledger = Ledger::default();
    ledger.join(A, at(0), Origin::Unknown);
    ledger.hear(A, at(1), &with_load(0, 10), |_, _| Some(Part::Main));
    let mut poke = with_load(0, 10);
    poke.poke = true;
    poke.functions[0].queued = 25;
    let now = Millis(at(1).0 + 300);
    let touched = ledger.hear(A, now, &poke, |_, _| Some(Part::Main));
    assert_eq!(touched.poked, [key()]);
    let decision = ledger.decide(&key(), Part::Main, now, &scene(1));
    assert_eq!(decision.replicas, 4, "{}", decision.reason);
    assert_eq!(decision.reason.code(), "Queue");
    // The next second, whatever its phase, says that nothing waits any more.
    let now = Millis(at(1).0 + 1_000);
    ledger.hear(A, now, &with_load(0, 10), |_, _| Some(Part::Main));
    let decision = ledger.decide(&key(), Part::Main, now, &scene(4));
    assert_ne!(decision.reason.code(), "Queue", "{}", decision.reason);
}

#[test]
fn a_function_that_does_not_exist_is_not_kept() {
    let mut ledger = Ledger::default();
    ledger.join(A, at(0), Origin::Unknown);
    let touched = ledger.hear(A, at(1), &with_load(0, 10), |_, _| None);
    assert!(touched.sampled.is_empty() && touched.poked.is_empty());
}

fn revision(name: &str, replicas: u32) -> RevisionRead {
    RevisionRead { name: name.to_owned(), replicas, ready: replicas, resource_version: None }
}

#[test]
fn a_revision_out_of_use_goes_to_zero_after_a_while() {
    let mut out_of_use = BTreeMap::new();
    let old = [revision("hello-1", 3), revision("hello-0", 0)];
    let none = BTreeMap::new();
    assert!(others(at(0), &old, &none, 10, &mut out_of_use).is_empty());
    let due = Millis(at(0).0 + SUPERSEDED_MILLIS);
    let steps = others(due, &old, &none, 10, &mut out_of_use);
    assert_eq!(steps.len(), 1);
    assert_eq!((steps[0].revision.as_str(), steps[0].from, steps[0].to), ("hello-1", 3, 0));
    // Back in use, then out again: the time starts anew.
    assert!(others(due, &[], &none, 10, &mut out_of_use).is_empty());
    assert!(others(due, &old, &none, 10, &mut out_of_use).is_empty());
}

#[test]
fn a_revision_that_proves_itself_is_held_and_never_lowered() {
    let mut out_of_use = BTreeMap::new();
    let floors = BTreeMap::from([("hello-2".to_owned(), 2)]);
    let new = [revision("hello-2", 0)];
    let steps = others(at(0), &new, &floors, 1, &mut out_of_use);
    assert_eq!((steps[0].from, steps[0].to), (0, 1), "maxReplicas wins");
    let running = [revision("hello-2", 5)];
    for second in 0..60 {
        assert!(others(at(second), &running, &floors, 10, &mut out_of_use).is_empty());
    }
}

#[test]
fn a_past_that_is_half_told_decides_nothing() {
    let mut ledger = Ledger::default();
    ledger.join(A, at(0), Origin::Unknown);
    ledger.hear(A, at(0), &batch(0, true), |_, _| Some(Part::Main));
    // A minute ago there was load for eight pods; now one is enough, and there is one.
    for age in (1..=61).rev() {
        let touched =
            ledger.hear(A, at(1), &with_load(age * 1000, if age > 58 { 80 } else { 5 }), |_, _| Some(Part::Main));
        assert_eq!(touched, Touched::default(), "nobody is asked to look at a past");
        let decision = ledger.decide(&key(), Part::Main, at(1), &scene(1));
        assert_eq!(decision.replicas, 1, "{age} s ago: {}", decision.reason);
    }
    let touched = ledger.hear(A, at(1), &with_load(0, 5), |_, _| Some(Part::Main));
    assert!(touched.sampled.contains(&key()));
    let decision = ledger.decide(&key(), Part::Main, at(1), &scene(1));
    assert_eq!(decision.replicas, 1, "{}", decision.reason);
}

#[test]
fn a_past_whose_stream_broke_is_told_again() {
    let mut ledger = Ledger::default();
    ledger.join(A, at(0), Origin::Unknown);
    for broken in [true, false] {
        ledger.hear(A, at(0), &batch(0, true), |_, _| Some(Part::Main));
        for age in (1..=61).rev() {
            ledger.hear(A, at(1), &with_load(age * 1000, 35), |_, _| Some(Part::Main));
        }
        if broken {
            ledger.interrupted(A);
        }
    }
    ledger.hear(A, at(1), &with_load(0, 35), |_, _| Some(Part::Main));
    assert_eq!(ledger.decide(&key(), Part::Main, at(1), &scene(8)).replicas, 4);
}

#[test]
fn a_new_leader_remembers_the_peaks_that_the_activators_tell_of() {
    let mut ledger = Ledger::default();
    ledger.join(A, at(0), Origin::Unknown);
    ledger.hear(A, at(0), &batch(0, true), |_, _| Some(Part::Main));
    // 20 s of load for four pods, and 20 s for one, over and over.
    let load = |age: u64| if age / 20 % 2 == 1 { 38 } else { 5 };
    for age in (0..=61).rev() {
        ledger.hear(A, at(1), &with_load(age * 1000, load(age)), |_, _| Some(Part::Main));
    }
    let decision = ledger.decide(&key(), Part::Main, at(1), &scene(4));
    assert_eq!((decision.replicas, decision.reason.code()), (4, "PeakLoad"), "{}", decision.reason);
}
