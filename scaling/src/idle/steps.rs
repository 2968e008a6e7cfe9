//! The idle ladder as an author writes it down: after so long, this rung, with so many replicas.
//!
//! What always holds: the last due step counts, whatever order they are written in.

use super::IdleDecision;
use super::reason::IdleReason;
use super::rung::{Rung, Rungs};
use crate::time::Millis;

/// One step of `scaling.idle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Seconds that the Function has been idle.
    pub after_seconds: u64,
    /// The rung from then on.
    pub rung: Rung,
    /// Replicas on it; none at Zero whatever is said here, one at least elsewhere.
    pub replicas: u32,
}

impl Step {
    /// To zero after so many seconds.
    #[must_use]
    pub fn to_zero(after_seconds: u32) -> Self {
        Self { after_seconds: after_seconds.into(), rung: Rung::Zero, replicas: 0 }
    }
}

/// What the steps say of a Function that has been idle since `since` and had `replicas` while it was Active. Of two steps at the same time the
/// later in the list counts.
#[must_use]
pub fn follow(steps: &[Step], available: Rungs, replicas: u32, since: Millis, now: Millis) -> IdleDecision {
    let idle_millis = now.since(since);
    let due = |step: &&Step| step.after_seconds.saturating_mul(1000) <= idle_millis;
    let next = steps.iter().filter(|step| !due(step)).map(|step| step.after_seconds).min();
    let next_look = next.map(|seconds| since.plus_seconds(seconds));
    let Some(step) = steps.iter().filter(due).max_by_key(|step| step.after_seconds) else {
        let reason = IdleReason::BeforeSteps { idle_millis, first_seconds: next };
        return IdleDecision { rung: Rung::Active, replicas: replicas.max(1), reason, next_look };
    };
    let rung = available.substitute(step.rung);
    let instead = (rung != step.rung).then_some(rung);
    let reason = IdleReason::Step { idle_millis, after_seconds: step.after_seconds, rung: step.rung, instead };
    IdleDecision { rung, replicas: if rung == Rung::Zero { 0 } else { step.replicas.max(1) }, reason, next_look }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 3] = [
        Step { after_seconds: 600, rung: Rung::Parked, replicas: 1 },
        Step { after_seconds: 30, rung: Rung::Throttled, replicas: 2 },
        Step { after_seconds: 86_400, rung: Rung::Zero, replicas: 7 },
    ];

    #[test]
    fn each_step_is_taken_when_it_is_due() {
        let since = Millis(5_000);
        let table = [
            (0, Rung::Active, 3, Some(30), "BeforeIdleSteps"),
            (29, Rung::Active, 3, Some(30), "BeforeIdleSteps"),
            (30, Rung::Throttled, 2, Some(600), "IdleStep"),
            (599, Rung::Throttled, 2, Some(600), "IdleStep"),
            (600, Rung::Parked, 1, Some(86_400), "IdleStep"),
            (86_400, Rung::Zero, 0, None, "IdleStep"),
            (u64::MAX / 1000, Rung::Zero, 0, None, "IdleStep"),
        ];
        for (idle, rung, replicas, next, code) in table {
            let decision = follow(&STEPS, Rungs::ALL, 3, since, since.plus_seconds(idle));
            let next = next.map(|seconds| since.plus_seconds(seconds));
            assert_eq!((decision.rung, decision.replicas, decision.next_look), (rung, replicas, next), "{idle} s");
            assert_eq!(decision.reason.code(), code);
        }
    }

    #[test]
    fn what_is_not_available_is_substituted_and_said() {
        let now = Millis(700_000);
        let decision = follow(&STEPS, Rungs::PLAIN, 1, Millis(0), now);
        assert_eq!((decision.rung, decision.replicas, decision.reason.code()), (Rung::Zero, 0, "IdleStepSubstituted"));
        let decision = follow(&STEPS, Rungs::ALL.without(Rung::Parked).without(Rung::Zero), 1, Millis(0), now);
        assert_eq!((decision.rung, decision.replicas), (Rung::Throttled, 1));
    }

    #[test]
    fn without_steps_a_function_stays_as_it_is() {
        let decision = follow(&[], Rungs::ALL, 0, Millis(0), Millis(1_000_000));
        assert_eq!((decision.rung, decision.replicas, decision.next_look), (Rung::Active, 1, None));
    }

    #[test]
    fn of_steps_at_the_same_time_the_later_counts() {
        let step = |rung| Step { after_seconds: 10, rung, replicas: 0 };
        let decision = follow(&[step(Rung::Zero), step(Rung::Parked)], Rungs::ALL, 1, Millis(0), Millis(10_000));
        assert_eq!((decision.rung, decision.replicas), (Rung::Parked, 1));
    }
}
