//! Hard concurrency limits over several activators: no pod ever sees more than its limit, and no request waits beside a free pod.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures::future::join_all;
use http::Request;
use pilotlight_crds::control::{ClaimLine, ClaimRequest, PATH_CLAIM};
use pilotlight_crds::status::RouteOwner;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::fleet::{Fleet, Seen, exclusive, owned_by, reference};
use crate::harness::{FakePod, TOKEN, client, empty, eventually, full, read, send, text};

const CLIENTS: usize = 50;
const PODS: usize = 5;

async fn exclusive_pods(fleet: &mut Fleet) -> Vec<Arc<Seen>> {
    let mut all = Vec::new();
    for _ in 0..PODS {
        let seen = Arc::new(Seen::default());
        fleet.add_pod(exclusive(seen.clone()).await);
        all.push(seen);
    }
    all
}

/// Clients that send request after request, over all of `activators` and both kinds of port, until they are told to stop.
struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    tasks: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(fleet: &Fleet, activators: &[usize]) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let tasks = (0..CLIENTS).map(|n| {
            let at = activators[n % activators.len()];
            let own_port = (n / activators.len()).is_multiple_of(2);
            let uri = fleet.request(at, own_port, "GET", "/", empty());
            let (stop, answered) = (stop.clone(), answered.clone());
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
        });
        let tasks = tasks.collect();
        Self { stop, answered, tasks }
    }

    /// Until so many more have been answered.
    async fn until_answered(&self, more: u32) {
        let goal = self.answered.load(Ordering::SeqCst) + more;
        eventually("requests are answered", || {
            let failed = self.tasks.iter().any(JoinHandle::is_finished);
            assert!(!failed, "a client failed");
            self.answered.load(Ordering::SeqCst) >= goal
        })
        .await;
    }

    async fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in join_all(self.tasks).await {
            task.unwrap();
        }
    }
}

fn assert_exact(seen: &[Arc<Seen>]) {
    for (n, pod) in seen.iter().enumerate() {
        assert_eq!(pod.overlaps.load(Ordering::SeqCst), 0, "pod {n} saw two requests at once");
        assert!(pod.served.load(Ordering::SeqCst) > 0, "pod {n} was left idle");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_activators_never_exceed_a_limit_of_one() {
    let mut fleet = Fleet::new(3);
    let seen = exclusive_pods(&mut fleet).await;
    fleet.tell_all(&owned_by(0, 1, &[1, 2])).await;
    let clients = Clients::start(&fleet, &[0, 1, 2]);
    clients.until_answered(2_000).await;
    clients.finish().await;
    assert_exact(&seen);
    for n in 0..3 {
        fleet.until_load(n, (0, 0)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_changes_under_load_fails_nothing() {
    let mut fleet = Fleet::new(3);
    let seen = exclusive_pods(&mut fleet).await;
    fleet.tell_all(&owned_by(0, 1, &[1, 2])).await;
    let clients = Clients::start(&fleet, &[0, 1, 2]);
    for epoch in 2..14_i64 {
        let owner = usize::try_from(epoch).unwrap() % 3;
        let others: Vec<usize> = (0..3).filter(|n| *n != owner).collect();
        let record = owned_by(owner, epoch, &others);
        // The news reach the activators in another order each time, and the last one only after a while.
        let mut order = [0, 1, 2];
        order.rotate_left(usize::try_from(epoch / 2).unwrap() % 3);
        if epoch % 2 == 0 {
            order.reverse();
        }
        fleet.tell(order[0], Some(&record));
        fleet.tell(order[1], Some(&record));
        if owner != order[2] {
            clients.until_answered(60).await;
        }
        fleet.tell(order[2], Some(&record));
        clients.until_answered(60).await;
    }
    clients.finish().await;
    assert_exact(&seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_comes_and_goes_under_load() {
    let mut fleet = Fleet::new(3);
    let (pod, go, _) = held_pod().await;
    fleet.add_pod(pod);
    for n in 0..3 {
        fleet.tell(n, None);
    }
    let first = tokio::spawn(send(fleet.request(1, false, "GET", "/", empty())));
    fleet.until_load(1, (1, 0)).await;
    let second = tokio::spawn(send(fleet.request(2, false, "GET", "/", empty())));
    fleet.until_load(2, (1, 0)).await;
    // Each counted for itself so far; from now on one counts for all.
    fleet.tell_all(&owned_by(0, 1, &[1, 2])).await;
    let third = tokio::spawn(send(fleet.request(0, false, "GET", "/", empty())));
    fleet.until_load(0, (0, 1)).await;
    go.notify_one();
    eventually("one of two has ended", || first.is_finished() || second.is_finished()).await;
    fleet.until_load(0, (0, 1)).await;
    go.notify_one();
    fleet.until_load(0, (1, 0)).await;
    go.notify_one();
    for answer in [first, second, third] {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    // And back: everyone sends again.
    fleet.set_limit(0);
    let open = RouteOwner { epoch: 2, everyone: true, ..RouteOwner::default() };
    fleet.tell_all(&open).await;
    let again = tokio::spawn(send(fleet.request(2, false, "GET", "/", empty())));
    fleet.until_load(2, (1, 0)).await;
    go.notify_one();
    assert_eq!(again.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_owner_takes_only_its_own_requests_with_it() {
    let mut fleet = Fleet::new(3);
    let seen = exclusive_pods(&mut fleet).await;
    fleet.tell_all(&owned_by(0, 1, &[1, 2])).await;
    let clients = Clients::start(&fleet, &[1, 2]);
    clients.until_answered(200).await;
    fleet.kill(0);
    until_idle(&seen).await;
    // The operator does not know yet that the process has ended: the new owner finds out.
    let record = owned_by(1, 2, &[0, 2]);
    for n in [2, 1] {
        fleet.tell(n, Some(&record));
    }
    clients.until_answered(200).await;
    fleet.restart(0);
    fleet.tell(0, Some(&record));
    fleet.until_open().await;
    clients.finish().await;
    let clients = Clients::start(&fleet, &[0, 2]);
    clients.until_answered(200).await;
    fleet.kill(1);
    until_idle(&seen).await;
    let record = owned_by(2, 3, &[0, 1]);
    for n in [2, 0] {
        fleet.tell(n, Some(&record));
    }
    clients.until_answered(200).await;
    clients.finish().await;
    assert_exact(&seen);
}

/// An app counts a request until it sees the connection closed; meanwhile nobody sends, because there is no owner.
async fn until_idle(seen: &[Arc<Seen>]) {
    eventually("the pods are idle", || seen.iter().all(|pod| pod.running.load(Ordering::SeqCst) == 0)).await;
}

/// A pod that answers when it is told to.
async fn held_pod() -> (FakePod, Arc<Notify>, Arc<AtomicU32>) {
    let (go, arrived) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
    let (waits, counts) = (go.clone(), arrived.clone());
    let pod = FakePod::start(move |_| {
        let (waits, counts) = (waits.clone(), counts.clone());
        async move {
            counts.fetch_add(1, Ordering::SeqCst);
            waits.notified().await;
            text("held")
        }
    })
    .await;
    (pod, go, arrived)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimant_that_is_killed_amid_its_claim_is_followed_by_another() {
    let mut fleet = Fleet::new(3);
    let (pod, go, arrived) = held_pod().await;
    fleet.add_pod(pod);
    fleet.tell_all(&owned_by(0, 1, &[1, 2])).await;
    let first = tokio::spawn(send(fleet.request(0, false, "GET", "/", empty())));
    fleet.until_load(0, (1, 0)).await;
    // 1 claims, and hears that 0 has the pod.
    let record = owned_by(1, 2, &[0, 2]);
    fleet.tell(1, Some(&record));
    let second = tokio::spawn(send(fleet.request(0, false, "GET", "/", empty())));
    fleet.until_load(1, (0, 1)).await;
    fleet.kill(1);
    // 0 and 2 have never heard of epoch 2 from the operator, only of the claim; 2 claims now.
    let record = owned_by(2, 3, &[0, 1]);
    fleet.tell(2, Some(&record));
    fleet.until_load(2, (0, 1)).await;
    assert_eq!(arrived.load(Ordering::SeqCst), 1);
    go.notify_one();
    assert_eq!(first.await.unwrap().body, "held");
    fleet.until_load(2, (1, 0)).await;
    go.notify_one();
    assert_eq!(second.await.unwrap().body, "held");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_count_as_full_until_one_that_does_not_answer_is_over() {
    let mut fleet = Fleet::new(2);
    let seen = exclusive_pods(&mut fleet).await;
    // Something listens there, and says nothing.
    let _mute = TcpListener::bind(fleet.control(4)).await.unwrap();
    fleet.tell_all(&owned_by(0, 1, &[1, 4])).await;
    let waiting = tokio::spawn(send(fleet.request(1, true, "GET", "/", empty())));
    fleet.until_load(0, (0, 1)).await;
    let clear =
        || fleet.within(0, |world| world.activator.registry.get(&crate::harness::key()).unwrap().asks(1, "uid-1"));
    eventually("1 has answered", || clear().is_none()).await;
    fleet.until_load(0, (0, 1)).await;
    assert_eq!(seen.iter().map(|pod| pod.served.load(Ordering::SeqCst)).sum::<u32>(), 0);
    // The operator sees that its process has ended.
    fleet.tell(0, Some(&owned_by(0, 1, &[1])));
    assert_eq!(waiting.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_where_there_is_no_owner_and_is_told_when_there_never_is() {
    let mut fleet = Fleet::new(1);
    let seen = exclusive_pods(&mut fleet).await;
    let nobody = RouteOwner { epoch: 1, ..RouteOwner::default() };
    fleet.tell_all(&nobody).await;
    let waiting = tokio::spawn(send(fleet.request(0, false, "GET", "/", empty())));
    fleet.until_load(0, (0, 1)).await;
    fleet.tell(0, Some(&owned_by(0, 2, &[])));
    assert_eq!(waiting.await.unwrap().status, 200);
    // An owner whose address leads nowhere.
    fleet.tell_with(0, Some(&owned_by(5, 3, &[0])), |f| f.spec.cold_start.timeout_seconds = 1);
    let usable = || fleet.within(0, |world| world.activator.registry.get(&crate::harness::key()).unwrap().usable());
    eventually("pods are ready", || usable() == PODS).await;
    let answer = send(fleet.request(0, false, "GET", "/", empty())).await;
    assert_eq!((answer.status, answer.reason()), (503, "NoOwner"));
    assert!(answer.headers.contains_key("retry-after"));
    assert_exact_so_far(&seen);
}

fn assert_exact_so_far(seen: &[Arc<Seen>]) {
    assert!(seen.iter().all(|pod| pod.overlaps.load(Ordering::SeqCst) == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_needs_the_token_and_the_newest_epoch_and_tells_what_is_held() {
    let mut fleet = Fleet::new(1);
    let (pod, go, _) = held_pod().await;
    fleet.add_pod(pod);
    fleet.tell_all(&owned_by(0, 5, &[])).await;
    let holding = tokio::spawn(send(fleet.request(0, false, "GET", "/", empty())));
    fleet.until_load(0, (1, 0)).await;
    let claim = |epoch: i64, token: &str, name: &str| {
        let claim = ClaimRequest { namespace: "shop".into(), name: name.into(), epoch, owner: reference(1) };
        Request::post(format!("http://{}{PATH_CLAIM}", fleet.control(0)))
            .header("authorization", format!("Bearer {token}"))
            .body(full(serde_json::to_vec(&claim).unwrap()))
            .unwrap()
    };
    assert_eq!(send(claim(6, "guess", "hello")).await.status, 401);
    assert_eq!(send(claim(6, TOKEN, "unknown")).await.status, 404);
    let outdated = send(claim(4, TOKEN, "hello")).await;
    assert_eq!(outdated.status, 409);
    assert!(outdated.body.contains("knows epoch 5"), "{}", outdated.body);
    let stream = tokio::spawn(send(claim(6, TOKEN, "hello")));
    let relays = || fleet.within(0, |world| world.activator.registry.get(&crate::harness::key()).unwrap().epoch());
    eventually("it has yielded", || relays() == 6).await;
    go.notify_one();
    assert_eq!(holding.await.unwrap().status, 200);
    let told = stream.await.unwrap();
    assert_eq!(told.status, 200);
    let lines: Vec<ClaimLine> = told.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0].held.values().sum::<u32>(), 1);
    assert!(lines.last().unwrap().held.is_empty());
}
