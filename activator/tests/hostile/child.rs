//! The activator's own program as a child process, so that its memory can be read, and as much of a Kubernetes API server as it asks
//! for: lists and watches of Functions and Pods from fixed objects, and `/scale`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::harness::{Body, full};
use crate::ports::free_port;

type Events = tokio::sync::mpsc::UnboundedSender<Result<Frame<Bytes>, Infallible>>;

#[derive(Default)]
struct Objects {
    functions: Vec<Value>,
    pods: Vec<Value>,
    watches: Vec<(bool, Events)>,
    woken: bool,
}

/// The API server's state.
#[derive(Clone, Default)]
pub(crate) struct Api(Arc<Mutex<Objects>>);

fn list(kind: &str, items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items}).to_string()
}

impl Api {
    /// A Function that takes what a flood brings.
    fn add_function(&self, name: &str, port: u16) {
        self.0.lock().unwrap().functions.push(json!({
            "apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function",
            "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": 1, "resourceVersion": "1"},
            "spec": {"image": "app", "coldStart": {"pendingRequests": 20000, "pendingBytes": 268435456, "timeoutSeconds": 300}},
            "status": {"observedGeneration": 1, "route": {"port": port, "revision": format!("{name}-1")}},
        }));
    }

    /// The Function's pod appears.
    pub(crate) fn add_pod(&self, function: &str, address: SocketAddr) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{function}-1-a"), "namespace": "shop", "uid": format!("{function}-a"), "resourceVersion": "2",
                "labels": {"pilotlight.dev/function": function, "pilotlight.dev/revision": format!("{function}-1")},
            },
            "spec": {"containers": [{"name": "function", "ports": [{"name": "http1", "containerPort": address.port()}]}]},
            "status": {"phase": "Running", "podIP": address.ip(), "conditions": [{"type": "Ready", "status": "True"}]},
        });
        let event = format!("{}\n", json!({"type": "ADDED", "object": pod}));
        let mut objects = self.0.lock().unwrap();
        objects.pods.push(pod);
        for (pods, events) in &objects.watches {
            if *pods {
                let _ = events.send(Ok(Frame::data(event.clone().into())));
            }
        }
    }

    /// Whether somebody asked for a replica.
    pub(crate) fn woken(&self) -> bool {
        self.0.lock().unwrap().woken
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let mut objects = self.0.lock().unwrap();
        let (pods, functions) = (path.ends_with("/pods"), path.ends_with("/functions"));
        if (pods || functions) && request.uri().query().unwrap_or_default().contains("watch=true") {
            let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
            objects.watches.push((pods, sender));
            return Response::new(StreamBody::new(UnboundedReceiverStream::new(receiver)).boxed_unsync());
        }
        let text = match (pods, functions) {
            (true, _) => list("PodList", &objects.pods),
            (_, true) => list("FunctionList", &objects.functions),
            _ => {
                objects.woken |= request.method() == Method::PATCH;
                let (name, replicas) = (path.rsplit('/').nth(1), i32::from(objects.woken));
                let metadata = json!({"name": name, "namespace": "shop", "resourceVersion": "1"});
                json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": {"replicas": replicas}, "status": {"replicas": 0}})
                    .to_string()
            }
        };
        let mut response = Response::new(full(text));
        response.headers_mut().insert("content-type", "application/json".parse().unwrap());
        response
    }

    async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let api = api.clone();
                let service = service_fn(move |request| {
                    let answer = api.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        address
    }
}

/// A running activator with the Functions `warm` and `cold`.
pub(crate) struct Activator {
    child: Child,
    pub(crate) api: Api,
    pub(crate) warm: SocketAddr,
    pub(crate) cold: SocketAddr,
    _folder: tempfile::TempDir,
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port([])))
}

impl Activator {
    /// Starts it with `flags`; the pod of `warm` is `pod`.
    pub(crate) async fn start(flags: &[&str], pod: SocketAddr) -> Self {
        let api = Api::default();
        let (warm, cold) = (free_address(), free_address());
        api.add_function("warm", warm.port());
        api.add_function("cold", cold.port());
        api.add_pod("warm", pod);
        let server = api.serve().await;
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{server}")}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilotlight-activator"));
        command.args(["--bind", "127.0.0.1", "--drain-delay-seconds", "0"]).args(flags);
        for flag in ["--http-port", "--admin-port", "--control-port", "--beacon-port"] {
            command.args([flag, &free_port([]).to_string()]);
        }
        command.env("KUBECONFIG", kubeconfig).env("RUST_LOG", "error").stdout(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        let activator = Self { child, api, warm, cold, _folder: folder };
        let began = Instant::now();
        for address in [warm, cold] {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                assert!(began.elapsed() < Duration::from_secs(20), "the route port {address} was never opened");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        activator
    }

    /// Its resident memory in KiB: now, and the most that it ever was.
    ///
    /// # Panics
    /// It has ended.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().expect("it runs"))).unwrap();
        let value = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("the kernel tells it");
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        (value("VmRSS:"), value("VmHWM:"))
    }
}
