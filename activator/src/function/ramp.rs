//! How requests are let into a pod that has just become ready: slow start, after TCP's (RFC 5681, section 3.1, with the initial
//! window of RFC 6928). Pure.
//!
//! A pod begins with a window of [`INITIAL`] unanswered requests, or as many as its target concurrency says, whichever is more. Each
//! answer (the head of a response) widens the window by one, so that it doubles with every round of answers: a quick pod is
//! never held up. A pod that answers slowly gets twice the window every [`PATIENCE`] all the same, so that no request waits beside it
//! for longer than [`DOUBLINGS`] times that. The pod has shown itself, and the ramp is over, once the window has doubled three times
//! and nothing waits, or after [`DOUBLINGS`] in any case.
//!
//! Only unanswered requests count: open streams and upgraded connections hold nothing up. The same window is the weight of a pod
//! that joins others: an eighth at first, all of it after three doublings.

use std::time::{Duration, Instant};

/// Unanswered requests that any new pod may have.
const INITIAL: u32 = 10;
/// How long a pod may be silent until its window doubles by itself: what an autoscaler needs to add pods instead.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Doublings until a pod may have whatever comes.
const DOUBLINGS: u32 = 10;
/// Doublings until a pod counts in full.
const PROVEN: u32 = 3;
/// The weight of a pod that has shown itself.
pub const FULL_WEIGHT: u32 = 1 << PROVEN;

/// The slow start of one pod.
#[derive(Clone, Copy, Debug)]
pub struct Ramp {
    initial: u32,
    window: u32,
    unanswered: u32,
    doubles: Instant,
}

impl Ramp {
    /// Of a pod that is ready since `now` and meant to have `target` requests at once.
    pub fn new(now: Instant, target: u32) -> Self {
        let initial = target.max(INITIAL);
        Self { initial, window: initial, unanswered: 0, doubles: now + PATIENCE }
    }

    /// Whether one more request may be sent.
    pub fn has_room(&self) -> bool {
        self.unanswered < self.window
    }

    /// A request is sent.
    pub fn sent(&mut self) {
        self.unanswered += 1;
    }

    /// The pod began to answer one.
    pub fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.window = self.window.saturating_add(1);
    }

    /// One ended without an answer.
    pub fn ended(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// Lets time pass.
    pub fn advance(&mut self, now: Instant) {
        while self.doubles <= now && self.doublings() < DOUBLINGS {
            self.window = self.window.saturating_mul(2);
            self.doubles += PATIENCE;
        }
    }

    /// Out of [`FULL_WEIGHT`].
    pub fn weight(&self) -> u32 {
        (self.window / self.initial).min(FULL_WEIGHT)
    }

    /// Whether the pod has shown itself. `waiting`: requests wait for it.
    pub fn is_over(&self, waiting: bool) -> bool {
        let doublings = self.doublings();
        doublings >= DOUBLINGS || (doublings >= PROVEN && !waiting)
    }

    fn doublings(&self) -> u32 {
        (self.window / self.initial).ilog2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sends as much as may be sent, has all of it answered, and so on: how much was sent in each round until the ramp is over.
    fn rounds(target: u32, mut waiting: u32) -> Vec<u32> {
        let mut ramp = Ramp::new(Instant::now(), target);
        let mut rounds = Vec::new();
        while waiting > 0 && !ramp.is_over(true) {
            let mut sent = 0;
            while ramp.has_room() && sent < waiting {
                ramp.sent();
                sent += 1;
            }
            (0..sent).for_each(|_| ramp.answered());
            waiting -= sent;
            rounds.push(sent);
        }
        rounds
    }

    #[test]
    fn each_round_of_answers_lets_twice_as_many_in() {
        assert_eq!(rounds(0, 1000), [10, 20, 40, 80, 160, 320, 370]);
        assert_eq!(rounds(100, 1000), [100, 200, 400, 300], "it begins with the target concurrency");
    }

    #[test]
    fn a_silent_pod_gets_its_window_doubled_and_in_the_end_everything() {
        let start = Instant::now();
        let mut ramp = Ramp::new(start, 0);
        let mut sent = 0;
        for second in 0..20 {
            ramp.advance(start + Duration::from_secs(second));
            while ramp.has_room() {
                ramp.sent();
                sent += 1;
            }
            assert_eq!(sent, 10 << (second / 2), "after {second} s");
            assert!(!ramp.is_over(true));
        }
        ramp.advance(start + PATIENCE * DOUBLINGS);
        assert!(ramp.is_over(true), "who has waited so long waits no more");
    }

    #[test]
    fn a_pod_that_answered_three_rounds_and_leaves_nobody_waiting_has_shown_itself() {
        let mut ramp = Ramp::new(Instant::now(), 0);
        for answers in 0..70 {
            assert!(!ramp.is_over(false), "after {answers} answers");
            ramp.sent();
            ramp.answered();
        }
        assert!(ramp.is_over(false));
        assert!(!ramp.is_over(true), "with a backlog it goes on as it was");
        assert_eq!(ramp.weight(), FULL_WEIGHT);
    }

    #[test]
    fn streams_that_were_answered_hold_nothing_up() {
        let mut ramp = Ramp::new(Instant::now(), 0);
        for _ in 0..10_000 {
            assert!(ramp.has_room());
            ramp.sent();
            ramp.answered();
        }
    }

    proptest! {
        /// Against a naive list of what was sent and not answered.
        #[test]
        fn unanswered_requests_never_pass_the_window(
            target in 0u32..50, ops in prop::collection::vec((0u8..4, 0u64..900), 0..300),
        ) {
            let start = Instant::now();
            let mut ramp = Ramp::new(start, target);
            let (mut out, mut answers, mut now, mut weight) = (0u32, 0u32, start, 0);
            for (op, millis) in ops {
                match op {
                    0 | 1 if ramp.has_room() => { ramp.sent(); out += 1; }
                    2 if out > 0 => { ramp.answered(); out -= 1; answers += 1; }
                    3 if out > 0 => { ramp.ended(); out -= 1; }
                    _ => { now += Duration::from_millis(millis); ramp.advance(now); }
                }
                let elapsed = now.duration_since(start).as_millis() / PATIENCE.as_millis();
                let doubled = 1u32 << u32::try_from(elapsed).unwrap().min(DOUBLINGS);
                let most = (target.max(INITIAL) + answers).saturating_mul(doubled);
                prop_assert!(out <= most, "{out} are out, at most {most}");
                prop_assert!(out < target.max(INITIAL) + answers || !ramp.has_room() || doubled > 1);
                prop_assert!(out >= target.max(INITIAL) + answers || ramp.has_room(), "stalled at {out}");
                prop_assert!(ramp.weight() >= weight.max(1), "the weight only grows");
                weight = ramp.weight();
            }
        }
    }
}
