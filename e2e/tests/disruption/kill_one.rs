//! kill -9 of one of two activators, again and again under load: what is inside the killed process is lost, and nothing else.
//!
//! Inside is a request whose connection began before the kernel has closed the process's sockets: until then the kernel accepts
//! connections in its name, and resets them at the end. No later connection is ever accepted and then lost. Until the node's
//! kube-proxy has taken the address out of its rules, or the container was started again, new connections may still be led to it; the kernel
//! refuses them, so nothing of a request was sent and clients may always connect again. These are counted apart.
//!
//! A third of the clients ask by the Service, a third the activator that will be killed, a third the other one: of the last, none
//! may even be refused.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt as _};
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::kill::{ended, kill_containers};
use pilotlight_e2e::load::{Failure, Load};
use pilotlight_e2e::reach::{ACTIVATORS, SYSTEM_NAMESPACE, ip_of, is_ready};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;

/// How many are killed.
const KILLS: usize = 20;
/// Clients of each way in; each has at most one request in flight.
const CLIENTS: usize = 3;
/// Requests before a kill, and after it has been dealt with.
const REQUESTS: usize = 60;

const SERVICE: &str = "the Service";
const VICTIM: &str = "the killed activator";
const OTHER: &str = "the other activator";

/// Takes its time, so that there is always something inside the process that is killed.
const APP: &str = r#"
import http.server, os, signal, threading, time
class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        time.sleep(0.03)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Slow)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
"#;

fn app() -> Value {
    json!({
        "image": image("hello-python"),
        "command": ["/usr/bin/python3", "-I", "-c", APP],
        "scaling": {"minReplicas": 1},
    })
}

/// What became of the requests of all kills.
#[derive(Debug, Default)]
struct Tally {
    sent: usize,
    lost: usize,
    refused: usize,
    longest: Duration,
}

/// The moments of one kill.
struct Kill {
    /// Before the signal was sent.
    sent: Instant,
    /// The kernel had closed the process's sockets.
    closed: Instant,
    /// The Service no longer led there, or something listened there again.
    over: Instant,
}

enum Fate {
    Lost,
    Refused,
}

impl Kill {
    /// What befell a request, where that may befall it.
    fn fate(&self, failure: &Failure) -> Option<Fate> {
        let at_victim = match failure.target.as_str() {
            VICTIM => true,
            SERVICE => failure.began < self.over,
            _ => false,
        };
        if !at_victim || failure.ended < self.sent {
            return None;
        }
        match failure.connected {
            false => Some(Fate::Refused),
            true => (failure.began <= self.closed).then_some(Fate::Lost),
        }
    }

    /// When something was, for whoever reads of a failure.
    fn moment(&self, at: Instant) -> String {
        let since = |from: Instant| at.saturating_duration_since(from).as_millis();
        if at < self.sent {
            format!("{} ms before the kill", self.sent.duration_since(at).as_millis())
        } else if at <= self.closed {
            format!("{} ms after the kill, while the process ended", since(self.sent))
        } else if at < self.over {
            format!("{} ms after the killed process had ended", since(self.closed))
        } else {
            format!("{} ms after the kill had been dealt with", since(self.over))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn only_what_is_inside_a_killed_activator_is_lost() -> Result<()> {
    let stage = Stage::set("kill-one").await?;
    stage.functions.create("slow", app()).await?;
    let function = stage.ready("slow").await?;
    let port = function.status.and_then(|status| status.route).context("the Function has no route")?.port;
    let mut tally = Tally::default();
    let trail = Trail::follow(stage.reach.client.clone(), port);
    for round in 0..KILLS {
        let [victim, other] = both_led_to(&stage, port).await?;
        if let Err(error) = kill_under_load(&stage, [&victim, &other], port, &mut tally).await {
            let names = [victim.name_any(), other.name_any()];
            bail!("kill {round}, of the first of {names:?}: {error:#}\nwho was led to when:\n{}", trail.tell());
        }
        // Another in its place: kubelet waits longer before each restart of a container.
        let api: Api<Pod> = Api::namespaced(stage.reach.client.clone(), SYSTEM_NAMESPACE);
        api.delete(&victim.name_any(), &DeleteParams::default()).await?;
    }
    println!(
        "{KILLS} kills, {} requests: {} were lost inside the killed processes, {} connections to them were refused; after {:?} at most the \
         Service led to none of them that did not listen",
        tally.sent, tally.lost, tally.refused, tally.longest
    );
    ensure!(tally.lost > 0, "no kill met a request: this has shown nothing");
    both_led_to(&stage, port).await?;
    stage.strike().await
}

async fn kill_under_load(stage: &Stage, [victim, other]: [&Pod; 2], port: u16, tally: &mut Tally) -> Result<()> {
    let reach = &stage.reach;
    let host = format!("slow.{}.svc", stage.namespace);
    let mut load = Load::start(reach, &stage.namespace, &[], 0).await?;
    load.add(reach, SERVICE, &reach.address(&stage.namespace, "slow").await?, &host, CLIENTS);
    load.add(reach, VICTIM, &reach.pod_address(victim, port)?, &host, CLIENTS);
    load.add(reach, OTHER, &reach.pod_address(other, port)?, &host, CLIENTS);
    more(&load, REQUESTS).await?;

    let sent = Instant::now();
    let closed = ended(&kill_containers(victim)?, PATIENCE).await?;
    let before = restarts(victim);
    let dealt_with = || async {
        let ready = activators(stage).await?;
        let back = ready.iter().any(|pod| pod.uid() == victim.uid() && before < restarts(pod));
        Ok(back || !leads_to(victim, port).await?)
    };
    let what = "the killed activator to be back, or out of the Service";
    until(what, PATIENCE, dealt_with, |dealt_with| *dealt_with).await?;
    let kill = Kill { sent, closed, over: Instant::now() };
    more(&load, REQUESTS).await?;

    let (sent, failures) = load.end().await?;
    for failure in failures {
        match kill.fate(&failure) {
            Some(Fate::Lost) => tally.lost += 1,
            Some(Fate::Refused) => tally.refused += 1,
            None => bail!(
                "{failure} (it began {}, and that was {} ms ago)",
                kill.moment(failure.began),
                failure.began.elapsed().as_millis()
            ),
        }
    }
    tally.sent += sent;
    tally.longest = tally.longest.max(kill.over - kill.sent);
    Ok(())
}

/// Who was led to when, for whoever reads of a failure: the addresses in the node's rules, and the activators that there were.
struct Trail {
    seen: Arc<Mutex<Vec<(Instant, String)>>>,
    _follower: JoinSet<()>,
}

impl Trail {
    fn follow(client: Client, port: u16) -> Self {
        let seen: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
        let log = Arc::clone(&seen);
        let mut follower = JoinSet::new();
        follower.spawn(async move {
            let pods: Api<Pod> = Api::namespaced(client, SYSTEM_NAMESPACE);
            loop {
                let now = Instant::now();
                let text = situation(&pods, port).await.unwrap_or_else(|error| format!("{error:#}"));
                note(&mut log.lock().unwrap_or_else(PoisonError::into_inner), now, text);
                tokio::time::sleep(Duration::from_millis(50)).await; // how closely it follows
            }
        });
        Self { seen, _follower: follower }
    }

    fn tell(&self) -> String {
        let log = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let ago = |at: &Instant| at.elapsed().as_millis();
        log.iter().rev().take(40).rev().map(|(at, text)| format!("{} ms ago: {text}\n", ago(at))).collect()
    }
}

fn note(log: &mut Vec<(Instant, String)>, at: Instant, text: String) {
    if log.last().is_none_or(|(_, last)| *last != text) {
        log.push((at, text));
    }
}

async fn situation(pods: &Api<Pod>, port: u16) -> Result<String> {
    let (led, all) = (led_to(port).await?, pods.list(&ListParams::default().labels(ACTIVATORS)).await?);
    let pods = all.iter().map(|pod| {
        let ip = ip_of(pod).unwrap_or_default();
        let going = if pod.metadata.deletion_timestamp.is_some() { ", going" } else { "" };
        format!("{ip} {} ({} restarts, ready: {}{going})", pod.name_any(), restarts(pod), is_ready(pod))
    });
    Ok(format!("led to {}; {}", led.join(" "), pods.collect::<Vec<_>>().join("; ")))
}

/// Waits until the load has begun so many requests more.
async fn more(load: &Load, requests: usize) -> Result<()> {
    let enough = load.sent() + requests;
    until("the load to go on", PATIENCE, || async { Ok(load.sent()) }, |sent| *sent >= enough).await?;
    Ok(())
}

/// Waits until two activators are ready and the Function's Service leads to both. The older is the first.
async fn both_led_to(stage: &Stage, port: u16) -> Result<[Pod; 2]> {
    let both = || async {
        let pods = activators(stage).await?;
        for pod in &pods {
            ensure!(leads_to(pod, port).await?, "nobody is led to {}", pod.name_any());
        }
        Ok(pods)
    };
    let mut pods = until("the Service to lead to two activators", PATIENCE, both, |pods| pods.len() == 2).await?;
    pods.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
    pods.try_into().map_err(|pods: Vec<Pod>| anyhow::anyhow!("{} activators", pods.len()))
}

async fn activators(stage: &Stage) -> Result<Vec<Pod>> {
    stage.reach.ready_pods(SYSTEM_NAMESPACE, ACTIVATORS).await
}

/// Whether the node's kube-proxy leads connections to a pod's port.
async fn leads_to(pod: &Pod, port: u16) -> Result<bool> {
    let target = format!("{}:{port}", ip_of(pod)?);
    Ok(led_to(port).await?.contains(&target))
}

/// Where the node's kube-proxy leads connections that end at this port. The rules are those of the cluster's network namespace here; that of a Service goes
/// to a chain for each endpoint, which is named after it and may outlast the rule.
async fn led_to(port: u16) -> Result<Vec<String>> {
    let rules = Command::new("nft").args(["list", "table", "ip", "kube-proxy"]).output().await.context("no nft")?;
    ensure!(rules.status.success(), "nft list table: {}", String::from_utf8_lossy(&rules.stderr));
    let end = format!("/{port}");
    let rules = String::from_utf8_lossy(&rules.stdout);
    let chains = rules.split("goto endpoint-").skip(1).filter_map(|rule| rule.split([' ', ',', '\n']).next());
    let addresses = chains.filter_map(|chain| Some(chain.rsplit_once("__")?.1.strip_suffix(&end)?.to_owned()));
    let mut targets: Vec<String> = addresses.map(|address| format!("{address}:{port}")).collect();
    targets.sort();
    Ok(targets)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).sum()
}
