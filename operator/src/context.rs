//! What every reconcile shares: the client, the caches, and what this process remembers of each Function.
//!
//! What always holds: nothing here is needed to be right. All of it can be lost by a restart; it only spares writes, events
//! and questions, and lets the operator restore what somebody deleted.

use kube::Client;
use kube::runtime::reflector::ObjectRef;
use pilotlight_crds::diagnosis::PodEvent;
use pilotlight_crds::{Function, FunctionStatus};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::adopt::Waits;
use crate::autoscaler::{ActivatorView, AutoscalerHandle};
use crate::build::deployment::Revision;
use crate::cache::{Caches, Packed, Triggers};
use crate::event_writer::EventWriter;
use crate::hostnames::HostIndex;
use crate::metrics::Metrics;
use crate::pilot::PilotSource;
use crate::ports::{Claimant, PortIndex};

/// Shared by all reconciles of a leader.
pub struct Context {
    /// Client for all writes.
    pub client: Client,
    /// What is known of the cluster.
    pub caches: Caches,
    /// Scales; knows the activators.
    pub autoscaler: AutoscalerHandle,
    /// The activators.
    pub activators: ActivatorView,
    /// Writes Events.
    pub recorder: EventWriter,
    /// Counts.
    pub metrics: Metrics,
    /// External domain of Functions, if there is one.
    pub domain: Option<String>,
    /// DNS name of the activators' Service, of which tags' Services are aliases; without it they have none.
    pub activator_host: Option<String>,
    /// What beacons are built from.
    pub pilot: PilotSource,
    /// Asks for reconciles of other Functions.
    pub triggers: Triggers,
    /// Route ports.
    pub ports: Mutex<PortIndex>,
    /// Host names that authors ask for.
    pub hostnames: Mutex<HostIndex>,
    /// What is remembered of each Function, by uid.
    memories: Mutex<HashMap<String, Memory>>,
}

/// What this process remembers of one Function.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The status that was written last, while the cache is behind it.
    pub status: Option<Box<FunctionStatus>>,
    /// Its revisions as they were made, by number.
    pub revisions: BTreeMap<u64, Packed<Revision>>,
    /// Fingerprint of each Deployment that is known to be as it should, by uid.
    pub verified: HashMap<String, String>,
    /// Since when no activator has been ready for it.
    pub unready_since: Option<Instant>,
    /// Revision that is held at some replicas, and how many.
    pub floor: Option<(String, u32)>,
    /// Since when a revision has been getting pods for the traffic.
    pub promoting: Option<(String, Instant)>,
    /// How long the release of a Deployment that was taken over has been waiting.
    pub waits: Waits,
    /// The target was looked at on the API server: what lost its labels is in no cache.
    pub target_seen: bool,
    /// Events about pods that do not start, by pod uid, and when they were asked for.
    pub pod_events: HashMap<String, (Instant, Vec<PodEvent>)>,
    /// Why starting pods could not be given more CPU.
    pub boost_refused: Option<String>,
    /// Reconciles that failed in a row.
    pub failures: u32,
}

impl Context {
    /// A context that remembers nothing yet.
    #[expect(clippy::too_many_arguments, reason = "a list of parts, made once")]
    pub fn new(
        client: Client,
        caches: Caches,
        autoscaler: AutoscalerHandle,
        recorder: EventWriter,
        metrics: Metrics,
        domain: Option<String>,
        activator_host: Option<String>,
        pilot: PilotSource,
        triggers: Triggers,
        ports: PortIndex,
        hostnames: HostIndex,
    ) -> Self {
        Self {
            client,
            caches,
            activators: autoscaler.activators(),
            autoscaler,
            recorder,
            metrics,
            domain,
            activator_host,
            pilot,
            triggers,
            ports: Mutex::new(ports),
            hostnames: Mutex::new(hostnames),
            memories: Mutex::default(),
        }
    }

    /// Reads or changes what is remembered of the Function with this uid.
    pub fn with_memory<T>(&self, uid: &str, f: impl FnOnce(&mut Memory) -> T) -> T {
        f(lock(&self.memories).entry(uid.to_owned()).or_default())
    }

    /// The Function's status as it was written last, here or, by what the cache shows, elsewhere.
    pub fn last_status(&self, function: &Function) -> FunctionStatus {
        let uid = function.metadata.uid.as_deref().unwrap_or_default();
        let written = self.with_memory(uid, |memory| {
            memory.status = memory.status.take().filter(|status| function.status.as_ref() != Some(status));
            memory.status.clone()
        });
        written.map(|status| *status).or_else(|| function.status.clone()).unwrap_or_default()
    }

    /// Gives the host names of Functions that are gone to those that wait for them.
    pub fn free_hostnames(&self) {
        let functions = &self.caches.functions;
        let moved = lock(&self.hostnames).retain(|namespace, name| functions.has(namespace, name));
        self.reconcile_all(&moved);
    }

    /// Asks for reconciles of these.
    pub fn reconcile_all(&self, functions: &[Claimant]) {
        for other in functions {
            let _ = self.triggers.send(ObjectRef::new(&other.name).within(&other.namespace));
        }
    }

    /// Forgets the Functions for whose uid `lives` is false.
    pub fn forget(&self, lives: impl Fn(&str) -> bool) {
        lock(&self.memories).retain(|uid, _| lives(uid));
        lock(&self.ports).retain(lives);
    }
}

/// Locks; what a panicked holder left is as good as what it began with, since all of it can be lost.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
