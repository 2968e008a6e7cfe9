//! Promise: a hard concurrency limit is exact whichever activator a request reaches, also while the activators are replaced, and none of
//! the requests fails.
//!
//! The app answers 500 when two requests are with it at once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use pilotlight_e2e::exclusive;
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::http;
use pilotlight_e2e::kill::kill_containers;
use pilotlight_e2e::reach::{ACTIVATORS, SYSTEM_NAMESPACE};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;
use tokio::task::JoinSet;

const PODS: usize = 5;
const CLIENTS: usize = 50;

/// What the clients have seen so far.
#[derive(Default)]
struct Seen {
    answered: AtomicUsize,
    pods: Mutex<BTreeSet<String>>,
    failures: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Seen {
    fn note(&self, answer: Result<http::Answer>) {
        match answer {
            Ok(answer) if answer.status.is_success() => {
                self.pods.lock().expect("no client panics").insert(answer.text());
                self.answered.fetch_add(1, Ordering::SeqCst);
            }
            Ok(answer) => self.fail(format!("{} {}", answer.status, answer.text())),
            Err(error) => self.fail(format!("{error:#}")),
        }
    }

    fn fail(&self, failure: String) {
        self.failures.lock().expect("no client panics").push(failure);
    }

    async fn more(&self, more: usize) -> Result<()> {
        let goal = self.answered.load(Ordering::SeqCst) + more;
        let now = || async { Ok(self.answered.load(Ordering::SeqCst)) };
        until(&format!("{more} more answers"), PATIENCE, now, |answered| *answered >= goal).await?;
        Ok(())
    }
}

struct Activators {
    deployments: Api<Deployment>,
    name: String,
    replicas: i32,
}

impl Activators {
    async fn find(stage: &Stage) -> Result<Self> {
        let deployments: Api<Deployment> = Api::namespaced(stage.reach.client.clone(), SYSTEM_NAMESPACE);
        let found = deployments.list(&ListParams::default().labels(ACTIVATORS)).await?;
        let one = found.items.into_iter().next().context("no Deployment of activators")?;
        let replicas = one.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let name = one.metadata.name.context("a Deployment without a name")?;
        Ok(Self { deployments, name, replicas })
    }

    async fn patch(&self, spec: serde_json::Value) -> Result<()> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let patched = self.deployments.patch(&self.name, &PatchParams::default(), &patch).await?;
        let generation = patched.metadata.generation;
        let rolled = |deployment: &Deployment| {
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
            deployment.status.as_ref().is_some_and(|status| {
                status.observed_generation >= generation
                    && status.updated_replicas == wanted
                    && status.available_replicas == wanted
                    && status.replicas == wanted
            })
        };
        let what = format!("the rollout of {}", self.name);
        until(&what, PATIENCE * 2, || async { Ok(self.deployments.get(&self.name).await?) }, rolled).await?;
        Ok(())
    }

    async fn scale(&self, replicas: i32) -> Result<()> {
        self.patch(json!({ "replicas": replicas })).await
    }

    async fn roll(&self) -> Result<()> {
        let stamp = format!("{:?}", Instant::now());
        self.patch(json!({"template": {"metadata": {"annotations": {"pilotlight.dev/rolled": stamp}}}})).await
    }
}

async fn prepare(prefix: &str) -> Result<(Arc<Stage>, Activators)> {
    let stage = Stage::set(prefix).await?;
    let activators = Activators::find(&stage).await?;
    activators.scale(3).await?;
    let mut spec = exclusive::container();
    spec["concurrency"] = json!({"limit": 1});
    spec["scaling"] = json!({"minReplicas": PODS, "maxReplicas": PODS});
    stage.functions.create("exclusive", spec).await?;
    stage.ready("exclusive").await?;
    until(
        "every pod",
        PATIENCE,
        || async { Ok(stage.functions.get("exclusive").await?.status.map_or(0, |status| status.ready_replicas)) },
        |ready| usize::try_from(*ready).is_ok_and(|ready| ready == PODS),
    )
    .await?;
    Ok((Arc::new(stage), activators))
}

/// One request: by the in-cluster name, or to the port that all Functions share on the `n`-th activator that is ready now.
async fn ask(stage: &Stage, ready: &Mutex<Vec<Pod>>, n: usize) -> Result<http::Answer> {
    let pod = {
        let ready = ready.lock().expect("no client panics");
        (n.is_multiple_of(2) && !ready.is_empty()).then(|| ready[n / 2 % ready.len()].clone())
    };
    let Some(pod) = pod else { return stage.get("exclusive", "/").await };
    let start = Instant::now();
    let stream = stage.reach.pod(&pod, 8080).await?;
    let host = format!("exclusive.{}", stage.namespace);
    let request = Request::get("/").header("host", host).body(Full::<Bytes>::default())?;
    http::exchange(stream, request, start).await
}

/// Clients, half of them by the in-cluster name, unless all are to ask the activators in `ready` themselves.
fn clients(stage: &Arc<Stage>, seen: &Arc<Seen>, ready: &Arc<Mutex<Vec<Pod>>>, by_name: bool) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for n in (0..CLIENTS).map(|n| if by_name { n } else { n * 2 }) {
        let (stage, seen, ready) = (stage.clone(), seen.clone(), ready.clone());
        tasks.spawn(async move {
            while !seen.over.load(Ordering::SeqCst) {
                seen.note(ask(&stage, &ready, n).await);
            }
        });
    }
    tasks
}

/// Keeps the list of ready activators up to date.
fn follow(stage: &Arc<Stage>, seen: &Arc<Seen>, ready: &Arc<Mutex<Vec<Pod>>>, tasks: &mut JoinSet<()>) {
    let (stage, seen, ready) = (stage.clone(), seen.clone(), ready.clone());
    tasks.spawn(async move {
        while !seen.over.load(Ordering::SeqCst) {
            if let Ok(pods) = stage.reach.ready_pods(SYSTEM_NAMESPACE, ACTIVATORS).await {
                *ready.lock().expect("no client panics") = pods;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
}

/// Ends the clients, and leaves as many activators as there were.
async fn end(seen: &Seen, mut tasks: JoinSet<()>, activators: &Activators) -> Result<()> {
    seen.over.store(true, Ordering::SeqCst);
    while tasks.join_next().await.is_some() {}
    activators.scale(activators.replicas).await
}

/// An answer that had begun cannot be had again; the owner had one request at each pod at most.
fn pardon_broken_answers(seen: &Seen) -> Result<()> {
    let mut failures = seen.failures.lock().expect("no client panics");
    let failed = failures.len();
    failures.retain(|failure| !failure.starts_with("the answer broke off"));
    let broken = failed - failures.len();
    ensure!(broken <= PODS, "{broken} answers broke off, and the owner had {PODS} at most");
    Ok(())
}

fn verdict(seen: &Seen) -> Result<()> {
    let failures = seen.failures.lock().expect("no client panics");
    let answered = seen.answered.load(Ordering::SeqCst);
    ensure!(
        failures.is_empty(),
        "{} of {} failed: {:?}",
        failures.len(),
        answered + failures.len(),
        &failures[..failures.len().min(5)]
    );
    let pods = seen.pods.lock().expect("no client panics");
    ensure!(pods.len() >= PODS, "only {pods:?} got requests");
    println!("{answered} requests, none failed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_limit_of_one_is_exact_over_three_activators_while_they_are_replaced() -> Result<()> {
    let (stage, activators) = prepare("exact").await?;
    let (seen, ready) = (Arc::new(Seen::default()), Arc::default());
    let mut tasks = clients(&stage, &seen, &ready, true);
    follow(&stage, &seen, &ready, &mut tasks);
    let run = async {
        seen.more(500).await?;
        activators.roll().await?;
        seen.more(300).await
    };
    let ran = run.await;
    end(&seen, tasks, &activators).await?;
    ran?;
    verdict(&seen)?;
    Arc::into_inner(stage).context("a client still runs")?.strike().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_killed_owner_fails_only_what_it_had_itself() -> Result<()> {
    let (stage, activators) = prepare("owner").await?;
    let status = stage.functions.get("exclusive").await?.status.and_then(|status| status.route);
    let owner = status.and_then(|route| route.owner).and_then(|owner| owner.activator).context("nobody owns it")?;
    let all = stage.reach.ready_pods(SYSTEM_NAMESPACE, ACTIVATORS).await?;
    let (owners, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|pod| pod.metadata.uid.as_deref() == Some(owner.uid.as_str()));
    let seen = Arc::new(Seen::default());
    // Only by the others, which relay: what they had handed to the owner is asked again, for it is safe.
    let ready = Arc::new(Mutex::new(others));
    let tasks = clients(&stage, &seen, &ready, false);
    let run = async {
        seen.more(300).await?;
        kill_containers(owners.first().context("the owner is not ready")?)?;
        let killed = Instant::now();
        seen.more(1).await?;
        seen.more(PODS * 4).await?;
        println!("the next {} answers came within {:?} of the kill", PODS * 4 + 1, killed.elapsed());
        seen.more(300).await
    };
    let ran = run.await;
    end(&seen, tasks, &activators).await?;
    ran?;
    pardon_broken_answers(&seen)?;
    verdict(&seen)?;
    Arc::into_inner(stage).context("a client still runs")?.strike().await
}
