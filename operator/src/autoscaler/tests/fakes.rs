//! Fake activators, and a model of the API server.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pilotlight_crds::control::{
    DrainOutcome, DrainRequest, DrainResponse, PATH_DRAIN, PATH_RELEASE, PATH_SAMPLES, ReleaseRequest,
};
use pilotlight_crds::throttle;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::autoscaler::cluster::{Cluster, ClusterError, Peer, PodRead, ScaleRead};

pub(super) const TOKEN: &str = "secret";

/// How a fake activator answers a drain.
#[derive(Clone, Debug)]
pub(super) enum Mood {
    Drained,
    Busy,
    /// Busy at pods with these uids only.
    BusyAt(Vec<&'static str>),
    /// Busy for the first so many questions.
    BusyFor(usize),
    /// Busy unless it is given time for its requests to end.
    BusyInPassing,
    /// Takes so long.
    Slow(Duration),
    /// Closes the connection after it has read the request.
    DiesMidway,
}

type Pieces = mpsc::UnboundedReceiver<Result<Frame<Bytes>, std::io::Error>>;

#[derive(Default)]
struct Seen {
    drains: Vec<DrainRequest>,
    releases: Vec<ReleaseRequest>,
    streams: u32,
}

struct State {
    mood: Mood,
    token: String,
    seen: Mutex<Seen>,
    /// What the next streams of samples say, one each.
    scripts: Mutex<VecDeque<Pieces>>,
    changed: Notify,
}

/// An activator as far as the control protocol goes. It ends when dropped.
pub(super) struct FakeActivator {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for FakeActivator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeActivator {
    pub(super) async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            mood,
            token: TOKEN.to_owned(),
            seen: Mutex::default(),
            scripts: Mutex::default(),
            changed: Notify::new(),
        });
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&serving);
                tokio::spawn(async move {
                    let service = service_fn(move |request| serve(Arc::clone(&state), request));
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { address, state, task }
    }

    /// What the next stream of samples says. The stream ends when the sender is dropped.
    pub(super) fn script(&self) -> mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>> {
        let (sender, pieces) = mpsc::unbounded_channel();
        self.state.scripts.lock().unwrap().push_back(pieces);
        sender
    }

    pub(super) fn peer(&self, uid: &str) -> Peer {
        Peer { uid: uid.to_owned(), pod: format!("activator-{uid}"), address: Some(self.address) }
    }

    pub(super) fn drains(&self) -> Vec<DrainRequest> {
        self.state.seen.lock().unwrap().drains.clone()
    }

    pub(super) fn outcomes(&self) -> Vec<DrainOutcome> {
        let seen = self.state.seen.lock().unwrap();
        seen.releases.iter().map(|r| r.outcome).collect()
    }

    pub(super) fn releases(&self) -> Vec<ReleaseRequest> {
        self.state.seen.lock().unwrap().releases.clone()
    }

    pub(super) fn streams(&self) -> u32 {
        self.state.seen.lock().unwrap().streams
    }

    /// Waits until it has seen a drain.
    pub(super) async fn asked(&self) {
        while self.drains().is_empty() {
            self.state.changed.notified().await;
        }
    }
}

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

async fn serve(state: Arc<State>, request: Request<Incoming>) -> Result<Answer, std::io::Error> {
    let bearer = request.headers().get("authorization").cloned();
    if bearer.as_ref().map(http::HeaderValue::as_bytes) != Some(format!("Bearer {}", state.token).as_bytes()) {
        return Ok(status(StatusCode::UNAUTHORIZED));
    }
    let path = request.uri().path().to_owned();
    if path == PATH_SAMPLES {
        state.seen.lock().unwrap().streams += 1;
        let Some(pieces) = state.scripts.lock().unwrap().pop_front() else {
            return Ok(status(StatusCode::SERVICE_UNAVAILABLE));
        };
        let body = StreamBody::new(UnboundedReceiverStream::new(pieces));
        return Ok(Response::new(BodyExt::boxed(body)));
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if path == PATH_RELEASE {
        let release = serde_json::from_slice(&body).unwrap();
        state.seen.lock().unwrap().releases.push(release);
        return Ok(status(StatusCode::NO_CONTENT));
    }
    assert_eq!(path, PATH_DRAIN);
    let drain: DrainRequest = serde_json::from_slice(&body).unwrap();
    let busy = DrainResponse::Busy { in_flight: 3, queued: 0 };
    let answer = match &state.mood {
        Mood::Busy => busy,
        Mood::BusyInPassing if drain.wait_millis == 0 => busy,
        Mood::BusyAt(pods) if pods.iter().any(|pod| names(&drain, pod)) => busy,
        Mood::BusyFor(times) if state.seen.lock().unwrap().drains.len() < *times => busy,
        _ => DrainResponse::Drained,
    };
    state.seen.lock().unwrap().drains.push(drain);
    state.changed.notify_waiters();
    state.changed.notify_one();
    match &state.mood {
        Mood::Slow(time) => tokio::time::sleep(*time).await,
        Mood::DiesMidway => return Err(std::io::Error::other("dies")),
        _ => {}
    }
    let body = serde_json::to_vec(&answer).unwrap();
    Ok(Response::new(full(Bytes::from(body))))
}

fn names(drain: &DrainRequest, pod: &str) -> bool {
    serde_json::to_string(&drain.scope).unwrap().contains(&format!("\"{pod}\""))
}

fn full(bytes: Bytes) -> BoxBody<Bytes, std::io::Error> {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed()
}

fn status(status: StatusCode) -> Answer {
    let mut answer = Response::new(full(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

/// What happens on one listing of the activators, before it is answered.
type OnListing = Box<dyn FnOnce(&mut Model) + Send>;
/// What a write does in place of the ordinary.
type OnWrite = Box<dyn Fn(&mut Model) -> ClusterError + Send>;
type OnSwap = Box<dyn Fn(&mut Model) -> Option<ClusterError> + Send>;

/// The state of the model.
#[derive(Default)]
pub(super) struct Model {
    pub(super) replicas: u32,
    pub(super) version: u64,
    pub(super) activators: Vec<Peer>,
    pub(super) pods: Vec<PodRead>,
    /// The same or other pods, whole; a change of one gives it another version.
    pub(super) whole: Vec<Pod>,
    /// What the next resizes do in place of the ordinary.
    pub(super) on_resize: Vec<OnWrite>,
    /// What happens as the next swaps of an image arrive, and how they fail.
    pub(super) on_swap: Vec<OnSwap>,
    pub(super) costs: BTreeMap<String, i32>,
    pub(super) listings: u32,
    pub(super) on_listing: BTreeMap<u32, OnListing>,
    pub(super) on_write: Option<OnWrite>,
    pub(super) listing_fails: bool,
    /// Time that every listing but the first takes.
    pub(super) slow_listing: Duration,
}

impl Model {
    /// Changes a pod, if it still has the version that the patch names. One that changes nothing makes no version.
    fn patch(&mut self, name: &str, patch: &Value) -> Result<Pod, ClusterError> {
        let pod = self.whole.iter_mut().find(|pod| pod.name_any() == name).ok_or(ClusterError::Gone)?;
        let wanted = patch["metadata"]["resourceVersion"].as_str();
        if wanted.is_some_and(|wanted| Some(wanted) != pod.metadata.resource_version.as_deref()) {
            return Err(ClusterError::Conflict);
        }
        let before = pod.clone();
        for (key, value) in patch["metadata"]["labels"].as_object().into_iter().flatten() {
            match value.as_str() {
                Some(value) => pod.labels_mut().insert(key.clone(), value.to_owned()),
                None => pod.labels_mut().remove(key),
            };
        }
        for (key, value) in patch["metadata"]["annotations"].as_object().into_iter().flatten() {
            pod.annotations_mut().insert(key.clone(), value.as_str().unwrap().to_owned());
        }
        if let Some(image) = patch.pointer("/spec/containers/0/image").and_then(Value::as_str) {
            pod.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
        }
        if let Some(container) = patch.pointer("/spec/containers/0/resources") {
            let spec = pod.spec.as_mut().unwrap();
            let mut resources = serde_json::to_value(&spec.containers[0].resources).unwrap();
            for (kind, name, quantity) in container.as_object().into_iter().flatten().flat_map(quantities) {
                resources[kind][name] = quantity.clone();
            }
            spec.containers[0].resources = serde_json::from_value(resources).unwrap();
        }
        if *pod != before {
            self.version += 1;
            pod.metadata.resource_version = Some(self.version.to_string());
        }
        Ok(pod.clone())
    }

    /// Somebody else writes the scale.
    pub(super) fn scale(&mut self, replicas: u32) {
        self.replicas = replicas;
        self.version += 1;
    }
}

fn quantities<'v>(
    (kind, values): (&'v String, &'v Value),
) -> impl Iterator<Item = (&'v String, &'v String, &'v Value)> {
    values.as_object().into_iter().flatten().map(move |(name, quantity)| (kind, name, quantity))
}

/// A model of the API server: one Deployment with versions, its pods, the activators' pods.
#[derive(Clone, Default)]
pub(super) struct FakeCluster {
    pub(super) model: Arc<Mutex<Model>>,
}

impl FakeCluster {
    pub(super) fn new(replicas: u32, activators: Vec<Peer>) -> Self {
        let cluster = Self::default();
        cluster.with(|model| {
            model.replicas = replicas;
            model.version = 100;
            model.activators = activators;
        });
        cluster
    }

    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Model) -> T) -> T {
        f(&mut self.model.lock().unwrap())
    }

    pub(super) fn replicas(&self) -> u32 {
        self.with(|model| model.replicas)
    }
}

impl Cluster for FakeCluster {
    async fn read_scale(&self, _: &str, _: &str) -> Result<ScaleRead, ClusterError> {
        Ok(self.with(|model| ScaleRead { replicas: model.replicas, resource_version: model.version.to_string() }))
    }

    async fn write_scale(&self, _: &str, _: &str, read: &ScaleRead, replicas: u32) -> Result<(), ClusterError> {
        self.with(|model| {
            if let Some(on_write) = model.on_write.take() {
                return Err(on_write(model));
            }
            if read.resource_version != model.version.to_string() {
                return Err(ClusterError::Conflict);
            }
            model.scale(replicas);
            Ok(())
        })
    }

    async fn activators(&self) -> Result<Vec<Peer>, ClusterError> {
        if self.with(|model| model.listings) > 0 {
            tokio::time::sleep(self.with(|model| model.slow_listing)).await;
        }
        self.with(|model| {
            model.listings += 1;
            let listing = model.listings;
            if let Some(happens) = model.on_listing.remove(&listing) {
                happens(model);
            }
            if model.listing_fails {
                return Err(ClusterError::Uncertain("out of reach".to_owned()));
            }
            Ok(model.activators.clone())
        })
    }

    async fn pods(&self, _: &str, _: &str) -> Result<Vec<PodRead>, ClusterError> {
        Ok(self.with(|model| model.pods.clone()))
    }

    async fn set_deletion_cost(&self, _: &str, pod: &str, cost: i32) -> Result<(), ClusterError> {
        self.with(|model| model.costs.insert(pod.to_owned(), cost));
        Ok(())
    }

    async fn whole_pods(&self, _: &str, _: &str) -> Result<Vec<Pod>, ClusterError> {
        Ok(self.with(|model| model.whole.clone()))
    }

    async fn patch_pod(&self, _: &str, pod: &str, patch: Value) -> Result<Pod, ClusterError> {
        self.with(|model| {
            let swaps = patch.pointer("/spec/containers/0/image").is_some();
            if let Some(error) = model.on_swap.pop_if(|_| swaps).and_then(|happens| happens(model)) {
                return Err(error);
            }
            model.patch(pod, &patch)
        })
    }

    async fn resize_pod(&self, _: &str, pod: &str, patch: Value) -> Result<(), ClusterError> {
        self.with(|model| {
            if let Some(instead) = model.on_resize.pop() {
                return Err(instead(model));
            }
            model.patch(pod, &patch).map(drop)
        })
    }

    async fn give_back(&self, _: &str, pod: &Pod) -> Result<bool, ClusterError> {
        let (name, uid) = (pod.name_any(), pod.uid().unwrap());
        self.with(|model| {
            let found = model.patch(&name, &throttle::unmark(&uid))?;
            let Some(cpu) = throttle::to_give_back(&found) else { return Ok(true) };
            model.patch(&name, &cpu.resize(&uid, None)).map(|_| true)
        })
    }
}
