//! Samples on their way to the operator: one line of JSON for each second and for each poke, written once and shared by all who
//! listen.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pilotlight_crds::control::{FunctionSample, RouteAck, SampleBatch};
use tokio::sync::broadcast;

use crate::function::samples::HISTORY_SECONDS;
use crate::registry::Registry;
use crate::runtime::Shared;

/// Lines that a slow listener may lag behind; then its stream ends, and it connects again for the history.
const LAG: usize = 256;

/// Where samples go.
pub struct Publisher {
    inner: Mutex<Inner>,
}

struct Inner {
    lines: broadcast::Sender<Arc<str>>,
    routes: BTreeSet<RouteAck>,
    /// The last second that was published.
    last: Option<u64>,
}

impl Default for Publisher {
    fn default() -> Self {
        let (lines, _) = broadcast::channel(LAG);
        Self { inner: Mutex::new(Inner { lines, routes: BTreeSet::new(), last: None }) }
    }
}

/// A stream's beginning and the lines that follow.
pub struct Subscription {
    /// The whole list of routes, then the history, oldest first.
    pub first: Vec<Arc<str>>,
    /// What comes.
    pub lines: broadcast::Receiver<Arc<str>>,
}

fn line(batch: &SampleBatch) -> Arc<str> {
    let mut text = serde_json::to_string(batch).unwrap_or_default();
    text.push('\n');
    text.into()
}

fn extra(full: bool, routes: Vec<RouteAck>, functions: Vec<FunctionSample>) -> SampleBatch {
    SampleBatch { age_millis: 0, full, routes, poke: true, functions }
}

impl Publisher {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(inner: &Inner, batch: &SampleBatch) {
        if inner.lines.receiver_count() > 0 {
            let _ = inner.lines.send(line(batch));
        }
    }

    /// A route port is open.
    pub fn add_route(&self, ack: RouteAck) {
        let mut inner = self.lock();
        inner.routes.insert(ack.clone());
        Self::send(&inner, &extra(false, vec![ack], Vec::new()));
    }

    /// A route port was closed.
    pub fn remove_route(&self, ack: &RouteAck) {
        self.lock().routes.remove(ack);
    }

    /// The routes that are served.
    pub fn routes(&self) -> Vec<RouteAck> {
        self.lock().routes.iter().cloned().collect()
    }

    /// A request found no slot: tell the operator at once.
    pub fn poke(&self, sample: FunctionSample) {
        Self::send(&self.lock(), &extra(false, Vec::new(), vec![sample]));
    }

    /// A second is over.
    fn publish(&self, second: u64, functions: Vec<FunctionSample>) {
        let mut inner = self.lock();
        inner.last = Some(second);
        Self::send(&inner, &SampleBatch { age_millis: 0, full: false, routes: Vec::new(), poke: false, functions });
    }

    /// Begins a stream: nothing is left out between history and what comes.
    pub fn subscribe(&self, registry: &Registry, epoch: Instant) -> Subscription {
        let cells = registry.all();
        let inner = self.lock();
        let now = Instant::now();
        let mut first = vec![line(&extra(true, inner.routes.iter().cloned().collect(), Vec::new()))];
        let past = inner.last.map(|last| (last + 1).saturating_sub(HISTORY_SECONDS)..last + 1);
        for second in past.into_iter().flatten() {
            let end = epoch + Duration::from_secs(second + 1);
            let age = now.saturating_duration_since(end).as_millis();
            let functions = cells.iter().filter_map(|cell| cell.sample(now, second)).collect();
            first.push(line(&SampleBatch {
                age_millis: u64::try_from(age).unwrap_or(u64::MAX),
                full: false,
                routes: Vec::new(),
                poke: false,
                functions,
            }));
        }
        Subscription { first, lines: inner.lines.subscribe() }
    }
}

/// Publishes each second as it ends, for ever.
pub async fn run(shared: Arc<Shared>, registry: Arc<Registry>) {
    for second in 0.. {
        let end = shared.epoch + Duration::from_secs(second + 1);
        tokio::time::sleep_until(end.into()).await;
        let now = Instant::now();
        let mut functions = Vec::new();
        for cell in registry.stirring() {
            cell.tick();
            functions.extend(cell.sample(now, second));
            cell.rest();
        }
        shared.publisher.publish(second, functions);
    }
}
