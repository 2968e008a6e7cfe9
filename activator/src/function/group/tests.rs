//! Several revisions of one Function: shares that come, change and go while requests wait and are at pods. Pods in memory, time paused.

mod asked;
mod directed;

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use http::{HeaderMap, HeaderValue, Uri};
use pilotlight_crds::workload::Protocol;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;

use super::*;
use crate::choice::Asked;
use crate::endpoint::memory::MemoryNet;
use crate::endpoint::stream::Dial;
use crate::error::Refusal;
use crate::fixtures::{self, OneReplica};
use crate::function::Admitted;
use crate::index::{Portion, ProbeCheck};
use crate::limits::Limits;
use crate::proxy::forwarded::Trust;
use crate::runtime::Shared;
use crate::telemetry::Telemetry;
use crate::wake::Need;

type Sent = JoinHandle<Result<Admitted, Refusal>>;

/// A Function as the registry holds it.
struct World {
    net: MemoryNet,
    group: Group,
    config: FunctionConfig,
    pods: Vec<Arc<PodView>>,
}

impl World {
    /// All traffic goes to `hello-1`.
    fn new(edit: impl FnOnce(&mut FunctionConfig)) -> Self {
        let net = MemoryNet::default();
        let mut shared = Shared::new(Limits::default(), Arc::new(OneReplica), Trust::default(), Telemetry::default());
        shared.dial = Dial::Memory(net.clone());
        shared.peers.uid = Some("me".into());
        let mut config = FunctionConfig { target: 10_000, ..fixtures::config() };
        edit(&mut config);
        let door = Arc::new(FunctionCell::new(Arc::new(config.clone()), Arc::new(shared)));
        Self { net, group: Group::new(door), config, pods: Vec::new() }
    }

    /// What the watches show, taken in at `now`.
    fn update(&mut self, now: Instant) {
        self.group.update(now, &Arc::new(self.config.clone()), self.pods.clone());
    }

    /// Traffic goes to these revisions, the main one first.
    fn share(&mut self, shares: &[(u8, u32)]) {
        let portion = |(number, percent): &(u8, u32)| Portion { revision: revision(*number), percent: *percent };
        let portions: Vec<Portion> = shares.iter().map(portion).collect();
        self.config.revision = portions.first().map(|portion| portion.revision.clone());
        self.config.split = if portions.len() > 1 { portions.into() } else { Box::default() };
        self.update(Instant::now());
    }

    /// There are these pods; the number's tens are its revision.
    async fn show(&mut self, numbers: &[u8]) {
        let checks = vec![ProbeCheck::Tcp { port: 8080 }];
        let pod = |number: &u8| {
            let pod = PodView { revision: revision(number / 10), checks: checks.clone(), ..fixtures::pod(*number) };
            self.net.serve(pod.address.unwrap(), Protocol::HTTP1);
            Arc::new(pod)
        };
        self.pods = numbers.iter().map(pod).collect();
        self.update(Instant::now());
        pause(20).await;
    }

    /// A request.
    fn send(&self) -> Sent {
        let cell = choose(self.group.door());
        tokio::spawn(async move { cell.admit(1, Instant::now()).await })
    }

    /// So many requests, until nothing more happens by itself.
    async fn crowd(&self, count: usize) -> Vec<Sent> {
        let sent = (0..count).map(|_| self.send()).collect();
        pause(20).await;
        sent
    }

    fn cell(&self, number: u8) -> Arc<FunctionCell> {
        let serves = |cell: &&Arc<FunctionCell>| cell.config().revision == Some(revision(number));
        self.group.cells().find(serves).expect("the revision has a cell").clone()
    }

    fn cells(&self) -> Vec<Arc<FunctionCell>> {
        self.group.cells().cloned().collect()
    }

    /// The revision of each cell, the door's first.
    fn revisions(&self) -> Vec<Arc<str>> {
        self.group.cells().filter_map(|cell| cell.config().revision.clone()).collect()
    }
}

/// Where a request goes that says nothing.
fn choose(door: &Arc<FunctionCell>) -> Arc<FunctionCell> {
    choose_by(door, None)
}

/// Where one goes that came by a tag's name.
fn choose_by(door: &Arc<FunctionCell>, tag: Option<&str>) -> Arc<FunctionCell> {
    let (host, uri, headers) = (HeaderValue::from_static("hello.shop"), Uri::default(), HeaderMap::new());
    door.clone().choose(|| Asked { told: None, tag, host: &host, uri: &uri, headers: &headers }).cell
}

fn revision(number: u8) -> Arc<str> {
    format!("hello-{number}").into()
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Requests at each pod, by its number.
fn at_pods<'a>(admitted: impl IntoIterator<Item = &'a Admitted>) -> HashMap<u8, usize> {
    let mut counts = HashMap::new();
    for one in admitted {
        let std::net::IpAddr::V4(ip) = one.slot.upstream().address.ip() else { unreachable!() };
        *counts.entry(ip.octets()[3]).or_default() += 1;
    }
    counts
}

/// Those that got their slot; the others go on waiting.
async fn admitted(sent: &mut Vec<Sent>) -> Vec<Admitted> {
    let (done, rest) = std::mem::take(sent).into_iter().partition(JoinHandle::is_finished);
    *sent = rest;
    join_all(done).await.into_iter().map(|one| one.unwrap().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_split_that_appears_under_load_holds_nothing_up() {
    let mut world = World::new(|_| {});
    world.show(&[11, 21]).await;
    let before = admitted(&mut world.crowd(50).await).await;
    assert_eq!(at_pods(&before), HashMap::from([(11, 50)]));
    world.share(&[(1, 50), (2, 50)]);
    let after = admitted(&mut world.crowd(1000).await).await;
    assert!(after.iter().all(|one| !one.waited), "its pods were known to be ready");
    let counts = at_pods(&after);
    drop(after);
    assert!(counts[&11].abs_diff(500) < 80 && counts[&21].abs_diff(500) < 80, "five sigma: {counts:?}");
    assert_eq!((world.cell(1).load().0, before.len()), (50, 50), "those from before are still at their pod");
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_the_author_names_is_waited_for_and_no_other_is_a_stopgap() {
    let mut world = World::new(|_| {});
    world.show(&[10]).await;
    let mut before = vec![world.send()];
    pause(1).await;
    assert_eq!(at_pods(&admitted(&mut before).await), HashMap::from([(10, 1)]));
    // A rollout: what was there is better than nothing.
    world.share(&[(2, 100)]);
    let mut between = vec![world.send()];
    pause(1).await;
    assert_eq!(at_pods(&admitted(&mut between).await), HashMap::from([(10, 1)]));
    world.config.named = true;
    world.update(Instant::now());
    let mut sent = vec![world.send()];
    pause(1_000).await;
    assert!(!sent[0].is_finished(), "no pod of another revision is used");
    world.show(&[10, 20]).await;
    pause(1).await;
    assert_eq!(at_pods(&admitted(&mut sent).await), HashMap::from([(20, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_gets_all_keeps_its_cell_which_goes_along_with_the_next_rollout() {
    let mut world = World::new(|_| {});
    world.show(&[11]).await;
    let old = admitted(&mut world.crowd(3).await).await;
    world.share(&[(1, 90), (2, 10)]);
    let second = world.cell(2);
    world.share(&[(2, 100)]);
    assert!(Arc::ptr_eq(&second, &world.cell(2)));
    let mut waiting = world.crowd(20).await;
    assert_eq!((second.load(), world.group.door().load()), ((0, 20), (3, 0)));
    world.share(&[(3, 100)]);
    assert!(Arc::ptr_eq(&second, &world.cell(3)), "it goes along, with what waits in it");
    world.show(&[11, 31]).await;
    assert_eq!(at_pods(&admitted(&mut waiting).await), HashMap::from([(31, 20)]));
    assert_eq!(at_pods(&old), HashMap::from([(11, 3)]));
    // The door serves nobody and holds nothing once they are gone, and a minute is over: it takes the next one.
    drop(old);
    world.update(Instant::now() + Duration::from_secs(62));
    world.share(&[(3, 90), (4, 10)]);
    assert!(Arc::ptr_eq(world.group.door(), &world.cell(4)));
    assert_eq!(world.revisions(), [revision(4), revision(3)]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_revision_that_loses_its_share_is_answered_by_it_and_then_its_cell_is_forgotten() {
    let mut world = World::new(|_| {});
    world.show(&[11]).await;
    world.share(&[(1, 50), (2, 50)]);
    let mut sent = world.crowd(200).await;
    let first = admitted(&mut sent).await;
    assert!(at_pods(&first)[&11] == first.len() && sent.len() > 50, "{} wait", sent.len());
    world.share(&[(1, 100)]);
    let retired = world.cell(2);
    let waits = sent.len();
    let later = admitted(&mut world.crowd(100).await).await;
    assert_eq!(at_pods(&later), HashMap::from([(11, 100)]), "nothing new goes there");
    let need = retired.look().need(Instant::now());
    assert!(matches!(&need, Need::Wake { deployment, .. } if *deployment == revision(2)), "{need:?}");
    world.show(&[11, 21]).await;
    let answered = admitted(&mut sent).await;
    assert_eq!(at_pods(&answered), HashMap::from([(21, waits)]));
    assert!(Arc::ptr_eq(&retired, &world.cell(2)));
    drop((retired, first, later));
    let later = Instant::now() + Duration::from_secs(62);
    assert!(!world.group.is_due(later), "requests are at its pod");
    drop(answered);
    assert!(!world.group.is_due(Instant::now()), "there is something to tell of it");
    let later = later + Duration::from_secs(62);
    assert!(world.group.is_due(later));
    world.update(later);
    assert_eq!((world.group.cells().count(), world.group.door().told_revision()), (1, None));
    assert!(world.group.door().look().is_alone());
}

#[tokio::test(start_paused = true)]
async fn a_share_that_comes_back_finds_its_cell() {
    let mut world = World::new(|_| {});
    world.show(&[11, 21]).await;
    world.share(&[(1, 50), (2, 50)]);
    let second = world.cell(2);
    let held = admitted(&mut world.crowd(50).await).await;
    for shares in [vec![(1, 100)], vec![(2, 80), (1, 20)], vec![(2, 100)], vec![(1, 99), (2, 1)]] {
        world.share(&shares);
        assert!(Arc::ptr_eq(&second, &world.cell(2)) && Arc::ptr_eq(world.group.door(), &world.cell(1)));
    }
    assert_eq!((world.group.cells().count(), held.len()), (2, 50));
}

/// Shares and pods change at random, requests come and go: no pod ever has two, and none is lost.
#[tokio::test(start_paused = true)]
async fn a_limit_of_one_stays_exact_whatever_becomes_of_the_shares() {
    for seed in 0..100 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut world = World::new(|config| config.limit = 1);
        let all = [11, 12, 21, 22, 31, 32];
        world.show(&all).await;
        let (mut sent, mut held, mut served) = (Vec::new(), Vec::<Admitted>::new(), 0);
        let mut total = 0;
        for _ in 0..200 {
            match random.random_range(0..10) {
                0 => world.share(&[(random.random_range(1..4), 100)]),
                1 => {
                    let first = random.random_range(0..3);
                    let percent = random.random_range(1..100);
                    world.share(&[(1 + first, percent), (1 + (first + random.random_range(1..3)) % 3, 100 - percent)]);
                }
                2 => {
                    let some: Vec<u8> = all.into_iter().filter(|_| random.random_bool(0.8)).collect();
                    world.show(&some).await;
                }
                3 => world.update(Instant::now()),
                4..7 => {
                    sent.push(world.send());
                    total += 1;
                }
                _ if !held.is_empty() => {
                    held.swap_remove(random.random_range(0..held.len()));
                    served += 1;
                }
                _ => {}
            }
            pause(1).await;
            held.extend(admitted(&mut sent).await);
            let counts = at_pods(&held);
            assert!(counts.values().all(|count| *count == 1), "seed {seed}: {counts:?}");
        }
        world.show(&all).await;
        for _ in 0..2 * total {
            served += std::mem::take(&mut held).len();
            world.update(Instant::now());
            pause(1).await;
            held.extend(admitted(&mut sent).await);
        }
        assert_eq!((served, sent.len()), (total, 0), "seed {seed}");
        assert!(world.group.cells().all(|cell| cell.load() == (0, 0)));
    }
}

#[tokio::test(start_paused = true)]
async fn samples_name_the_revision_while_there_are_several_cells() {
    let mut world = World::new(|_| {});
    world.show(&[11, 21]).await;
    let told = |world: &World| {
        let sample = |cell: &Arc<FunctionCell>| {
            let sample = cell.look().sample_running(Instant::now());
            (sample.arrivals, cell.told_revision())
        };
        world.group.cells().map(sample).collect::<Vec<_>>()
    };
    assert_eq!(told(&world), [(0, None)]);
    world.share(&[(1, 50), (2, 50)]);
    drop(world.cell(1).admit(1, Instant::now()).await);
    drop(world.cell(2).admit(1, Instant::now()).await);
    let second = world.group.door().shared().epoch.elapsed().as_secs();
    let later = Instant::now() + Duration::from_secs(2);
    for (number, cell) in [(1, world.cell(1)), (2, world.cell(2))] {
        let samples = (second.saturating_sub(1)..=second).filter_map(|second| cell.sample(later, second));
        let told: Vec<_> = samples.filter(|sample| sample.arrivals > 0).map(|sample| sample.revision).collect();
        assert_eq!(told, [Some(format!("hello-{number}"))]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_bounds_on_waiting_requests_are_the_functions() {
    let mut world = World::new(|config| config.pending_requests = 10);
    world.share(&[(1, 50), (2, 50)]);
    let send = |number: u8| {
        let cell = world.cell(number);
        tokio::spawn(async move { cell.admit(1, Instant::now()).await })
    };
    let mut waiting: Vec<Sent> = (0..10).map(|n| send(1 + n % 2)).collect();
    pause(20).await;
    assert_eq!((world.cell(1).load(), world.cell(2).load()), ((0, 5), (0, 5)));
    for number in [1, 2] {
        assert_eq!(send(number).await.unwrap().unwrap_err(), Refusal::QueueFull { waiting: 10 });
    }
    waiting.pop().unwrap().abort();
    pause(20).await;
    waiting.push(send(1));
    pause(20).await;
    assert_eq!(world.cell(1).load(), (0, 6));
}

#[tokio::test(start_paused = true)]
async fn a_function_that_is_deleted_tells_those_who_wait_in_all_cells() {
    let mut world = World::new(|_| {});
    world.share(&[(1, 50), (2, 50)]);
    let mut sent = world.crowd(50).await;
    world.group.close();
    sent.extend(world.crowd(50).await);
    for told in join_all(sent).await {
        assert_eq!(told.unwrap().unwrap_err(), Refusal::FunctionDeleted);
    }
}

/// On several threads, and in no time: the clock is told to be a minute later at each look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_is_forgotten_once_nobody_can_bring_it_a_request() {
    let mut world = World::new(|_| {});
    world.show(&[11, 21]).await;
    let door = world.group.door().clone();
    let senders: Vec<_> = (0..3)
        .map(|_| {
            let door = door.clone();
            tokio::spawn(async move {
                loop {
                    drop(choose(&door).admit(1, Instant::now()).await.unwrap());
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let mut now = Instant::now();
    for _ in 0..30 {
        world.share(&[(1, 50), (2, 50)]);
        pause(2).await;
        let cell = Arc::downgrade(&world.cell(2));
        world.share(&[(1, 100)]);
        while world.group.cells().count() > 1 {
            now += Duration::from_secs(62);
            world.update(now);
        }
        // A prober may look for the last time.
        let began = Instant::now();
        while cell.upgrade().is_some() {
            assert!(began.elapsed() < Duration::from_secs(5), "somebody has it yet");
            pause(1).await;
        }
        assert!(senders.iter().all(|sender| !sender.is_finished()));
    }
    senders.iter().for_each(JoinHandle::abort);
}
