//! What the autoscaler does over time, as tables: at which second, under how many requests at once, how many replicas, and why. A row is
//! written when replicas or the kind of reason change.

mod common;

use common::Simulation;
use pilotlight_scaling::{Floor, FloorReason, Policy};
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
fn a_surge_panics_and_comes_down_with_its_window() {
    let mut simulation = Simulation::new(ten_each(), 1);
    let seen = table(&mut simulation, &[(60, Some(5)), (30, Some(200)), (200, Some(5))]);
    assert_eq!(
        seen,
        "
 second  load  replicas  reason
      1     5         1  StableWindow
     61   200        20  Queue
     63   200        20  ScaleDownDelay
     66   200        20  PanicWindow
     91     5        20  ScaleDownDelay
     97     5        20  PanicHold
    121     5        11  ScaleDownDelay
    127     5        10  ScaleDownDelay
    130     5         9  ScaleDownDelay
    133     5         8  ScaleDownDelay
    136     5         7  ScaleDownDelay
    140     5         6  ScaleDownDelay
    143     5         5  ScaleDownDelay
    146     5         4  ScaleDownDelay
    149     5         3  ScaleDownDelay
    152     5         2  ScaleDownDelay
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
    101    11         2  PanicWindow
    126    13         2  StableWindow
    201    21         3  Queue
    203    21         3  RecentLoad
    226    23         3  StableWindow
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
    391     0         4  ScaleDownDelay
    397     0         4  DataMissing
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
     63     5         5  ScaleDownDelay
    122    45         5  RecentLoad
    138    45         5  StableWindow
    183     5         5  ScaleDownDelay
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
    142     0         4  ScaleDownDelay
    148     0         4  PanicHold
    161     0         2  Idle
    162     0         2  ScaleDownDelay
    168     0         2  MinReplicas
"
    );
}
