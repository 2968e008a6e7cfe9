//! The operator's drain requests, which are about a Function: all its cells are asked, and all have to agree.
//!
//! What always holds: a hand-shake is open at all cells or at none, so that a pod which goes from one to another stays left alone.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use pilotlight_crds::control::{DrainOutcome, DrainRequest, DrainResponse, DrainScope, ReleaseRequest};

use super::FunctionCell;

/// What is known of a drain request at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The answer.
    Answered(DrainResponse),
    /// Requests are at the pods, and get so long to end; [`linger`] must follow. No new ones are sent there meanwhile.
    Lingers(Duration),
}

/// Asks all cells of a Function. No cell may be made or forgotten meanwhile.
pub fn ask(cells: &[Arc<FunctionCell>], request: &DrainRequest) -> Asked {
    let now = Instant::now();
    let concerned = concerned(cells, &request.scope);
    let ask = |(cell, concerned): (&Arc<FunctionCell>, &bool)| cell.lock().drain(now, request, *concerned);
    let answers: Vec<DrainResponse> = cells.iter().zip(&concerned).map(ask).collect();
    let answer = sum(&answers);
    let wait = Duration::from_millis(request.wait_millis.min(request.ttl_millis / 2));
    // Requests at the pods may end; those that wait for one do not by waiting.
    let busy = matches!(answer, DrainResponse::Busy { queued: 0, .. });
    if busy && matches!(request.scope, DrainScope::Pods { .. }) && !wait.is_zero() {
        for (cell, concerned) in cells.iter().zip(&concerned) {
            cell.lock().begin_drain(now, request, *concerned);
        }
        return Asked::Lingers(wait);
    }
    if answer != DrainResponse::Drained {
        let agreed = cells.iter().zip(&answers).filter(|(_, answer)| **answer == DrainResponse::Drained);
        agreed.for_each(|(cell, _)| cell.undo(&request.handshake));
    }
    Asked::Answered(answer)
}

/// Which cells a hand-shake is about. Pods that nobody here has seen may be anybody's.
fn concerned(cells: &[Arc<FunctionCell>], scope: &DrainScope) -> Vec<bool> {
    let mut concerned: Vec<bool> = cells.iter().map(|cell| cell.look().is_about(scope)).collect();
    if cells.len() == 1 || (matches!(scope, DrainScope::Pods { .. }) && !concerned.contains(&true)) {
        concerned.fill(true);
    }
    concerned
}

fn sum(answers: &[DrainResponse]) -> DrainResponse {
    let busy = answers.iter().filter_map(|answer| match answer {
        DrainResponse::Drained => None,
        DrainResponse::Busy { in_flight, queued } => Some((*in_flight, *queued)),
    });
    let sum = busy.reduce(|sum, one| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1)));
    sum.map_or(DrainResponse::Drained, |(in_flight, queued)| DrainResponse::Busy { in_flight, queued })
}

/// Whether the requests at the pods in scope ended in this time. If not, [`give_up`] must follow.
pub async fn linger(cells: &[Arc<FunctionCell>], scope: &DrainScope, wait: Duration) -> bool {
    let emptied = join_all(cells.iter().map(|cell| cell.emptied(scope)));
    tokio::time::timeout(wait, emptied).await.is_ok()
}

/// Uses the pods again. Gives the answer.
pub fn give_up(cells: &[Arc<FunctionCell>], request: &DrainRequest) -> DrainResponse {
    let now = Instant::now();
    let give_up = |cell: &Arc<FunctionCell>| {
        let mut state = cell.lock();
        state.release_handshake(now, &request.handshake, DrainOutcome::Aborted);
        DrainResponse::Busy { in_flight: state.in_flight_at(&request.scope), queued: state.queued() }
    };
    let answers: Vec<DrainResponse> = cells.iter().map(give_up).collect();
    cells.iter().for_each(|cell| cell.hand_out(now));
    sum(&answers)
}

impl FunctionCell {
    fn undo(self: &Arc<Self>, handshake: &str) {
        let now = Instant::now();
        self.lock().release_handshake(now, handshake, DrainOutcome::Aborted);
        self.hand_out(now);
    }

    /// Resolves when no request is in flight at the pods in scope.
    async fn emptied(&self, scope: &DrainScope) {
        loop {
            let mut freed = pin!(self.slot_freed.notified());
            freed.as_mut().enable();
            if self.lock().in_flight_at(scope) == 0 {
                return;
            }
            freed.await;
        }
    }

    /// Ends a hand-shake.
    pub fn release(self: &Arc<Self>, request: &ReleaseRequest) {
        let now = Instant::now();
        self.lock().release_handshake(now, &request.handshake, request.outcome);
        self.hand_out(now);
        self.wake_changed.notify_one();
        self.ensure_wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_to_agree_and_what_keeps_them_busy_is_summed() {
        let busy = |in_flight, queued| DrainResponse::Busy { in_flight, queued };
        assert_eq!(sum(&[DrainResponse::Drained, DrainResponse::Drained]), DrainResponse::Drained);
        assert_eq!(sum(&[busy(1, 2), DrainResponse::Drained, busy(3, 4)]), busy(4, 6));
        assert_eq!(sum(&[DrainResponse::Drained, busy(0, 0)]), busy(0, 0), "a request was there a moment ago");
    }
}
