//! Where decisions turn: each limit from both of its sides.

use pilotlight_scaling::idle::{Rungs, Step};
use pilotlight_scaling::{
    Bound, Cause, Decision, Floor, FloorReason, Input, Load, Memory, Millis, Policy, Rung, Second, Span, Window, decide,
};

const NOW: Millis = Millis(1_000_000);

/// A situation, by default: one ready pod of ten slots, at rest, with all told about up to now.
struct Situation {
    policy: Policy,
    load: Load,
    span: Option<Span>,
    current: u32,
    ready: u32,
    floor: Option<Floor>,
    floor_until: Option<Millis>,
    memory: Memory,
}

impl Default for Situation {
    fn default() -> Self {
        Self {
            policy: Policy { concurrency_limit: 10, target_utilization_percent: 100, ..Policy::default() },
            load: Load { last_active: Some(Millis(0)), ..Load::default() },
            span: Some(Span { from: Second(0), until: Second(1_000) }),
            current: 1,
            ready: 1,
            floor: None,
            floor_until: None,
            memory: Memory::default(),
        }
    }
}

impl Situation {
    fn decide(&self) -> Decision {
        self.decide_at(NOW)
    }

    fn decide_at(&self, now: Millis) -> Decision {
        decide(&Input {
            now,
            policy: &self.policy,
            load: &self.load,
            span: self.span,
            settles_at: None,
            current: self.current,
            ready: self.ready,
            start_millis: None,
            floor: self.floor.clone(),
            floor_until: self.floor_until,
            available: Rungs::ALL,
            adaptive: None,
            memory: &self.memory,
        })
    }

    fn silent_for(mut self, millis: u64) -> Self {
        self.load.last_active = Some(Millis(NOW.0 - millis));
        self
    }

    /// So many at once in both windows.
    fn with(mut self, concurrency: u64) -> Self {
        let window = |seconds: u64| {
            let milli = concurrency * 1000 * seconds;
            Some(Window { seconds, concurrency_milli: milli, busy_milli: milli, ..Window::default() })
        };
        self.load.stable = window(60);
        self.load.panic = window(6);
        self.load.in_flight = concurrency;
        self.load.last_active = Some(NOW);
        self
    }
}

/// Milliseconds until the next look.
fn wait(decision: &Decision) -> Option<u64> {
    decision.next_check.map(|at| at.0 - NOW.0)
}

#[test]
fn silence_is_long_enough_at_its_last_millisecond() {
    let decision = Situation::default().silent_for(59_999).decide();
    assert_eq!((decision.replicas, wait(&decision)), (1, Some(100)), "not sooner than in 100 ms");
    let cause = Cause::NotIdleYet { silent_seconds: 59, needed_seconds: 60 };
    assert_eq!(decision.reason.cause, cause);
    let decision = Situation::default().silent_for(60_000).decide();
    assert_eq!(decision.replicas, 0);
    assert_eq!(decision.reason.cause, Cause::Idle { silent_seconds: 60, needed_seconds: 60 });
}

#[test]
fn a_request_under_way_is_no_silence_and_the_rung_says_whether_pods_run() {
    let mut busy = Situation::default().silent_for(70_000);
    busy.load.in_flight = 1;
    assert_eq!((busy.decide().replicas, busy.decide().rung), (1, Rung::Active));
    let silent = Situation::default().silent_for(70_000).decide();
    assert_eq!((silent.replicas, silent.rung), (0, Rung::Zero));
}

#[test]
fn pods_that_stay_are_throttled_once_silence_is_long_enough_for_that() {
    let throttled = Step { after_seconds: 20, rung: Rung::Throttled, replicas: None };
    let policy = Policy { steps: vec![throttled, Step::to_zero(60)], ..Situation::default().policy };
    let at = |millis| Situation { policy: policy.clone(), ..Situation::default() }.silent_for(millis);
    let look = |situation: Situation| {
        let decision = situation.decide();
        (decision.replicas, decision.rung, wait(&decision))
    };
    assert_eq!(look(at(19_999)), (1, Rung::Active, Some(100)));
    assert_eq!(look(at(5_000)), (1, Rung::Active, Some(15_000)));
    assert_eq!(look(at(20_000)), (1, Rung::Throttled, Some(40_000)));
    assert_eq!(look(at(60_000)), (0, Rung::Zero, Some(2_000)));
    let gone = Situation { current: 0, ready: 0, ..at(20_000) };
    assert_eq!(look(gone).1, Rung::Zero, "there is no pod to throttle");
    let mut busy = at(20_000);
    busy.load.in_flight = 1;
    assert_eq!(look(busy).1, Rung::Active);
    let unheard = Situation { span: None, ..at(20_000) };
    assert_eq!(look(unheard), (1, Rung::Active, Some(2_000)), "what nobody tells of is no silence");
    let kept = Policy { min_replicas: 1, ..policy.clone() };
    assert_eq!(look(Situation { policy: kept.clone(), ..at(90_000) }), (1, Rung::Throttled, None));
    assert_eq!(look(Situation { policy: kept.clone(), ..at(5_000) }), (1, Rung::Active, Some(15_000)));
    let open = Some(Floor { replicas: 1, reason: FloorReason::FailOpen });
    assert_eq!(look(Situation { floor: open, ..at(90_000) }).1, Rung::Active, "nobody would give it its CPU back");
    let grows = Policy { min_replicas: 2, ..policy.clone() };
    assert_eq!(look(Situation { policy: grows, ..at(90_000) }).1, Rung::Active, "first the pods, then their CPU");
}

#[test]
fn the_next_look_is_when_time_alone_could_change_something() {
    let at_rest = Situation::default().silent_for(20_000).decide();
    assert_eq!(wait(&at_rest), Some(40_000));
    let unheard = Situation { span: None, ..Situation::default() }.decide();
    assert_eq!(wait(&unheard), Some(2_000), "silence does not grow by itself");
    for (arrivals, millis) in [(0, 40_000), (1, 2_000)] {
        let mut quiet = Situation::default().silent_for(20_000);
        quiet.load.stable = Some(Window { seconds: 60, arrivals, ..Window::default() });
        assert_eq!(wait(&quiet.decide()), Some(millis), "{arrivals} too short to be seen as concurrency");
    }
    let active = Policy { min_active_replicas: 2, ..Situation::default().policy };
    let at_rest =
        Situation { policy: active, current: 2, ready: 2, ..Situation::default() }.silent_for(20_000).decide();
    assert_eq!((at_rest.replicas, wait(&at_rest)), (2, Some(40_000)));
    let kept = Policy { min_replicas: 2, ..Situation::default().policy };
    let kept = || Situation { policy: kept.clone(), current: 2, ready: 2, ..Situation::default() };
    assert_eq!((kept().decide().replicas, wait(&kept().decide())), (2, None));
    for (queued, in_flight) in [(1, 0), (0, 1), (1, 1)] {
        let mut busy = kept();
        (busy.load.queued, busy.load.in_flight) = (queued, in_flight);
        assert_eq!(wait(&busy.decide()), Some(2_000), "{queued} waiting, {in_flight} at pods");
    }
    assert_eq!(wait(&Situation { span: None, ..kept() }.decide()), None, "there is nothing that silence could change");
    let mut throttled = kept();
    throttled.policy.steps.push(Step { after_seconds: 20, rung: Rung::Throttled, replicas: Some(2) });
    assert_eq!(wait(&Situation { span: None, ..throttled }.decide()), Some(2_000), "silence could");
    assert_eq!(wait(&Situation::default().with(3).decide()), Some(2_000));
    let at_zero = Situation { current: 0, ready: 0, ..Situation::default() };
    assert_eq!(wait(&at_zero.decide()), None);
    let mut waiting = at_zero;
    waiting.load.queued = 1;
    assert_eq!(wait(&waiting.decide()), Some(2_000));
}

#[test]
fn the_ladder_is_told_of_where_silence_is_known() {
    let told = |situation: Situation| situation.decide().idle.map(|idle| idle.rung);
    assert_eq!(told(Situation::default().silent_for(1_000)), Some(Rung::Active));
    assert_eq!(told(Situation::default()), Some(Rung::Zero));
    assert_eq!(told(Situation { span: None, ..Situation::default() }), None);
    assert_eq!(told(Situation::default().with(3)), None);
    assert_eq!(told(Situation { span: None, current: 0, ready: 0, ..Situation::default() }), None);
}

#[test]
fn a_floor_that_changes_by_time_is_looked_at_then() {
    let until = |floor_until: u64| Situation { floor_until: Some(Millis(floor_until)), ..Situation::default() };
    let at_zero = |floor_until| Situation { current: 0, ready: 0, ..until(floor_until) };
    assert_eq!(wait(&at_zero(NOW.0 + 7_000).decide()), Some(7_000));
    assert_eq!(wait(&at_zero(NOW.0).decide()), Some(100));
    assert_eq!(wait(&until(NOW.0 + 7_000).with(3).decide()), Some(2_000), "load comes first");
    assert_eq!(wait(&until(NOW.0 + 500).with(3).decide()), Some(500));
}

#[test]
fn a_floor_holds_at_zero_and_the_higher_one_says_so() {
    let floor = |replicas| Some(Floor { replicas, reason: FloorReason::FailOpen });
    let policy = Policy { min_replicas: 2, ..Situation::default().policy };
    let with = |replicas| Situation {
        floor: floor(replicas),
        policy: policy.clone(),
        current: 0,
        ready: 0,
        ..Situation::default()
    };
    let decision = with(3).decide();
    assert_eq!((decision.replicas, decision.reason.bound), (3, Some(Bound::Floor(3, FloorReason::FailOpen))));
    let decision = with(2).decide();
    assert_eq!((decision.replicas, decision.reason.bound), (2, Some(Bound::Min(2))));
}

#[test]
fn one_step_has_its_limits() {
    let policy = Policy { max_scale_up_rate: 3, ..Situation::default().policy };
    let up = |concurrency| {
        Situation { policy: policy.clone(), current: 2, ready: 2, ..Situation::default() }.with(concurrency).decide()
    };
    assert_eq!((up(60).replicas, up(60).reason.bound), (6, None));
    assert_eq!((up(61).replicas, up(61).reason.bound), (6, Some(Bound::UpRate(6))));
    let down = |concurrency| Situation { current: 8, ready: 8, ..Situation::default() }.with(concurrency).decide();
    assert_eq!((down(31).replicas, down(31).reason.bound), (4, None));
    assert_eq!((down(30).replicas, down(30).reason.bound), (4, Some(Bound::DownRate(4))));
}

#[test]
fn data_is_fresh_for_five_seconds_and_complete_for_a_stable_window() {
    let told = |from: u64, until: u64, now: u64| {
        let span = Some(Span { from: Second(from), until: Second(until) });
        let situation = Situation { span, current: 8, ready: 8, ..Situation::default() }.with(40);
        situation.decide_at(Millis(now)).replicas
    };
    assert_eq!(told(0, 1_000, 1_005_000), 4);
    assert_eq!(told(0, 1_000, 1_005_001), 8);
    assert_eq!(told(940, 1_000, 1_000_000), 4);
    assert_eq!(told(941, 1_000, 1_000_000), 8);
}

#[test]
fn nothing_known_is_no_silence() {
    let unheard = Situation { span: None, ..Situation::default() }.decide();
    assert_eq!(unheard.reason.cause, Cause::DataMissing { wanted: 0 });
    let heard = Situation::default().silent_for(20_000).decide();
    assert_eq!(heard.reason.cause, Cause::NotIdleYet { silent_seconds: 20, needed_seconds: 60 });
}

#[test]
fn a_surge_begins_at_the_threshold_and_holds_two_panic_windows() {
    // Twice of what two pods are meant to bear.
    let surge = |concurrency| Situation { current: 2, ready: 2, ..Situation::default() }.with(concurrency).decide();
    let after = |memory: Memory, millis: u64| {
        let quiet = Situation {
            current: 9,
            ready: 9,
            memory,
            span: Some(Span { from: Second(0), until: Second(1_012) }),
            ..Situation::default()
        };
        let decision = quiet.with(1).decide_at(Millis(NOW.0 + millis));
        matches!(decision.reason.cause, Cause::PanicHold { .. })
    };
    assert!(!after(surge(30).memory, 1_000), "three pods are no surge of two");
    assert!(after(surge(31).memory, 1_000));
    assert!(after(surge(31).memory, 11_999));
    assert!(!after(surge(31).memory, 12_000));
}

#[test]
fn no_more_than_is_ready_is_no_surge_whatever_the_threshold() {
    let policy = Policy { panic_threshold_percent: 100, ..Situation::default().policy };
    let memory =
        Situation { policy: policy.clone(), current: 2, ready: 2, ..Situation::default() }.with(20).decide().memory;
    // A third pod goes, which panic would hold.
    let next = Situation { policy, current: 3, ready: 3, memory, ..Situation::default() }.with(1).decide();
    assert_eq!(next.replicas, 2, "its peak is remembered: {}", next.reason);
}

#[test]
fn zero_forgets_what_was_before() {
    let surge = Situation { current: 2, ready: 2, ..Situation::default() }.with(31).decide().memory;
    let zero = Situation { current: 0, ready: 0, memory: surge, ..Situation::default() }.decide();
    let woken = Situation { current: 9, ready: 9, memory: zero.memory, ..Situation::default() }.with(1).decide();
    assert_eq!((woken.replicas, woken.reason.bound), (4, Some(Bound::DownRate(4))), "{}", woken.reason.cause);
}

#[test]
fn a_wake_without_a_request_is_no_activation() {
    let policy = Policy { activation_replicas: 3, ..Situation::default().policy };
    let zero = Situation { policy: policy.clone(), current: 0, ready: 0, ..Situation::default() };
    let memory = zero.decide_at(Millis(NOW.0 - 1)).memory;
    let woken = |last_active: u64, (queued, in_flight): (u64, u64)| {
        let load = Load { last_active: Some(Millis(last_active)), queued, in_flight, ..Load::default() };
        let situation =
            Situation { policy: policy.clone(), memory: memory.clone(), load, ready: 0, ..Situation::default() };
        situation.decide().replicas
    };
    assert_eq!(woken(NOW.0 - 5_001, (0, 0)), 1);
    assert_eq!(woken(NOW.0 - 5_000, (0, 0)), 3, "it had ended when its pod was seen");
    for asked in [(1, 0), (0, 1), (1, 1)] {
        assert_eq!(woken(0, asked), 3, "waiting and at pods: {asked:?}");
    }
}
