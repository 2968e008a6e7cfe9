//! The promise to the host: however a cluster ends, nothing of it stays. Each case brings a cluster up, ends it in one
//! way, and compares the host with what it was before. They need root and take minutes:
//! `cargo test -p pilotlight-cluster -- --ignored`.

#![allow(clippy::unwrap_used, reason = "a test that cannot look has failed")]

mod attempt;
mod host;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attempt::{Attempt, End};
use host::Host;
use nix::sys::signal::Signal;

/// One cluster after the other: several at once would wait for each other's CPU.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// More lines than a start prints; a case that never runs out of lines is an error.
const MANY: usize = 40;

#[test]
#[ignore = "needs root and starts clusters"]
fn an_up_and_a_down_leave_nothing() {
    let _turn = turn();
    attempt::build();
    let name = "leaves-down";
    let before = Host::snapshot(name);
    let mut up = Attempt::start(name);
    assert!(up.read_lines(2));
    let second = attempt::errors(name, &["up"]);
    assert!(second.contains("another `up`"), "an `up` beside an `up`: {second}");
    assert_eq!(up.finish(), End::Exited(0));
    let meanwhile = Host::snapshot(name);
    assert!(!before.differences(&meanwhile).is_empty(), "a running cluster must show, else the comparison is blind");

    assert_eq!(attempt::run(name, &["up"]), End::Exited(0), "`up` when up");
    assert_eq!(attempt::run(name, &["status"]), End::Exited(0));
    assert_eq!(attempt::run(name, &["down"]), End::Exited(0));
    before.assert_unchanged("up and down", Duration::ZERO);
    assert_eq!(attempt::run(name, &["down"]), End::Exited(0), "`down` when down");
    assert_eq!(attempt::run(name, &["status"]), End::Exited(1));
    before.assert_unchanged("a second down", Duration::ZERO);
}

#[test]
#[ignore = "needs root and starts clusters"]
fn an_interrupt_at_any_point_leaves_nothing() {
    let _turn = turn();
    attempt::build();
    let name = "leaves-interrupt";
    let before = Host::snapshot(name);
    for lines in 0..MANY {
        let mut up = Attempt::start(name);
        let reached = up.read_lines(lines);
        up.signal(Signal::SIGINT);
        match (reached, up.finish()) {
            (true, End::Exited(130)) => {}
            // It had not begun to listen, nor to do anything.
            (true, End::Signaled(signal)) if lines == 0 && signal == Signal::SIGINT as i32 => {}
            // It was through before the signal came: every point has had its turn.
            (_, End::Exited(0)) => {
                assert!(lines >= 5, "only {lines} lines of progress were there to interrupt at");
                assert_eq!(attempt::run(name, &["down"]), End::Exited(0));
                before.assert_unchanged("the last interrupt", Duration::ZERO);
                return;
            }
            (reached, end) => panic!("interrupted after line {lines} (reached: {reached}): {end:?}"),
        }
        before.assert_unchanged(&format!("an interrupt after line {lines}"), Duration::ZERO);
    }
    panic!("`up` never came to its end");
}

#[test]
#[ignore = "needs root and starts clusters"]
fn a_killed_up_leaves_nothing() {
    let _turn = turn();
    attempt::build();
    let name = "leaves-killed-up";
    let before = Host::snapshot(name);
    for lines in [1, 3, 4] {
        let mut up = Attempt::start(name);
        assert!(up.read_lines(lines));
        up.signal(Signal::SIGKILL);
        assert_eq!(up.finish(), End::Signaled(Signal::SIGKILL as i32));
        // The supervisor notices by itself; nobody is left to wait for it.
        before.assert_unchanged(&format!("`up` killed after line {lines}"), Duration::from_secs(30));
    }
}

#[test]
#[ignore = "needs root and starts clusters"]
fn a_killed_supervisor_takes_all_processes_along_and_down_removes_the_rest() {
    let _turn = turn();
    attempt::build();
    let name = "leaves-killed-supervisor";
    let before = Host::snapshot(name);

    // Midway: `up` says so, and fails.
    let mut up = Attempt::start(name);
    assert!(up.read_lines(3));
    attempt::kill_supervisor(name);
    assert_eq!(up.finish(), End::Exited(1));
    before.assert_no_process_left("the supervisor killed midway", Duration::from_secs(30));

    // A new `up` removes what was left, and is killed the same way once it is ready.
    assert_eq!(Attempt::start(name).finish(), End::Exited(0));
    attempt::kill_supervisor(name);
    before.assert_no_process_left("the supervisor killed when ready", Duration::from_secs(30));
    assert_eq!(attempt::run(name, &["status"]), End::Exited(1));
    assert_eq!(attempt::run(name, &["down"]), End::Exited(0));
    before.assert_unchanged("a killed supervisor and a down", Duration::ZERO);
}

#[test]
#[ignore = "needs root and starts clusters"]
fn a_component_that_is_killed_is_started_again_and_one_that_fails_ends_the_cluster_and_status_names_it() {
    let _turn = turn();
    attempt::build();
    let name = "leaves-component";
    let before = Host::snapshot(name);
    assert_eq!(Attempt::start(name).finish(), End::Exited(0));
    // Twice: whoever is found the second time was started again.
    attempt::kill_component(name, "kube-scheduler", Signal::SIGKILL);
    attempt::kill_component(name, "kube-scheduler", Signal::SIGKILL);
    attempt::kill_component(name, "kube-scheduler", Signal::SIGABRT);
    before.assert_no_process_left("a component that failed", Duration::from_secs(30));
    let status = attempt::output(name, &["status"]);
    assert!(status.contains("kube-scheduler") && status.contains("logs"), "{status}");
    assert_eq!(attempt::run(name, &["down"]), End::Exited(0));
    before.assert_unchanged("a component that failed and a down", Duration::ZERO);
}
