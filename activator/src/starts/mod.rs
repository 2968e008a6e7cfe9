//! Admission of starts: how many Functions this activator lets start at once, and in which order.
//!
//! In a storm of wakes the nodes' processors are what all starts share. Let all at once, nobody is answered before nearly all are; a few at a time,
//! half of them are answered in half the time. How many is found out ([`StartLimit`]), for each kind of start apart, because they cost differently.
//!
//! What always holds: who goes away, or cannot start, leaves the place to the next; a start that takes longer than [`Limits::start_overdue`] counts no more;
//! nobody waits here longer than [`Limits::start_patience`].

mod line;
pub mod metrics;
mod start;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use pilotlight_scaling::{Begun, Millis, StartLimit};
use tokio::sync::Notify;

use crate::function::FunctionCell;
use crate::limits::Limits;
use line::Line;
use metrics::{KindMetrics, StartMetrics};

pub use start::Start;

/// What a start is taken to take of which nothing is known, in ms.
const UNKNOWN: u64 = 1_000;

/// What has to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pod.
    Create,
    /// A function in its parked pod.
    Unpark,
}

impl Kind {
    /// The rung that it leads from.
    pub fn rung(self) -> &'static str {
        match self {
            Self::Create => "Zero",
            Self::Unpark => "Parked",
        }
    }
}

/// All starts of one kind.
#[derive(Debug)]
struct Side {
    epoch: Instant,
    patience: Duration,
    overdue: Duration,
    state: Mutex<State>,
    metrics: KindMetrics,
}

#[derive(Debug, Default)]
struct State {
    limit: StartLimit,
    under_way: usize,
    line: Line<Ticket>,
}

#[derive(Debug)]
struct Ticket {
    cell: Weak<FunctionCell>,
    grant: Arc<Grant>,
}

impl Ticket {
    fn worth(&self) -> (u32, u64) {
        self.cell.upgrade().map_or((0, UNKNOWN), |cell| cell.worth_starting(UNKNOWN))
    }
}

/// Set, under the lock, once its start may begin.
#[derive(Debug, Default)]
struct Grant {
    begun: OnceLock<(Instant, Begun)>,
    changed: Notify,
}

/// The starts of this activator.
#[derive(Debug)]
pub struct Starts {
    create: Arc<Side>,
    unpark: Arc<Side>,
}

impl Starts {
    /// None.
    pub fn new(metrics: &StartMetrics, limits: &Limits) -> Self {
        let (patience, overdue) = (limits.start_patience, limits.start_overdue);
        let side = |kind| {
            let metrics = metrics.of(kind);
            let side = Side { epoch: Instant::now(), patience, overdue, state: Mutex::default(), metrics };
            side.tell(&side.lock());
            Arc::new(side)
        };
        Self { create: side(Kind::Create), unpark: side(Kind::Unpark) }
    }

    /// A place for a Function that has to start.
    pub fn line_up(&self, kind: Kind, cell: &Arc<FunctionCell>) -> Place {
        let side = match kind {
            Kind::Create => &self.create,
            Kind::Unpark => &self.unpark,
        };
        let grant = Arc::new(Grant::default());
        let mut state = side.lock();
        state.line.push(&cell.key.namespace, Ticket { cell: Arc::downgrade(cell), grant: grant.clone() });
        side.fill(&mut state);
        drop(state);
        Place { side: side.clone(), namespace: cell.key.namespace.clone(), since: Instant::now(), grant }
    }
}

impl Side {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self, at: Instant) -> Millis {
        Millis(u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX))
    }

    /// Lets begin who may.
    fn fill(&self, state: &mut State) {
        while state.under_way < state.limit.limit()
            && let Some(ticket) = state.line.next(Ticket::worth)
        {
            self.begin(state, &ticket.grant);
        }
        self.tell(state);
    }

    fn begin(&self, state: &mut State, grant: &Grant) {
        let now = Instant::now();
        if grant.begun.set((now, state.limit.begin(self.millis(now)))).is_ok() {
            state.under_way += 1;
            grant.changed.notify_one();
        }
    }

    fn tell(&self, state: &State) {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.limit.set(number(state.limit.limit()));
        self.metrics.under_way.set(number(state.under_way));
        self.metrics.waiting.set(number(state.line.len()));
    }
}

/// A Function's place among the starts, until dropped.
#[derive(Debug)]
pub struct Place {
    side: Arc<Side>,
    namespace: Arc<str>,
    since: Instant,
    grant: Arc<Grant>,
}

impl Place {
    /// Since when it may start.
    fn begun(&self) -> Option<Instant> {
        self.grant.begun.get().map(|(at, _)| *at)
    }

    /// Whether it takes so long that it counts no more.
    fn is_overdue(&self) -> bool {
        self.begun().is_some_and(|at| at.elapsed() > self.side.overdue)
    }

    /// Resolves when it may start.
    async fn admitted(&self) {
        let left = self.side.patience.saturating_sub(self.since.elapsed());
        let granted = async {
            while self.begun().is_none() {
                self.grant.changed.notified().await;
            }
        };
        if tokio::time::timeout(left, granted).await.is_err() {
            self.insist();
        }
    }

    /// Counts how long it waited until it might start.
    fn tell(&self) {
        let begun = self.begun().unwrap_or(self.since);
        self.side.metrics.waited.observe(begun.saturating_duration_since(self.since));
    }

    /// Starts, whoever else does.
    fn insist(&self) {
        let mut state = self.side.lock();
        state.line.remove(&self.namespace, |ticket| Arc::ptr_eq(&ticket.grant, &self.grant));
        self.side.begin(&mut state, &self.grant);
        self.side.tell(&state);
    }

    /// The Function answers since `at`.
    fn answered(&self, at: Instant) {
        let Some((_, begun)) = self.grant.begun.get() else { return };
        let mut state = self.side.lock();
        let crowded = !state.line.is_empty();
        state.limit.end(self.side.millis(at), *begun, crowded);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.side.lock();
        if self.grant.begun.get().is_some() {
            state.under_way = state.under_way.saturating_sub(1);
        } else {
            state.line.remove(&self.namespace, |ticket| Arc::ptr_eq(&ticket.grant, &self.grant));
        }
        self.side.fill(&mut state);
    }
}
