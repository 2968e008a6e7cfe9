//! The autoscaler: the I/O around `pilotlight_scaling::decide`. It listens to every activator, keeps a window of load for each
//! Function, and is the only part of the operator that writes `/scale`.
//!
//! What always holds: nothing is scaled down on missing data; every step down is a hand-shake with all activators that run;
//! a patch carries the resource version that its decision was made on.
//!
//! It runs in the leader only: start it after the lease is won and cancel `shutdown` when it is lost.

mod accounts;
mod board;
pub(crate) mod calendar;
mod clock;
mod cluster;
mod control;
mod decisions;
mod drain;
mod evaluation;
mod events;
mod footprint;
mod habit;
mod inbox;
mod lead;
mod ledger;
mod lines;
mod looking;
mod membership;
mod metrics;
pub mod parking;
mod pods;
mod progress;
mod refusals;
mod registry;
mod schedule;
mod situation;
mod stepdown;
mod steps;
mod stream;
mod tally;
#[cfg(test)]
mod tests;
mod throttle;
mod view;

pub use events::{ScalingEvent, ScalingEventKind};
pub use lead::{Leads, reachable};
pub use metrics::AutoscalerMetrics;
pub use view::{ActivatorAddress, ActivatorChanges, ActivatorView, Affected};

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use pilotlight_crds::Function;
use pilotlight_crds::control::CONTROL_PORT;
use pilotlight_crds::status::IdleStatus;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::cache::{AdoptedPods, Shelf};
use crate::status::rollout::Seen;
use board::Board;
use calendar::Calendar;
use clock::Clock;
use cluster::{Cluster, KubeCluster};
use control::ControlClient;
use decisions::DecisionLog;
use evaluation::Evaluation;
use inbox::Inbox;
use ledger::{FunctionKey, Ledger};
use pods::PodChange;
use registry::Registry;
use schedule::Schedule;

/// Messages that may wait between tasks; beyond it their senders wait.
const CHANNEL: usize = 64;

/// The pods of the Function in this namespace and with this name.
pub type PodsOf = Arc<dyn Fn(&str, &str) -> Vec<Arc<Pod>> + Send + Sync>;

/// All that the autoscaler needs from the rest of the operator.
pub struct AutoscalerContext {
    /// Client for `/scale`, for pod annotations and for the watch of the activators.
    pub client: kube::Client,
    /// Pilotlight's own namespace, where the activators run.
    pub namespace: String,
    /// Label selector of the activators' pods.
    pub activator_selector: String,
    /// Bearer token of the control protocol.
    pub token: String,
    /// Every Function that the operator serves.
    pub functions: Shelf<Function>,
    /// Every Deployment with the label `pilotlight.dev/function`.
    pub deployments: Shelf<Deployment>,
    /// How the pods of Deployments that Functions took over are found.
    pub adopted: AdoptedPods,
    /// The pods of a Function, from a cache.
    pub pods: PodsOf,
    /// Metrics, made once per process by [`AutoscalerMetrics::register`].
    pub metrics: AutoscalerMetrics,
    /// Where decisions that matter to the author go, to become Events. When it is full, events are dropped, never waited for.
    pub events: mpsc::Sender<ScalingEvent>,
    /// Ends every task of the autoscaler. A hand-shake that is under way is released as aborted.
    pub shutdown: CancellationToken,
}

/// Starts the autoscaler.
pub struct Autoscaler;

impl Autoscaler {
    /// Starts all tasks on the current tokio runtime and returns at once. It begins to listen to activators once the stores are
    /// filled.
    pub fn start(context: AutoscalerContext) -> AutoscalerHandle {
        let cluster = KubeCluster {
            client: context.client.clone(),
            adopted: context.adopted.clone(),
            namespace: context.namespace.clone(),
            activator_selector: context.activator_selector.clone(),
        };
        let (client, namespace) = (context.client.clone(), context.namespace.clone());
        let selector = context.activator_selector.clone();
        let (changes, pods) = mpsc::channel(CHANNEL);
        let watching = pods::watch(client, namespace, selector, changes);
        let (handle, evaluation) = assemble(context, cluster, Registry::new(CONTROL_PORT), pods);
        tokio::spawn(async move {
            // The watch ends when the loop drops its receiver, or here.
            let watching = tokio::spawn(watching);
            evaluation.await;
            watching.abort();
        });
        handle
    }
}

/// The handle, and the evaluation loop behind it.
fn assemble<C: Cluster>(
    context: AutoscalerContext,
    cluster: C,
    registry: Registry,
    pods: mpsc::Receiver<PodChange>,
) -> (AutoscalerHandle, impl Future<Output = ()> + Send) {
    let (heard_sender, heard) = mpsc::channel(CHANNEL);
    let (view, snapshot) = watch::channel(view::Snapshot::default());
    let moved = Arc::new(view::Moved::default());
    let inbox = Arc::new(Inbox::default());
    let decisions = Arc::new(DecisionLog::default());
    let clock = Clock::start();
    context.metrics.accounts.count_by(clock);
    let board = Arc::new(Board::new(Arc::clone(&context.metrics.accounts)));
    let handle = AutoscalerHandle {
        view: ActivatorView::new(snapshot, Arc::clone(&moved)),
        inbox: Arc::clone(&inbox),
        decisions: Arc::clone(&decisions),
        board: Arc::clone(&board),
        clock,
    };
    let evaluation = Evaluation {
        cluster: Arc::new(cluster),
        control: ControlClient::new(&context.token),
        clock,
        functions: context.functions,
        deployments: context.deployments,
        pods: context.pods,
        inbox,
        decisions,
        board,
        metrics: context.metrics,
        events: context.events,
        view,
        moved,
        shutdown: context.shutdown,
        heard_sender,
        ledger: Ledger::default(),
        registry,
        schedule: Schedule::default(),
        calendar: Calendar::default(),
        progress: HashMap::new(),
        listeners: HashMap::new(),
        steps: JoinSet::new(),
    };
    let run = async move {
        let ready =
            async { evaluation.functions.listed().await.is_ok() && evaluation.deployments.listed().await.is_ok() };
        tokio::select! {
            ready = ready => if !ready {
                error!("The caches ended before they were filled; nothing is scaled");
                return;
            },
            () = evaluation.shutdown.cancelled() => return,
        }
        evaluation.run(pods, heard).await;
    };
    (handle, run)
}

/// How the rest of the operator talks to the autoscaler. Cheap to clone; no call blocks.
#[derive(Clone)]
pub struct AutoscalerHandle {
    view: ActivatorView,
    inbox: Arc<Inbox>,
    decisions: Arc<DecisionLog>,
    board: Arc<Board>,
    clock: Clock,
}

impl AutoscalerHandle {
    /// Tells that the Function, one of its Deployments or one of its pods changed, so that it is looked at again at once. Missing
    /// a call only costs time: everything is looked at every ten seconds.
    pub fn changed(&self, namespace: &str, name: &str) {
        self.inbox.changed(FunctionKey::new(namespace, name));
    }

    /// Keeps `revision` at `replicas` or more until [`Self::clear_initial`], so that a new revision can prove that it starts.
    /// Idempotent.
    pub fn set_initial(&self, namespace: &str, name: &str, revision: &str, replicas: u32) {
        let key = FunctionKey::new(namespace, name);
        self.inbox.set_floor(key, revision, replicas);
    }

    /// Ends what [`Self::set_initial`] began. If the revision does not become the Function's `status.route.revision` within ten seconds, it
    /// is scaled to zero; if it does, the idle rule decides. Idempotent.
    pub fn clear_initial(&self, namespace: &str, name: &str, revision: &str) {
        let key = FunctionKey::new(namespace, name);
        self.inbox.clear_floor(key, revision);
    }

    /// Tells where a Function's Service leads, and for how long the Function has been [`reachable`]. Idle time counts only from when all
    /// requests come through the activators: what goes past them, they cannot tell of. Until this was called once nothing of the
    /// Function is scaled down, nor in the ten seconds after its Service led to pods. Idempotent.
    pub fn set_lead(&self, namespace: &str, name: &str, leads: Leads, reachable: Duration) {
        self.inbox.set_lead(FunctionKey::new(namespace, name), leads, reachable);
    }

    /// While `true`, every Function's active revision keeps at least one replica, whatever its idle time: the pods are
    /// reached without an activator, so nobody could wake them.
    pub fn set_fail_open(&self, fail_open: bool) {
        self.inbox.set_fail_open(fail_open);
    }

    /// Which rungs pods could not be put on when that was last tried, and why. On others they could, or it was not tried.
    pub fn rungs_refused(&self, namespace: &str, name: &str) -> BTreeMap<pilotlight_scaling::Rung, String> {
        self.inbox.rungs_refused(&FunctionKey::new(namespace, name))
    }

    /// What activators saw of the requests of a revision that is being rolled out, since it has this part of the traffic.
    pub fn rollout_seen(&self, namespace: &str, name: &str, revision: &str, percent: u32) -> Seen {
        self.inbox.tallies.seen(FunctionKey::new(namespace, name), revision, percent, std::time::Instant::now())
    }

    /// Forgets what was seen of a rollout that has ended. Idempotent.
    pub fn forget_rollout(&self, namespace: &str, name: &str) {
        self.inbox.tallies.forget(&FunctionKey::new(namespace, name));
    }

    /// What the Function's status could say of the idle ladder at this time: plan, what was learnt, cost. `None` while nothing was decided about it.
    pub fn idle(&self, namespace: &str, name: &str, date: jiff::Timestamp) -> Option<IdleStatus> {
        self.board.read(&FunctionKey::new(namespace, name), (self.clock.now(), date))
    }

    /// The activators that run, and the routes that they acknowledged.
    pub fn activators(&self) -> ActivatorView {
        self.view.clone()
    }

    /// The last decisions for a Function and their reasons, as the JSON body of `GET /decisions?namespace=&name=`. `None` if there
    /// was none yet.
    pub fn decisions(&self, namespace: &str, name: &str) -> Option<serde_json::Value> {
        self.decisions.json(&FunctionKey::new(namespace, name))
    }
}
