//! The step-down hand-shake against activators in every mood.

use std::time::Duration;

use pilotlight_crds::control::{DrainOutcome, DrainScope};
use tokio_util::sync::CancellationToken;

use super::fakes::{FakeActivator, FakeCluster, Mood, TOKEN};
use crate::autoscaler::cluster::{ClusterError, Peer, PodRead, RemovalClass};
use crate::autoscaler::control::ControlClient;
use crate::autoscaler::drain::TTL;
use crate::autoscaler::stepdown::{StepDown, StepOutcome, Steps};

async fn step(cluster: &FakeCluster, from: u32, to: u32) -> StepOutcome {
    step_with(cluster, TOKEN, &[], &CancellationToken::new(), from, to).await
}

async fn step_with(
    cluster: &FakeCluster,
    token: &str,
    known: &[Peer],
    shutdown: &CancellationToken,
    from: u32,
    to: u32,
) -> StepOutcome {
    step_within(cluster, token, known, shutdown, TTL, from, to).await
}

async fn step_within(
    cluster: &FakeCluster,
    token: &str,
    known: &[Peer],
    shutdown: &CancellationToken,
    ttl: Duration,
    from: u32,
    to: u32,
) -> StepOutcome {
    let control = ControlClient::new(token);
    let steps = Steps { cluster, control: &control, known, shutdown, ttl };
    steps
        .run(&StepDown {
            namespace: "shop".to_owned(),
            name: "hello".to_owned(),
            revision: "hello-1".to_owned(),
            from,
            to,
        })
        .await
}

fn pod(name: &str, class: RemovalClass, created: i64) -> PodRead {
    PodRead { uid: name.to_owned(), name: name.to_owned(), class, parked: false, cost: 0, created }
}

#[tokio::test]
async fn when_all_agree_it_goes_to_zero_and_all_hear_of_it() {
    let (a, b) = (FakeActivator::start(Mood::Drained).await, FakeActivator::start(Mood::Drained).await);
    let cluster = FakeCluster::new(3, vec![a.peer("a"), b.peer("b")]);
    let outcome = step(&cluster, 3, 0).await;
    assert!(matches!(outcome, StepOutcome::Scaled { replicas: 0 }), "{outcome:?}");
    assert_eq!(cluster.replicas(), 0);
    for activator in [&a, &b] {
        let drains = activator.drains();
        assert_eq!(drains.len(), 1);
        let revision = "hello-1".to_owned();
        assert_eq!(drains[0].scope, DrainScope::All { revision });
        assert_eq!(drains[0].handshake, activator.releases()[0].handshake);
        assert_eq!(activator.outcomes(), [DrainOutcome::Committed]);
    }
    assert_eq!(a.drains()[0].handshake, b.drains()[0].handshake);
}

#[tokio::test]
async fn a_busy_activator_keeps_the_pods_and_the_others_use_them_again() {
    let (a, b) = (FakeActivator::start(Mood::Drained).await, FakeActivator::start(Mood::Busy).await);
    let cluster = FakeCluster::new(1, vec![a.peer("a"), b.peer("b")]);
    let outcome = step(&cluster, 1, 0).await;
    assert!(matches!(outcome, StepOutcome::Busy { in_flight: 3, queued: 0 }), "{outcome:?}");
    assert_eq!(cluster.replicas(), 1);
    assert_eq!(a.outcomes(), [DrainOutcome::Aborted]);
}

#[tokio::test]
async fn an_activator_that_is_only_in_the_watch_is_asked_too() {
    let (a, b) = (FakeActivator::start(Mood::Drained).await, FakeActivator::start(Mood::Busy).await);
    let cluster = FakeCluster::new(1, vec![a.peer("a")]);
    let known = [b.peer("b")];
    let outcome = step_with(&cluster, TOKEN, &known, &CancellationToken::new(), 1, 0).await;
    assert!(matches!(outcome, StepOutcome::Busy { .. }), "{outcome:?}");
    assert_eq!(cluster.replicas(), 1);
}

#[tokio::test]
async fn a_dead_activator_blocks_the_step() {
    let (a, dead) = (FakeActivator::start(Mood::Drained).await, FakeActivator::start(Mood::Drained).await);
    let cluster = FakeCluster::new(1, vec![a.peer("a"), dead.peer("dead")]);
    drop(dead);
    tokio::task::yield_now().await;
    let outcome = step(&cluster, 1, 0).await;
    assert!(matches!(&outcome, StepOutcome::Unanswered { pod, .. } if pod == "activator-dead"), "{outcome:?}");
    assert_eq!(cluster.replicas(), 1);
    assert_eq!(a.outcomes(), [DrainOutcome::Aborted]);
}

#[tokio::test]
async fn a_slow_activator_blocks_the_step_and_hears_that_it_is_off() {
    let slow = FakeActivator::start(Mood::Slow(Duration::from_secs(30))).await;
    let cluster = FakeCluster::new(1, vec![slow.peer("slow")]);
    let begun = std::time::Instant::now();
    let outcome = step(&cluster, 1, 0).await;
    assert!(matches!(outcome, StepOutcome::Unanswered { .. }), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert_eq!(cluster.replicas(), 1);
    assert_eq!(slow.outcomes(), [DrainOutcome::Aborted]);
}

#[tokio::test]
async fn an_activator_that_dies_while_it_answers_blocks_the_step() {
    let (a, dying) = (FakeActivator::start(Mood::Drained).await, FakeActivator::start(Mood::DiesMidway).await);
    let cluster = FakeCluster::new(1, vec![a.peer("a"), dying.peer("dying")]);
    let outcome = step(&cluster, 1, 0).await;
    assert!(matches!(outcome, StepOutcome::Unanswered { .. }), "{outcome:?}");
    assert_eq!(cluster.replicas(), 1);
    assert_eq!(a.outcomes(), [DrainOutcome::Aborted]);
}

#[tokio::test]
async fn an_activator_without_an_address_blocks_the_step() {
    let a = FakeActivator::start(Mood::Drained).await;
    let starting = Peer { address: None, ..a.peer("starting") };
    let cluster = FakeCluster::new(1, vec![a.peer("a"), starting]);
    let outcome = step(&cluster, 1, 0).await;
    assert!(matches!(outcome, StepOutcome::Unanswered { .. }), "{outcome:?}");
    assert_eq!(cluster.replicas(), 1);
}

#[tokio::test]
async fn an_activator_that_appears_meanwhile_is_asked() {
    for (mood, replicas) in [(Mood::Drained, 0), (Mood::Busy, 1)] {
        let (a, late) = (FakeActivator::start(Mood::Drained).await, FakeActivator::start(mood).await);
        let cluster = FakeCluster::new(1, vec![a.peer("a")]);
        let peer = late.peer("late");
        cluster.with(|model| {
            let appears = Box::new(move |model: &mut super::fakes::Model| model.activators.push(peer));
            model.on_listing.insert(2, appears);
        });
        let outcome = step(&cluster, 1, 0).await;
        assert_eq!(cluster.replicas(), replicas, "{outcome:?}");
        assert_eq!(late.drains().len(), 1);
        let expected = if replicas == 0 { DrainOutcome::Committed } else { DrainOutcome::Aborted };
        assert_eq!(a.outcomes(), [expected]);
        assert_eq!(late.outcomes(), [expected]);
    }
}

#[tokio::test]
async fn no_activator_at_all_means_no_step() {
    let cluster = FakeCluster::new(1, vec![]);
    let outcome = step(&cluster, 1, 0).await;
    assert!(matches!(outcome, StepOutcome::NoActivator), "{outcome:?}");
    assert_eq!(cluster.replicas(), 1);
}

#[tokio::test]
async fn a_listing_that_fails_means_no_step() {
    let a = FakeActivator::start(Mood::Drained).await;
    for failing in [1, 2] {
        let cluster = FakeCluster::new(1, vec![a.peer("a")]);
        cluster.with(|model| {
            let fails = Box::new(|model: &mut super::fakes::Model| model.listing_fails = true);
            model.on_listing.insert(failing, fails);
        });
        let outcome = step(&cluster, 1, 0).await;
        assert!(matches!(outcome, StepOutcome::Failed(_)), "{outcome:?}");
        assert_eq!(cluster.replicas(), 1);
    }
    assert_eq!(a.outcomes(), [DrainOutcome::Aborted], "it was asked once, before the second listing");
}

#[tokio::test]
async fn a_wake_during_the_hand_shake_wins() {
    let a = FakeActivator::start(Mood::Drained).await;
    let cluster = FakeCluster::new(1, vec![a.peer("a")]);
    cluster.with(|model| {
        let fenced = Box::new(|model: &mut super::fakes::Model| model.scale(2));
        model.on_listing.insert(2, fenced);
    });
    let outcome = step(&cluster, 1, 0).await;
    assert!(matches!(outcome, StepOutcome::Conflict), "{outcome:?}");
    assert_eq!(cluster.replicas(), 2);
    assert_eq!(a.outcomes(), [DrainOutcome::Aborted]);
}

#[tokio::test]
async fn a_decision_on_old_replicas_asks_nobody() {
    let a = FakeActivator::start(Mood::Drained).await;
    let cluster = FakeCluster::new(4, vec![a.peer("a")]);
    let outcome = step(&cluster, 1, 0).await;
    assert!(matches!(outcome, StepOutcome::Stale { replicas: 4 }), "{outcome:?}");
    assert!(a.drains().is_empty());
}

#[tokio::test]
async fn an_uncertain_write_releases_nobody() {
    let a = FakeActivator::start(Mood::Drained).await;
    let cluster = FakeCluster::new(1, vec![a.peer("a")]);
    cluster.with(|model| {
        model.on_write = Some(Box::new(|_| ClusterError::Uncertain("timed out".to_owned())));
    });
    let outcome = step(&cluster, 1, 0).await;
    assert!(matches!(outcome, StepOutcome::Failed(ClusterError::Uncertain(_))), "{outcome:?}");
    assert_eq!(a.drains().len(), 1);
    assert!(a.outcomes().is_empty(), "the write may yet be carried out, so they must fence");
}

#[tokio::test]
async fn a_refused_write_gives_the_pods_back() {
    let a = FakeActivator::start(Mood::Drained).await;
    let cluster = FakeCluster::new(1, vec![a.peer("a")]);
    cluster.with(|model| {
        model.on_write = Some(Box::new(|_| ClusterError::Refused { code: 403, message: "forbidden".to_owned() }));
    });
    let outcome = step(&cluster, 1, 0).await;
    assert!(matches!(outcome, StepOutcome::Failed(_)), "{outcome:?}");
    assert_eq!(a.outcomes(), [DrainOutcome::Aborted]);
}

#[tokio::test]
async fn after_half_the_time_nothing_is_written() {
    let a = FakeActivator::start(Mood::Drained).await;
    let cluster = FakeCluster::new(1, vec![a.peer("a")]);
    cluster.with(|model| model.slow_listing = Duration::from_millis(300));
    let (shutdown, ttl) = (CancellationToken::new(), Duration::from_millis(500));
    let outcome = step_within(&cluster, TOKEN, &[], &shutdown, ttl, 1, 0).await;
    assert!(matches!(outcome, StepOutcome::TooLate), "{outcome:?}");
    assert_eq!(cluster.replicas(), 1);
    assert_eq!(a.outcomes(), [DrainOutcome::Aborted]);
}

#[tokio::test]
async fn a_shutdown_amid_the_question_gives_the_pods_back() {
    let slow = FakeActivator::start(Mood::Slow(Duration::from_secs(30))).await;
    let cluster = FakeCluster::new(1, vec![slow.peer("slow")]);
    let shutdown = CancellationToken::new();
    let (outcome, ()) = tokio::join!(step_with(&cluster, TOKEN, &[], &shutdown, 1, 0), async {
        slow.asked().await;
        shutdown.cancel();
    });
    assert!(matches!(outcome, StepOutcome::Ended), "{outcome:?}");
    assert_eq!(cluster.replicas(), 1);
    assert_eq!(slow.outcomes(), [DrainOutcome::Aborted]);
}

#[tokio::test]
async fn a_wrong_token_says_what_to_do() {
    let a = FakeActivator::start(Mood::Drained).await;
    let cluster = FakeCluster::new(1, vec![a.peer("a")]);
    let outcome = step_with(&cluster, "wrong", &[], &CancellationToken::new(), 1, 0).await;
    let StepOutcome::Unanswered { error, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(error.contains("same Secret"), "{error}");
    assert_eq!(cluster.replicas(), 1);
}

#[tokio::test]
async fn only_pods_without_a_request_are_removed() {
    let a = FakeActivator::start(Mood::BusyAt(vec!["p4"])).await;
    let b = FakeActivator::start(Mood::BusyAt(vec!["p3"])).await;
    let cluster = FakeCluster::new(5, vec![a.peer("a"), b.peer("b")]);
    cluster.with(|model| {
        model.pods = (1..=5).map(|n| pod(&format!("p{n}"), RemovalClass::Ready, n)).collect();
        model.pods[0].cost = -7;
    });
    let outcome = step(&cluster, 5, 2).await;
    assert!(matches!(outcome, StepOutcome::Scaled { replicas: 2 }), "{outcome:?}");
    let marked: Vec<_> = cluster.with(|model| model.costs.clone().into_iter().collect());
    let expected = ["p1", "p2", "p5"].map(|name| (name.to_owned(), -8));
    assert_eq!(marked, expected, "below every other pod's cost");
    let committed = |activator: &FakeActivator| {
        let releases = activator.releases();
        releases.iter().filter(|r| r.outcome == DrainOutcome::Committed).count()
    };
    assert_eq!((committed(&a), committed(&b)), (3, 3));
}

#[tokio::test]
async fn it_shrinks_by_as_many_as_are_free() {
    let a = FakeActivator::start(Mood::BusyAt(vec!["p1", "p2", "p3"])).await;
    let cluster = FakeCluster::new(4, vec![a.peer("a")]);
    cluster.with(|model| {
        model.pods = (1..=4).map(|n| pod(&format!("p{n}"), RemovalClass::Ready, n)).collect();
    });
    let outcome = step(&cluster, 4, 1).await;
    assert!(matches!(outcome, StepOutcome::Scaled { replicas: 3 }), "{outcome:?}");
    assert_eq!(cluster.replicas(), 3);
}

#[tokio::test]
async fn a_pod_that_is_free_only_for_moments_is_caught() {
    let a = FakeActivator::start(Mood::BusyFor(7)).await;
    let cluster = FakeCluster::new(2, vec![a.peer("a")]);
    cluster.with(|model| {
        model.pods = (1..=2).map(|n| pod(&format!("p{n}"), RemovalClass::Ready, n)).collect();
    });
    let outcome = step(&cluster, 2, 1).await;
    assert!(matches!(outcome, StepOutcome::Scaled { replicas: 1 }), "{outcome:?}");
    assert_eq!(a.drains().len(), 8);
    assert_eq!(a.outcomes().last(), Some(&DrainOutcome::Committed));
}

#[tokio::test]
async fn a_pod_that_is_never_free_when_asked_is_given_time() {
    let a = FakeActivator::start(Mood::BusyInPassing).await;
    let cluster = FakeCluster::new(3, vec![a.peer("a")]);
    cluster.with(|model| {
        model.pods = (1..=3).map(|n| pod(&format!("p{n}"), RemovalClass::Ready, n)).collect();
    });
    let outcome = step(&cluster, 3, 1).await;
    assert!(matches!(outcome, StepOutcome::Scaled { replicas: 2 }), "one at a time: {outcome:?}");
    let drains = a.drains();
    let given: Vec<_> = drains.iter().filter(|drain| drain.wait_millis > 0).collect();
    assert_eq!(given.len(), 1);
    assert!(given[0].wait_millis < given[0].ttl_millis / 2, "it must end in the time for the patch");
}

#[tokio::test]
async fn a_busy_pod_that_kubernetes_would_remove_first_is_not_passed_over() {
    let a = FakeActivator::start(Mood::BusyAt(vec!["young"])).await;
    let cluster = FakeCluster::new(3, vec![a.peer("a")]);
    cluster.with(|model| {
        model.pods = vec![
            pod("old", RemovalClass::Ready, 1),
            pod("older", RemovalClass::Ready, 0),
            // Used by the activator already, though Kubernetes does not call it ready yet.
            pod("young", RemovalClass::NotReady, 9),
        ];
    });
    let outcome = step(&cluster, 3, 2).await;
    assert!(matches!(outcome, StepOutcome::Busy { .. }), "{outcome:?}");
    assert_eq!(cluster.replicas(), 3);
    assert!(cluster.with(|model| model.costs.is_empty()));
}

#[tokio::test]
async fn one_missing_answer_removes_no_pod_at_all() {
    let a = FakeActivator::start(Mood::Drained).await;
    let dead = FakeActivator::start(Mood::DiesMidway).await;
    let cluster = FakeCluster::new(3, vec![a.peer("a"), dead.peer("b")]);
    cluster.with(|model| {
        model.pods = (1..=3).map(|n| pod(&format!("p{n}"), RemovalClass::Ready, n)).collect();
    });
    let outcome = step(&cluster, 3, 1).await;
    assert!(matches!(outcome, StepOutcome::Unanswered { .. }), "{outcome:?}");
    assert_eq!(cluster.replicas(), 3);
    assert_eq!(a.outcomes(), [DrainOutcome::Aborted]);
}

#[tokio::test]
async fn pods_that_do_not_exist_yet_are_simply_not_made() {
    let a = FakeActivator::start(Mood::Busy).await;
    let cluster = FakeCluster::new(5, vec![a.peer("a")]);
    cluster.with(|model| {
        model.pods = vec![pod("p1", RemovalClass::Ready, 1), pod("p2", RemovalClass::Ready, 2)];
    });
    let outcome = step(&cluster, 5, 2).await;
    assert!(matches!(outcome, StepOutcome::Scaled { replicas: 2 }), "{outcome:?}");
    assert!(a.drains().is_empty());
}
