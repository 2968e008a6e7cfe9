//! Several revisions share a Function's traffic: over sockets, each request goes to one by its share, and no step of the author fails any.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures::future::join_all;
use http::Request;
use pilotlight_crds::control::SampleBatch;
use pilotlight_crds::status::RouteShare;
use serde_json::json;
use tokio::sync::Notify;

use crate::fleet::{Fleet, Seen, exclusive, owned_by};
use crate::harness::{FakePod, TOKEN, World, client, control, empty, eventually, key, read, send, text};

/// Traffic goes to these revisions, the main one first.
pub(crate) fn share(world: &World, shares: &[(&str, u32)]) {
    world.apply(|function| {
        let route = function.status.as_mut().unwrap().route.as_mut().unwrap();
        route.revision = Some(shares[0].0.to_owned());
        route.split = split(shares);
    });
}

pub(crate) fn split(shares: &[(&str, u32)]) -> Vec<RouteShare> {
    let share = |(revision, percent): &(&str, u32)| RouteShare { revision: (*revision).to_owned(), percent: *percent };
    if shares.len() > 1 { shares.iter().map(share).collect() } else { Vec::new() }
}

/// A pod of a revision, which answers with that revision's name.
async fn pod(world: &World, revision: &'static str) -> FakePod {
    let mut pod = FakePod::start(move |_| async move { text(revision) }).await;
    pod.revision = revision.to_owned();
    world.pod(&pod);
    pod
}

/// How often each revision answered so many requests, over several kept connections. None fails.
async fn answers(world: &World, count: usize) -> BTreeMap<String, usize> {
    let clients = (0..8).map(|_| async {
        let (client, mut answers) = (client(), Vec::new());
        for _ in 0..count / 8 {
            let answer = read(client.request(world.get("/")).await.unwrap()).await;
            assert_eq!(answer.status, 200, "{}", answer.reason());
            answers.push(answer.body);
        }
        answers
    });
    let mut counts = BTreeMap::new();
    for answer in join_all(clients).await.into_iter().flatten() {
        *counts.entry(answer).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn each_revision_gets_its_share_of_the_requests_and_none_fails() {
    let world = World::with_function(|_| {});
    let _pods = [pod(&world, "hello-1").await, pod(&world, "hello-2").await];
    assert_eq!(answers(&world, 80).await, BTreeMap::from([("hello-1".to_owned(), 80)]));
    share(&world, &[("hello-1", 90), ("hello-2", 10)]);
    let counts = answers(&world, 4_000).await;
    // The standard deviation is 19.
    assert!(counts["hello-2"].abs_diff(400) < 80, "{counts:?}");
    assert_eq!(counts.values().sum::<usize>(), 4_000);
    share(&world, &[("hello-2", 100)]);
    assert_eq!(answers(&world, 800).await, BTreeMap::from([("hello-2".to_owned(), 800)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_that_change_under_load_fail_nothing_and_a_revision_at_zero_is_woken_for_its_own() {
    let world = Arc::new(World::with_function(|_| {}));
    let mut pods = vec![pod(&world, "hello-1").await];
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU32::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (world, stop, answered) = (world.clone(), stop.clone(), answered.clone());
            tokio::spawn(async move {
                let client = client();
                while !stop.load(Ordering::SeqCst) {
                    let answer = read(client.request(world.get("/")).await.unwrap()).await;
                    assert_eq!(answer.status, 200, "{}", answer.reason());
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    share(&world, &[("hello-1", 50), ("hello-2", 50)]);
    let waits = || world.activator.registry.cells(&key()).last().is_some_and(|cell| cell.load().1 > 0);
    eventually("requests wait for hello-2", waits).await;
    eventually("a wake", || !world.scale.writes().is_empty()).await;
    pods.push(pod(&world, "hello-2").await);
    for shares in [
        vec![("hello-2", 90), ("hello-1", 10)],
        vec![("hello-2", 100)],
        vec![("hello-1", 100)],
        vec![("hello-1", 1), ("hello-2", 99)],
        vec![("hello-2", 100)],
    ] {
        share(&world, &shares);
        let goal = answered.load(Ordering::SeqCst) + 200;
        eventually("requests are answered", || answered.load(Ordering::SeqCst) >= goal).await;
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let metrics = Request::get(format!("http://{}/metrics", world.activator.admin)).body(empty()).unwrap();
    let metrics = send(metrics).await.body;
    let counted = format!(
        "pilotlight_activator_requests_total{{namespace=\"shop\",function=\"hello\",code_class=\"2xx\"}} {}",
        answered.load(Ordering::SeqCst)
    );
    assert!(metrics.lines().any(|line| line == counted), "{counted} is not in:\n{metrics}");
    assert_eq!(metrics.matches("in_flight_requests{").count(), 1, "one Function, one series");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_of_one_revision_is_no_matter_of_anothers_requests_and_samples_tell_them_apart() {
    let world = World::with_function(|_| {});
    let second = pod(&world, "hello-2").await;
    let end = Arc::new(Notify::new());
    let ended = end.clone();
    let first = FakePod::start(move |_| {
        let ended = ended.clone();
        async move {
            ended.notified().await;
            text("hello-1")
        }
    })
    .await;
    world.pod(&first);
    let (shared, registry) = (&world.activator.shared, &world.activator.registry);
    let door = registry.get(&key()).unwrap();
    eventually("the pods are ready", || door.usable() == 2).await;
    let mut lines = shared.publisher.subscribe(registry, shared.epoch).lines;
    let held = tokio::spawn(send(world.get("/")));
    world.until_load((1, 0)).await;
    share(&world, &[("hello-2", 99), ("hello-1", 1)]);
    share(&world, &[("hello-2", 100)]);
    assert_eq!(send(world.get("/")).await.body, "hello-2");
    let second_is_done = || registry.cells(&key())[1].load() == (0, 0);
    eventually("hello-2 has no request any more", second_is_done).await;
    let drain = |scope: serde_json::Value| json!({"namespace": "shop", "name": "hello", "handshake": "h", "scope": scope, "ttlMillis": 60_000});
    let asked = |scope: serde_json::Value| {
        let request = drain(scope);
        let world = &world;
        async move { control(world, "/v1/drain", TOKEN, &request).await.body }
    };
    let both = json!({"pods": {"uids": [format!("uid-{}", first.name), format!("uid-{}", second.name)]}});
    assert_eq!(asked(both).await, r#"{"busy":{"in_flight":1,"queued":0}}"#);
    assert_eq!(asked(json!({"all": {"revision": "hello-1"}})).await, r#"{"busy":{"in_flight":1,"queued":0}}"#);
    assert_eq!(asked(json!({"all": {"revision": "hello-2"}})).await, "\"drained\"");
    let release = json!({"namespace": "shop", "name": "hello", "handshake": "h", "outcome": "aborted"});
    assert_eq!(control(&world, "/v1/release", TOKEN, &release).await.status, 204);
    let mut seen = BTreeMap::<String, u32>::new();
    while seen.len() < 2 {
        let batch: SampleBatch = serde_json::from_str(&lines.recv().await.unwrap()).unwrap();
        for sample in batch.functions {
            let revision = sample.revision.unwrap_or_else(|| "before the split".to_owned());
            if revision.starts_with("hello-") {
                *seen.entry(revision).or_default() += sample.in_flight + sample.arrivals;
            }
        }
    }
    assert!(seen.values().all(|requests| *requests > 0), "{seen:?}");
    end.notify_one();
    assert_eq!(held.await.unwrap().body, "hello-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_one_is_exact_over_three_activators_while_shares_and_owner_change() {
    let mut fleet = Fleet::new(3);
    let mut seen = Vec::new();
    for n in 0..6 {
        let sees = Arc::new(Seen::default());
        let mut pod = exclusive(sees.clone()).await;
        pod.revision = format!("hello-{}", 1 + n % 2);
        fleet.add_pod(pod);
        seen.push(sees);
    }
    let tell = |n: usize, epoch: i64, shares: &[(&str, u32)]| {
        let owner = usize::try_from(epoch).unwrap() % 3;
        let others: Vec<usize> = (0..3).filter(|n| *n != owner).collect();
        fleet.tell_with(n, Some(&owned_by(owner, epoch, &others)), |function| {
            let route = function.status.as_mut().unwrap().route.as_mut().unwrap();
            (route.revision, route.split) = (Some(shares[0].0.to_owned()), split(shares));
        });
    };
    (0..3).for_each(|n| tell(n, 1, &[("hello-1", 50), ("hello-2", 50)]));
    fleet.until_open().await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU32::new(0));
    let clients: Vec<_> = (0..30)
        .map(|n| {
            let (stop, answered, uri) =
                (stop.clone(), answered.clone(), fleet.request(n % 3, n % 2 == 0, "GET", "/", empty()));
            tokio::spawn(async move {
                let client = client();
                while !stop.load(Ordering::SeqCst) {
                    let mut request = Request::get(uri.uri()).body(empty()).unwrap();
                    *request.headers_mut() = uri.headers().clone();
                    let answer = read(client.request(request).await.unwrap()).await;
                    assert_eq!((answer.status, answer.body.as_str()), (200, "done"), "{}", answer.reason());
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let steps: [(i64, Vec<(&str, u32)>); 6] = [
        (1, vec![("hello-2", 80), ("hello-1", 20)]),
        (2, vec![("hello-2", 80), ("hello-1", 20)]),
        (2, vec![("hello-2", 100)]),
        (3, vec![("hello-2", 100)]),
        (3, vec![("hello-1", 100)]),
        (4, vec![("hello-1", 60), ("hello-2", 40)]),
    ];
    for (step, (epoch, shares)) in steps.iter().enumerate() {
        for n in 0..3 {
            let goal = answered.load(Ordering::SeqCst) + 30;
            tell((n + step) % 3, *epoch, shares);
            if n < 2 && *epoch == 1 {
                eventually("requests are answered", || answered.load(Ordering::SeqCst) >= goal).await;
            }
        }
        let goal = answered.load(Ordering::SeqCst) + 150;
        let failed = || clients.iter().any(tokio::task::JoinHandle::is_finished);
        eventually("requests are answered", || failed() || answered.load(Ordering::SeqCst) >= goal).await;
        assert!(!failed(), "a client failed at step {step}");
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let mut counted = 0;
    for n in fleet.running() {
        let admin = fleet.within(n, |world| world.activator.admin);
        let metrics = send(Request::get(format!("http://{admin}/metrics")).body(empty()).unwrap()).await.body;
        let line = metrics.lines().find(|line| line.contains("requests_total{") && line.contains("2xx"));
        counted += line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse::<u32>().unwrap());
    }
    assert_eq!(counted, answered.load(Ordering::SeqCst), "each request counts once, whoever relayed it");
    for (n, pod) in seen.iter().enumerate() {
        assert_eq!(pod.overlaps.load(Ordering::SeqCst), 0, "pod {n} saw two requests at once");
        assert!(pod.served.load(Ordering::SeqCst) > 0, "pod {n} was left idle");
    }
}
