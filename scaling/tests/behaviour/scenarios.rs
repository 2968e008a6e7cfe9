//! What the autoscaler does over time, as tables: at which second, under how many requests at once, how many replicas, and why. A row is
//! written when replicas or the kind of reason change.

use crate::simulation::Simulation;
use pilotlight_scaling::{Floor, FloorReason, Metric, Policy};
use std::fmt::Write;

/// Stretches of load: seconds, and requests at once (`None`: the activator is not heard).
type Stretches<'a> = &'a [(u64, Option<u32>)];

fn table(simulation: &mut Simulation, stretches: Stretches<'_>) -> String {
    let mut table = String::from("\n second  load  replicas  reason\n");
    let mut shown = None;
    for (seconds, requests) in stretches {
        for _ in 0..*seconds {
            let decision = simulation.pass(*requests);
            let row = (decision.replicas, decision.reason.code());
            if shown != Some(row) {
                let load = requests.map_or("?".to_owned(), |requests| requests.to_string());
                writeln!(table, "{:>7}  {load:>4}  {:>8}  {}", simulation.second, row.0, row.1)
                    .expect("a String takes all");
                shown = Some(row);
            }
        }
    }
    table
}

fn ten_each() -> Policy {
    Policy { concurrency_limit: 10, target_utilization_percent: 100, ..Policy::default() }
}

#[test]
fn a_visit_wakes_it_and_silence_ends_it() {
    let mut simulation = Simulation::new(Policy::default(), 0);
    let seen = table(&mut simulation, &[(5, Some(0)), (3, Some(1)), (100, Some(0))]);
    assert_eq!(
        seen,
        "
 second  load  replicas  reason
      1     0         0  AtZero
      6     1         1  StableWindow
     68     0         0  Idle
     69     0         0  AtZero
"
    );
}

#[test]
fn a_surge_panics_and_comes_down_without_a_cliff() {
    let mut simulation = Simulation::new(ten_each(), 1);
    let seen = table(&mut simulation, &[(60, Some(5)), (30, Some(200)), (200, Some(5))]);
    assert_eq!(
        seen,
        "
 second  load  replicas  reason
      1     5         1  StableWindow
     61   200        20  Queue
     63   200        20  PanicHold
     66   200        21  RisingLoad
     91     5        21  PeakLoad
    122     5        20  PeakLoad
    123     5        19  PeakLoad
    125     5        18  PeakLoad
    126     5        17  PeakLoad
    128     5        16  PeakLoad
    129     5        15  PeakLoad
    130     5        14  PeakLoad
    132     5        13  PeakLoad
    133     5        12  PeakLoad
    135     5        11  PeakLoad
    136     5        10  PeakLoad
    138     5         9  PeakLoad
    139     5         8  PeakLoad
    140     5         7  PeakLoad
    142     5         6  PeakLoad
    143     5         5  PeakLoad
    145     5         4  PeakLoad
    146     5         3  PeakLoad
    149     5         2  PeakLoad
    156     5         1  StableWindow
"
    );
}

#[test]
fn a_slow_rise_follows_the_stable_window() {
    let mut simulation = Simulation::new(ten_each(), 1);
    let rise: Vec<_> = (1..=30).map(|n| (10, Some(n))).collect();
    let seen = table(&mut simulation, &rise);
    assert_eq!(
        seen,
        "
 second  load  replicas  reason
      1     1         1  StableWindow
     96    10         2  RisingLoad
    126    13         2  StableWindow
    196    20         3  RisingLoad
    226    23         3  StableWindow
    296    30         4  RisingLoad
"
    );
}

#[test]
fn a_deaf_operator_removes_nothing() {
    let mut simulation = Simulation::new(ten_each(), 1);
    let seen = table(&mut simulation, &[(90, Some(40)), (300, None), (130, Some(0))]);
    assert_eq!(
        seen,
        "
 second  load  replicas  reason
      1    40         4  StableWindow
    391     0         4  PeakLoad
    428     0         4  DataMissing
    450     0         0  Idle
    451     0         0  AtZero
"
    );
}

#[test]
fn a_proof_replica_goes_by_the_idle_rule() {
    let mut simulation = Simulation::new(Policy::default(), 0);
    simulation.floor = Some(Floor { replicas: 1, reason: FloorReason::Initial });
    let mut seen = table(&mut simulation, &[(10, Some(0))]);
    simulation.floor = None;
    seen += &table(&mut simulation, &[(80, Some(0))]);
    assert_eq!(
        seen,
        "
 second  load  replicas  reason
      1     0         1  InitialReplicas
      2     0         1  NotIdleYet

 second  load  replicas  reason
     11     0         1  NotIdleYet
     62     0         0  Idle
     63     0         0  AtZero
"
    );
}

#[test]
fn the_scale_down_delay_bridges_a_pause() {
    let policy = Policy { scale_down_delay_seconds: 120, stable_window_seconds: 20, ..ten_each() };
    let mut simulation = Simulation::new(policy, 1);
    let seen = table(&mut simulation, &[(60, Some(45)), (60, Some(5)), (60, Some(45)), (240, Some(5))]);
    assert_eq!(
        seen,
        "
 second  load  replicas  reason
      1    45         5  StableWindow
     63     5         5  PeakLoad
     72     5         5  ScaleDownDelay
    122    45         5  RisingLoad
    138    45         5  StableWindow
    183     5         5  PeakLoad
    192     5         5  ScaleDownDelay
    303     5         4  ScaleDownDelay
    308     5         3  ScaleDownDelay
    313     5         2  ScaleDownDelay
"
    );
}

#[test]
fn a_minimum_keeps_what_it_says() {
    let policy = Policy { min_replicas: 2, max_replicas: 4, ..ten_each() };
    let mut simulation = Simulation::new(policy, 0);
    let seen = table(&mut simulation, &[(10, Some(0)), (90, Some(100)), (200, Some(0))]);
    assert_eq!(
        seen,
        "
 second  load  replicas  reason
      1     0         2  MinReplicas
     11   100         4  MaxReplicas
    136     0         4  StableWindow
    142     0         4  PeakLoad
    151     0         3  PeakLoad
    155     0         2  PeakLoad
    166     0         2  MinReplicas
"
    );
}

#[test]
fn the_first_request_after_zero_brings_the_activation_replicas_once() {
    let policy = Policy { activation_replicas: 4, ..ten_each() };
    let mut simulation = Simulation::new(policy, 0);
    simulation.start_seconds = 3;
    let seen = table(&mut simulation, &[(2, Some(0)), (90, Some(5)), (70, Some(0)), (5, Some(5))]);
    assert_eq!(
        seen,
        "
 second  load  replicas  reason
      1     0         0  AtZero
      3     5         4  ActivationReplicas
      6     5         4  PeakLoad
     43     5         3  PeakLoad
     50     5         2  PeakLoad
     66     5         1  StableWindow
    152     0         0  Idle
    153     0         0  AtZero
    163     5         4  ActivationReplicas
    166     5         4  PeakLoad
"
    );
}

#[test]
fn a_request_in_the_very_second_in_which_zero_was_decided_is_a_wake() {
    let policy = Policy { activation_replicas: 4, ..ten_each() };
    let mut simulation = Simulation::new(policy, 0);
    simulation.pass(Some(0));
    simulation.pass(Some(5));
    while simulation.pass(Some(0)).replicas > 0 {}
    // Nothing is decided between zero and this wake.
    assert_eq!(simulation.pass(Some(5)).replicas, 4);
}

#[test]
fn an_active_minimum_ends_at_once_when_silence_is_long_enough() {
    let policy = Policy { min_active_replicas: 3, ..ten_each() };
    let mut simulation = Simulation::new(policy, 0);
    let seen = table(&mut simulation, &[(2, Some(0)), (10, Some(1)), (10, Some(45)), (200, Some(5)), (70, Some(0))]);
    assert_eq!(
        seen,
        "
 second  load  replicas  reason
      1     0         0  AtZero
      3     1         3  MinActiveReplicas
     13    45         5  Queue
     15    45         3  RisingLoad
     16    45         5  Queue
     18    45         5  RisingLoad
     23     5         5  PeakLoad
     58     5         4  PeakLoad
     64     5         3  PeakLoad
     75     5         3  MinActiveReplicas
    282     0         0  Idle
    283     0         0  AtZero
"
    );
}

#[test]
fn a_rate_is_scaled_by_arrivals_and_a_hard_limit_counts_too() {
    let policy = Policy {
        metric: Metric::Rps,
        target_rps: 10,
        concurrency_limit: 20,
        target_utilization_percent: 100,
        ..Policy::default()
    };
    // As many arrive in each second as are under way: ten a second ask for more than twenty at once do.
    let mut simulation = Simulation::new(policy.clone(), 1);
    let by_rate = table(&mut simulation, &[(70, Some(35))]);
    let mut simulation = Simulation::new(Policy { target_rps: 1000, ..policy }, 1);
    let by_limit = table(&mut simulation, &[(70, Some(55))]);
    assert_eq!(
        by_rate + &by_limit,
        "
 second  load  replicas  reason
      1    35         4  StableWindow

 second  load  replicas  reason
      1    55         3  StableWindow
"
    );
}

#[test]
fn a_schedule_keeps_pods_and_lets_them_go() {
    let mut simulation = Simulation::new(ten_each(), 0);
    let mut seen = table(&mut simulation, &[(3, Some(0))]);
    simulation.floor = Some(Floor { replicas: 5, reason: FloorReason::Schedule("office".into()) });
    seen += &table(&mut simulation, &[(100, Some(0)), (10, Some(70)), (100, Some(0))]);
    simulation.floor = None;
    seen += &table(&mut simulation, &[(3, Some(0))]);
    assert_eq!(
        seen,
        "
 second  load  replicas  reason
      1     0         0  AtZero

 second  load  replicas  reason
      4     0         5  Schedule
    104    70         7  Queue
    106    70         5  Schedule
    107    70         7  Queue
    108    70         7  RisingLoad
    109    70         8  RisingLoad
    114     0         8  PeakLoad
    147     0         7  PeakLoad
    151     0         6  PeakLoad
    155     0         5  PeakLoad
    158     0         5  Schedule

 second  load  replicas  reason
    214     0         0  Idle
    215     0         0  AtZero
"
    );
}
