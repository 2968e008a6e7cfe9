//! Whose request is looked at next when more come at once than can be looked at: deficit round robin over Functions (Shreedhar and Varghese,
//! "Efficient fair queuing using deficit round robin", 1995), with requests for packets, all of one size.
//!
//! A runtime polls what is ready in the order in which it became so. Ten thousand requests for one Function are then all parsed, queued and
//! accounted for before the one that came for another. Here each Function has a quantum for each window of time; what goes beyond waits for
//! a round, and between two rounds everything else that is ready has its turn.
//!
//! What always holds: a Function that keeps to its quantum never waits here; of those that do not, each gets on in every round; within one
//! Function, who came first goes first; who goes away leaves nothing behind.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Steps for one Function in a window.
const QUANTUM: usize = 64;
/// Steps in a round, of all Functions that have used up their quantum: what anybody else waits for at most.
const ROUND: usize = 16;
/// So long a quantum is for. That many steps take most of it.
const WINDOW: Duration = Duration::from_millis(4);

/// What one Function has left of its quantum, and who waits for more.
#[derive(Debug)]
pub struct Share {
    permits: Semaphore,
    /// For which window the permits are.
    window: AtomicU64,
    waiting: AtomicUsize,
    /// Whether it is among the crowded; changed under their lock only.
    crowded: AtomicBool,
}

impl Share {
    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Leaves the crowded, unless somebody has begun to wait meanwhile; then `true`.
    fn leaves(&self) -> bool {
        self.crowded.store(false, Ordering::SeqCst);
        let stays = self.waiting() > 0;
        self.crowded.store(stays, Ordering::SeqCst);
        stays
    }
}

/// The Functions that have used up their quantum on one lane.
#[derive(Debug)]
pub struct Turns {
    epoch: Instant,
    rounds: Mutex<Rounds>,
    /// Of what is for no Function, or does not tell yet for which.
    strangers: Arc<Share>,
}

#[derive(Debug, Default)]
struct Rounds {
    /// In the order of their next turn.
    crowded: VecDeque<Arc<Share>>,
    running: bool,
}

/// One that waits, until dropped.
struct Waiting<'a>(&'a Share);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self { epoch: Instant::now(), rounds: Mutex::default(), strangers: Arc::new(share()) }
    }
}

impl Turns {
    /// For one more Function.
    pub fn share(&self) -> Arc<Share> {
        Arc::new(share())
    }

    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Turns::take`], for what is for no Function.
    pub async fn take_strangers(self: &Arc<Self>, now: Instant) {
        self.take(&self.strangers, now).await;
    }

    /// Resolves when a step that became possible at `now` may be taken.
    pub async fn take(self: &Arc<Self>, share: &Arc<Share>, now: Instant) {
        self.begin_window(share, now);
        // Fair: nobody gets ahead of those who wait.
        if let Ok(permit) = share.permits.try_acquire() {
            permit.forget();
            return;
        }
        share.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(share);
        // Either this sees that the share is crowded no more, or the round that has just made it so sees that one waits.
        if !share.crowded.load(Ordering::SeqCst) {
            self.line_up(share);
        }
        if let Ok(permit) = share.permits.acquire().await {
            permit.forget();
        }
    }

    /// The first request of a window has the whole quantum before it, unless some wait: they get theirs by rounds.
    fn begin_window(&self, share: &Share, now: Instant) {
        let window = u64::try_from(now.saturating_duration_since(self.epoch).as_millis() / WINDOW.as_millis());
        let window = window.unwrap_or(u64::MAX);
        let before = share.window.load(Ordering::Relaxed);
        let first = before < window
            && share.window.compare_exchange(before, window, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if first && share.waiting() == 0 {
            share.permits.add_permits(QUANTUM.saturating_sub(share.permits.available_permits()));
        }
    }

    fn line_up(self: &Arc<Self>, share: &Arc<Share>) {
        let mut rounds = self.rounds();
        if !share.crowded.swap(true, Ordering::SeqCst) {
            rounds.crowded.push_back(share.clone());
        }
        if !std::mem::replace(&mut rounds.running, true) {
            let turns = self.clone();
            tokio::spawn(async move {
                // What is ready now comes first, also before the first round.
                tokio::task::yield_now().await;
                while turns.round() {
                    tokio::task::yield_now().await;
                }
            });
        }
    }

    /// Gives each crowded Function its part of a round. `false` where nobody waits any more.
    fn round(&self) -> bool {
        let mut rounds = self.rounds();
        rounds.crowded.retain(|share| share.waiting() > 0 || share.leaves());
        if rounds.crowded.is_empty() {
            rounds.running = false;
            return false;
        }
        let each = (ROUND / rounds.crowded.len()).max(1);
        let served = rounds.crowded.len().min(ROUND);
        for share in rounds.crowded.iter().take(served) {
            // Those who were let in by the last round and have not run yet still count as waiting.
            let given = share.permits.available_permits();
            share.permits.add_permits(share.waiting().min(each).saturating_sub(given));
        }
        rounds.crowded.rotate_left(served);
        true
    }
}

fn share() -> Share {
    Share {
        permits: Semaphore::new(QUANTUM),
        window: AtomicU64::new(0),
        waiting: AtomicUsize::new(0),
        crowded: AtomicBool::new(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tasks in the order in which they had their turn, by whose they are.
    async fn order(crowds: &[(&'static str, usize)]) -> Vec<&'static str> {
        let turns = Arc::new(Turns::default());
        let now = Instant::now();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for &(name, size) in crowds {
            let share = turns.share();
            for _ in 0..size {
                let (turns, share, tell) = (turns.clone(), share.clone(), tell.clone());
                tokio::spawn(async move {
                    turns.take(&share, now).await;
                    let _ = tell.send(name);
                });
            }
        }
        drop(tell);
        let mut order = Vec::new();
        while let Some(name) = told.recv().await {
            order.push(name);
        }
        order
    }

    #[tokio::test]
    async fn one_that_keeps_to_its_quantum_does_not_wait_for_a_crowd() {
        let order = order(&[("crowd", 10_000), ("one", 1)]).await;
        assert_eq!(order.len(), 10_001, "everybody had a turn");
        let before = order.iter().position(|name| *name == "one").unwrap();
        assert_eq!(before, QUANTUM, "only the crowd's quantum came before");
    }

    #[tokio::test]
    async fn crowds_get_on_side_by_side() {
        let order = order(&[("first", 4_000), ("second", 1_000)]).await;
        assert_eq!(order.len(), 5_000);
        let last = order.iter().rposition(|name| *name == "second").unwrap();
        assert!(last < 2_200, "the smaller crowd was through after {last} of 5000");
    }

    #[tokio::test]
    async fn more_crowds_than_a_round_has_turns_are_served_in_turn() {
        let crowds: Vec<_> = (0..3 * QUANTUM).map(|_| ("crowd", QUANTUM + 2)).collect();
        assert_eq!(order(&crowds).await.len(), 3 * QUANTUM * (QUANTUM + 2));
    }

    #[tokio::test]
    async fn who_goes_away_leaves_nothing_behind() {
        let turns = Arc::new(Turns::default());
        let (share, now) = (turns.share(), Instant::now());
        for _ in 0..QUANTUM {
            turns.take(&share, now).await;
        }
        let waiting: Vec<_> = (0..500)
            .map(|_| {
                let (turns, share) = (turns.clone(), share.clone());
                tokio::spawn(async move { turns.take(&share, now).await })
            })
            .collect();
        while share.waiting() < 500 {
            tokio::task::yield_now().await;
        }
        for task in &waiting {
            task.abort();
        }
        while turns.rounds().running {
            tokio::task::yield_now().await;
        }
        assert_eq!(share.waiting(), 0);
        assert!(share.permits.available_permits() <= QUANTUM);
        turns.take(&share, now + WINDOW).await;
        assert_eq!(share.permits.available_permits(), QUANTUM - 1, "a window has one quantum");
    }
}
