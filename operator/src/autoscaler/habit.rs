//! What is known of one Function's habit: when its activity began and ended, and what was learnt of the gaps between. Pure; `now` is an argument.
//!
//! What always holds: a gap is learnt once, when the request that ends it is told of, and only if all of it was looked at; a habit takes memory only
//! once there was a request, and no more than `Learnt` is bounded to.

use std::collections::BTreeMap;

use pilotlight_scaling::idle::{Gap, HOLD_MILLIS, Learnt};
use pilotlight_scaling::{ActivatorId, Millis, Rung, Second};

/// Activators whose last wake is kept at most.
const ACTIVATORS: usize = 16;

/// A time in which requests came or were answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Activity {
    /// The beginning of the second in which its first request arrived.
    pub(super) began: Millis,
    /// The end of the second in which the last was answered, as far as is known.
    pub(super) ended: Millis,
}

/// What is known of one Function's habit.
#[derive(Clone, Debug, Default)]
pub(super) struct Habit {
    learnt: Learnt,
    /// Counts what was learnt, for those who keep a copy.
    version: u64,
    last: Option<Activity>,
    /// Whether the gap that follows `last` is looked at from its beginning, by this leader or the one before.
    whole: bool,
    /// The rung that the Function was on when it was woken last, or is on now.
    rung: Option<Rung>,
    /// What each activator told of its last wake: it goes on telling it.
    wakes: BTreeMap<ActivatorId, u64>,
}

impl Habit {
    /// Of a Function that has pods and that nobody has called yet.
    pub(super) fn unasked(now: Millis) -> Self {
        let mut habit = Self::default();
        habit.begin(now);
        habit
    }

    /// Where nobody knows when it was called last, it counts as idle from now on; what that gap is nobody will know.
    pub(super) fn begin(&mut self, now: Millis) {
        self.last.get_or_insert(Activity { began: now, ended: now });
    }

    /// What a leader before wrote down. `last` is believed only where nothing can have been asked of the Function since.
    pub(super) fn resume(learnt: Learnt, last: Option<Activity>) -> Self {
        Self { learnt, whole: last.is_some(), last, ..Self::default() }
    }

    /// The same with what was learnt before.
    pub(super) fn knowing(self, learnt: Learnt) -> Self {
        Self { learnt, ..self }
    }

    /// Takes over what a leader before wrote down, beside what was heard already.
    pub(super) fn adopt(&mut self, before: Self) {
        if self.learnt == Learnt::default() {
            self.learnt = before.learnt;
            self.version += 1;
        }
        if self.last.is_none() {
            (self.last, self.whole) = (before.last, before.whole);
        }
    }

    pub(super) fn learnt(&self) -> &Learnt {
        &self.learnt
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn last(&self) -> Option<Activity> {
        self.last
    }

    /// An activator told of a second with a request. `live`: it has just ended, rather than being history that a new stream tells.
    pub(super) fn active(&mut self, second: Second, live: bool) {
        let (start, end) = (second.start(), second.end());
        let Some(last) = &mut self.last else {
            (self.last, self.whole) = (Some(Activity { began: start, ended: end }), live);
            return;
        };
        if end <= last.began {
            return;
        }
        if start.since(last.ended) < HOLD_MILLIS {
            last.began = last.began.min(start);
            last.ended = last.ended.max(end);
            return;
        }
        if live && self.whole {
            self.learnt.observe_gap(Gap { began: last.began, ended: last.ended, next: start });
            self.version += 1;
        }
        (self.last, self.whole) = (Some(Activity { began: start, ended: end }), live);
    }

    /// An activator did not tell of what it had: the gap under way teaches nothing.
    pub(super) fn blind(&mut self) {
        self.whole = false;
    }

    /// The rung that the Function is on, and since when every request passes an activator (`None`: not now); what went past them is not known.
    pub(super) fn stands(&mut self, rung: Rung, led_since: Option<Millis>) {
        if rung != Rung::Active {
            self.rung = Some(rung);
        }
        let seen = |last: &Activity| led_since.is_some_and(|since| since <= last.ended);
        self.whole &= self.last.as_ref().is_some_and(seen);
    }

    /// An activator tells how long its last wake took.
    pub(super) fn woken(&mut self, id: ActivatorId, millis: u64) {
        if self.wakes.insert(id, millis) == Some(millis) {
            return;
        }
        // Activators come and go.
        while self.wakes.len() > ACTIVATORS {
            self.wakes.pop_first();
        }
        self.learnt.observe_wake(self.rung.unwrap_or(Rung::Zero), millis);
        self.version += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(habit: &mut Habit, seconds: impl IntoIterator<Item = u64>, live: bool) {
        for second in seconds {
            habit.active(Second(second), live);
        }
    }

    /// What a gap of this kind teaches.
    fn taught(gaps: &[(u64, u64, u64)]) -> Learnt {
        let mut learnt = Learnt::default();
        for (began, ended, next) in gaps {
            let second = |second: u64| Second(second).start();
            learnt.observe_gap(Gap { began: second(*began), ended: second(*ended), next: second(*next) });
        }
        learnt
    }

    #[test]
    fn a_gap_is_learnt_once_by_the_second_that_ends_it() {
        let mut habit = Habit::default();
        active(&mut habit, [100, 101, 102, 102], true);
        assert_eq!((habit.version(), habit.learnt()), (0, &Learnt::default()));
        active(&mut habit, [160, 160, 161], true);
        assert_eq!(habit.learnt(), &taught(&[(100, 103, 160)]));
        assert_eq!(habit.last(), Some(Activity { began: Second(160).start(), ended: Second(162).start() }));
        assert_eq!(habit.version(), 1);
    }

    #[test]
    fn a_pause_of_a_second_and_what_comes_late_are_no_gaps() {
        let mut habit = Habit::default();
        active(&mut habit, [100, 102, 101, 200, 103, 199], true);
        assert_eq!(habit.learnt(), &taught(&[(100, 103, 200)]));
        assert_eq!(habit.last(), Some(Activity { began: Second(200).start(), ended: Second(201).start() }));
    }

    #[test]
    fn what_a_leader_did_not_see_whole_teaches_nothing_but_what_comes_after() {
        let mut habit = Habit::default();
        active(&mut habit, [10, 40], false);
        active(&mut habit, [90], true);
        assert_eq!(habit.learnt(), &Learnt::default(), "history may have been learnt by another leader");
        active(&mut habit, [120], true);
        assert_eq!(habit.learnt(), &taught(&[(90, 91, 120)]));
        habit.blind();
        active(&mut habit, [200], true);
        assert_eq!(habit.version(), 1);
        active(&mut habit, [300], true);
        assert_eq!(habit.learnt(), &taught(&[(90, 91, 120), (200, 201, 300)]));
    }

    #[test]
    fn what_went_past_the_activators_is_no_gap() {
        for led_since in [None, Some(Second(150).start())] {
            let mut habit = Habit::default();
            active(&mut habit, [100], true);
            habit.stands(Rung::Active, led_since);
            active(&mut habit, [200], true);
            assert_eq!(habit.learnt(), &Learnt::default());
        }
    }

    #[test]
    fn a_function_that_nobody_called_has_no_gap_before_its_first_request() {
        let mut habit = Habit::unasked(Second(10).start());
        assert_eq!(habit.last().unwrap().ended, Second(10).start());
        active(&mut habit, [600], true);
        assert_eq!(habit.learnt(), &Learnt::default());
    }

    #[test]
    fn a_new_leader_goes_on_with_the_gap_that_the_one_before_saw_begin() {
        let known = taught(&[(0, 1, 60), (60, 61, 120)]);
        let last = Activity { began: Second(120).start(), ended: Second(121).start() };
        let mut habit = Habit::resume(known, Some(last));
        active(&mut habit, [180], true);
        assert_eq!(habit.learnt(), &taught(&[(0, 1, 60), (60, 61, 120), (120, 121, 180)]));
        let mut late = Habit::default();
        active(&mut late, [180], true);
        late.adopt(Habit::resume(taught(&[(0, 1, 60)]), Some(last)));
        assert_eq!((late.learnt(), late.last().unwrap().began), (&taught(&[(0, 1, 60)]), Second(180).start()));
    }

    #[test]
    fn a_wake_is_that_of_the_rung_before() {
        let mut habit = Habit::default();
        habit.woken(ActivatorId(1), 900);
        habit.stands(Rung::Parked, Some(Millis(0)));
        habit.stands(Rung::Active, Some(Millis(0)));
        habit.woken(ActivatorId(1), 900);
        habit.woken(ActivatorId(2), 300);
        let wakes = habit.learnt().wakes();
        assert_eq!((wakes.zero_millis, wakes.parked_millis), (900, 300));
    }
}
