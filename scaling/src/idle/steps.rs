//! The idle ladder as an author writes it down: after so long, this rung, with so many replicas.
//!
//! What always holds: the last due step counts, whatever order they are written in; no step asks for more replicas than there are.

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
    /// Replicas that stay on it; none at Zero whatever is said here, one at least elsewhere. `None`: as many as without the step.
    pub replicas: Option<u32>,
}

impl Step {
    /// To zero after so many seconds.
    #[must_use]
    pub fn to_zero(after_seconds: u32) -> Self {
        Self { after_seconds: after_seconds.into(), rung: Rung::Zero, replicas: None }
    }
}

/// What the steps say of the number of replicas while nobody asks anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// No fewer for want of load: a step that is due, or one ahead, keeps so many.
    pub(crate) least: u32,
    /// No more, although load was higher lately: the step that is due keeps so many.
    pub(crate) most: u32,
}

impl Kept {
    /// Nothing.
    pub(crate) const FREE: Self = Self { least: 0, most: u32::MAX };
}

/// How many replicas the steps keep after so much silence. None goes before `delay_millis`.
pub(crate) fn kept(steps: &[Step], idle_millis: u64, delay_millis: u64) -> Kept {
    let stated = |step: &Step| step.replicas.filter(|_| step.rung != Rung::Zero).map(|replicas| replicas.max(1));
    let due = due(steps, idle_millis);
    let ahead = steps.iter().filter(|step| !is_due(step, idle_millis)).filter_map(stated).max();
    let now = due.and_then(stated);
    let most = now.filter(|_| idle_millis >= delay_millis).unwrap_or(u32::MAX);
    // A step ahead cannot keep what is gone by then.
    Kept { least: now.or(ahead).unwrap_or(0), most }
}

fn is_due(step: &Step, idle_millis: u64) -> bool {
    step.after_seconds.saturating_mul(1000) <= idle_millis
}

/// The last step that is due; of two at the same time the later in the list.
fn due(steps: &[Step], idle_millis: u64) -> Option<&Step> {
    steps.iter().filter(|step| is_due(step, idle_millis)).max_by_key(|step| step.after_seconds)
}

/// What the steps say of a Function that has been idle since `since` and had `replicas` while it was Active. Of two steps at the same time the
/// later in the list counts.
#[must_use]
pub fn follow(steps: &[Step], available: Rungs, replicas: u32, since: Millis, now: Millis) -> IdleDecision {
    let idle_millis = now.since(since);
    let next = steps.iter().filter(|step| !is_due(step, idle_millis)).map(|step| step.after_seconds).min();
    let next_look = next.map(|seconds| since.plus_seconds(seconds));
    let Some(step) = due(steps, idle_millis) else {
        let reason = IdleReason::BeforeSteps { idle_millis, first_seconds: next };
        return IdleDecision { rung: Rung::Active, replicas: replicas.max(1), reason, next_look };
    };
    let rung = available.substitute(step.rung);
    let instead = (rung != step.rung).then_some(rung);
    let (after_seconds, stated) = (step.after_seconds, step.replicas.filter(|_| rung != Rung::Zero));
    let reason = IdleReason::Step { idle_millis, after_seconds, rung: step.rung, replicas: stated, instead };
    let on = stated.map_or(replicas, |stated| stated.min(replicas)).max(1);
    IdleDecision { rung, replicas: if rung == Rung::Zero { 0 } else { on }, reason, next_look }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 3] = [
        Step { after_seconds: 600, rung: Rung::Parked, replicas: Some(1) },
        Step { after_seconds: 30, rung: Rung::Throttled, replicas: Some(2) },
        Step { after_seconds: 86_400, rung: Rung::Zero, replicas: Some(7) },
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
    fn no_step_asks_for_more_than_there_are() {
        let on = |replicas, current| {
            let step = Step { after_seconds: 10, rung: Rung::Throttled, replicas };
            follow(&[step], Rungs::ALL, current, Millis(0), Millis(10_000)).replicas
        };
        assert_eq!([on(Some(3), 5), on(Some(3), 2), on(None, 4), on(Some(0), 4)], [3, 2, 4, 1]);
    }

    #[test]
    fn what_a_step_keeps_is_kept_until_then_and_the_rest_goes_when_it_is_due() {
        let table =
            [(0, 2, u32::MAX), (29_999, 2, u32::MAX), (30_000, 2, 2), (600_000, 1, 1), (86_400_000, 0, u32::MAX)];
        for (idle, least, most) in table {
            assert_eq!(kept(&STEPS, idle, 0), Kept { least, most }, "{idle} ms");
        }
        assert_eq!(kept(&STEPS, 30_000, 40_000), Kept { least: 2, most: u32::MAX }, "the delay is not over");
        let silent = STEPS.map(|step| Step { replicas: None, ..step });
        assert_eq!(kept(&silent, 30_000, 0), Kept::FREE);
    }

    #[test]
    fn of_steps_at_the_same_time_the_later_counts() {
        let step = |rung| Step { after_seconds: 10, rung, replicas: None };
        let decision = follow(&[step(Rung::Zero), step(Rung::Parked)], Rungs::ALL, 1, Millis(0), Millis(10_000));
        assert_eq!((decision.rung, decision.replicas), (Rung::Parked, 1));
    }
}
