//! Requests for parked pods: the function is asked for, nothing is taken for it that is not, and where it cannot be had another pod is; and the
//! hand-shake of a parking against requests at every moment.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

use k8s_openapi::api::core::v1::Pod;
use pilotlight_crds::park::{GREETING, PORT, Parking};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::harness::{FakePod, TOKEN, World, control, eventually, key, send, text};

const FUNCTION: &str = "hello@sha256:aa";
const PILOT: &str = "pilot@sha256:bb";

/// An address of loopback that no other test has, so that placeholders have their port to themselves.
fn own_ip() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    IpAddr::from([127, 0, 95, NEXT.fetch_add(1, Ordering::Relaxed)])
}

async fn hello() -> FakePod {
    FakePod::start_at(own_ip(), |_| async { text("hello") }).await
}

/// Says what it is, until it is dropped.
struct Placeholder(JoinHandle<()>);

impl Placeholder {
    async fn of(pod: &FakePod) -> Self {
        let listener = TcpListener::bind(SocketAddr::new(pod.address.ip(), PORT)).await.unwrap();
        Self(tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(GREETING.as_bytes()).await;
            }
        }))
    }

    async fn end(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

/// The pod object: its image, what runs, and whether it is marked.
fn object(pod: &FakePod, image: &str, runs: &str, marked: bool) -> Pod {
    pod.object(|object| {
        object["metadata"]["resourceVersion"] = json!("7");
        object["metadata"]["annotations"] = json!({"pilotlight.dev/image": FUNCTION});
        if marked {
            object["metadata"]["labels"]["pilotlight.dev/rung"] = json!("Parked");
        }
        object["spec"]["containers"][0]["image"] = json!(image);
        object["status"]["containerStatuses"] = json!([{
            "name": "function", "image": "", "imageID": runs, "ready": true, "restartCount": 0, "state": {"running": {}},
        }]);
    })
}

fn active(pod: &FakePod) -> Pod {
    object(pod, "hello:v1", FUNCTION, false)
}

fn parked(pod: &FakePod, turn: u64) -> Pod {
    object(pod, &format!("pilot:w{turn}@sha256:bb"), PILOT, true)
}

fn show(world: &World, pod: &Pod) {
    world.activator.registry.apply_pod(pod);
}

fn usable(world: &World) -> usize {
    world.activator.registry.get(&key()).unwrap().usable()
}

async fn ready(world: &World) {
    eventually("the pod is ready", || usable(world) == 1).await;
}

fn world() -> World {
    let world = World::with_function(|_| {});
    world.scale.write(1);
    world
}

/// One pod, whose function serves.
async fn serving() -> (World, FakePod) {
    let (world, pod) = (world(), hello().await);
    show(&world, &active(&pod));
    ready(&world).await;
    (world, pod)
}

/// One pod, which is parked.
async fn resting() -> (World, FakePod, Placeholder) {
    let (world, pod) = (world(), hello().await);
    let placeholder = Placeholder::of(&pod).await;
    show(&world, &parked(&pod, 1));
    (world, pod, placeholder)
}

fn drain(pod: &FakePod, ttl: u64) -> Value {
    let uids = [format!("uid-{}", pod.name)];
    json!({
        "namespace": "shop", "name": "hello", "handshake": "t", "scope": {"pods": {"uids": uids}},
        "purpose": "park", "ttlMillis": ttl,
    })
}

async fn drained(world: &World, pod: &FakePod, ttl: u64) {
    assert_eq!(control(world, "/v1/drain", TOKEN, &drain(pod, ttl)).await.body, "\"drained\"");
}

async fn released(world: &World, outcome: &str) {
    let release = json!({"namespace": "shop", "name": "hello", "handshake": "t", "outcome": outcome});
    assert_eq!(control(world, "/v1/release", TOKEN, &release).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_goes_to_the_function_once_nothing_says_any_more_that_it_is_a_placeholder() {
    let (world, pod, placeholder) = resting().await;
    assert_eq!(usable(&world), 0);
    assert!(world.scale.unparked().is_empty(), "nobody asked anything of it");
    let request = tokio::spawn(send(world.get("/")));
    eventually("its function is asked for", || world.scale.unparked() == [(pod.name.clone(), 1)]).await;
    // The port of the function answers all the time.
    world.until_load((0, 1)).await;
    let asked = pod.connections.load(Ordering::Relaxed);
    assert_eq!(asked, 0, "the placeholder was told from the function before anything else was tried");
    assert!(world.scale.regrown().is_empty(), "nothing is done beside the start");
    placeholder.end().await;
    let answer = request.await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    assert!(world.scale.writes().is_empty(), "no other pod was asked for");
    eventually("it requests what it needs", || world.scale.regrown() == [pod.name.clone()]).await;
    // Old news of the watch do not take the pod away again; new ones do.
    show(&world, &parked(&pod, 1));
    assert_eq!(usable(&world), 1);
    show(&world, &object(&pod, "hello:w2@sha256:aa", FUNCTION, false));
    assert_eq!(usable(&world), 1);
    show(&world, &parked(&pod, 3));
    assert_eq!(usable(&world), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_told_to_end_is_not_taken_for_the_function_that_comes_back() {
    let world = world();
    let pod = hello().await;
    // Its image was swapped, and the function has not ended yet.
    show(&world, &object(&pod, "pilot:w1@sha256:bb", FUNCTION, true));
    let request = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    assert!(world.scale.unparked().is_empty());
    let placeholder = Placeholder::of(&pod).await;
    eventually("its function is asked for", || !world.scale.unparked().is_empty()).await;
    placeholder.end().await;
    assert_eq!(request.await.unwrap().body, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_function_cannot_be_had_another_pod_answers() {
    let (world, pod, _placeholder) = resting().await;
    world.scale.refuse_unpark("no swaps here");
    let request = tokio::spawn(send(world.get("/")));
    eventually("another pod is asked for", || world.scale.writes() == [2]).await;
    let other = hello().await;
    show(&world, &active(&other));
    assert_eq!(request.await.unwrap().body, "hello");
    assert_eq!(pod.connections.load(Ordering::Relaxed), 0);
}

/// The autoscaler counts pods, and the one that cannot serve is one of them.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_pod_is_not_taken_away_while_a_request_waits_for_it() {
    let (world, pod, _placeholder) = resting().await;
    let other = hello().await;
    world.scale.refuse_unpark("no swaps here");
    let request = tokio::spawn(send(world.get("/")));
    eventually("another pod is asked for", || world.scale.writes() == [2]).await;
    let mut remove = drain(&other, 60_000);
    remove["purpose"] = json!("remove");
    remove["waitMillis"] = json!(50);
    let answer = control(&world, "/v1/drain", TOKEN, &remove).await.body;
    assert!(answer.contains("busy") && answer.contains("\"queued\":1"), "{answer}");
    show(&world, &active(&other));
    assert_eq!(request.await.unwrap().body, "hello");
    // The one that is left over may go.
    remove["scope"]["pods"]["uids"] = json!([format!("uid-{}", pod.name)]);
    assert_eq!(control(&world, "/v1/drain", TOKEN, &remove).await.body, "\"drained\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_kubernetes_cannot_bring_back_is_given_up() {
    let (world, pod, placeholder) = resting().await;
    let request = tokio::spawn(send(world.get("/")));
    eventually("its function is asked for", || !world.scale.unparked().is_empty()).await;
    placeholder.end().await;
    let mut gone = object(&pod, "hello:w2@sha256:aa", PILOT, false);
    let status = gone.status.as_mut().unwrap().container_statuses.as_mut().unwrap();
    status[0].ready = false;
    status[0].state =
        serde_json::from_value(json!({"waiting": {"reason": "ErrImagePull", "message": "i/o timeout"}})).unwrap();
    show(&world, &gone);
    eventually("another pod is asked for", || world.scale.writes() == [2]).await;
    let other = hello().await;
    show(&world, &active(&other));
    assert_eq!(request.await.unwrap().body, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_during_the_hand_shake_waits_for_its_end_and_brings_the_function_back() {
    let (world, pod) = serving().await;
    drained(&world, &pod, 60_000).await;
    let request = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    let connections = pod.connections.load(Ordering::Relaxed);
    released(&world, "committed").await;
    // The watch does not show the swap yet, and the process that was told to end still answers.
    eventually("the API server is asked", || world.scale.looked() >= 3).await;
    assert_eq!((world.load(), pod.connections.load(Ordering::Relaxed)), ((0, 1), connections));
    let placeholder = Placeholder::of(&pod).await;
    show(&world, &parked(&pod, 1));
    eventually("its function is asked for", || !world.scale.unparked().is_empty()).await;
    placeholder.end().await;
    assert_eq!(request.await.unwrap().body, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parking_that_was_called_off_changes_nothing() {
    let (world, pod) = serving().await;
    drained(&world, &pod, 60_000).await;
    let request = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    released(&world, "aborted").await;
    assert_eq!(request.await.unwrap().body, "hello");
    assert!(world.scale.unparked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parking_that_is_never_released_is_fenced_by_taking_the_mark_away() {
    let (world, pod) = serving().await;
    let marked = Parking::of(&object(&pod, "hello:v1", FUNCTION, true)).unwrap();
    world.scale.park(&pod.name, marked);
    drained(&world, &pod, 50).await;
    assert_eq!(send(world.get("/")).await.body, "hello");
    assert_eq!(world.scale.unparked(), [(pod.name.clone(), 0)], "the swap that may be on its way fails");
    assert!(world.scale.writes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parking_that_happened_and_is_never_released_is_undone_for_a_request() {
    let (world, pod) = serving().await;
    let placeholder = Placeholder::of(&pod).await;
    world.scale.park(&pod.name, Parking::of(&parked(&pod, 1)).unwrap());
    drained(&world, &pod, 50).await;
    let request = tokio::spawn(send(world.get("/")));
    // The watch still shows the function: what the API server says counts.
    eventually("its function is asked for", || world.scale.unparked() == [(pod.name.clone(), 1)]).await;
    placeholder.end().await;
    assert_eq!(request.await.unwrap().body, "hello");
    show(&world, &parked(&pod, 1));
    assert_eq!(usable(&world), 1, "old news");
}
