//! How a Function's requests get to its revisions. All ways to a Function lead to one cell for ever, the door; it chooses for each
//! request the cell that goes on with it.
//!
//! What always holds: where no other cell gets requests, the choice is one atomic load; else each request is chosen for by itself
//! ([`crate::choice`]), so that the shares are what they should be whoever sends how much over which connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;

use super::FunctionCell;
use crate::choice::sticky::Given;
use crate::choice::{Asked, Plan};
use crate::telemetry::ids;

/// Who gets the requests that come to a door.
#[derive(Default)]
pub(super) struct Split {
    /// Whether any other cell gets some: all that most Functions look at.
    open: AtomicBool,
    shares: ArcSwapOption<Shares>,
}

struct Shares {
    /// In the plan's order; `None` is the door itself.
    cells: Vec<Option<Arc<FunctionCell>>>,
    plan: Plan,
}

/// Where a request goes on.
pub struct Chosen {
    /// In this cell.
    pub cell: Arc<FunctionCell>,
    /// What its client is to bring along from now on.
    pub given: Option<Given>,
}

impl Split {
    /// Shares what comes from now on. `cells`: in the plan's order, `None` for the door itself.
    pub(super) fn set(&self, cells: Vec<Option<Arc<FunctionCell>>>, plan: Plan) {
        let open = cells.iter().any(Option::is_some);
        self.shares.store(open.then(|| Arc::new(Shares { cells, plan })));
        self.open.store(open, Ordering::Release);
    }

    /// All that comes from now on stays with the door.
    pub(super) fn close(&self) {
        self.set(Vec::new(), Plan::default());
    }

    /// Whether a cell, `None` for the door itself, gets requests.
    pub(super) fn serves(&self, cell: Option<&Arc<FunctionCell>>) -> bool {
        let shares = self.shares.load();
        let Some(shares) = shares.as_ref() else { return cell.is_none() };
        shares.cells.iter().any(|known| known.as_ref().map(Arc::as_ptr) == cell.map(Arc::as_ptr))
    }

    /// The cells beside the door that get requests.
    pub(super) fn others(&self) -> Vec<Arc<FunctionCell>> {
        if !self.open.load(Ordering::Acquire) {
            return Vec::new();
        }
        let shares = self.shares.load();
        shares.as_ref().into_iter().flat_map(|shares| &shares.cells).flatten().cloned().collect()
    }

    /// The cell that a request goes to, `None` for the door itself, and what its client gets.
    fn choose<'a>(&self, asked: impl FnOnce() -> Asked<'a>) -> (Option<Arc<FunctionCell>>, Option<Given>) {
        if !self.open.load(Ordering::Acquire) {
            return (None, None);
        }
        let shares = self.shares.load();
        let Some(shares) = shares.as_ref() else { return (None, None) };
        let Some(choice) = shares.plan.choose(&asked(), ids::random_u64) else { return (None, None) };
        (shares.cells.get(choice.at).cloned().flatten(), choice.given)
    }
}

impl FunctionCell {
    /// Where the request that has just come goes on: in this cell, which it came to, or in that of another revision.
    #[must_use]
    pub fn choose<'a>(self: Arc<Self>, asked: impl FnOnce() -> Asked<'a>) -> Chosen {
        let (cell, given) = self.split.choose(asked);
        Chosen { cell: cell.unwrap_or(self), given }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Portion;

    #[test]
    fn without_other_cells_all_goes_to_the_door_and_nothing_is_looked_at() {
        let split = Split::default();
        let is_door = |split: &Split| split.choose(|| unreachable!("nothing is looked at")).0.is_none();
        assert!(is_door(&split) && split.serves(None));
        let all = [Portion { revision: "hello-1".into(), percent: 100 }];
        split.set(vec![None], Plan::new(&all, Arc::default()));
        assert!(is_door(&split) && split.others().is_empty());
        split.close();
        assert!(is_door(&split) && split.serves(None));
    }
}
