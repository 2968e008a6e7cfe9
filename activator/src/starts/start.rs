//! What one Function's wake has to do with the starts of all.

use std::sync::Arc;

use super::{Kind, Place};
use crate::function::FunctionCell;
use crate::wake::{ASSERT_EVERY, Need};

/// One wake's place among the starts.
#[derive(Debug, Default)]
pub struct Start {
    place: Option<Place>,
    /// It was told that it may start.
    told: bool,
    /// It had its turn.
    over: bool,
}

impl Start {
    /// Whether what a Function needs may be done now. `false` after a while in which something has changed.
    pub async fn may(&mut self, cell: &Arc<FunctionCell>, need: &Need) -> bool {
        self.see(cell);
        let kind = match need {
            Need::Wake { .. } => Kind::Create,
            Need::Unpark { .. } => Kind::Unpark,
            Need::Nothing | Need::Look { .. } | Need::Fence { .. } | Need::Recall { .. } | Need::Restore { .. } => {
                return true;
            }
        };
        if self.over {
            return true;
        }
        let place = self.place.get_or_insert_with(|| cell.shared().starts.line_up(kind, cell));
        if place.begun().is_none() {
            // Its callers may go away meanwhile.
            let changed = tokio::time::timeout(ASSERT_EVERY, cell.wake_changed());
            tokio::select! {
                biased;
                () = place.admitted() => {}
                _ = changed => {}
            }
        }
        let admitted = place.begun().is_some();
        if admitted && !self.told {
            cell.note_admitted();
            place.tell();
            self.told = true;
        }
        admitted
    }

    /// Leaves the place to the next as soon as it needs none: it answers, it cannot start, or it takes too long.
    pub fn see(&mut self, cell: &FunctionCell) {
        let Some(begun) = self.place.as_ref().and_then(Place::begun) else { return };
        let reached = cell.reached().filter(|at| *at >= begun);
        if let (Some(place), Some(at)) = (&self.place, reached) {
            place.answered(at);
        }
        if reached.is_some() || cell.is_held_up() || self.place.as_ref().is_some_and(Place::is_overdue) {
            self.place = None;
            self.over = true;
        }
    }
}
