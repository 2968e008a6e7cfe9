//! Which seconds each activator has told about. One for all Functions: a Function that a batch leaves out had no traffic, so an idle
//! Function costs nothing here.
//!
//! What always holds: a second counts as told only if a batch for it arrived, or if the activator did not exist yet.

use std::collections::BTreeMap;

use crate::time::{Millis, Second};

/// Stretches kept for each activator; where more are needed the oldest are forgotten, which only ever delays a step down.
const STRETCHES: usize = 32;
/// Seconds after which a departed activator is forgotten altogether; no window is longer.
const DEPARTED_KEPT: u64 = 3_600;
/// Seconds that the last words of a departing activator may be old without leaving a blind spot.
const LAST_WORDS: u64 = 3;
/// Seconds between an activator's birth and its first batch within which it is taken to have had no traffic before.
const FIRST_WORDS: u64 = 10;

/// One run of one activator: a number that the caller gives, never to be used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivatorId(pub u64);

/// Whether an activator may have had traffic before it became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there when we began to look: only its own history tells what it had.
    Unknown,
    /// It appeared while we looked, so there was nothing before.
    Born,
}

/// A stretch of time that every activator has told about without a gap: from a second, inclusive, to one, exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first second.
    pub from: Second,
    /// The second after its last.
    pub until: Second,
}

#[derive(Clone, Debug)]
struct Told {
    origin: Origin,
    joined: Second,
    /// The earliest second that a batch arrived for.
    heard_from: Option<Second>,
    departed: Option<Second>,
    /// Half-open, ascending, never touching.
    stretches: Vec<Span>,
}

impl Told {
    /// The newest stretch without a gap. For one born while we looked it reaches back to the beginning, if it spoke soon enough.
    fn newest(&self) -> Option<Span> {
        let born = self.origin == Origin::Born;
        let Some(newest) = self.stretches.last() else {
            return born.then_some(Span { from: Second(0), until: self.joined });
        };
        let spoke_soon = newest.from.0 <= self.joined.0.saturating_add(FIRST_WORDS);
        let from = if born && spoke_soon && self.heard_from == Some(newest.from) { Second(0) } else { newest.from };
        Some(Span { from, until: newest.until })
    }
}

/// Which seconds each activator has told about.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    activators: BTreeMap<ActivatorId, Told>,
    /// Before this second an activator, gone since, may have had traffic that it never told about.
    blind_until: Second,
}

impl Coverage {
    /// Tells that an activator runs. Telling it again changes nothing.
    pub fn join(&mut self, id: ActivatorId, now: Millis, origin: Origin) {
        let joined = Second::containing(now);
        self.activators.entry(id).or_insert_with(|| Told {
            origin,
            joined,
            heard_from: None,
            departed: None,
            stretches: Vec::new(),
        });
    }

    /// Tells that a batch for `second` arrived. Ignored for an activator that never joined.
    pub fn cover(&mut self, id: ActivatorId, second: Second) {
        let Some(told) = self.activators.get_mut(&id) else {
            return;
        };
        told.heard_from = Some(told.heard_from.map_or(second, |from| from.min(second)));
        insert(&mut told.stretches, Span { from: second, until: second.next() });
    }

    /// Tells that an activator is gone, with its connections. What it had not told yet leaves a blind spot up to now.
    pub fn depart(&mut self, id: ActivatorId, now: Millis) {
        let gone = Second::containing(now);
        let Some(told) = self.activators.get_mut(&id) else {
            return;
        };
        if told.departed.is_some() {
            return;
        }
        told.departed = Some(gone);
        let last_words = told.newest().map_or(Second(0), |span| span.until);
        if last_words.0.saturating_add(LAST_WORDS) < gone.0 {
            self.blind_until = self.blind_until.max(gone);
        }
        let keep_from = gone.minus(DEPARTED_KEPT);
        self.activators.retain(|_, told| told.departed.is_none_or(|departed| departed >= keep_from));
    }

    /// The newest stretch that every activator has told about without a gap. `None` where there is none, or no activator.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        let mut common: Option<Span> = None;
        for told in self.activators.values() {
            if told.departed.is_some() {
                continue;
            }
            let newest = told.newest()?;
            common =
                Some(common.map_or(newest, |span| Span {
                    from: span.from.max(newest.from),
                    until: span.until.min(newest.until),
                }));
        }
        let span = common?;
        let from = span.from.max(self.blind_until);
        (from < span.until).then_some(Span { from, until: span.until })
    }

    /// Whether the activator runs.
    #[must_use]
    pub fn runs(&self, id: ActivatorId) -> bool {
        self.activators.get(&id).is_some_and(|told| told.departed.is_none())
    }

    /// The second after the last that the activator told about.
    #[must_use]
    pub fn told_until(&self, id: ActivatorId) -> Option<Second> {
        let told = self.activators.get(&id)?;
        told.stretches.last().map(|span| span.until)
    }

    /// The second after the last that any activator told about, gone ones included.
    #[must_use]
    pub fn latest(&self) -> Option<Second> {
        self.activators
            .values()
            .filter(|told| told.heard_from.is_some())
            .filter_map(|told| told.stretches.last().map(|span| span.until))
            .max()
    }

    /// Whether a batch for `second` arrived from any activator, gone ones included.
    #[must_use]
    pub fn anyone_told(&self, second: Second) -> bool {
        self.activators
            .values()
            .filter(|told| told.heard_from.is_some_and(|from| from <= second))
            .any(|told| contains(&told.stretches, second))
    }

    /// The second whose share stands for `second` at this activator: itself where it was told, else the last one before it that was
    /// told and is at most `hold` seconds older. `None` where the activator was gone by then, or nothing is known.
    #[must_use]
    pub fn stand_in(&self, id: ActivatorId, second: Second, hold: u64) -> Option<Second> {
        let told = self.activators.get(&id)?;
        if told.departed.is_some_and(|departed| second >= departed) {
            return None;
        }
        let stretch = told.stretches.iter().rev().find(|s| s.from <= second)?;
        let last = stretch.until.minus(1).min(second);
        (second.0 - last.0 <= hold).then_some(last)
    }
}

fn contains(stretches: &[Span], second: Second) -> bool {
    stretches.iter().rev().find(|span| span.from <= second).is_some_and(|span| second < span.until)
}

/// Adds a stretch and joins those that it touches.
fn insert(stretches: &mut Vec<Span>, new: Span) {
    let first = stretches.partition_point(|span| span.until < new.from);
    let after = stretches.partition_point(|span| span.from <= new.until);
    let merged = stretches[first..after]
        .iter()
        .fold(new, |all, span| Span { from: all.from.min(span.from), until: all.until.max(span.until) });
    stretches.splice(first..after, [merged]);
    if stretches.len() > STRETCHES {
        stretches.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ActivatorId = ActivatorId(1);
    const B: ActivatorId = ActivatorId(2);

    fn span(from: u64, until: u64) -> Option<Span> {
        Some(Span { from: Second(from), until: Second(until) })
    }

    fn cover(coverage: &mut Coverage, id: ActivatorId, seconds: std::ops::Range<u64>) {
        for second in seconds {
            coverage.cover(id, Second(second));
        }
    }

    #[test]
    fn nobody_known_is_no_span() {
        assert_eq!(Coverage::default().span(), None);
    }

    #[test]
    fn one_silent_activator_is_no_span() {
        let mut coverage = Coverage::default();
        coverage.join(A, Millis(100_000), Origin::Unknown);
        coverage.join(B, Millis(100_000), Origin::Unknown);
        cover(&mut coverage, A, 40..120);
        assert_eq!(coverage.span(), None);
        cover(&mut coverage, B, 60..119);
        assert_eq!(coverage.span(), span(60, 119));
    }

    #[test]
    fn a_gap_begins_a_new_span_until_history_fills_it() {
        let mut coverage = Coverage::default();
        coverage.join(A, Millis(100_000), Origin::Unknown);
        cover(&mut coverage, A, 40..70);
        cover(&mut coverage, A, 80..90);
        assert_eq!(coverage.span(), span(80, 90));
        cover(&mut coverage, A, 70..80);
        assert_eq!(coverage.span(), span(40, 90));
    }

    #[test]
    fn one_born_later_had_nothing_before() {
        let mut coverage = Coverage::default();
        coverage.join(A, Millis(100_000), Origin::Unknown);
        cover(&mut coverage, A, 40..120);
        coverage.join(B, Millis(110_000), Origin::Born);
        assert_eq!(coverage.span(), span(40, 110), "it has not spoken since");
        cover(&mut coverage, B, 112..120);
        assert_eq!(coverage.span(), span(40, 120));
    }

    #[test]
    fn one_that_dies_without_last_words_leaves_a_blind_spot() {
        let mut coverage = Coverage::default();
        coverage.join(A, Millis(100_000), Origin::Unknown);
        coverage.join(B, Millis(100_000), Origin::Unknown);
        cover(&mut coverage, A, 40..130);
        cover(&mut coverage, B, 40..110);
        coverage.depart(B, Millis(120_000));
        assert_eq!(coverage.span(), span(120, 130));
    }

    #[test]
    fn one_that_ends_well_leaves_none() {
        let mut coverage = Coverage::default();
        coverage.join(A, Millis(100_000), Origin::Unknown);
        coverage.join(B, Millis(100_000), Origin::Unknown);
        cover(&mut coverage, A, 40..130);
        cover(&mut coverage, B, 40..119);
        coverage.depart(B, Millis(120_000));
        assert_eq!(coverage.span(), span(40, 130));
    }

    #[test]
    fn a_missing_second_is_stood_in_for_by_the_last_told() {
        let mut coverage = Coverage::default();
        coverage.join(A, Millis(0), Origin::Unknown);
        cover(&mut coverage, A, 10..20);
        assert_eq!(coverage.stand_in(A, Second(15), 60), Some(Second(15)));
        assert_eq!(coverage.stand_in(A, Second(25), 60), Some(Second(19)));
        assert_eq!(coverage.stand_in(A, Second(80), 60), None);
        assert_eq!(coverage.stand_in(A, Second(9), 60), None);
        coverage.depart(A, Millis(22_000));
        assert_eq!(coverage.stand_in(A, Second(21), 60), Some(Second(19)));
        assert_eq!(coverage.stand_in(A, Second(22), 60), None);
    }

    #[test]
    fn one_that_never_joined_or_is_gone_already_changes_nothing() {
        let mut coverage = Coverage::default();
        coverage.cover(A, Second(5));
        coverage.depart(A, Millis(9_000));
        assert_eq!((coverage.span(), coverage.latest()), (None, None));
        coverage.join(B, Millis(100_000), Origin::Unknown);
        cover(&mut coverage, B, 40..130);
        coverage.join(A, Millis(100_000), Origin::Unknown);
        coverage.depart(A, Millis(110_000));
        coverage.depart(A, Millis(120_000));
        assert_eq!(coverage.span(), span(110, 130), "the blind spot ends with the first word of its end");
        assert!(!coverage.runs(A) && coverage.runs(B));
    }

    #[test]
    fn last_words_may_be_three_seconds_old() {
        for (told, from) in [(117, 40), (116, 120)] {
            let mut coverage = Coverage::default();
            coverage.join(A, Millis(100_000), Origin::Unknown);
            coverage.join(B, Millis(100_000), Origin::Unknown);
            cover(&mut coverage, A, 40..130);
            cover(&mut coverage, B, 40..told);
            coverage.depart(B, Millis(120_000));
            assert_eq!(coverage.span(), span(from, 130), "told until {told}");
        }
    }

    #[test]
    fn stretches_that_only_touch_have_nothing_in_common() {
        let mut coverage = Coverage::default();
        coverage.join(A, Millis(100_000), Origin::Unknown);
        coverage.join(B, Millis(100_000), Origin::Unknown);
        cover(&mut coverage, A, 40..60);
        cover(&mut coverage, B, 60..70);
        assert_eq!(coverage.span(), None);
    }

    #[test]
    fn memory_stays_bounded_under_a_flapping_stream() {
        let mut coverage = Coverage::default();
        coverage.join(A, Millis(0), Origin::Unknown);
        for second in (0..10_000).step_by(2) {
            coverage.cover(A, Second(second));
        }
        assert_eq!(coverage.activators[&A].stretches.len(), STRETCHES);
    }
}
