//! Several revisions with traffic: each follows its own requests.

use std::time::Duration;

use pilotlight_crds::Function;
use pilotlight_crds::control::{FunctionSample, SampleBatch};
use pilotlight_scaling::Origin;
use serde_json::json;

use super::evaluating::{Bench, event, function, lead_cluster, silence};
use super::fakes::{FakeActivator, FakeCluster, Mood};
use super::knowing::{A, at, scene};
use super::listening::{batch, line, piece};
use crate::autoscaler::ScalingEventKind;
use crate::autoscaler::ledger::{FunctionKey, Ledger, Part};
use crate::autoscaler::situation::part;

/// What one second brought to a revision.
fn requests(revision: Option<&str>, requests: u32) -> FunctionSample {
    FunctionSample {
        namespace: "shop".to_owned(),
        name: "hello".to_owned(),
        revision: revision.map(str::to_owned),
        concurrency_milli: u64::from(requests) * 1000,
        busy_milli: u64::from(requests) * 1000,
        peak: requests,
        arrivals: requests,
        in_flight: requests,
        ..FunctionSample::default()
    }
}

fn second(samples: Vec<FunctionSample>) -> SampleBatch {
    SampleBatch { functions: samples, ..batch(0, false) }
}

/// `hello-1` has less of the traffic than another, whose Deployment nobody has seen.
fn shared() -> Function {
    let mut function = function(5);
    let split = json!([{"revision": "hello-0", "percent": 60}, {"revision": "hello-1", "percent": 40}]);
    let route = json!({"port": 10_000, "revision": "hello-0", "split": split});
    function.status.as_mut().unwrap().route = serde_json::from_value(route).unwrap();
    function
}

#[test]
fn what_went_to_one_says_nothing_of_another() {
    let function = shared();
    let mut ledger = Ledger::default();
    let key = FunctionKey::new("shop", "hello");
    ledger.join(A, at(0), Origin::Unknown);
    for now in 1..=70 {
        // The last one has no traffic any more, but a stream that goes on for ever.
        let samples = vec![requests(Some("hello-0"), 35), requests(Some("hello-1"), 12), requests(Some("hello-9"), 90)];
        ledger.hear(A, at(now), &second(samples), |_, heard| part(&function, heard.revision.as_deref()?));
    }
    let main = ledger.decide(&key, Part::Main, at(70), &scene(8));
    let share = ledger.decide(&key, Part::Share("hello-1"), at(70), &scene(3));
    assert_eq!((main.replicas, share.replicas), (4, 2), "{} | {}", main.reason, share.reason);
    // What has no traffic any more is forgotten, and what is new is not taken for silent.
    ledger.retain_shares(&key, |name| name != "hello-1");
    let anew = ledger.decide(&key, Part::Share("hello-1"), at(70), &scene(8));
    assert_eq!(anew.replicas, 8, "{}", anew.reason);
}

async fn lead(activator: &FakeActivator, replicas: u32) -> Bench {
    lead_cluster(activator, shared(), FakeCluster::new(replicas, vec![activator.peer("a")])).await
}

#[tokio::test]
async fn a_poke_for_a_share_scales_that_revision_out() {
    let activator = FakeActivator::start(Mood::Drained).await;
    let script = activator.script();
    script.send(piece(&line(&batch(0, true)))).unwrap();
    let waiting = FunctionSample { queued: 150, in_flight: 100, ..requests(Some("hello-1"), 0) };
    let poke = SampleBatch { poke: true, ..second(vec![waiting]) };
    script.send(piece(&line(&poke))).unwrap();
    let mut bench = lead(&activator, 1).await;
    let up = event(&mut bench).await;
    assert_eq!(up.kind, ScalingEventKind::ScaledUp);
    assert!(up.message.contains("Scaled hello-1 from 1 to 3"), "{}", up.message);
    assert_eq!(bench.cluster.replicas(), 3);
}

#[tokio::test]
async fn a_share_that_nobody_asks_for_goes_to_zero_by_the_hand_shake() {
    let activator = FakeActivator::start(Mood::Drained).await;
    silence(&activator);
    let mut bench = lead(&activator, 1).await;
    let down = event(&mut bench).await;
    assert_eq!(down.kind, ScalingEventKind::ScaledToZero, "{}", down.message);
    assert_eq!((bench.cluster.replicas(), activator.drains().len()), (0, 1));
}

#[tokio::test]
async fn a_share_with_requests_is_not_out_of_use() {
    let activator = FakeActivator::start(Mood::Drained).await;
    let script = activator.script();
    script.send(piece(&line(&batch(0, true)))).unwrap();
    tokio::spawn(async move {
        while script.send(piece(&line(&second(vec![requests(Some("hello-1"), 50)])))).is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await; // a second's traffic
        }
    });
    let mut bench = lead(&activator, 1).await;
    let quiet = tokio::time::timeout(Duration::from_secs(12), bench.event()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert_eq!((bench.cluster.replicas(), activator.drains().len()), (1, 0));
}
