//! What the operator and other activators ask of a Function whose traffic is shared: all its cells answer as one.

use pilotlight_crds::control::{DrainOutcome, DrainPurpose, DrainRequest, DrainResponse, DrainScope, ReleaseRequest};

use super::*;
use crate::function::drain::{self, Asked};
use crate::function::held::Held;
use crate::ownership::{Peer, Record, Role, Sender};

fn request(scope: DrainScope) -> DrainRequest {
    DrainRequest {
        namespace: "shop".into(),
        name: "hello".into(),
        handshake: "h".into(),
        scope,
        purpose: DrainPurpose::Remove,
        ttl_millis: 60_000,
        wait_millis: 0,
    }
}

fn all(number: u8) -> DrainScope {
    DrainScope::All { revision: revision(number).to_string() }
}

fn some(numbers: &[u8]) -> DrainScope {
    DrainScope::Pods { uids: numbers.iter().map(|number| format!("uid-{number}")).collect() }
}

fn end(world: &World, outcome: DrainOutcome) {
    let release = ReleaseRequest { namespace: "shop".into(), name: "hello".into(), handshake: "h".into(), outcome };
    world.group.cells().for_each(|cell| cell.release(&release));
}

#[tokio::test(start_paused = true)]
async fn a_drain_asks_all_cells_and_one_that_is_busy_frees_the_others() {
    let mut world = World::new(|_| {});
    world.show(&[11, 21]).await;
    world.share(&[(2, 90), (1, 10)]);
    let (first, second) = (world.cell(1), world.cell(2));
    let held = second.admit(1, Instant::now()).await.unwrap();
    let ask = |scope: DrainScope| drain::ask(&world.cells(), &request(scope));
    let busy = |in_flight, queued| Asked::Answered(DrainResponse::Busy { in_flight, queued });
    assert_eq!(ask(all(2)), busy(1, 0));
    assert_eq!(ask(some(&[11, 21])), busy(1, 0));
    assert_eq!((first.usable(), second.usable()), (1, 1), "nobody keeps to it");
    assert_eq!(ask(all(1)), Asked::Answered(DrainResponse::Drained));
    assert_eq!((first.usable(), second.usable()), (0, 1));
    let cell = first.clone();
    let waiting = tokio::spawn(async move { cell.admit(1, Instant::now()).await });
    pause(20).await;
    assert_eq!(first.load(), (0, 1));
    let other = DrainRequest { handshake: "other".into(), ..request(all(3)) };
    let asked = drain::ask(&world.cells(), &other);
    assert_eq!(asked, Asked::Answered(DrainResponse::Drained), "what waits for one is nothing to another");
    assert_eq!(ask(all(1)), busy(0, 1));
    assert_eq!(ask(some(&[99])), busy(0, 1), "a pod that nobody has seen may be theirs who wait");
    end(&world, DrainOutcome::Aborted);
    waiting.await.unwrap().unwrap();
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_may_take_its_time_waits_for_the_requests_of_all_cells() {
    let mut world = World::new(|_| {});
    world.show(&[11, 21]).await;
    world.share(&[(1, 50), (2, 50)]);
    let (cells, asked) = (world.cells(), DrainRequest { wait_millis: 1_000, ..request(some(&[11, 21])) });
    let held = world.cell(2).admit(1, Instant::now()).await.unwrap();
    for ends in [false, true] {
        assert_eq!(drain::ask(&cells, &asked), Asked::Lingers(Duration::from_secs(1)));
        assert!(cells.iter().all(|cell| cell.usable() == 0), "nothing new meanwhile");
        if !ends {
            assert!(!drain::linger(&cells, &asked.scope, Duration::from_secs(1)).await);
            assert_eq!(drain::give_up(&cells, &asked), DrainResponse::Busy { in_flight: 1, queued: 0 });
            assert!(cells.iter().all(|cell| cell.usable() == 1));
        }
    }
    drop(held);
    assert!(drain::linger(&cells, &asked.scope, Duration::from_secs(1)).await);
    assert!(cells.iter().all(|cell| cell.usable() == 0));
}

#[tokio::test(start_paused = true)]
async fn a_hand_shake_goes_along_with_its_pods_and_is_fenced_where_they_are() {
    let mut world = World::new(|_| {});
    world.show(&[11, 21]).await;
    let asked = DrainRequest { ttl_millis: 0, ..request(all(2)) };
    assert_eq!(drain::ask(&world.cells(), &asked), Asked::Answered(DrainResponse::Drained));
    world.share(&[(1, 50), (2, 50)]);
    let (first, second) = (world.cell(1), world.cell(2));
    assert_eq!((first.usable(), second.usable()), (1, 0));
    let cell = second.clone();
    let waiting = tokio::spawn(async move { cell.admit(1, Instant::now()).await });
    pause(20).await;
    let need = second.look().need(Instant::now());
    assert!(matches!(&need, Need::Fence { deployment } if *deployment == revision(2)), "{need:?}");
    end(&world, DrainOutcome::Aborted);
    waiting.await.unwrap().unwrap();
    // One that is about another cell's revision is left to that one.
    assert_eq!(drain::ask(&world.cells(), &asked), Asked::Answered(DrainResponse::Drained));
    world.show(&[21]).await;
    let cell = first.clone();
    let waiting = tokio::spawn(async move { cell.admit(1, Instant::now()).await });
    pause(20).await;
    let need = first.look().need(Instant::now());
    assert!(matches!(&need, Need::Wake { deployment, .. } if *deployment == revision(1)), "{need:?}");
    waiting.abort();
}

fn owned(epoch: i64, owner: &str, others: &[&str]) -> Record {
    let peer = |uid: &str| Peer { uid: uid.into(), pod: uid.into(), ip: None };
    let others = others.iter().map(|uid| peer(uid)).collect();
    Record { epoch, sender: Sender::One(peer(owner)), others: Some(others) }
}

#[tokio::test(start_paused = true)]
async fn a_new_cell_of_the_owner_knows_what_the_others_have() {
    let mut world = World::new(|config| (config.limit, config.owner) = (1, Some(owned(1, "me", &["other"]))));
    world.show(&[11, 21, 22]).await;
    let door = world.group.door().clone();
    door.claim_answered(1, "other", [("uid-21".to_owned(), 1)].into());
    world.share(&[(1, 50), (2, 50)]);
    let second = world.cell(2);
    let slot = second.admit(1, Instant::now()).await.unwrap();
    assert_eq!(at_pods([&slot]), HashMap::from([(22, 1)]), "the other one is full");
    let cell = second.clone();
    let waiting = tokio::spawn(async move { cell.admit(1, Instant::now()).await });
    pause(20).await;
    assert_eq!(second.load(), (1, 1));
    assert!(second.asks(1, "other").is_some(), "it asks for itself");
    second.claim_answered(1, "other", BTreeMap::new());
    assert_eq!(at_pods([&waiting.await.unwrap().unwrap()]), HashMap::from([(21, 1)]));
    drop(slot);
}

#[tokio::test(start_paused = true)]
async fn who_yields_does_so_in_all_cells_and_tells_what_all_have() {
    let mut world = World::new(|config| (config.limit, config.owner) = (2, Some(owned(1, "me", &[]))));
    world.show(&[11, 21]).await;
    world.share(&[(1, 50), (2, 50)]);
    let slots = [world.cell(1).admit(1, Instant::now()).await, world.cell(2).admit(1, Instant::now()).await];
    let held = Held::by(world.cells());
    world.config.owner = Some(owned(2, "other", &["me"]));
    world.update(Instant::now());
    assert!(world.group.cells().all(|cell| cell.look().ownership().role() == Role::Relay));
    let told = held.at_pods();
    assert_eq!(told, [("uid-11".to_owned(), 1), ("uid-21".to_owned(), 1)].into());
    let [first, last] = slots;
    let changed = held.clone();
    let change = tokio::spawn(async move { changed.changed(&told, Duration::from_secs(60)).await });
    drop(last);
    change.await.unwrap();
    assert_eq!(held.at_pods(), [("uid-11".to_owned(), 1)].into());
    drop(first);
    assert!(held.at_pods().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_relayed_requests_word_on_the_owner_reaches_every_cell_with_a_share_and_those_that_get_one_later() {
    let mut world = World::new(|config| config.limit = 1);
    world.share(&[(1, 50), (2, 50)]);
    world.share(&[(1, 50), (3, 50)]);
    world.group.door().named_owner(7);
    let epochs = |world: &World| world.group.cells().map(|cell| cell.epoch()).collect::<Vec<_>>();
    assert_eq!(epochs(&world), [7, i64::MIN, 7]);
    world.share(&[(2, 90), (1, 10)]);
    assert_eq!(epochs(&world), [7, 7, 7]);
}
