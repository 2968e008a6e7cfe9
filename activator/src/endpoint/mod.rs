//! A pod as the data plane reaches it: its address, its connections, and the probe that finds out when it answers.

pub mod connect;
#[cfg(test)]
pub mod memory;
pub mod pace;
pub mod placeholder;
pub mod pool;
pub mod probing;
pub mod schedule;
pub mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use pilotlight_crds::workload::Protocol;
use tokio::sync::{Notify, Semaphore};

use crate::index::{PodView, ProbeCheck};
use crate::limits::Limits;

use pool::{H1Pool, H2Pool};
use stream::Dial;

/// A pod's address and the connections to it.
#[derive(Debug)]
pub struct Upstream {
    /// Where requests go.
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The pod's name, for logs.
    pub pod: Arc<str>,
    /// How connections are opened.
    pub dial: Dial,
    /// Bounds connections being opened at once.
    pub connecting: Semaphore,
    /// Idle HTTP/1.1 connections.
    pub h1: H1Pool,
    /// Shared HTTP/2 connections.
    pub h2: H2Pool,
    kubernetes_ready: AtomicBool,
    function_runs: AtomicBool,
    /// How often the pod was found to be parked, or to be so no more.
    turned: AtomicU64,
    /// Failures since it last did well.
    failures: AtomicU32,
    nudge: Notify,
}

impl Upstream {
    /// A pod's address, without connections. The pod must have one ([`PodView::address`]).
    pub fn new(pod: &PodView, limits: &Limits) -> Self {
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let upstream = Self::at(pod.address.unwrap_or(unspecified), pod.protocol, pod.name.clone(), limits);
        upstream.kubernetes_ready.store(pod.ready, Ordering::Relaxed);
        upstream
    }

    /// Any address, without connections. `pod`: whose it is, for logs.
    pub fn at(address: SocketAddr, protocol: Protocol, pod: Arc<str>, limits: &Limits) -> Self {
        Self {
            address,
            protocol,
            pod,
            dial: Dial::default(),
            connecting: Semaphore::new(limits.max_connecting),
            h1: H1Pool::new(limits.threads),
            h2: H2Pool::new(limits.threads),
            kubernetes_ready: AtomicBool::new(false),
            function_runs: AtomicBool::new(false),
            turned: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            nudge: Notify::new(),
        }
    }

    /// Opens its connections in this way.
    #[must_use]
    pub fn through(mut self, dial: Dial) -> Self {
        self.dial = dial;
        self
    }

    /// Closes idle connections; those in use end with their requests.
    pub fn close_idle(&self) {
        self.h1.clear();
        self.h2.clear();
    }

    /// It answered as it should.
    pub fn note_success(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// It failed; gives how often in a row.
    pub fn note_failure(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// It begins, or begins anew, as if it had failed so often in a row.
    pub fn put_on_trial(&self, failures: u32) {
        self.failures.store(failures, Ordering::Relaxed);
    }

    /// Kubernetes' own Ready condition, as the watch shows it. Turning ready makes a prober look at once.
    pub fn set_kubernetes_ready(&self, ready: bool) {
        if !self.kubernetes_ready.swap(ready, Ordering::Relaxed) && ready {
            self.nudge.notify_one();
        }
    }

    /// Kubernetes' own Ready condition.
    pub fn kubernetes_ready(&self) -> bool {
        self.kubernetes_ready.load(Ordering::Relaxed)
    }

    /// Whether Kubernetes says that the function's own process runs, as the watch shows it.
    pub fn set_function_runs(&self, runs: bool) {
        self.function_runs.store(runs, Ordering::Relaxed);
    }

    /// Whether Kubernetes says that the function's own process runs, rather than a placeholder.
    pub fn function_runs(&self) -> bool {
        self.function_runs.load(Ordering::Relaxed)
    }

    /// The pod is parked, or is so no more: whatever is known of who answers there is over.
    pub fn turn(&self) {
        self.turned.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that happened. Above zero a placeholder may answer, and what was asked before the last time says nothing.
    pub fn turned(&self) -> u64 {
        self.turned.load(Ordering::Relaxed)
    }

    /// Resolves when the pod has turned ready in Kubernetes' eyes.
    pub async fn nudged(&self) {
        self.nudge.notified().await;
    }
}

/// An endpoint that has to be probed.
#[derive(Debug)]
pub struct ProbeTarget {
    /// Its place in the Function's list.
    pub index: usize,
    /// Which endpoint.
    pub id: u64,
    /// It had answered before and then refused a request: not to be asked again at once.
    pub ejected: bool,
    /// Where.
    pub upstream: Arc<Upstream>,
    /// What must pass.
    pub checks: Vec<ProbeCheck>,
}
