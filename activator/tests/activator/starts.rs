//! Many Functions woken at once: only some start at a time, the next as soon as one answers, cannot start, or is wanted no more.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use pilotlight_activator::index::FunctionKey;
use pilotlight_activator::limits::Limits;
use pilotlight_activator::runtime::{Activator, Config};
use pilotlight_activator::scale::{Scale, ScaleError, ScalePort};
use pilotlight_crds::Function;
use pilotlight_crds::park::Parking;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::harness::{FakePod, Read, World, empty, eventually, function, send};

/// So many start at once while nothing is known.
const FIRST: usize = 16;

/// The `/scale` of every Deployment: which were woken, in order.
#[derive(Default)]
struct Woken(Mutex<Vec<(String, String)>>);

impl ScalePort for Woken {
    fn get<'a>(&'a self, namespace: &'a str, deployment: &'a str) -> BoxFuture<'a, Result<Scale, ScaleError>> {
        let woken = (namespace.to_owned(), deployment.to_owned());
        let replicas = i32::from(self.0.lock().unwrap().contains(&woken));
        Box::pin(async move { Ok(Scale { replicas, resource_version: "7".into() }) })
    }

    fn set<'a>(
        &'a self,
        namespace: &'a str,
        deployment: &'a str,
        _: i32,
        _: &'a str,
    ) -> BoxFuture<'a, Result<(), ScaleError>> {
        self.0.lock().unwrap().push((namespace.to_owned(), deployment.to_owned()));
        Box::pin(async { Ok(()) })
    }

    fn restore<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async { Ok(()) })
    }

    fn parking<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<Parking>, ScaleError>> {
        Box::pin(async { Ok(None) })
    }

    fn unpark<'a>(&'a self, _: &'a str, _: &'a str, _: &'a Parking) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async { Ok(()) })
    }

    fn regrow<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async { Ok(()) })
    }
}

/// An activator with many Functions.
struct Storm {
    activator: Activator,
    scale: Arc<Woken>,
}

impl Storm {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(edit: impl FnOnce(&mut Limits)) -> Self {
        let scale = Arc::new(Woken::default());
        // Nothing here happens because time has passed.
        let forever = Duration::from_secs(3_600);
        let mut limits = Limits { start_patience: forever, start_overdue: forever, ..Limits::default() };
        edit(&mut limits);
        let activator = Activator::start(Config { limits, ..World::config() }, scale.clone()).unwrap();
        activator.shared.functions_listed();
        activator.shared.pods_listed();
        Self { activator, scale }
    }

    /// A Function, and a request for it.
    fn ask(&self, namespace: &str, name: &str) -> JoinHandle<Read> {
        self.activator.registry.apply_function(&named(namespace, name));
        let url = format!("http://{}/", self.activator.http);
        let request = http::Request::get(url).header("host", format!("{name}.{namespace}")).body(empty()).unwrap();
        tokio::spawn(send(request))
    }

    async fn until_waiting(&self, namespace: &str, name: &str) {
        let key = FunctionKey::new(namespace, name);
        let waits = || self.activator.registry.get(&key).is_some_and(|cell| cell.load() == (0, 1));
        eventually(&format!("{name} waiting"), waits).await;
    }

    fn woken(&self) -> Vec<(String, String)> {
        self.scale.0.lock().unwrap().clone()
    }

    async fn until_woken(&self, count: usize) {
        eventually(&format!("{count} Functions woken"), || self.woken().len() >= count).await;
        // Whoever must not start is known to wait.
        assert_eq!(self.woken().len(), count);
    }

    async fn until_told(&self, what: &str) {
        let began = Instant::now();
        let url = format!("http://{}/metrics", self.activator.admin);
        loop {
            let told = send(http::Request::get(&url).body(empty()).unwrap()).await.body;
            if told.contains(what) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "never told: {what}\n{told}");
        }
    }

    /// A pod of the Function at the address of `pod`.
    fn pod(&self, namespace: &str, name: &str, pod: &FakePod, status: Option<serde_json::Value>) {
        let pod = FakePod::silent(pod.address);
        self.activator.registry.apply_pod(&pod.object(|object| {
            object["metadata"]["namespace"] = json!(namespace);
            object["metadata"]["labels"] =
                json!({"pilotlight.dev/function": name, "pilotlight.dev/revision": format!("{name}-1")});
            if let Some(status) = status {
                object["status"] = status;
            }
        }));
    }

    /// Forty requests for as many Functions of one namespace, of which only the first few may start.
    async fn forty(&self) -> Vec<JoinHandle<Read>> {
        let asked: Vec<_> = (0..40).map(|number| self.ask("storm", &format!("f{number}"))).collect();
        for number in 0..40 {
            self.until_waiting("storm", &format!("f{number}")).await;
        }
        self.until_told("pilotlight_activator_starts_waiting{rung=\"Zero\"} 24\n").await;
        self.until_woken(FIRST).await;
        asked
    }
}

fn named(namespace: &str, name: &str) -> Function {
    function(|function| {
        function.metadata.namespace = Some(namespace.to_owned());
        function.metadata.name = Some(name.to_owned());
        function.status.as_mut().unwrap().route.as_mut().unwrap().revision = Some(format!("{name}-1"));
    })
}

/// `f7` of the Deployment `f7-1`.
fn function_of(deployment: &str) -> &str {
    deployment.strip_suffix("-1").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_leaves_its_place_to_the_next_and_namespaces_take_turns() {
    let storm = Storm::new();
    let asked = storm.forty().await;
    let calm = storm.ask("calm", "only");
    storm.until_waiting("calm", "only").await;
    storm.until_told("pilotlight_activator_starts_waiting{rung=\"Zero\"} 25\n").await;
    let pod = FakePod::hello().await;
    for place in 0..2 {
        let (namespace, deployment) = storm.woken()[place].clone();
        storm.pod(&namespace, function_of(&deployment), &pod, None);
        eventually("the next wake", || storm.woken().len() > FIRST + place).await;
    }
    let next = storm.woken().split_off(FIRST);
    assert!(next.iter().any(|(namespace, _)| namespace == "calm"), "{next:?}");
    // All the others have their turn.
    let mut served = 2;
    while served < 41 {
        eventually("the next wake", || storm.woken().len() > served).await;
        let (namespace, deployment) = storm.woken()[served].clone();
        storm.pod(&namespace, function_of(&deployment), &pod, None);
        served += 1;
    }
    for answer in asked.into_iter().chain([calm]) {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
        assert!(answer.headers["server-timing"].to_str().unwrap().contains("admitted"), "{:?}", answer.headers);
    }
    storm.until_told("pilotlight_activator_starts{rung=\"Zero\"} 0\n").await;
    storm.until_told("pilotlight_activator_start_admission_seconds_count{rung=\"Zero\"} 41\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_wanted_no_more_is_not_started_and_keeps_no_place() {
    let storm = Storm::new();
    let asked = storm.forty().await;
    let woken = storm.woken();
    let waits = |number: &usize| !woken.iter().any(|(_, deployment)| *deployment == format!("f{number}-1"));
    let given_up: Vec<usize> = (0..40).filter(waits).take(23).collect();
    for number in &given_up {
        asked[*number].abort();
    }
    storm.until_told("pilotlight_activator_starts_waiting{rung=\"Zero\"} 1\n").await;
    assert_eq!(storm.woken().len(), FIRST);
    // Those that start may be given up, too.
    for (_, deployment) in &woken {
        asked[function_of(deployment)[1..].parse::<usize>().unwrap()].abort();
    }
    storm.until_woken(FIRST + 1).await;
    storm.until_told("pilotlight_activator_starts{rung=\"Zero\"} 1\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_start_leaves_its_place_to_the_next() {
    let storm = Storm::new();
    let _asked = storm.forty().await;
    for (namespace, deployment) in storm.woken() {
        let status = json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available",
        }]});
        let pod = FakePod::silent("127.0.0.1:9".parse().unwrap());
        storm.pod(&namespace, function_of(&deployment), &pod, Some(status));
    }
    eventually("the next wakes", || storm.woken().len() == 2 * FIRST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_ever() {
    let short = |limits: &mut Limits| limits.start_patience = Duration::from_millis(200);
    let storm = Storm::with(short);
    let asked: Vec<_> = (0..40).map(|number| storm.ask("storm", &format!("f{number}"))).collect();
    eventually("all woken", || storm.woken().len() == 40).await;
    drop(asked);
    let storm = Storm::with(|limits| limits.start_overdue = Duration::from_millis(200));
    let asked: Vec<_> = (0..40).map(|number| storm.ask("storm", &format!("f{number}"))).collect();
    eventually("all woken", || storm.woken().len() == 40).await;
    drop(asked);
}
