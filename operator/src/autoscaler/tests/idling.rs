//! The adaptive ladder in the operator: what is learnt from samples, what is decided by it, and what outlives a leader. Time is an argument.

use jiff::{SignedDuration, Timestamp};
use pilotlight_crds::control::{FunctionSample, SampleBatch};
use pilotlight_crds::status::IdleStatus;
use pilotlight_scaling::idle::{Footprint, Rungs, Step};
use pilotlight_scaling::{ActivatorId, Cause, Decision, Millis, Origin, Policy, Rung};
use std::sync::Arc;

use super::listening::batch;
use crate::autoscaler::accounts::{Accounts, Standing};
use crate::autoscaler::board::{self, Board};
use crate::autoscaler::ledger::{FunctionKey, Ledger, Part, Scene};

const A: ActivatorId = ActivatorId(1);
const FOOTPRINT: Footprint = Footprint { memory_mib: 128, cpu_milli: 100, parked_mib: Some(2) };
/// When a leader's clock begins.
const BEGIN: u64 = 2_592_000_000;

fn key() -> FunctionKey {
    FunctionKey::new("shop", "hello")
}

/// One second with `requests` answered within it, or with none.
fn second(requests: u32, start_millis: Option<u64>) -> SampleBatch {
    let mut batch = batch(0, false);
    if requests > 0 {
        batch.functions.push(FunctionSample {
            namespace: "shop".to_owned(),
            name: "hello".to_owned(),
            concurrency_milli: 5,
            busy_milli: 5,
            peak: 1,
            arrivals: requests,
            completed: requests,
            start_millis,
            ..FunctionSample::default()
        });
    }
    batch
}

/// A leader, one activator, and a Function whose pods do at once what is decided.
struct Leader {
    ledger: Ledger,
    board: Board,
    /// Seconds since the leader began.
    now: u64,
    /// The date at which it began, in seconds.
    since: i64,
    rung: Rung,
    available: Rungs,
    steps: Vec<Step>,
    adaptive: bool,
    min_replicas: u32,
    /// Moves: seconds since 1970, and where to.
    moves: Vec<(i64, Rung, &'static str)>,
}

impl Leader {
    fn new(since: i64, rung: Rung) -> Self {
        let mut ledger = Ledger::default();
        ledger.join(A, Millis(BEGIN), Origin::Unknown);
        ledger.hear(A, Millis(BEGIN), &batch(0, true), |_, _| Some(Part::Main));
        for age in (1..=60).rev() {
            ledger.hear(A, Millis(BEGIN), &batch(age * 1000, false), |_, _| Some(Part::Main));
        }
        let board = Board::new(Arc::new(Accounts::default()));
        let available = Rungs::PLAIN;
        let (steps, moves) = (Vec::new(), Vec::new());
        Self { ledger, board, now: 0, since, rung, available, steps, adaptive: true, min_replicas: 0, moves }
    }

    /// The leader after one that died, which had written `status` last; it begins at the date `since`.
    fn after(status: &IdleStatus, since: i64, rung: Rung) -> Self {
        let mut leader = Self::new(since, rung);
        let (now, date) = leader.moment();
        let cost = status.cost.as_ref().expect("an account was written");
        let (account, until) = board::account(cost, now, date);
        leader.board.accounts.open(&key(), account, leader.standing(), until);
        if let Some(habit) = board::habit(&key(), status, rung != Rung::Active, now, date) {
            leader.ledger.adopt(&key(), habit, now);
        }
        leader
    }

    fn moment(&self) -> (Millis, Timestamp) {
        let passed = i64::try_from(self.now).unwrap();
        (Millis(BEGIN + self.now * 1000), Timestamp::from_second(self.since + passed).unwrap())
    }

    fn date(&self) -> i64 {
        self.moment().1.as_second()
    }

    fn standing(&self) -> Standing {
        Standing { rung: self.rung, replicas: u32::from(self.rung != Rung::Zero), footprint: FOOTPRINT }
    }

    fn decide(&mut self) -> Decision {
        let (now, date) = self.moment();
        let current = u32::from(self.rung != Rung::Zero);
        let policy = Policy { steps: self.steps.clone(), min_replicas: self.min_replicas, ..Policy::default() };
        let scene = Scene {
            policy,
            current,
            ready: current,
            floor: None,
            floor_until: None,
            led_since: Some(Millis(0)),
            rung: self.rung,
            available: self.available,
            adaptive: self.adaptive.then_some(FOOTPRINT),
        };
        let decision = self.ledger.decide(&key(), Part::Main, now, &scene);
        self.board.put(&key(), &decision, self.ledger.habit(&key()), self.adaptive, (now, date));
        decision
    }

    /// A second passes in which so many requests come; pods are woken by them, and moved as decided.
    fn pass(&mut self, requests: u32) -> Decision {
        self.now += 1;
        let woken = (requests > 0 && self.rung == Rung::Zero).then_some(400 + self.now % 7);
        let (now, _) = self.moment();
        if requests > 0 {
            // What is seen of the cluster comes before the sample of the second.
            self.rung = Rung::Active;
        }
        self.ledger.hear(A, now, &second(requests, woken), |_, _| Some(Part::Main));
        let decision = self.decide();
        if decision.rung != self.rung && (decision.replicas == 0 || decision.replicas == 1) {
            self.rung = decision.rung;
            self.moves.push((self.date(), self.rung, decision.reason.code()));
        }
        let standing = self.standing();
        self.board.accounts.open(&key(), pilotlight_scaling::idle::Ledger::default(), standing, now);
        self.board.accounts.stands(&key(), standing, now);
        decision
    }

    fn silence(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass(0);
        }
    }

    /// A timer that calls every `period` seconds, so often.
    fn timer(&mut self, period: u64, times: u32) {
        for _ in 0..times {
            self.pass(1);
            self.silence(period - 1);
        }
    }

    fn status(&self) -> IdleStatus {
        self.board.read(&key(), self.moment()).expect("something was decided")
    }
}

/// A leader that knows a timer of five minutes, half a minute before it calls again.
fn timed() -> Leader {
    let mut leader = Leader::new(1_000_000, Rung::Active);
    leader.timer(300, 9);
    leader.pass(1);
    leader.silence(270);
    leader
}

#[test]
fn a_timer_is_learnt_and_met_by_a_pod_that_was_started_for_it() {
    let mut leader = timed();
    assert_eq!(leader.rung, Rung::Zero, "{:?}", leader.moves);
    let plan = leader.status().plan.expect("a plan");
    let next = plan.next_move.expect("it will be started").0.as_second();
    let called = leader.date() + 30;
    assert!((called - 20..called).contains(&next), "{next} is to be shortly before {called}");
    leader.moves.clear();
    leader.silence(29);
    let moves = leader.moves.clone();
    assert!(matches!(moves[..], [(at, Rung::Active, "Prewarm")] if at >= next), "{moves:?}");
    leader.pass(1);
    assert_eq!(leader.rung, Rung::Active);
    assert!(leader.status().plan.is_none(), "under load there is none");
}

#[test]
fn a_pod_whose_request_does_not_come_goes_again() {
    let mut leader = timed();
    leader.silence(29);
    assert_eq!(leader.rung, Rung::Active);
    leader.moves.clear();
    leader.silence(600);
    assert!(matches!(leader.moves[..], [(_, Rung::Zero, "LeastExpectedCost")]), "{:?}", leader.moves);
}

#[test]
fn what_was_learnt_outlives_a_leader_even_in_the_middle_of_a_gap() {
    let before = timed();
    let status = before.status();
    let called = before.date() + 30;
    // Nobody leads for ten seconds.
    let mut leader = Leader::after(&status, before.date() + 10, Rung::Zero);
    leader.silence(19);
    assert!(matches!(leader.moves[..], [(at, Rung::Active, "Prewarm")] if at <= called), "{:?}", leader.moves);
    let known = leader.ledger.habit(&key()).unwrap().version();
    leader.pass(1);
    assert_eq!(leader.ledger.habit(&key()).unwrap().version(), known + 1, "the gap was learnt");
}

#[test]
fn a_leader_that_finds_pods_in_use_does_not_take_an_old_silence_for_a_new_one() {
    let before = timed();
    let mut leader = Leader::after(&before.status(), before.date() + 300, Rung::Active);
    let decision = leader.pass(0);
    assert_eq!((decision.replicas, decision.rung), (1, Rung::Active), "{}", decision.reason);
    let known = leader.ledger.habit(&key()).unwrap().version();
    leader.silence(100);
    assert_eq!(leader.rung, Rung::Zero, "what was learnt of its pauses still counts");
    // Pods are back by the time of the request, so that no wake is measured.
    leader.rung = Rung::Active;
    leader.pass(1);
    assert_eq!(leader.ledger.habit(&key()).unwrap().version(), known, "nobody saw all of that gap");
}

#[test]
fn a_leader_that_dies_between_decision_and_step_is_followed_by_the_same_decision() {
    let mut before = timed();
    before.pass(1);
    while before.decide().rung != Rung::Zero {
        before.silence(1);
        if before.rung == Rung::Zero {
            // It was decided in this second; the step is not taken.
            before.rung = Rung::Active;
            break;
        }
    }
    let decided = before.decide();
    assert_eq!(decided.rung, Rung::Zero, "{}", decided.reason);
    let mut leader = Leader::after(&before.status(), before.date() + 2, Rung::Active);
    leader.silence(90);
    assert_eq!(leader.rung, Rung::Zero, "{:?}", leader.moves);
}

#[test]
fn a_damaged_memory_is_learnt_anew() {
    let mut status = timed().status();
    status.learnt = Some("not what Pilotlight wrote".to_owned());
    let mut leader = Leader::after(&status, 2_000_000, Rung::Zero);
    leader.silence(5);
    leader.timer(30, 5);
    assert!(leader.status().learnt.is_some());
}

#[test]
fn stated_times_are_followed_whatever_was_learnt() {
    let mut leader = timed();
    leader.silence(30);
    leader.adaptive = false;
    leader.steps = vec![Step { after_seconds: 20, rung: Rung::Throttled, replicas: None }, Step::to_zero(60)];
    leader.available = Rungs::ALL;
    leader.pass(1);
    leader.moves.clear();
    let answered = leader.date();
    leader.silence(900);
    let moves: Vec<_> = leader.moves.iter().map(|(at, rung, why)| (at - answered, *rung, *why)).collect();
    assert!(matches!(moves[..], [(20..=21, Rung::Throttled, "IdleStep"), (60..=61, Rung::Zero, "Idle")]), "{moves:?}");
    assert_eq!(leader.status().learnt, None);
}

#[test]
fn a_floor_of_replicas_leaves_no_zero() {
    let mut leader = Leader::new(1_000_000, Rung::Active);
    (leader.min_replicas, leader.available) = (1, Rungs::ALL.without(Rung::Parked));
    leader.timer(300, 4);
    leader.pass(1);
    leader.silence(8_000);
    assert_eq!(leader.rung, Rung::Throttled);
    assert!(leader.moves.iter().all(|(_, rung, _)| *rung != Rung::Zero), "{:?}", leader.moves);
}

#[test]
fn missing_samples_move_nothing_down() {
    let mut leader = timed();
    leader.pass(1);
    leader.moves.clear();
    leader.now += 400;
    let decision = leader.decide();
    assert_eq!((decision.replicas, decision.rung), (1, Rung::Active), "{}", decision.reason);
    assert!(matches!(decision.reason.cause, Cause::DataMissing { .. } | Cause::Ladder(_)), "{}", decision.reason);
    assert!(decision.next_check.is_some());
}

#[test]
fn an_account_adds_up_over_leaders() {
    let mut leader = Leader::new(1_000_000, Rung::Active);
    leader.steps = vec![Step::to_zero(10)];
    leader.adaptive = false;
    leader.pass(1);
    leader.silence(110);
    let first = leader.status().cost.unwrap();
    let (on, at_zero) = (first.rung_seconds.active, first.rung_seconds.zero);
    assert_eq!(on + at_zero, 110, "{first:?}");
    assert!((10..=11).contains(&on));
    assert_eq!(first.reserved.memory_mib_seconds, on * 128);
    assert_eq!(first.always_on.memory_mib_seconds, 110 * 128);
    assert_eq!(first.saved_percent, Some(at_zero * 100 / 110));
    // Nobody leads for a day: it goes on at zero.
    let later = Leader::after(&leader.status(), leader.date() + 86_400, Rung::Zero);
    let second = later.status_of_account();
    assert_eq!((second.rung_seconds.active, second.rung_seconds.zero), (on, at_zero + 86_400));
    assert_eq!(second.reserved, first.reserved);
    assert_eq!(second.saved_percent, Some(99));
}

impl Leader {
    /// The account as a leader tells it that has just begun.
    fn status_of_account(mut self) -> pilotlight_crds::status::CostStatus {
        self.decide();
        self.status().cost.unwrap()
    }
}

#[test]
fn a_status_is_small_whatever_happens() {
    let mut leader = Leader::new(1_000_000, Rung::Active);
    let mut gap = 3;
    for _ in 0..80 {
        leader.pass(1);
        gap = gap * 7 % 1_009;
        leader.silence(gap % 30 + 2);
    }
    let status = leader.status();
    assert!(status.learnt.as_ref().is_some_and(|text| text.len() <= 1_198));
    assert!(serde_json::to_string(&status).unwrap().len() < 2_500);
    let (_, date) = leader.moment();
    let counted = status.cost.unwrap().counted_until.0;
    assert!(date.duration_since(counted) < SignedDuration::from_secs(1));
}
