//! A workload made from what Shahrad et al. published of theirs ("Serverless in the Wild", USENIX ATC'20): for where no trace is at hand.
//!
//! From the paper: 45 % of applications are called once an hour or less, 81 % once a minute or less; a quarter or so of them has timers, of which
//! half never deviate; of the others a tenth is nearly periodic and many come in bursts; execution times are log-normal (-0.38, 2.36, in
//! seconds), memory is Burr-distributed (11.652, 0.221, 107.083, in MiB). What it does not say is chosen: timers have the usual periods of cron, and a fifth of
//! the load swings with the day.

use pilotlight_scaling::idle::{Footprint, Wakes};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp1, LogNormal};

use crate::trace::{CPU_MILLI, PARKED_MIB};
use crate::world::{Function, Request, Workload};

const FUNCTIONS: u64 = 400;
const DAY: f64 = 86_400.0;
/// A Function that is called more often is taken to be called this often: it is warm whatever is done. Calls in a day.
const MOST: f64 = 30_000.0;
/// The longest execution, in s: the limit of the platform at the time.
const LONGEST: f64 = 600.0;

/// A day of it.
pub(crate) fn workload() -> Workload {
    let functions = (0..FUNCTIONS).map(|seed| function(&mut StdRng::seed_from_u64(seed))).collect();
    Workload { functions, end: (DAY * 1000.0) as u64, wakes: Wakes::default() }
}

fn function(random: &mut StdRng) -> Function {
    let calls = calls_a_day(random.random());
    let typical: f64 = LogNormal::new(-0.38, 2.36).expect("a positive deviation").sample(random);
    let moments = match random.random::<f64>() {
        share if share < 0.15 => timer(calls, random),
        share if share < 0.30 => [timer(calls / 2.0, random), timer(calls / 2.0, random)].concat(),
        share if share < 0.37 => renewals(calls, random, |random| 1.0 + 0.1 * (random.random::<f64>() - 0.5)),
        share if share < 0.70 => renewals(calls, random, |random| Exp1.sample(random)),
        _ => renewals(calls, random, bursty),
    };
    let mut moments = moments;
    moments.sort_by(f64::total_cmp);
    let spread = LogNormal::new(0.0, 0.3).expect("a positive deviation");
    let request = |at: f64| Request {
        at: (at * 1000.0) as u64,
        service: ((typical * spread.sample(random)).min(LONGEST) * 1000.0).max(1.0) as u64,
    };
    let requests = moments.into_iter().map(request).collect();
    let unit: f64 = random.random();
    let memory_mib = 107.083 * ((1.0 - unit).powf(-1.0 / 0.221) - 1.0).powf(1.0 / 11.652);
    Function {
        requests,
        footprint: Footprint {
            memory_mib: memory_mib.clamp(16.0, 1024.0) as u32,
            cpu_milli: CPU_MILLI,
            parked_mib: Some(PARKED_MIB),
        },
    }
}

/// Calls in a day at a share of all Functions: straight lines between the published points, on a logarithmic scale.
fn calls_a_day(share: f64) -> f64 {
    const POINTS: [(f64, f64); 5] = [(0.0, 1.0), (0.45, 24.0), (0.81, 1_440.0), (0.96, MOST), (1.0, MOST)];
    let place = POINTS.iter().rposition(|(known, _)| *known <= share).unwrap_or(0).min(POINTS.len() - 2);
    let ((from, low), (until, high)) = (POINTS[place], POINTS[place + 1]);
    low * (high / low).powf((share - from) / (until - from))
}

/// Moments in s of a timer that is about as often called, at the nearest usual period.
fn timer(calls: f64, random: &mut StdRng) -> Vec<f64> {
    const PERIODS: [f64; 11] =
        [60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 43_200.0, 86_400.0];
    let wanted = DAY / calls;
    let off = |period: &f64| (period / wanted).ln().abs();
    let period = PERIODS.into_iter().min_by(|a, b| off(a).total_cmp(&off(b))).expect("there are periods");
    let first = random.random::<f64>() * period.min(DAY);
    let count = ((DAY - 1.0 - first) / period) as u64 + 1;
    (0..count).map(|one| first + period * one as f64 + random.random::<f64>() * 0.2).collect()
}

/// Moments in s, the gaps between which are drawn; they are shorter by day than by night.
fn renewals(calls: f64, random: &mut StdRng, draw: impl Fn(&mut StdRng) -> f64) -> Vec<f64> {
    let mean = DAY / calls;
    let mut at = random.random::<f64>() * mean.min(DAY);
    let mut found = Vec::new();
    while at < DAY {
        found.push(at);
        let swing = 1.0 + 0.2 * (at / DAY * std::f64::consts::TAU).sin();
        at += draw(random) * mean / swing;
    }
    found
}

/// A gap, in mean gaps, of calls that come in bursts: nine of ten are short. Coefficient of variation 3.
fn bursty(random: &mut StdRng) -> f64 {
    let mean = if random.random::<f64>() < 0.9 { 0.1 } else { 9.1 };
    let unit: f64 = Exp1.sample(random);
    mean * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_that_were_published() {
        assert!((calls_a_day(0.45) - 24.0).abs() < 1e-6 && (calls_a_day(0.81) - 1_440.0).abs() < 1e-6);
        assert_eq!(calls_a_day(0.999), MOST);
    }

    #[test]
    fn it_is_the_same_every_time_and_within_the_day() {
        let (one, other) = (workload(), workload());
        assert_eq!(one.functions.len() as u64, FUNCTIONS);
        for (a, b) in one.functions.iter().zip(&other.functions) {
            assert_eq!(a.requests, b.requests);
            assert!(!a.requests.is_empty() && a.requests.iter().all(|request| request.at < one.end));
            assert!(a.requests.is_sorted_by_key(|request| request.at));
        }
    }
}
