//! The autoscaler: the I/O around `pilotlight_scaling::decide`. It listens to every activator, keeps a window of load for each
//! Function, and is the only part of the operator that writes `/scale`.
//!
//! What always holds: nothing is scaled down on missing data; every step down is a hand-shake with all activators that run;
//! a patch carries the resource version that its decision was made on.
//!
//! It runs in the leader only: start it after the lease is won and cancel `shutdown` when it is lost.

mod events;
mod metrics;
mod view;

pub use events::{ScalingEvent, ScalingEventKind};
pub use metrics::AutoscalerMetrics;
pub use view::{ActivatorAddress, ActivatorView};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::Store;
use pilotlight_crds::Function;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

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
    pub functions: Store<Function>,
    /// Every pod with the label `pilotlight.dev/function`.
    pub pods: Store<Pod>,
    /// Every Deployment with the label `pilotlight.dev/function`.
    pub deployments: Store<Deployment>,
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
    /// Starts all tasks on the current tokio runtime and returns at once.
    pub fn start(context: AutoscalerContext) -> AutoscalerHandle {
        let _ = context;
        AutoscalerHandle {
            view: ActivatorView::default(),
        }
    }
}

/// How the rest of the operator talks to the autoscaler. Cheap to clone; no call blocks.
#[derive(Clone)]
pub struct AutoscalerHandle {
    view: ActivatorView,
}

impl AutoscalerHandle {
    /// Tells that the Function, one of its Deployments or one of its pods changed, so that it is looked at again at once. Missing
    /// a call only costs time: everything is looked at every ten seconds.
    pub fn changed(&self, namespace: &str, name: &str) {
        let _ = (namespace, name);
    }

    /// Keeps `revision` at `replicas` or more until [`Self::clear_initial`], so that a new revision can prove that it starts.
    /// Idempotent.
    pub fn set_initial(&self, namespace: &str, name: &str, revision: &str, replicas: u32) {
        let _ = (namespace, name, revision, replicas);
    }

    /// Ends what [`Self::set_initial`] began. If the revision does not become the Function's `status.route.revision` within ten seconds, it
    /// is scaled to zero; if it does, the idle rule decides. Idempotent.
    pub fn clear_initial(&self, namespace: &str, name: &str, revision: &str) {
        let _ = (namespace, name, revision);
    }

    /// While `true`, every Function's active revision keeps at least one replica, whatever its idle time: the pods are
    /// reached without an activator, so nobody could wake them.
    pub fn set_fail_open(&self, fail_open: bool) {
        let _ = fail_open;
    }

    /// The activators that run, and the routes that they acknowledged.
    pub fn activators(&self) -> ActivatorView {
        self.view.clone()
    }

    /// The last decision for a Function and its reason, as the JSON body of `GET /decisions?namespace=&name=`. `None` if there
    /// was none yet.
    pub fn last_decision(&self, namespace: &str, name: &str) -> Option<serde_json::Value> {
        let _ = (namespace, name);
        None
    }
}
