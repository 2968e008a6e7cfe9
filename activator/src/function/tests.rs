//! Crowds of waiting requests at one Function and their effect on itself and others; pods in memory, time paused.

use std::time::Duration;

use futures::future::join_all;
use pilotlight_crds::workload::Protocol;
use tokio::task::JoinHandle;

use super::*;
use crate::endpoint::memory::MemoryNet;
use crate::endpoint::stream::Dial;
use crate::fixtures::{self, OneReplica};
use crate::function::group::Group;
use crate::index::ProbeCheck;
use crate::limits::{Limits, Share};
use crate::proxy::forwarded::Trust;
use crate::telemetry::Telemetry;

struct World {
    net: MemoryNet,
    shared: Arc<Shared>,
}

impl World {
    fn new(limits: Limits) -> Self {
        let net = MemoryNet::default();
        let mut shared = Shared::new(limits, Arc::new(OneReplica), Trust::default(), Telemetry::default());
        shared.dial = Dial::Memory(net.clone());
        Self { net, shared: Arc::new(shared) }
    }

    fn function(&self, name: &str, limit: u32) -> Arc<FunctionCell> {
        Arc::new(FunctionCell::new(config(name, limit), self.shared.clone()))
    }

    /// A pod that takes connections.
    fn show_pod(&self, cell: &Arc<FunctionCell>) {
        let checks = vec![ProbeCheck::Tcp { port: 8080 }];
        let pod = PodView { function: cell.key.clone(), checks, ..fixtures::pod(1) };
        self.net.serve(pod.address.unwrap(), Protocol::HTTP1);
        cell.update(cell.config(), vec![Arc::new(pod)], None);
    }
}

fn config(name: &str, limit: u32) -> Arc<FunctionConfig> {
    Arc::new(FunctionConfig {
        key: FunctionKey::new("shop", name),
        limit,
        target: 10,
        pending_requests: 20_000,
        ..fixtures::config()
    })
}

type Waiting = JoinHandle<Result<Admitted, Refusal>>;

/// Requests that wait by now.
async fn crowd(cell: &Arc<FunctionCell>, count: usize) -> Vec<Waiting> {
    let wait = |cell: Arc<FunctionCell>| async move { cell.admit(1, Instant::now()).await };
    let waiting: Vec<_> = (0..count).map(|_| tokio::spawn(wait(cell.clone()))).collect();
    pause(10).await;
    assert_eq!(cell.load(), (0, u32::try_from(count).unwrap()));
    waiting
}

/// Lets everything that can happen within so many (paused) milliseconds happen.
async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Those that have got their slot.
async fn admitted(waiting: &mut Vec<Waiting>) -> Vec<Admitted> {
    let (done, rest) = std::mem::take(waiting).into_iter().partition(JoinHandle::is_finished);
    *waiting = rest;
    join_all(done).await.into_iter().map(|task| task.unwrap().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_crowd_reaches_its_first_pod_in_rounds_that_double_with_its_answers() {
    let world = World::new(Limits::default());
    let cell = world.function("hello", 0);
    let mut waiting = crowd(&cell, 1000).await;
    world.show_pod(&cell);
    let mut rounds = Vec::new();
    while rounds.iter().sum::<usize>() < 1000 {
        pause(100).await;
        let mut round = admitted(&mut waiting).await;
        round.iter_mut().for_each(|admitted| admitted.slot.answered(Instant::now()));
        rounds.push(round.len());
    }
    assert_eq!(rounds, [10, 20, 40, 80, 160, 320, 370]);
    assert_eq!(cell.load(), (0, 0));
    let warm = crowd_of_warm(&cell, 500).await;
    assert_eq!(warm, 500, "the pod has shown itself: nothing holds a request back");
}

async fn crowd_of_warm(cell: &Arc<FunctionCell>, count: usize) -> usize {
    let mut slots = Vec::new();
    for _ in 0..count {
        slots.push(tokio::time::timeout(Duration::from_millis(1), cell.admit(1, Instant::now())).await);
    }
    slots.iter().filter(|slot| matches!(slot, Ok(Ok(_)))).count()
}

#[tokio::test(start_paused = true)]
async fn who_leaves_a_new_pod_without_an_answer_makes_room_for_one_more_and_not_for_two() {
    let world = World::new(Limits::default());
    let cell = world.function("hello", 0);
    let mut waiting = crowd(&cell, 50).await;
    world.show_pod(&cell);
    pause(100).await;
    let mut first = admitted(&mut waiting).await;
    assert_eq!(first.len(), 10);
    first.truncate(6);
    pause(100).await;
    let next = admitted(&mut waiting).await;
    assert_eq!((next.len(), cell.load()), (4, (10, 36)));
}

#[tokio::test(start_paused = true)]
async fn a_function_at_zero_rests_until_a_request_or_a_pod_comes() {
    let world = World::new(Limits::default());
    let (cell, other) = (world.function("hello", 0), world.function("other", 0));
    for cell in [&cell, &other] {
        assert!(cell.stirs(), "it is new");
        cell.rest();
        assert!(!cell.stirs());
    }
    let waiting = crowd(&cell, 1).await;
    cell.rest();
    assert!(cell.stirs(), "a request waits");
    assert!(!other.stirs());
    world.show_pod(&other);
    other.rest();
    assert!(other.stirs(), "it has a pod");
    other.update(other.config(), Vec::new(), None);
    other.rest();
    assert!(!other.stirs());
    drop(waiting);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_gets_its_slots_lets_others_have_their_turn() {
    let world = World::new(Limits::default());
    let cell = world.function("hello", 10_000);
    let waiting = crowd(&cell, 10_000).await;
    let watched = cell.clone();
    let other = tokio::spawn(async move {
        let (mut before, mut most) = (0, 0);
        while before < 10_000 {
            tokio::task::yield_now().await;
            let at_pods = watched.load().0;
            most = most.max(at_pods - before);
            before = at_pods;
        }
        most
    });
    world.show_pod(&cell);
    let most = other.await.unwrap();
    assert!(most <= 128, "{most} got their slots between two turns of another task");
    let slots: Vec<_> = join_all(waiting).await.into_iter().map(|task| task.unwrap().unwrap()).collect();
    drop(slots);
    assert_eq!((cell.load(), world.shared.pending.taken()), ((0, 0), Share::default()));
}

#[tokio::test(start_paused = true)]
async fn a_crowd_whose_function_is_deleted_is_told_in_turns_and_nobody_joins_it() {
    let world = World::new(Limits::default());
    let cell = world.function("hello", 0);
    let waiting = crowd(&cell, 1000).await;
    Group::new(cell.clone()).close();
    assert_eq!(cell.load().1, 1000, "not all at once");
    let late = cell.admit(1, Instant::now()).await;
    assert_eq!(late.unwrap_err(), Refusal::FunctionDeleted);
    for told in join_all(waiting).await {
        assert_eq!(told.unwrap().unwrap_err(), Refusal::FunctionDeleted);
    }
    assert_eq!(world.shared.pending.taken(), Share::default());
}

#[tokio::test(start_paused = true)]
async fn a_flooded_function_leaves_room_for_another() {
    let world = World::new(Limits { max_pending_requests: 300, ..Limits::default() });
    let flooded = world.function("flooded", 0);
    let mut held = crowd(&flooded, 200).await;
    let refused = flooded.admit(1, Instant::now()).await;
    assert_eq!(refused.unwrap_err(), Refusal::FairShareTaken { waiting: 200 });
    let other = world.function("other", 0);
    let others = crowd(&other, 60).await;
    held.pop().unwrap().abort();
    pause(10).await;
    let refused = flooded.admit(1, Instant::now()).await;
    assert_eq!(refused.unwrap_err(), Refusal::FairShareTaken { waiting: 199 }, "its share is less beside another");
    drop(others);
}
