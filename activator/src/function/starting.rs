//! What admission of starts asks of a Function.

use std::time::Instant;

use super::FunctionCell;

impl FunctionCell {
    /// Callers that wait for its start, and how long it took last time, in ms; `unknown` where none is known.
    pub fn worth_starting(&self, unknown: u64) -> (u32, u64) {
        let state = self.look();
        (state.queued(), state.last_start().unwrap_or(unknown))
    }

    /// It is its turn to start.
    pub fn note_admitted(&self) {
        self.lock().note_admitted(Instant::now());
    }

    /// When the present wake, or the last one, reached a pod that answers.
    pub fn reached(&self) -> Option<Instant> {
        self.look().trace().and_then(|trace| trace.reachable)
    }

    /// Whether something else than its turn keeps it from starting.
    pub fn is_held_up(&self) -> bool {
        self.look().is_held_up()
    }
}
