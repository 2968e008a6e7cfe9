//! What holds for every load, policy and order of events, against a naive oracle where there is one.

use crate::simulation::{A, Simulation, cases};
use pilotlight_scaling::idle::{Rungs, Step};
use pilotlight_scaling::{
    Cause, Coverage, Input, Load, Memory, Metric, Millis, Origin, Policy, Second, Span, Window, Windows, decide,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn policies() -> impl Strategy<Value = Policy> {
    (
        (0_u32..4, 1_u32..40, 0_u32..30, 0_u32..30),
        (1_u32..=100, 1_u32..90, 1_u32..=100, 110_u32..=1000),
        (1_u32..90, 0_u32..60),
        (prop_oneof![Just(Metric::Concurrency), Just(Metric::Rps)], 0_u32..300, 0_u32..6, 0_u32..12),
    )
        .prop_map(|(scale, windows, idle, more)| Policy {
            metric: more.0,
            target_rps: more.1,
            min_active_replicas: more.2,
            activation_replicas: more.3,
            min_replicas: scale.0,
            max_replicas: scale.0.max(scale.1),
            target_concurrency: scale.2,
            concurrency_limit: scale.3,
            target_utilization_percent: windows.0,
            stable_window_seconds: windows.1,
            panic_window_percent: windows.2,
            panic_threshold_percent: windows.3,
            steps: vec![Step::to_zero(idle.0)],
            scale_down_delay_seconds: idle.1,
            ..Policy::default()
        })
}

fn windows() -> impl Strategy<Value = Option<Window>> {
    let window = (0_u64..2_000_000, 0_u64..2_000_000, 1_u64..90, 0_u64..5_000, 0_u64..5_000).prop_map(
        |(waiting, busy_milli, seconds, arrivals, completed)| Window {
            seconds,
            concurrency_milli: busy_milli + waiting,
            busy_milli,
            arrivals,
            completed,
        },
    );
    proptest::option::of(window)
}

fn loads() -> impl Strategy<Value = Load> {
    (
        windows(),
        windows(),
        prop_oneof![Just(0_u64), 0_u64..500],
        prop_oneof![Just(0_u64), 0_u64..500],
        proptest::option::of(0_u64..1_000_000),
    )
        .prop_map(|(stable, panic, queued, in_flight, last_active)| Load {
            stable,
            panic,
            queued,
            in_flight,
            last_active: last_active.map(Millis),
        })
}

fn spans() -> impl Strategy<Value = Option<Span>> {
    proptest::option::of(
        (0_u64..1000, 1_u64..1000)
            .prop_map(|(from, length)| Span { from: Second(from), until: Second((from + length).min(1000)) }),
    )
}

const NOW: Millis = Millis(1_000_000);

/// Memory as real decisions leave it behind.
fn memories() -> impl Strategy<Value = Memory> {
    vec((loads(), 0_u32..40, 0_u64..90_000), 0..6).prop_map(|past| {
        let policy = Policy::default();
        let mut memory = Memory::default();
        let mut now = Millis(NOW.0 - 600_000);
        for (load, current, later) in past {
            now = Millis(now.0 + later);
            let input = Input {
                now,
                policy: &policy,
                load: &load,
                span: None,
                settles_at: None,
                current,
                ready: current,
                start_millis: None,
                floor: None,
                floor_until: None,
                available: Rungs::ALL,
                adaptive: None,
                memory: &memory,
            };
            memory = decide(&input).memory;
        }
        memory
    })
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn bounds_are_always_respected(
        policy in policies(), load in loads(), span in spans(), memory in memories(),
        current in 0_u32..60, ready in 0_u32..60,
    ) {
        let decision = decide(&Input {
            now: NOW, policy: &policy, load: &load, span, settles_at: None, current, ready, start_millis: None, floor: None, floor_until: None, available: Rungs::ALL, adaptive: None, memory: &memory,
        });
        prop_assert!(decision.replicas >= policy.min_replicas);
        prop_assert!(decision.replicas <= policy.ceiling());
        prop_assert!(decision.next_check.is_none_or(|next| next > NOW));
    }

    #[test]
    fn more_load_lately_never_gives_fewer_replicas(
        policy in policies(), load in loads(), span in spans(), memory in memories(),
        current in 1_u32..60, ready in 0_u32..60, start in proptest::option::of(0_u64..100_000),
        everywhere in 0_u64..100_000, more in (0_u64..100_000, 0_u64..500, 0_u64..50, 0_u64..50, 0_u64..100_000),
    ) {
        // So much more in each second, and in the seconds of the panic window `lately` on top.
        let add = |window: Option<Window>, lately: u64| window.map(|window| Window {
            concurrency_milli: window.concurrency_milli + (everywhere + lately) * window.seconds,
            busy_milli: window.busy_milli + (everywhere + lately) * window.seconds,
            arrivals: window.arrivals + more.1 * window.seconds,
            ..window
        });
        let higher = Load {
            stable: add(load.stable, 0),
            panic: add(load.panic, more.0),
            queued: load.queued + more.2,
            in_flight: load.in_flight + more.3,
            last_active: load.last_active.map(|at| Millis(at.0 + more.4)),
        };
        let replicas = |load: &Load| decide(&Input {
            now: NOW, policy: &policy, load, span, settles_at: None, current, ready, start_millis: start, floor: None, floor_until: None, available: Rungs::ALL, adaptive: None, memory: &memory,
        }).replicas;
        prop_assert!(replicas(&higher) >= replicas(&load));
    }

    #[test]
    fn missing_data_never_lowers(
        policy in policies(), load in loads(), memory in memories(),
        current in 1_u32..60, ready in 0_u32..60,
        missing in prop_oneof![
            Just(None),
            // An activator whose last words are six seconds old or older.
            (0_u64..900, 1_u64..90).prop_map(|(from, length)| Some(Span {
                from: Second(from), until: Second((from + length).min(994)),
            })),
        ],
    ) {
        let decision = decide(&Input {
            now: NOW, policy: &policy, load: &load, span: missing, settles_at: None, current, ready, start_millis: None, floor: None, floor_until: None, available: Rungs::ALL, adaptive: None, memory: &memory,
        });
        prop_assert!(decision.replicas >= current.min(policy.ceiling()));
    }

    #[test]
    fn while_requests_may_come_past_the_activators_nothing_is_removed(
        policy in policies(), load in loads(), span in spans(), memory in memories(),
        current in 0_u32..60, ready in 0_u32..60, ahead in 0_u64..10_000,
    ) {
        let decide = |settles_at| decide(&Input {
            now: NOW, policy: &policy, load: &load, span, settles_at, current, ready, start_millis: None, floor: None, floor_until: None, available: Rungs::ALL, adaptive: None, memory: &memory,
        });
        let (usual, settling) = (decide(None), decide(Some(Millis(NOW.0 + ahead))));
        if ahead == 0 || usual.replicas >= current {
            prop_assert_eq!((usual.replicas, &usual.reason), (settling.replicas, &settling.reason));
        } else {
            prop_assert_eq!(settling.replicas, current);
            prop_assert_eq!(settling.reason.cause, Cause::Settling { wanted: usual.replicas, seconds: ahead.div_ceil(1000) });
        }
        prop_assert!(ahead == 0 || settling.next_check.is_some_and(|next| next <= Millis(NOW.0 + ahead)));
        prop_assert!(settling.next_check.is_none_or(|next| next > NOW));
    }

    #[test]
    fn too_short_a_history_never_lowers(
        policy in policies(), load in loads(), memory in memories(),
        current in 1_u32..60, ready in 0_u32..60,
    ) {
        let told = policy.stable_seconds().min(policy.silence_seconds().unwrap()) - 1;
        let span = Some(Span { from: Second(1000 - told), until: Second(1000) });
        let decision = decide(&Input {
            now: NOW, policy: &policy, load: &load, span, settles_at: None, current, ready, start_millis: None, floor: None, floor_until: None, available: Rungs::ALL, adaptive: None, memory: &memory,
        });
        prop_assert!(decision.replicas >= current.min(policy.ceiling()));
    }

}

proptest! {
    // Each of these simulates minutes.
    #![proptest_config(cases(64))]

    #[test]
    fn panic_never_lowers_but_to_zero_when_idle(
        policy in policies(), phases in vec((prop_oneof![0_u32..5, 0_u32..200], 1_u64..30), 1..8),
    ) {
        let mut simulation = Simulation::new(policy, 1);
        let mut panic_until = 0;
        for (requests, seconds) in phases {
            for _ in 0..seconds {
                let before = simulation.current;
                if before > 0 && surges(&simulation, requests) {
                    panic_until = simulation.second + 1 + simulation.policy.panic_hold_seconds();
                }
                let decision = simulation.pass(Some(requests));
                if decision.replicas == 0 {
                    let idle = matches!(decision.reason.cause, Cause::Idle { .. } | Cause::AtZero { .. });
                    prop_assert!(idle, "{}", decision.reason);
                    panic_until = 0;
                } else if simulation.second < panic_until {
                    prop_assert!(decision.replicas >= before.min(simulation.policy.ceiling()));
                }
            }
        }
    }

    #[test]
    fn constant_load_settles_and_stays(
        policy in policies(), requests in 1_u32..300, start in 0_u32..30, start_seconds in 0_u64..20,
    ) {
        let mut simulation = Simulation::new(policy, start.min(30));
        simulation.start_seconds = start_seconds;
        for _ in 0..600 {
            simulation.pass(Some(requests));
        }
        let (settled, writes) = (simulation.current, simulation.writes);
        for _ in 0..300 {
            simulation.pass(Some(requests));
        }
        prop_assert_eq!(simulation.writes, writes, "it moved after it had settled");
        // In the simulation as many requests arrive in each second as are under way.
        let targets = simulation.policy.targets();
        let enough = targets.map(|target| (u64::from(requests) * 1000).div_ceil(target.milli)).max().unwrap();
        let expected = enough
            .max(u64::from(simulation.policy.min_replicas))
            .max(u64::from(simulation.policy.min_active_replicas))
            .min(u64::from(simulation.policy.ceiling()));
        prop_assert_eq!(u64::from(settled), expected);
    }

    #[test]
    fn silence_reaches_zero_and_stays(
        policy in policies(), requests in 0_u32..200, busy_seconds in 0_u64..60,
    ) {
        let policy = Policy { min_replicas: 0, ..policy };
        let wait = policy.silence_seconds().unwrap() + 2;
        let mut simulation = Simulation::new(policy, 1);
        for _ in 0..busy_seconds {
            simulation.pass(Some(requests));
        }
        for _ in 0..wait {
            simulation.pass(Some(0));
        }
        prop_assert_eq!(simulation.current, 0, "{}", simulation.last.unwrap().reason);
        let writes = simulation.writes;
        for _ in 0..200 {
            prop_assert_eq!(simulation.pass(Some(0)).next_check, None);
        }
        prop_assert_eq!(simulation.writes, writes);
    }

    #[test]
    fn zero_never_comes_before_the_idle_time(
        policy in policies(), idle in 2_u32..60, busy_seconds in 1_u64..30,
    ) {
        let policy = Policy { min_replicas: 0, steps: vec![Step::to_zero(idle)], ..policy };
        let mut simulation = Simulation::new(policy, 0);
        for _ in 0..busy_seconds {
            simulation.pass(Some(3));
        }
        for _ in 0..idle - 1 {
            prop_assert!(simulation.pass(Some(0)).replicas > 0);
        }
    }

    #[test]
    fn activation_and_active_floors_hold_as_long_as_they_should(
        policy in policies(), start_seconds in 0_u64..8, phases in vec((0_u32..30, 1_u64..120), 1..6),
    ) {
        let policy = Policy { min_replicas: 0, ..policy };
        let (active, activation) = (policy.min_active_replicas, policy.activation_replicas);
        let ceiling = policy.ceiling();
        let mut simulation = Simulation::new(policy, 0);
        simulation.start_seconds = start_seconds;
        // Zero is seen before the first request.
        simulation.pass(Some(0));
        // The oracle: activation begins with the request that wakes and ends once so many are ready, or at zero.
        let mut activating = false;
        for (requests, seconds) in phases {
            for _ in 0..seconds {
                activating |= simulation.current == 0 && requests > 0;
                let before = simulation.current;
                let ready = simulation.ready_at(simulation.second + 1);
                let decision = simulation.pass(Some(requests));
                if before == 0 && decision.replicas == 0 {
                    continue;
                }
                activating &= ready < activation.min(ceiling) && decision.replicas > 0;
                if decision.replicas > 0 {
                    prop_assert!(decision.replicas >= active.min(ceiling), "{}", decision.reason);
                }
                if activating {
                    prop_assert!(decision.replicas >= activation.min(ceiling), "{}", decision.reason);
                }
            }
        }
    }
}

/// Whether the next second of `requests` overwhelms the pods that are ready at its end, computed beside the simulation.
fn surges(simulation: &Simulation, requests: u32) -> bool {
    let policy = &simulation.policy;
    if simulation.waiting(requests) == 0 {
        return false;
    }
    let pods = requests.div_ceil(policy.slots());
    let ready = simulation.ready_at(simulation.second + 1).max(1);
    pods > ready && pods * 100 >= ready * policy.panic_threshold_percent
}

#[test]
fn a_request_in_flight_for_an_hour_keeps_its_pod() {
    let mut simulation = Simulation::new(Policy::default(), 1);
    for _ in 0..3_600 {
        assert_eq!(simulation.pass(Some(1)).replicas, 1);
    }
}

#[test]
fn a_wake_without_any_sample_is_not_undone_before_the_idle_time() {
    let mut coverage = Coverage::default();
    coverage.join(A, Millis(0), Origin::Unknown);
    let (policy, windows) = (Policy::default(), Windows::default());
    let mut memory = Memory::default();
    let mut gone_at = None;
    for second in 0..400 {
        coverage.cover(A, Second(second));
        let current = u32::from(second >= 200);
        let decision = decide(&Input {
            now: Second(second).end(),
            policy: &policy,
            load: &windows.load(&coverage, 60, 6, memory.awake_since()),
            span: coverage.span(),
            settles_at: None,
            current,
            ready: 0,
            start_millis: None,
            floor: None,
            floor_until: None,
            available: Rungs::ALL,
            adaptive: None,
            memory: &memory,
        });
        if current == 1 && decision.replicas == 0 {
            gone_at = Some(second);
            break;
        }
        memory = decision.memory;
    }
    assert_eq!(gone_at, Some(260));
}
