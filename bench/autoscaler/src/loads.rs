//! The loads of the suite. Each is drawn from a fixed seed: Poisson arrivals whose rate follows a curve (by thinning), log-normal service
//! and start times.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp1, LogNormal};

use crate::world::{Request, SECOND, Scenario};

/// A load of one Function.
pub(crate) struct Load {
    /// Its name in tables and JSON.
    pub(crate) name: &'static str,
    /// What it stands for.
    pub(crate) about: &'static str,
    /// What happens.
    pub(crate) scenario: Scenario,
}

/// What the requests and pods of a load are like.
#[derive(Clone, Copy)]
struct Kind {
    minutes: u64,
    slots: u32,
    /// Mean service time, in seconds.
    service: f64,
    /// Standard deviation of the logarithm of the service time.
    spread: f64,
    /// Median start time, in seconds.
    start: f64,
}

const USUAL: Kind = Kind { minutes: 30, slots: 10, service: 0.2, spread: 0.6, start: 1.5 };

/// All loads of the suite but the trace.
pub(crate) fn suite() -> Vec<Load> {
    let sine = |period: f64| move |t: f64| 300.0 + 250.0 * (t / period * std::f64::consts::TAU).sin();
    vec![
        load("step", "50 requests a second, 500 for ten minutes, 50 again", USUAL, 1, 500.0, |t| {
            if (600.0..1200.0).contains(&t) { 500.0 } else { 50.0 }
        }),
        load("ramp", "from 10 to 600 requests a second in 15 minutes, and back", USUAL, 2, 610.0, |t| {
            10.0 + 590.0 * (1.0 - (t - 900.0).abs() / 900.0)
        }),
        load("spike", "50 requests a second, 1000 for 15 seconds every 5 minutes", USUAL, 3, 1000.0, |t| {
            if t % 300.0 >= 285.0 { 1000.0 } else { 50.0 }
        }),
        load("sine", "300 ± 250 requests a second, period 10 minutes", USUAL, 4, 550.0, sine(600.0)),
        load("noisy", "200 requests a second, bursty service times", Kind { spread: 1.5, ..USUAL }, 5, 400.0, noisy()),
        load("on-off", "200 requests a second for 1 minute, nothing for 2", USUAL, 6, 200.0, |t| {
            if t % 180.0 < 60.0 { 200.0 } else { 0.0 }
        }),
        load(
            "slow-start",
            "as sine, with pods that take 20 s to start",
            Kind { start: 20.0, ..USUAL },
            7,
            550.0,
            sine(600.0),
        ),
        load("sparse", "a request every 90 seconds or so", Kind { minutes: 240, ..USUAL }, 8, 1.0 / 90.0, |_| {
            1.0 / 90.0
        }),
    ]
}

/// A rate that jumps every few seconds, around 200.
fn noisy() -> impl Fn(f64) -> f64 {
    let mut random = StdRng::seed_from_u64(55);
    let jumps = LogNormal::new(0.0, 0.35).expect("a positive deviation");
    let rates: Vec<f64> = (0..1000).map(|_| 190.0 * f64::min(jumps.sample(&mut random), 2.1)).collect();
    move |t| rates[(t / 5.0) as usize % rates.len()]
}

fn load(name: &'static str, about: &'static str, kind: Kind, seed: u64, most: f64, rate: impl Fn(f64) -> f64) -> Load {
    let mut random = StdRng::seed_from_u64(seed);
    let end = kind.minutes * 60 * SECOND;
    let mut requests = Vec::new();
    let mut t = 0.0;
    loop {
        let gap: f64 = Exp1.sample(&mut random);
        t += gap / most;
        if t * SECOND as f64 >= end as f64 {
            break;
        }
        if random.random::<f64>() * most < rate(t) {
            requests
                .push(Request { at: micros(t), service: micros(log_normal(&mut random, kind.service, kind.spread)) });
        }
    }
    Load {
        name,
        about,
        scenario: Scenario { requests, starts: starts(&mut random, kind.start), slots: kind.slots, end },
    }
}

/// Start times around a median in seconds.
pub(crate) fn starts(random: &mut StdRng, median: f64) -> Vec<u64> {
    let distribution = LogNormal::new(median.ln(), 0.25).expect("a positive deviation");
    (0..4096).map(|_| micros(distribution.sample(random))).collect()
}

/// A log-normal value of the given mean.
pub(crate) fn log_normal(random: &mut StdRng, mean: f64, spread: f64) -> f64 {
    let distribution = LogNormal::new(mean.ln() - spread * spread / 2.0, spread).expect("a positive deviation");
    distribution.sample(random)
}

/// Whole microseconds, one at least.
pub(crate) fn micros(seconds: f64) -> u64 {
    ((seconds * SECOND as f64) as u64).max(1)
}
