//! As much of a Kubernetes API server as an activator asks for: lists and watches of Functions and Pods from fixed objects, and `/scale`
//! of any Deployment. The activator under measurement is the real program and does not know the difference.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// A watch must end some time, as on a real API server; this outlives every benchmark.
const WATCH: Duration = Duration::from_secs(3600);
const HEAD: usize = 32 * 1024;

/// A Function with one pod, or none yet.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// Its name; the namespace is `bench`.
    pub(crate) name: &'static str,
    /// Its route port.
    pub(crate) port: u16,
    /// Where its pod listens.
    pub(crate) pod: SocketAddr,
    /// The port's name there: `http1` or `h2c`.
    pub(crate) protocol: &'static str,
    /// Whether the pod is there from the start.
    pub(crate) warm: bool,
}

impl Served {
    fn function(&self) -> Value {
        let revision = format!("{}-1", self.name);
        json!({
            "apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function",
            "metadata": { "name": self.name, "namespace": "bench", "uid": self.name, "generation": 1, "resourceVersion": "1" },
            "spec": { "image": "bench", "protocol": self.protocol.to_uppercase() },
            "status": { "observedGeneration": 1, "route": { "port": self.port, "revision": revision } },
        })
    }

    fn pod(&self) -> Value {
        let revision = format!("{}-1", self.name);
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{revision}-a"), "namespace": "bench", "uid": format!("{revision}-a"), "resourceVersion": "2",
                "labels": { "pilotlight.dev/function": self.name, "pilotlight.dev/revision": revision },
            },
            "spec": { "containers": [{
                "name": "function", "image": "bench",
                "ports": [{ "name": self.protocol, "containerPort": self.pod.port() }],
            }] },
            "status": { "phase": "Running", "podIP": self.pod.ip(), "conditions": [{ "type": "Ready", "status": "True" }] },
        })
    }
}

/// The server; its threads end with the process.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    functions: Vec<Value>,
    pods: Vec<Value>,
    pod_watches: Vec<TcpStream>,
    woken: Vec<String>,
}

impl Api {
    /// Serves these Functions.
    ///
    /// # Errors
    /// There is no free port.
    pub(crate) fn start(served: &[Served]) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("no port for the API server")?;
        let functions = served.iter().map(Served::function).collect();
        let pods = served.iter().filter(|served| served.warm).map(Served::pod).collect();
        let state = Arc::new(Mutex::new(State { functions, pods, ..State::default() }));
        let api = Self { address: listener.local_addr()?, state };
        let serving = api.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let api = serving.clone();
                std::thread::spawn(move || api.serve(stream));
            }
        });
        Ok(api)
    }

    /// Writes a kubeconfig file that leads here.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn kubeconfig(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{ "name": "bench", "cluster": { "server": format!("http://{}", self.address) } }],
            "users": [{ "name": "bench", "user": {} }],
            "contexts": [{ "name": "bench", "context": { "cluster": "bench", "user": "bench" } }],
        });
        std::fs::write(&path, text.to_string()).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// The pod of a Function appears.
    pub(crate) fn add_pod(&self, served: &Served) {
        let mut state = self.lock();
        let pod = served.pod();
        let event = format!("{}\n", json!({ "type": "ADDED", "object": pod }));
        state.pods.push(pod);
        state.pod_watches.retain_mut(|watch| chunk(watch, &event).is_ok());
    }

    /// Whether somebody has set the replicas of a Function's Deployment.
    pub(crate) fn was_woken(&self, served: &Served) -> bool {
        self.lock().woken.contains(&format!("{}-1", served.name))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: TcpStream) {
        let _ = stream.set_read_timeout(Some(WATCH));
        while let Ok(Some((method, target))) = read_request(&mut stream) {
            let answered = match self.answer(&method, &target) {
                Answer::Object(object) => write_object(&mut stream, &object),
                Answer::Watch { pods } => {
                    let _ = self.watch(stream, pods);
                    return;
                }
            };
            if answered.is_err() {
                return;
            }
        }
    }

    fn answer(&self, method: &str, target: &str) -> Answer {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let watch = query.split('&').any(|field| field == "watch=true");
        let list = |kind: &str, items: &[Value]| {
            Answer::Object(
                json!({ "apiVersion": "v1", "kind": kind, "metadata": { "resourceVersion": "2" }, "items": items }),
            )
        };
        match path {
            "/apis/pilotlight.dev/v1alpha1/functions" if watch => Answer::Watch { pods: false },
            "/api/v1/pods" if watch => Answer::Watch { pods: true },
            "/apis/pilotlight.dev/v1alpha1/functions" => list("FunctionList", &self.lock().functions),
            "/api/v1/pods" => list("PodList", &self.lock().pods),
            _ => Answer::Object(self.scale(method, path)),
        }
    }

    fn scale(&self, method: &str, path: &str) -> Value {
        let name = path.trim_end_matches("/scale").rsplit('/').next().unwrap_or_default();
        let mut state = self.lock();
        if method == "PATCH" {
            state.woken.push(name.to_owned());
        }
        let replicas = i32::from(state.woken.iter().any(|woken| woken == name));
        json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": { "name": name, "namespace": "bench", "resourceVersion": "1" },
            "spec": { "replicas": replicas }, "status": { "replicas": 0 },
        })
    }

    fn watch(&self, mut stream: TcpStream, pods: bool) -> io::Result<()> {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        if pods {
            self.lock().pod_watches.push(stream.try_clone()?);
        }
        // Returns when the client has gone.
        stream.read(&mut [0; 1]).map(drop)
    }
}

enum Answer {
    Object(Value),
    Watch { pods: bool },
}

fn chunk(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    write!(stream, "{:x}\r\n{text}\r\n", text.len())
}

fn write_object(stream: &mut TcpStream, object: &Value) -> io::Result<()> {
    let body = object.to_string();
    let length = body.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Method and target of the next request, its body read and dropped; `None` where the client has gone.
fn read_request(stream: &mut TcpStream) -> io::Result<Option<(String, String)>> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece)?;
        if count == 0 || bytes.len() > HEAD {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece[..count]);
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        let Ok(parsed) = request.parse(&bytes) else { return Err(io::ErrorKind::InvalidData.into()) };
        let httparse::Status::Complete(head) = parsed else { continue };
        let asked = (request.method.unwrap_or_default().to_owned(), request.path.unwrap_or_default().to_owned());
        let length = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
        let length = length.and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok()).unwrap_or(0);
        let mut body = vec![0; (head + length).saturating_sub(bytes.len())];
        stream.read_exact(&mut body)?;
        return Ok(Some(asked));
    }
}
