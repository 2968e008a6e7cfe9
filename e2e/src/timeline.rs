//! When what happened during a cold start, as an observer of the API server sees it.
//!
//! Kubernetes' own timestamps have whole seconds, so each moment is when its watch event arrived here. A pod's IP and states reach
//! the API up to a second late (kubelet's relist); kubelet's events do not, so they tell of the sandbox and the start.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use pilotlight_crds::names::{CONTAINER, LABEL_FUNCTION};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// A moment in a pod's start, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The Deployment asks for a pod.
    Patched,
    /// The pod exists.
    Created,
    /// It has a node.
    Scheduled,
    /// Its sandbox stands (kubelet turned to the image).
    Sandbox,
    /// The function's container was started.
    Started,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 5] = [Self::Patched, Self::Created, Self::Scheduled, Self::Sandbox, Self::Started];

    /// In a reader's words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Patched => "patched",
            Self::Created => "pod created",
            Self::Scheduled => "scheduled",
            Self::Sandbox => "sandbox",
            Self::Started => "started",
        }
    }
}

/// Whose start is watched.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Selects its Deployments and pods.
    pub labels: String,
    /// What the names of its pods start with.
    pub prefix: String,
    /// Name of the container that answers.
    pub container: String,
}

impl Subject {
    /// A Function.
    pub fn function(name: &str) -> Self {
        Self { labels: format!("{LABEL_FUNCTION}={name}"), prefix: format!("{name}-"), container: CONTAINER.to_owned() }
    }
}

/// A change of the replicas that a Deployment asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To none.
    ToZero,
    /// To one or more.
    FromZero,
}

/// Deployments, pods, events.
const WATCHES: usize = 3;

/// Watches a subject's objects until it is dropped.
pub struct Observer {
    moments: mpsc::UnboundedReceiver<(Phase, Instant)>,
    steps: watch::Receiver<Vec<(Step, Instant)>>,
    pod: watch::Receiver<Option<(Pod, Instant)>>,
    begun: watch::Receiver<[bool; WATCHES]>,
    _watches: JoinSet<()>,
}

impl Observer {
    /// Starts to watch; what is there already is told as well, at the moment it is seen.
    pub fn start(client: &Client, namespace: &str, subject: &Subject) -> Self {
        let (sender, moments) = mpsc::unbounded_channel();
        let mut watches = JoinSet::new();
        let labelled = watcher::Config::default().labels(&subject.labels);
        let (begin, begun) = watch::channel([false; WATCHES]);
        let first = |index: usize| {
            let begin = begin.clone();
            move || begin.send_modify(|begun| begun[index] = true)
        };

        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let tell = sender.clone();
        let (record, steps) = watch::channel(Vec::new());
        watches.spawn(observe(deployments, labelled.clone(), first(0), move |deployment: &Deployment| {
            let now = Instant::now();
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
            let step = if replicas == Some(0) { Step::ToZero } else { Step::FromZero };
            if step == Step::FromZero {
                let _ = tell.send((Phase::Patched, now));
            }
            record.send_if_modified(|steps: &mut Vec<(Step, Instant)>| {
                let changed = steps.last().is_none_or(|(last, _)| *last != step);
                if changed {
                    steps.push((step, now));
                }
                changed
            });
        }));

        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let tell = sender.clone();
        let (latest, pod) = watch::channel(None);
        watches.spawn(observe(pods, labelled, first(1), move |pod: &Pod| {
            let now = Instant::now();
            if pod.metadata.deletion_timestamp.is_some() {
                return; // one of an earlier start
            }
            let _ = tell.send((Phase::Created, now));
            if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
                let _ = tell.send((Phase::Scheduled, now));
            }
            latest.send_replace(Some((pod.clone(), now)));
        }));

        let events: Api<Event> = Api::namespaced(client.clone(), namespace);
        let prefix = subject.prefix.clone();
        let field = format!("spec.containers{{{}}}", subject.container);
        watches.spawn(observe(events, watcher::Config::default(), first(2), move |event: &Event| {
            let about = &event.involved_object;
            let ours = about.name.as_ref().is_some_and(|name| name.starts_with(&prefix));
            if !ours || about.field_path.as_ref() != Some(&field) {
                return;
            }
            let phase = match event.reason.as_deref() {
                Some("Pulled" | "Pulling") => Phase::Sandbox,
                Some("Started") => Phase::Started,
                _ => return,
            };
            let _ = sender.send((phase, Instant::now()));
        }));
        Self { moments, steps, pod, begun, _watches: watches }
    }

    /// Waits until everything that is there already was seen, so that what comes next is seen when it happens.
    pub async fn begun(&mut self) {
        // An error means that the watches ended; what waits for them next will say so.
        let _ = self.begun.wait_for(|begun| begun.iter().all(|begun| *begun)).await;
    }

    /// Waits until a pod is seen after `from` for which `holds` is true, and returns it with that moment; nothing when the watch ended.
    pub async fn pod(&mut self, from: Instant, holds: impl Fn(&Pod) -> bool) -> Option<(Pod, Instant)> {
        let seen = self.pod.wait_for(|seen| seen.as_ref().is_some_and(|(pod, at)| *at >= from && holds(pod))).await;
        seen.ok()?.clone()
    }

    /// Waits for a step after `from`; nothing when the watch ended.
    pub async fn step(&mut self, step: Step, from: Instant) -> Option<Instant> {
        let after = |steps: &Vec<(Step, Instant)>| find(steps, step, from).is_some();
        let steps = self.steps.wait_for(after).await.ok()?;
        find(&steps, step, from)
    }

    /// The last step after `from` that was seen so far.
    pub fn latest(&self, step: Step, from: Instant) -> Option<Instant> {
        find(&self.steps.borrow(), step, from)
    }

    /// The first moment after `from` of each phase, in order; waits at most `limit` for those not yet told.
    pub async fn since(&mut self, from: Instant, limit: Duration) -> Vec<(Phase, Duration)> {
        let mut first = BTreeMap::new();
        let deadline = tokio::time::Instant::now() + limit;
        while first.len() < Phase::ALL.len() {
            let Ok(Some((phase, at))) = tokio::time::timeout_at(deadline, self.moments.recv()).await else {
                break;
            };
            if at >= from {
                first.entry(phase).or_insert(at - from);
            }
        }
        first.into_iter().collect()
    }
}

fn find(steps: &[(Step, Instant)], wanted: Step, from: Instant) -> Option<Instant> {
    let matching = |(step, at): &&(Step, Instant)| *step == wanted && *at >= from;
    steps.iter().rev().find(matching).map(|(_, at)| *at)
}

async fn observe<K>(
    api: Api<K>,
    config: watcher::Config,
    begun: impl Fn() + Send + 'static,
    tell: impl Fn(&K) + Send + 'static,
) where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut objects = std::pin::pin!(watcher(api, config).default_backoff());
    loop {
        match objects.try_next().await {
            Ok(Some(watcher::Event::InitApply(object) | watcher::Event::Apply(object))) => tell(&object),
            Ok(Some(watcher::Event::InitDone)) => begun(),
            Ok(Some(watcher::Event::Init | watcher::Event::Delete(_))) => {}
            Ok(None) => return,
            Err(_) => {} // the watcher starts again by itself
        }
    }
}

/// Draws moments as bars against the last one.
pub fn draw(moments: &[(&str, Duration)]) -> String {
    const WIDTH: u128 = 48;
    let total = moments.iter().map(|(_, at)| at.as_micros()).max().unwrap_or(0).max(1);
    let mut drawn = String::new();
    let mut last = Duration::ZERO;
    for (label, at) in moments {
        let reached = usize::try_from(at.as_micros() * WIDTH / total).unwrap_or(0);
        let before = usize::try_from(last.as_micros() * WIDTH / total).unwrap_or(0).min(reached);
        let bar = format!("{}{}", "·".repeat(before), "█".repeat((reached - before).max(1)));
        let _ = writeln!(drawn, "  {label:<14} {:>7.1} ms  {bar}", at.as_secs_f64() * 1e3);
        last = *at;
    }
    drawn
}
