//! When the idle ladder's part of the status is written: what the autoscaler knows changes with every second. Pure.
//!
//! What always holds: it is written along with other changes of the status; by itself only where something was learnt, which takes requests, and
//! never twice within five minutes. So a Function that nobody calls is not written.

use jiff::{SignedDuration, Timestamp};
use pilotlight_crds::FunctionStatus;
use pilotlight_crds::status::IdleStatus;

/// Between two writes that are for what was learnt alone.
const EVERY: SignedDuration = SignedDuration::from_mins(5);

/// What the status is to say, where it said `before`, says `status` otherwise, and could say `fresh`.
pub(super) fn carry(
    before: &FunctionStatus,
    status: &FunctionStatus,
    fresh: Option<&IdleStatus>,
    now: Timestamp,
) -> Option<IdleStatus> {
    let known = before.idle.as_ref();
    let Some(fresh) = fresh else { return known.cloned() };
    // What was learnt is kept while times are stated, in case they are not some day.
    let learnt = fresh.learnt.clone().or_else(|| known.and_then(|known| known.learnt.clone()));
    let changed = *before != *status;
    let taught = learnt != known.and_then(|known| known.learnt.clone());
    let counted = known.and_then(|known| known.cost.as_ref()).map(|cost| cost.counted_until.0);
    let due = counted.is_none_or(|counted| now.duration_since(counted) >= EVERY);
    if changed || (taught && due) { Some(IdleStatus { learnt, ..fresh.clone() }) } else { known.cloned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use pilotlight_crds::status::{CostStatus, ReservedSeconds, Rung, RungSeconds};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn idle(learnt: Option<&str>, second: i64) -> IdleStatus {
        IdleStatus {
            learnt: learnt.map(str::to_owned),
            cost: Some(CostStatus {
                counted_until: Time(at(second)),
                rung_seconds: RungSeconds { zero: second, ..RungSeconds::default() },
                reserved: ReservedSeconds::default(),
                always_on: ReservedSeconds::default(),
                saved_percent: Some(100),
            }),
            ..IdleStatus::default()
        }
    }

    fn status(idle: Option<IdleStatus>) -> FunctionStatus {
        FunctionStatus { idle, ..FunctionStatus::default() }
    }

    #[test]
    fn time_alone_writes_nothing() {
        let before = status(Some(idle(Some("a"), 0)));
        for second in [1, 1_000, 1_000_000] {
            let fresh = idle(Some("a"), second);
            assert_eq!(carry(&before, &before, Some(&fresh), at(second)), before.idle);
        }
        assert_eq!(
            carry(&status(None), &status(None), Some(&idle(None, 9)), at(9)),
            None,
            "never called, never written"
        );
    }

    #[test]
    fn what_was_learnt_is_written_five_minutes_apart_and_with_other_changes() {
        let before = status(Some(idle(Some("a"), 0)));
        let fresh = |second| idle(Some("b"), second);
        assert_eq!(carry(&before, &before, Some(&fresh(299)), at(299)), before.idle);
        assert_eq!(carry(&before, &before, Some(&fresh(300)), at(300)), Some(fresh(300)));
        let moved = FunctionStatus { rung: Some(Rung::Zero), ..before.clone() };
        assert_eq!(carry(&before, &moved, Some(&fresh(1)), at(1)), Some(fresh(1)));
    }

    #[test]
    fn what_is_known_outlives_a_leader_that_knows_nothing_yet_and_stated_times() {
        let before = status(Some(idle(Some("a"), 0)));
        let moved = FunctionStatus { rung: Some(Rung::Zero), ..before.clone() };
        assert_eq!(carry(&before, &moved, None, at(900)), before.idle);
        assert_eq!(carry(&before, &moved, Some(&idle(None, 900)), at(900)), Some(idle(Some("a"), 900)));
    }
}
