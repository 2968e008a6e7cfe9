//! Floors by the time of day, for the Functions that have schedules. Pure; the time is an argument.
//!
//! What always holds: schedules are parsed once for each spec, and evaluated once from one change of the floor to the next, so a look at a
//! Function under load costs the same with them as without. Memory is bounded by the Functions that have some.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use pilotlight_crds::policy::ScalingSchedule;
use pilotlight_scaling::{Floor, Millis, Schedule, ScheduleError, Scheduled, scheduled};

use super::ledger::FunctionKey;

/// The longest that the time of day is left alone: somebody may set the clock.
const FURTHEST: SignedDuration = SignedDuration::from_mins(5);

/// Reads one entry of `spec.scaling.schedules`.
pub(crate) fn parse(schedule: &ScalingSchedule) -> Result<Schedule, ScheduleError> {
    let ScalingSchedule { name, start, end, time_zone, min_replicas } = schedule;
    Schedule::parse(name, start, end, time_zone, *min_replicas)
}

#[derive(Debug)]
struct Known {
    spec: Vec<ScalingSchedule>,
    parsed: Vec<Schedule>,
    asked: Timestamp,
    answer: Scheduled,
}

impl Known {
    /// Entries that cannot be read are left out; the condition Stalled names them.
    fn new(spec: &[ScalingSchedule], now: Timestamp) -> Self {
        let parsed: Vec<_> = spec.iter().filter_map(|schedule| parse(schedule).ok()).collect();
        let answer = scheduled(&parsed, now);
        Self { spec: spec.to_vec(), parsed, asked: now, answer }
    }

    fn ask(&mut self, now: Timestamp) {
        let holds = self.asked <= now && self.answer.until.is_none_or(|until| now < until);
        if !holds {
            self.answer = scheduled(&self.parsed, now);
        }
        self.asked = now;
    }
}

/// What the schedules of each Function say.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    known: HashMap<FunctionKey, Known>,
}

impl Calendar {
    /// The floor that `spec` asks for at the time `date`, and when to ask again, for a caller whose own clock shows `now`.
    pub(super) fn floor(
        &mut self,
        key: &FunctionKey,
        spec: &[ScalingSchedule],
        date: Timestamp,
        now: Millis,
    ) -> (Option<Floor>, Option<Millis>) {
        if spec.is_empty() {
            self.known.remove(key);
            return (None, None);
        }
        let known = self.known.entry(key.clone()).or_insert_with(|| Known::new(spec, date));
        if known.spec == spec {
            known.ask(date);
        } else {
            *known = Known::new(spec, date);
        }
        let Scheduled { floor, until } = &known.answer;
        let again = until.map(|until| {
            // A millisecond more: the time of day is finer than ours.
            let wait = until.duration_since(date).min(FURTHEST).as_millis() + 1;
            Millis(now.0.saturating_add(u64::try_from(wait).unwrap_or(0)))
        });
        (floor.clone(), again)
    }

    /// Forgets a Function.
    pub(super) fn forget(&mut self, key: &FunctionKey) {
        self.known.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(start: &str, min_replicas: u32) -> ScalingSchedule {
        ScalingSchedule {
            name: "office".to_owned(),
            start: start.to_owned(),
            end: "0 18 * * *".to_owned(),
            time_zone: "Etc/UTC".to_owned(),
            min_replicas,
        }
    }

    fn at(moment: &str) -> Timestamp {
        moment.parse().unwrap()
    }

    fn ask(calendar: &mut Calendar, spec: &[ScalingSchedule], date: &str) -> (u32, Option<u64>) {
        let (floor, again) = calendar.floor(&FunctionKey::new("ns", "a"), spec, at(date), Millis(1_000));
        (floor.map_or(0, |floor| floor.replicas), again.map(|again| again.0 - 1_000))
    }

    #[test]
    fn the_next_look_is_at_the_change_but_never_far_away() {
        let (mut calendar, spec) = (Calendar::default(), [schedule("0 8 * * *", 3)]);
        assert_eq!(ask(&mut calendar, &spec, "2026-11-21T07:00:00Z"), (0, Some(300_001)));
        assert_eq!(ask(&mut calendar, &spec, "2026-11-21T07:59:58Z"), (0, Some(2_001)));
        assert_eq!(ask(&mut calendar, &spec, "2026-11-21T08:00:00.001Z"), (3, Some(300_001)));
        assert_eq!(ask(&mut calendar, &spec, "2026-11-21T18:00:00Z"), (0, Some(300_001)));
    }

    #[test]
    fn a_clock_set_back_and_a_changed_spec_are_noticed() {
        let (mut calendar, spec) = (Calendar::default(), [schedule("0 8 * * *", 3)]);
        assert_eq!(ask(&mut calendar, &spec, "2026-11-21T09:00:00Z").0, 3);
        assert_eq!(ask(&mut calendar, &spec, "2026-11-21T07:00:00Z").0, 0);
        assert_eq!(ask(&mut calendar, &[schedule("0 6 * * *", 5)], "2026-11-21T07:00:00Z").0, 5);
        assert_eq!(ask(&mut calendar, &[], "2026-11-21T07:00:00Z"), (0, None));
        assert!(calendar.known.is_empty());
    }

    #[test]
    fn an_entry_that_cannot_be_read_leaves_the_others() {
        let spec = [schedule("99 8 * * *", 9), schedule("0 8 * * *", 3)];
        assert_eq!(ask(&mut Calendar::default(), &spec, "2026-11-21T09:00:00Z").0, 3);
    }
}
