//! Starts activators, pods and clients for tests. Tests wait on conditions, never on time passing.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use pilotlight_activator::control::Token;
use pilotlight_activator::index::FunctionKey;
use pilotlight_activator::limits::Limits;
use pilotlight_activator::proxy::forwarded::Trust;
use pilotlight_activator::route::Domains;
use pilotlight_activator::runtime::{Activator, Config};
use pilotlight_activator::shutdown::DrainSettings;
use pilotlight_activator::telemetry::TelemetryConfig;
use pilotlight_crds::Function;
use pilotlight_crds::status::{FunctionStatus, RouteStatus};
use tokio::net::TcpListener;

use crate::fake_scale::FakeScale;

pub(crate) const TOKEN: &str = "operator's token";
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An activator with one Function, `hello` in `shop`.
pub(crate) struct World {
    pub(crate) activator: Activator,
    pub(crate) scale: Arc<FakeScale>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), DrainSettings::default())
    }

    pub(crate) fn with(limits: Limits, drain: DrainSettings) -> Self {
        Self::configured(|config| (config.limits, config.drain) = (limits, drain))
    }

    /// With settings changed by `edit`.
    pub(crate) fn configured(edit: impl FnOnce(&mut Config)) -> Self {
        let scale = Arc::new(FakeScale::default());
        let mut config = Self::config();
        edit(&mut config);
        let activator = Activator::start(config, scale.clone()).unwrap();
        activator.shared.functions_listed();
        activator.shared.pods_listed();
        Self { activator, scale }
    }

    /// On loopback, with any free ports.
    pub(crate) fn config() -> Config {
        Config {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            http_port: 0,
            external_port: 0,
            admin_port: 0,
            control_port: 0,
            beacon_port: 0,
            addresses: Arc::new(crate::addresses::Addresses::default()),
            token: Token::Fixed(TOKEN.into()),
            pod_uid: None,
            domains: Domains::new("cluster.local", "fn.example.com"),
            limits: Limits::default(),
            drain: DrainSettings::default(),
            trust: Trust::default(),
            telemetry: TelemetryConfig::default(),
            tls: None,
        }
    }

    /// With the Function `hello`, changed by `edit`.
    pub(crate) fn with_function(edit: impl FnOnce(&mut Function)) -> Self {
        let world = Self::new();
        world.apply(edit);
        world
    }

    pub(crate) fn apply(&self, edit: impl FnOnce(&mut Function)) {
        self.activator.registry.apply_function(&function(edit));
    }

    pub(crate) fn pod(&self, pod: &FakePod) {
        self.activator.registry.apply_pod(&pod.object(|_| {}));
    }

    /// The Function's state: requests at pods, requests that wait.
    pub(crate) fn load(&self) -> (u32, u32) {
        self.activator.registry.get(&key()).unwrap().load()
    }

    pub(crate) async fn until_load(&self, wanted: (u32, u32)) {
        eventually(&format!("load {wanted:?}"), || self.load() == wanted).await;
    }

    /// A request to the Function by its host name.
    pub(crate) fn get(&self, path: &str) -> Request<Body> {
        self.request("GET", path, empty())
    }

    pub(crate) fn request(&self, method: &str, path: &str, body: Body) -> Request<Body> {
        Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.activator.http))
            .header("host", "hello.shop")
            .body(body)
            .unwrap()
    }
}

pub(crate) fn key() -> FunctionKey {
    FunctionKey::new("shop", "hello")
}

pub(crate) fn function(edit: impl FnOnce(&mut Function)) -> Function {
    let mut function = Function::default();
    function.metadata.name = Some("hello".into());
    function.metadata.namespace = Some("shop".into());
    function.metadata.generation = Some(1);
    function.status = Some(FunctionStatus {
        observed_generation: Some(1),
        route: Some(RouteStatus { revision: Some("hello-1".into()), ..RouteStatus::default() }),
        ..FunctionStatus::default()
    });
    edit(&mut function);
    function
}

type Answer = BoxFuture<'static, Response<Body>>;
type Serve = Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

static NEXT_POD: AtomicU32 = AtomicU32::new(1);

/// A real server on loopback, and the pod object that leads to it.
pub(crate) struct FakePod {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) revision: String,
    pub(crate) protocol: &'static str,
    pub(crate) connections: Arc<AtomicU32>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for FakePod {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl FakePod {
    /// Serves with `serve`, on any free port.
    pub(crate) async fn start<F, R>(serve: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), serve).await
    }

    /// The same at an address of its own.
    pub(crate) async fn start_at<F, R>(ip: IpAddr, serve: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let mut pod = Self::silent(listener.local_addr().unwrap());
        let serve: Serve = Arc::new(move |request| Box::pin(serve(request)));
        let connections = pod.connections.clone();
        pod.task = Some(tokio::spawn(accept(listener, serve, connections)));
        pod
    }

    /// A pod object for an address that somebody else serves, or nobody.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        Self {
            name: format!("hello-1-{}", NEXT_POD.fetch_add(1, Ordering::Relaxed)),
            address,
            revision: "hello-1".into(),
            protocol: "http1",
            connections: Arc::default(),
            task: None,
        }
    }

    /// Greets.
    pub(crate) async fn hello() -> Self {
        Self::start(|_| async { text("hello") }).await
    }

    pub(crate) fn h2c(mut self) -> Self {
        self.protocol = "h2c";
        self
    }

    /// The pod object; `edit` sees it as JSON.
    pub(crate) fn object(&self, edit: impl FnOnce(&mut serde_json::Value)) -> Pod {
        let mut object = serde_json::json!({
            "metadata": {
                "name": self.name, "namespace": "shop", "uid": format!("uid-{}", self.name),
                "labels": {"pilotlight.dev/function": "hello", "pilotlight.dev/revision": self.revision},
            },
            "spec": {"containers": [{
                "name": "function",
                "ports": [{"name": self.protocol, "containerPort": self.address.port()}],
            }]},
            "status": {"phase": "Running", "podIP": self.address.ip().to_string()},
        });
        edit(&mut object);
        serde_json::from_value(object).unwrap()
    }
}

async fn accept(listener: TcpListener, serve: Serve, connections: Arc<AtomicU32>) {
    let mut serving = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (serve, connections) = (serve.clone(), connections.clone());
        serving.spawn(async move {
            connections.fetch_add(1, Ordering::Relaxed);
            let service = service_fn(move |request| {
                let answer = serve(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            builder.http1().max_headers(512);
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

pub(crate) fn empty() -> Body {
    Empty::new().boxed_unsync()
}

pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

pub(crate) fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(full(text))
}

pub(crate) fn client() -> Client<HttpConnector, Body> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Sends over a new HTTP/2 connection to the activator; `:authority` names the Function.
pub(crate) async fn h2_request(world: &World, mut request: Request<Body>) -> Response<Incoming> {
    let stream = tokio::net::TcpStream::connect(world.activator.http).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    request.headers_mut().remove("host");
    *request.uri_mut() = format!("http://hello.shop{}", request.uri().path()).parse().unwrap();
    sender.send_request(request).await.unwrap()
}

/// A response read to its end.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: HeaderMap,
}

impl Read {
    pub(crate) fn reason(&self) -> &str {
        self.headers.get("pilotlight-reason").map_or("", |v| v.to_str().unwrap())
    }
}

pub(crate) async fn read(response: Response<Incoming>) -> Read {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let body = String::from_utf8(collected.to_bytes().to_vec()).unwrap();
    Read { status: parts.status.as_u16(), headers: parts.headers, body, trailers }
}

pub(crate) async fn send(request: Request<Body>) -> Read {
    read(client().request(request).await.unwrap()).await
}

/// Waits until `done`, for at most ten seconds.
pub(crate) async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Calls on the control port.
pub(crate) async fn control(world: &World, path: &str, token: &str, body: &serde_json::Value) -> Read {
    let request = Request::post(format!("http://{}{path}", world.activator.control))
        .header("authorization", format!("Bearer {token}"))
        .body(full(body.to_string()))
        .unwrap();
    send(request).await
}

pub(crate) fn header_pairs(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers.iter().map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect()
}
