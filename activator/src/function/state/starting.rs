//! What admission of starts asks of a Function's state.

use std::time::Instant;

use super::State;

impl<W> State<W> {
    /// It is its turn to start.
    pub fn note_admitted(&mut self, now: Instant) {
        if let Some(trace) = &mut self.trace {
            trace.admitted.get_or_insert(now);
        }
    }

    /// How long the last wake took, in ms.
    pub fn last_start(&self) -> Option<u64> {
        self.sampler.last_start()
    }

    /// Whether something is known that keeps its pods from starting.
    pub fn is_held_up(&self) -> bool {
        self.cause.is_some()
    }
}
