//! Looking back: what whoever begins to decide late, as a new leader does, would remember had it decided all along.
//!
//! What always holds: it remembers what one would who had looked once a second since the first second that all activators have told
//! about, so a change of leaders neither forgets a peak nor invents one.

use crate::coverage::{Coverage, Span};
use crate::decide::{Input, decide};
use crate::memory::Memory;
use crate::time::Second;
use crate::windows::Windows;

/// The memory that goes with what the windows tell of the past. `None` where they tell of nothing that `input.memory` has not seen, or where
/// nothing before now matters, since there are no replicas. The windows must still have two stable windows of seconds.
#[must_use]
pub fn look_back(input: &Input<'_>, windows: &Windows, coverage: &Coverage) -> Option<Memory> {
    let span = input.span?;
    let kept = Second::containing(input.now).minus(input.policy.stable_seconds().saturating_mul(2));
    let first = span.from.max(kept);
    if input.current == 0 || first.next() >= input.memory.seen_from {
        return None;
    }
    let mut memory = input.memory.before(first);
    for second in first.0..span.until.0 {
        let until = Second(second).next();
        let load = windows.load_until(coverage, until, input.policy, Some(first.start()));
        let seen = Input {
            now: until.start().min(input.now),
            load: &load,
            span: Some(Span { from: first, until }),
            memory: &memory,
            // What becomes of silence leaves no memory, but at zero, where there is none to keep.
            adaptive: None,
            ..input.clone()
        };
        memory = decide(&seen).memory;
    }
    Some(memory)
}
