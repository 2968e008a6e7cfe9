//! Floors by the time of day: cron expressions say when one begins and when it ends. A pure function of the moment that is handed in.
//!
//! What always holds: of a beginning and an end the later one counts, and at the same moment the end; where several schedules are in
//! force the highest floor counts; a schedule that was taken can be evaluated in bounded time.
//!
//! Names and meaning are those of KEDA's cron scaler. Beyond it: a second beginning before the end does not interrupt.

use std::sync::Arc;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::decide::{Floor, FloorReason};

/// Days of each month, at the most.
const LONGEST: [u16; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Why a schedule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// No such time zone.
    #[error("timeZone: {0:?} is no time zone of the IANA database; use a name such as Europe/Berlin or Etc/UTC")]
    TimeZone(String),
    /// Not a cron expression.
    #[error(
        "{field}: {expression:?} is no cron expression: {problem}; use five fields (minute, hour, day of month, month, day of week), for example \"0 8 * * 1-5\""
    )]
    Cron {
        /// `start` or `end`.
        field: &'static str,
        /// The expression.
        expression: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A day that no month of those named has.
    #[error("{field}: {expression:?} is on a day that its months never have; name another day or month")]
    Never {
        /// `start` or `end`.
        field: &'static str,
        /// The expression.
        expression: String,
    },
}

impl ScheduleError {
    /// The field of the schedule that is wrong.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::TimeZone(_) => "timeZone",
            Self::Cron { field, .. } | Self::Never { field, .. } => field,
        }
    }
}

/// A floor that comes and goes by the time of day.
#[derive(Clone, Debug)]
pub struct Schedule {
    name: Arc<str>,
    start: Cron,
    end: Cron,
    zone: TimeZone,
    replicas: u32,
}

/// What schedules ask for at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scheduled {
    /// The highest floor in force.
    pub floor: Option<Floor>,
    /// The next moment at which a schedule begins or ends. `None`: never again.
    pub until: Option<Timestamp>,
}

impl Schedule {
    /// A schedule of this name: `replicas` at least from each `start` to the next `end`, both cron expressions in the time zone `zone`.
    pub fn parse(name: &str, start: &str, end: &str, zone: &str, replicas: u32) -> Result<Self, ScheduleError> {
        let zone = TimeZone::get(zone).map_err(|_| ScheduleError::TimeZone(zone.to_owned()))?;
        Ok(Self { name: name.into(), start: cron("start", start)?, end: cron("end", end)?, zone, replicas })
    }

    /// Whether it is in force at `now`, and when that changes.
    fn at(&self, now: Timestamp) -> (bool, Option<Timestamp>) {
        let now = now.to_zoned(self.zone.clone());
        let last = |cron: &Cron| cron.find_previous_occurrence(&now, true).ok();
        let next = |cron: &Cron| cron.find_next_occurrence(&now, false).ok().map(|at: Zoned| at.timestamp());
        let in_force = last(&self.start) > last(&self.end);
        (in_force, if in_force { next(&self.end) } else { next(&self.start) })
    }
}

/// What schedules ask for at `now`.
#[must_use]
pub fn scheduled(schedules: &[Schedule], now: Timestamp) -> Scheduled {
    let mut all = Scheduled::default();
    for schedule in schedules {
        let (in_force, until) = schedule.at(now);
        all.until = [all.until, until].into_iter().flatten().min();
        let higher = all.floor.as_ref().is_none_or(|floor| schedule.replicas > floor.replicas);
        if in_force && higher {
            let reason = FloorReason::Schedule(Arc::clone(&schedule.name));
            all.floor = Some(Floor { replicas: schedule.replicas, reason });
        }
    }
    all
}

/// A cron expression of the five classic fields. Extensions (nicknames, seconds, years, L, W, #, +) are refused: they would not be
/// understood by whatever else reads the object.
fn cron(field: &'static str, expression: &str) -> Result<Cron, ScheduleError> {
    let wrong = |problem: String| ScheduleError::Cron { field, expression: expression.to_owned(), problem };
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(expression).map_err(|error| wrong(error.to_string()))?;
    let pattern = &cron.pattern;
    let plain = |c: char| c.is_ascii_alphanumeric() || " *,/-".contains(c);
    if pattern.days.has_modifiers() || pattern.days_of_week.has_modifiers() || !expression.chars().all(plain) {
        return Err(wrong("it uses more than numbers, names, `*`, `,`, `-` and `/`".to_owned()));
    }
    // The search for a day that never comes would go on for millennia.
    let days = pattern.days.values();
    let has_day =
        |month: &u16| days.iter().any(|day| LONGEST.get(usize::from(*month) - 1).is_some_and(|last| day <= last));
    if pattern.is_dow_wildcard() && !pattern.months.values().iter().any(has_day) {
        return Err(ScheduleError::Never { field, expression: expression.to_owned() });
    }
    Ok(cron)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(start: &str, end: &str, zone: &str, replicas: u32) -> Schedule {
        Schedule::parse("office", start, end, zone, replicas).unwrap()
    }

    fn at(moment: &str) -> Timestamp {
        moment.parse().unwrap()
    }

    /// Replicas at a moment, and until when.
    fn floor(schedules: &[Schedule], moment: &str) -> (u32, String) {
        let Scheduled { floor, until } = scheduled(schedules, at(moment));
        (floor.map_or(0, |floor| floor.replicas), until.map_or("never".to_owned(), |until| until.to_string()))
    }

    #[test]
    fn a_floor_holds_from_its_start_to_its_end() {
        let office = [parse("0 8 * * 1-5", "0 18 * * 1-5", "Etc/UTC", 5)];
        let rows = [
            ("2026-11-20T07:59:59Z", 0, "2026-11-20T08:00:00Z"),
            ("2026-11-20T08:00:00Z", 5, "2026-11-20T18:00:00Z"),
            ("2026-11-20T12:00:00Z", 5, "2026-11-20T18:00:00Z"),
            ("2026-11-20T17:59:59.999Z", 5, "2026-11-20T18:00:00Z"),
            // Friday evening: until Monday.
            ("2026-11-20T18:00:00Z", 0, "2026-11-23T08:00:00Z"),
        ];
        for (moment, replicas, until) in rows {
            assert_eq!(floor(&office, moment), (replicas, until.to_owned()), "at {moment}");
        }
        let reason = scheduled(&office, at("2026-11-20T12:00:00Z")).floor.unwrap().reason;
        assert_eq!(reason, FloorReason::Schedule("office".into()));
        // Of two that ask for as many, the author's first is named.
        let [office] = office;
        let both = [office, Schedule::parse("shop", "0 9 * * *", "0 17 * * *", "Etc/UTC", 5).unwrap()];
        let reason = scheduled(&both, at("2026-11-20T12:00:00Z")).floor.unwrap().reason;
        assert_eq!(reason, FloorReason::Schedule("office".into()));
    }

    #[test]
    fn a_night_lasts_over_midnight() {
        let night = [parse("0 22 * * *", "0 6 * * *", "Etc/UTC", 2)];
        assert_eq!(floor(&night, "2026-11-20T23:30:00Z").0, 2);
        assert_eq!(floor(&night, "2026-11-20T05:59:00Z").0, 2);
        assert_eq!(floor(&night, "2026-11-20T06:00:00Z").0, 0);
    }

    #[test]
    fn the_time_zone_counts_over_a_change_of_the_clocks() {
        let berlin = [parse("0 8 * * *", "0 18 * * *", "Europe/Berlin", 3)];
        assert_eq!(floor(&berlin, "2026-10-24T05:59:00Z"), (0, "2026-10-24T06:00:00Z".to_owned()), "summer");
        assert_eq!(floor(&berlin, "2026-10-25T06:59:00Z"), (0, "2026-10-25T07:00:00Z".to_owned()), "winter");
        // The hour from 2 to 3 is left out in March; what begins in it begins at its end.
        let gap = [parse("30 2 * * *", "0 4 * * *", "Europe/Berlin", 3)];
        assert_eq!(floor(&gap, "2026-03-29T00:59:00Z"), (0, "2026-03-29T01:00:00Z".to_owned()));
        assert_eq!(floor(&gap, "2026-03-29T01:00:00Z"), (3, "2026-03-29T02:00:00Z".to_owned()));
    }

    #[test]
    fn a_second_start_does_not_interrupt_and_an_end_wins() {
        let hourly = [parse("0 8-12 * * *", "0 18 * * *", "Etc/UTC", 4)];
        assert_eq!(floor(&hourly, "2026-11-20T08:30:00Z"), (4, "2026-11-20T18:00:00Z".to_owned()));
        let never = [parse("0 8 * * *", "0 8 * * *", "Etc/UTC", 4)];
        assert_eq!(floor(&never, "2026-11-20T08:00:00Z"), (0, "2026-11-21T08:00:00Z".to_owned()));
    }

    #[test]
    fn the_highest_of_several_counts_and_each_change_is_looked_at() {
        let both = [parse("0 8 * * *", "0 18 * * *", "Etc/UTC", 2), parse("0 12 * * *", "0 13 * * *", "Etc/UTC", 6)];
        assert_eq!(floor(&both, "2026-11-20T09:00:00Z"), (2, "2026-11-20T12:00:00Z".to_owned()));
        assert_eq!(floor(&both, "2026-11-20T12:30:00Z"), (6, "2026-11-20T13:00:00Z".to_owned()));
        assert_eq!(floor(&[both[1].clone(), both[0].clone()], "2026-11-20T12:30:00Z").0, 6);
        assert_eq!(floor(&[], "2026-11-20T09:00:00Z"), (0, "never".to_owned()));
    }

    #[test]
    fn what_cannot_be_used_is_said_with_its_remedy() {
        let error = |start: &str, end: &str, zone: &str| Schedule::parse("x", start, end, zone, 1).unwrap_err();
        let fine = "0 8 * * *";
        for wrong in [
            "",
            "0 8 * *",
            "61 8 * * *",
            "0 8 * * * *",
            "@daily",
            "0 8 L * *",
            "0 8 15W * *",
            "0 8 * * 1#1",
            "0 8 * * +1",
            "0 8 ? * 1",
        ] {
            let error = error(fine, wrong, "Etc/UTC");
            assert_eq!(error.field(), "end", "{wrong:?}: {error}");
            assert!(error.to_string().contains("five fields"), "{wrong:?}: {error}");
        }
        let zone = error(fine, fine, "Mars/Olympus");
        assert_eq!(zone.field(), "timeZone");
        assert!(zone.to_string().contains("Europe/Berlin"), "{zone}");
        for never in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *"] {
            let error = error(never, fine, "Etc/UTC");
            assert_eq!(error.field(), "start");
            assert!(error.to_string().contains("never have"), "{error}");
        }
        for rare in ["0 0 29 2 *", "0 0 30 2 1", "0 0 30,31 2,3 *", "0 8 * JUL WED"] {
            assert!(Schedule::parse("x", rare, fine, "Etc/UTC", 1).is_ok(), "{rare}");
        }
    }
}
