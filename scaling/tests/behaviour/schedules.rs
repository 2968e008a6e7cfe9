//! Floors by the time of day against a naive oracle: look for each start and end through the days before, and let the later one decide.

use crate::simulation::cases;
use jiff::civil::DateTime;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use pilotlight_scaling::{Schedule, scheduled};
use proptest::prelude::*;

/// A time of day on some weekdays (0 is Sunday).
#[derive(Clone, Debug)]
struct Moment {
    minute: i8,
    hour: i8,
    weekdays: Vec<i8>,
}

impl Moment {
    fn cron(&self) -> String {
        let weekdays: Vec<_> = self.weekdays.iter().map(ToString::to_string).collect();
        format!("{} {} * * {}", self.minute, self.hour, weekdays.join(","))
    }

    /// The last time that it was, by the wall clock: on one of the eight days up to now.
    fn last(&self, now: DateTime) -> Option<DateTime> {
        (0..8).find_map(|days| {
            let day = now.date().checked_sub(days.days()).ok()?;
            let at = day.at(self.hour, self.minute, 0, 0);
            let counts = self.weekdays.contains(&day.weekday().to_sunday_zero_offset());
            (counts && at <= now).then_some(at)
        })
    }
}

fn moments() -> impl Strategy<Value = Moment> {
    (0_i8..60, 0_i8..24, proptest::sample::subsequence((0_i8..7).collect::<Vec<_>>(), 1..=7))
        .prop_map(|(minute, hour, weekdays)| Moment { minute, hour, weekdays })
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn schedules_agree_with_a_naive_oracle(
        schedules in proptest::collection::vec((moments(), moments(), 1_u32..9), 1..4),
        // Minutes of November and December, in which no clock of this zone changes.
        minute in 0_i64..60 * 24 * 50, second in 0_i64..60,
    ) {
        let zone = TimeZone::get("America/New_York").unwrap();
        let begin: Timestamp = "2026-11-10T00:00:00Z".parse().unwrap();
        let whole = begin.checked_add(minute.minutes()).unwrap();
        let parsed: Vec<_> = schedules
            .iter()
            .map(|(start, end, replicas)| {
                Schedule::parse("s", &start.cron(), &end.cron(), "America/New_York", *replicas).unwrap()
            })
            .collect();
        let expected = |at: Timestamp| {
            let at = at.to_zoned(zone.clone()).datetime();
            let in_force = schedules.iter().filter(|(start, end, _)| start.last(at) > end.last(at));
            in_force.map(|(.., replicas)| *replicas).max().unwrap_or(0)
        };
        let said = scheduled(&parsed, whole.checked_add(second.seconds()).unwrap());
        let floor = said.floor.map_or(0, |floor| floor.replicas);
        prop_assert_eq!(floor, expected(whole));

        // Nothing changes before the time that is told.
        let until = said.until.unwrap();
        let mut later = whole.checked_add(1.minute()).unwrap();
        for _ in 0..90 {
            if later >= until {
                break;
            }
            prop_assert_eq!(expected(later), floor, "at {}, before {}", later, until);
            later = later.checked_add(1.minute()).unwrap();
        }
    }
}
