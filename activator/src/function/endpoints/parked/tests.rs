//! How long a function that was asked for is waited for, by what Kubernetes shows meanwhile.

use super::*;
use crate::fixtures;
use crate::function::handshake::Handshakes;
use crate::index::FunctionConfig;
use crate::{endpoint::Upstream, limits::Limits};

const MOMENT: Duration = Duration::from_millis(1);

/// One parked pod whose function was asked for, and when.
fn asked() -> (Endpoints, Instant) {
    let (mut endpoints, now) = (Endpoints::default(), Instant::now());
    show(&mut endpoints, |_| {});
    endpoints.found_parked(&fixtures::pod(1).uid, 1);
    assert!(endpoints.ask(now, "uid-1"));
    endpoints.unparked("uid-1", 2);
    (endpoints, now)
}

fn show(endpoints: &mut Endpoints, change: impl FnOnce(&mut PodView)) {
    let mut pod = PodView { function_runs: false, ..fixtures::pod(1) };
    change(&mut pod);
    endpoints.set_pods(&[Arc::new(pod)], |pod| Arc::new(Upstream::new(pod, &Limits::default())));
    let config = FunctionConfig { revision: Some("hello-1".into()), ..fixtures::config() };
    endpoints.refresh(Instant::now(), &Handshakes::default(), &config);
}

/// How many are waited for, and how many are given up.
fn counts(endpoints: &Endpoints, now: Instant) -> (usize, usize) {
    let asleep = endpoints.asleep(now);
    (asleep.waking, asleep.lost)
}

#[test]
fn a_function_of_which_nothing_is_heard_is_given_up_in_the_end() {
    let (endpoints, asked) = asked();
    assert_eq!(counts(&endpoints, asked + PATIENCE - MOMENT), (1, 0));
    assert_eq!(endpoints.asleep(asked).look_at, Some(asked + PATIENCE), "somebody looks then");
    assert_eq!(counts(&endpoints, asked + PATIENCE), (0, 1));
}

#[test]
fn a_function_that_runs_is_waited_for() {
    let (mut endpoints, asked) = asked();
    show(&mut endpoints, |pod| (pod.turn, pod.function_runs) = (2, true));
    assert_eq!(counts(&endpoints, asked + PATIENCE * 10), (1, 0));
}

#[test]
fn a_function_that_kubernetes_cannot_start_is_given_up_at_once() {
    let (mut endpoints, asked) = asked();
    show(&mut endpoints, |pod| (pod.turn, pod.stuck) = (1, true));
    assert_eq!(counts(&endpoints, asked), (1, 0), "that is from before it was asked for");
    show(&mut endpoints, |pod| (pod.turn, pod.stuck) = (2, true));
    assert_eq!(counts(&endpoints, asked), (0, 1));
    show(&mut endpoints, |pod| (pod.turn, pod.function_runs) = (2, true));
    assert_eq!(counts(&endpoints, asked), (1, 0), "it came all the same");
}
