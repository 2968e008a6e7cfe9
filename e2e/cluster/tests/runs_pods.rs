//! The promise to demos, tests and benchmarks: what runs here is Kubernetes as users have it. A pod of an imported image
//! (CoreDNS, since it is built already and answers HTTP) is reached by every name and address, from every side.
//! Needs root and takes a minute: `cargo test -p pilotlight-cluster -- --ignored`.

#![allow(clippy::unwrap_used, reason = "a test that cannot look has failed")]

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pilotlight_cluster::{Cluster, ClusterName, ImportedImage, ScratchImage};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pilotlight-cluster");
const IMAGE: &str = "pilotlight.dev/test/coredns:1";
const FORWARDED: &str = "10.96.77.7:80";

/// A cluster that is gone when the test is.
struct Guard(ClusterName);

impl Guard {
    fn up(name: &str, args: &[&str]) -> Self {
        let guard = Self(name.parse().unwrap());
        let status = Command::new(PROGRAM).args(["--name", name, "up"]).args(args).status().unwrap();
        assert!(status.success());
        guard
    }

    fn cluster(&self) -> Cluster {
        Cluster::open(&self.0).unwrap()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = Command::new(PROGRAM).args(["--name", self.0.as_str(), "down"]).status();
    }
}

/// Runs kubectl inside the cluster; what it prints, or why it failed.
fn kubectl(cluster: &Cluster, args: &[&str]) -> Result<String, String> {
    let output = cluster.command("kubectl").args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn apply(cluster: &Cluster, manifest: &str) {
    let mut command = cluster.command("kubectl");
    let mut child = command.args(["apply", "--filename=-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Imports the image and returns it with its digest.
fn import(cluster: &Cluster) -> ImportedImage {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("coredns.tar");
    let program = cluster.bin().join("coredns");
    ScratchImage { reference: IMAGE, program: &program, user: "65532:65532" }.write_to(&archive).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let imported = runtime.block_on(cluster.import_images(&[archive])).unwrap();
    assert_eq!(imported.len(), 1);
    assert_eq!(imported[0].reference, IMAGE);
    imported[0].clone()
}

/// A pod that answers HTTP on port 8080, with the image given by digest and by a tag that does not exist, and the most
/// restricted security settings; and a Service for it.
fn manifest(image: &ImportedImage) -> String {
    let by_digest = image.by_digest().replace('@', ":no-such-tag@");
    format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {{ name: answers }}
data: {{ Corefile: ".:5353 {{ health :8080\n }}" }}
---
apiVersion: v1
kind: Pod
metadata: {{ name: answers, labels: {{ app: answers }} }}
spec:
  securityContext: {{ runAsNonRoot: true, seccompProfile: {{ type: RuntimeDefault }} }}
  containers:
  - name: main
    image: {by_digest}
    args: ["-conf", "/etc/answers/Corefile"]
    securityContext: {{ allowPrivilegeEscalation: false, capabilities: {{ drop: [ALL] }} }}
    readinessProbe: {{ httpGet: {{ path: /health, port: 8080 }}, periodSeconds: 1 }}
    resources: {{ requests: {{ cpu: 10m, memory: 16Mi }}, limits: {{ memory: 128Mi }} }}
    volumeMounts: [{{ name: config, mountPath: /etc/answers }}]
  volumes: [{{ name: config, configMap: {{ name: answers }} }}]
---
apiVersion: v1
kind: Service
metadata: {{ name: answers }}
spec: {{ clusterIP: 10.96.77.7, selector: {{ app: answers }}, ports: [{{ port: 80, targetPort: 8080 }}] }}
"#
    )
}

/// The body of `GET /health` at an address or name.
fn get(address: impl ToSocketAddrs) -> std::io::Result<String> {
    let address = address.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    answer.rsplit("\r\n").next().map(str::to_owned).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

/// A new Service takes effect when kube-proxy has seen it.
fn eventually_ok(what: &str, ask: impl Fn() -> std::io::Result<String>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match ask() {
            Ok(body) => return assert_eq!(body, "OK", "{what}"),
            Err(error) => assert!(Instant::now() < deadline, "{what}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What must hold whatever starts the containers.
fn pods_are_reached_from_every_side(cluster: &Cluster, forwarded_port: u16) {
    apply(cluster, &manifest(&import(cluster)));
    kubectl(cluster, &["wait", "--for=condition=Ready", "pod/answers", "--timeout=60s"]).unwrap();
    let address = kubectl(cluster, &["get", "pod", "answers", "-o", "jsonpath={.status.podIP}"]).unwrap();

    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            cluster.enter_network().unwrap();
            for host in
                [address.as_str(), "10.96.77.7", "answers", "answers.default", "answers.default.svc.cluster.local"]
            {
                let port = if host == address { 8080 } else { 80 };
                eventually_ok(host, || get((host, port)));
            }
            let unknown = ("no-such-name.example", 80).to_socket_addrs();
            assert!(unknown.is_err(), "a name of the outside resolved: {unknown:?}");
        });
        inside.join().unwrap();
    });
    // This thread stayed on the host, where only the forwarded port leads inside.
    eventually_ok("the forwarded port", || get(("127.0.0.1", forwarded_port)));

    let logs = kubectl(cluster, &["logs", "answers"]).unwrap();
    assert!(logs.contains("CoreDNS"), "{logs}");
    let version = kubectl(cluster, &["exec", "answers", "--", "/coredns", "-version"]).unwrap();
    assert!(version.contains("CoreDNS-1.15.0"), "{version}");
}

#[test]
#[ignore = "needs root and starts clusters"]
fn a_pod_is_reached_from_every_side_and_the_control_plane_is_upstreams() {
    let guard = Guard::up("pods-runc", &["--forward", &format!("28081:{FORWARDED}")]);
    let cluster = guard.cluster();
    pods_are_reached_from_every_side(&cluster, 28081);

    // From the host, through the loopback port, with the same kubectl.
    let host = |args: &[&str]| {
        let mut command = Command::new(cluster.bin().join("kubectl"));
        command.env("KUBECONFIG", cluster.kubeconfig()).args(args).output().unwrap()
    };
    let version = String::from_utf8(host(&["version"]).stdout).unwrap();
    assert!(version.contains("Server Version: v1.35.4") && version.contains("Client Version: v1.35.4"), "{version}");

    // Authorization is real …
    let allowed = host(&["auth", "can-i", "list", "pods", "--as=system:serviceaccount:default:default"]);
    assert_eq!(String::from_utf8_lossy(&allowed.stdout).trim(), "no");
    // … tokens are …
    assert!(host(&["create", "token", "default"]).status.success());
    // … and so is admission.
    apply(
        &cluster,
        "{apiVersion: v1, kind: Namespace, metadata: {name: strict, labels: {pod-security.kubernetes.io/enforce: restricted}}}",
    );
    let refused =
        kubectl(&cluster, &["run", "bad", "--namespace=strict", "--image=pilotlight.dev/test/coredns:1"]).unwrap_err();
    assert!(refused.contains("violates PodSecurity"), "{refused}");

    // Commands run where they are started, and hand on how they ended.
    let mut command = cluster.command("sh");
    let here = command.args(["-c", "pwd; exit 7"]).current_dir("/usr").output().unwrap();
    assert_eq!((here.stdout.as_slice(), here.status.code()), (b"/usr\n".as_slice(), Some(7)));

    // kubelet found its sysctls as it wants them, and the host's did not change.
    let inside = cluster.command("cat").arg("/proc/sys/kernel/panic").output().unwrap();
    assert_eq!(inside.stdout, b"10\n");
    let helm = cluster.command("helm").args(["list", "--all-namespaces"]).output().unwrap();
    assert!(helm.status.success(), "{}", String::from_utf8_lossy(&helm.stderr));
}

#[test]
#[ignore = "needs root and starts clusters"]
fn crun_starts_pods_too_beside_another_cluster() {
    let other = Guard::up("pods-beside", &[]);
    let guard = Guard::up("pods-crun", &["--runtime", "crun", "--forward", &format!("28082:{FORWARDED}")]);
    pods_are_reached_from_every_side(&guard.cluster(), 28082);
    let untouched = kubectl(&other.cluster(), &["get", "pods", "--all-namespaces", "-o", "name"]).unwrap();
    assert_eq!(untouched, "", "clusters share nothing");
    assert!(Path::new("/var/lib/pilotlight/pods-beside").exists());
}

#[test]
#[ignore = "needs root and starts clusters"]
fn a_pod_that_names_another_runtime_is_started_by_it() {
    let guard = Guard::up("pods-also", &["--also", "crun"]);
    let cluster = guard.cluster();
    apply(&cluster, &manifest(&import(&cluster)).replacen("\nspec:\n", "\nspec:\n  runtimeClassName: crun\n", 1));
    kubectl(&cluster, &["wait", "--for=condition=Ready", "pod/answers", "--timeout=60s"]).unwrap();
    // Where the container runtime keeps what it starts a pod's containers with.
    let options = "cat /run/containerd/io.containerd.runtime.v2.task/k8s.io/*/options.json";
    let started = cluster.command("sh").args(["-c", options]).output().unwrap();
    let started = String::from_utf8(started.stdout).unwrap();
    assert!(started.contains("/crun") && !started.contains("/runc\""), "{started}");
}

#[test]
#[ignore = "needs root and starts clusters"]
fn a_taken_port_is_said_before_anything_starts() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = Command::new(PROGRAM).args(["--name", "port-taken", "up", "--port", &port]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&port) && said.contains("--port"), "{said}");
    assert_eq!(said.lines().count(), 1, "one sentence: {said}");
    assert!(!Path::new("/var/lib/pilotlight/port-taken").exists());
}
