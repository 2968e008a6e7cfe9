//! What the operator and other activators ask of a Function. It is asked of all its cells, with the registry in hand, so that none is made
//! meanwhile that would not know of it.

use std::sync::Arc;

use pilotlight_crds::control::{DrainRequest, DrainResponse, ReleaseRequest};
use pilotlight_crds::status::ActivatorRef;
use tracing::info;

use super::Registry;
use crate::function::FunctionCell;
use crate::function::drain::{self, Asked};
use crate::function::held::Held;
use crate::index::FunctionKey;

/// Why a claim is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotYielded {
    /// The Function is not known (yet).
    Unknown,
    /// This epoch is known, and names another owner.
    Knows(i64),
}

impl Registry {
    /// Answers a drain request of the operator: at once, or for single pods when their requests have ended, if they do so in the time that
    /// the operator gives. `None`: the Function is not known.
    pub async fn drain(&self, key: &FunctionKey, request: &DrainRequest) -> Option<DrainResponse> {
        let (cells, asked) = {
            let inner = self.lock();
            let cells = inner.cells(key);
            if cells.is_empty() {
                return None;
            }
            let asked = drain::ask(&cells, request);
            (cells, asked)
        };
        let wait = match asked {
            Asked::Answered(answer) => return Some(answer),
            Asked::Lingers(wait) => wait,
        };
        if drain::linger(&cells, &request.scope, wait).await {
            return Some(DrainResponse::Drained);
        }
        // Cells that were made meanwhile keep to it, too.
        let inner = self.lock();
        let now = inner.cells(key);
        Some(drain::give_up(if now.is_empty() { &cells } else { &now }, request))
    }

    /// Ends a hand-shake.
    pub fn release(&self, key: &FunctionKey, request: &ReleaseRequest) {
        let inner = self.lock();
        let cells = inner.cells(key);
        if cells.is_empty() {
            return;
        }
        info!(function = %key.name, namespace = %key.namespace, outcome = ?request.outcome, "hand-shake released");
        cells.iter().for_each(|cell| cell.release(request));
    }

    /// Yields to the owner that another activator's claim names. Gives what is still at the pods.
    ///
    /// # Errors
    /// Why not: a newer epoch, or another owner, is known.
    pub fn yield_to(&self, key: &FunctionKey, epoch: i64, owner: &ActivatorRef) -> Result<Held, NotYielded> {
        let inner = self.lock();
        let cells = inner.cells(key);
        let Some(known) = cells.iter().map(|cell| cell.epoch()).max() else { return Err(NotYielded::Unknown) };
        // The one that knows most is asked first: where it refuses, nothing has changed.
        let (newest, older): (Vec<_>, Vec<_>) = cells.iter().partition(|cell| cell.epoch() == known);
        let yields = |cell: &Arc<FunctionCell>| cell.yield_to(epoch, owner);
        if !newest.into_iter().all(yields) {
            return Err(NotYielded::Knows(known));
        }
        older.into_iter().for_each(|cell| {
            yields(cell);
        });
        Ok(Held::by(cells))
    }
}
