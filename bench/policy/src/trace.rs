//! A production trace: CSV of invocations a minute, of execution times and of memory, as in the public Azure Functions data set of 2019
//! (Shahrad et al., "Serverless in the Wild", USENIX ATC'20).

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use pilotlight_scaling::idle::{Footprint, Wakes};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::world::{Function, Request, Workload};

/// Columns before the counts: owner, app, function, trigger.
const NAMES: usize = 4;
const MINUTE: f64 = 60_000.0;
/// Memory of a Function whose own is not in the trace, in MiB: about the median.
const USUAL_MIB: u32 = 60;
/// What a pod asks for, in thousandths of a core. The trace does not tell.
pub(crate) const CPU_MILLI: u32 = 100;
/// What a Parked pod keeps: the placeholder and the sandbox's own process, 1 MiB each.
pub(crate) const PARKED_MIB: u32 = 2;
/// The percentiles of execution times that the trace tells.
const PERCENTILES: [f64; 7] = [0.0, 1.0, 25.0, 50.0, 75.0, 99.0, 100.0];

/// How timers lie within their minutes; the trace counts only by minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timers {
    /// Each at a second of its own, always the same, up to 0.2 s late, as timers are.
    OnTime,
    /// Anywhere in the minute.
    Anywhere,
}

/// The Functions that are called at all. `None` where the trace is absent.
///
/// # Errors
/// The trace is there and cannot be read.
pub(crate) fn workload(folder: &Path, timers: Timers) -> Result<Option<Workload>> {
    let invocations = folder.join("invocations.csv");
    if !invocations.exists() {
        return Ok(None);
    }
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let (durations, memory) = (read(&folder.join("durations.csv"))?, read(&folder.join("memory.csv"))?);
    let (durations, memory) = (durations_of(&durations), memory_of(&memory));
    let table = read(&invocations)?;
    let minutes = table.lines().next().map_or(0, |header| header.split(',').count().saturating_sub(NAMES));
    let mut functions = Vec::new();
    for (line, row) in table.lines().enumerate().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        let [_, _, function, trigger, counts @ ..] = cells.as_slice() else { continue };
        let counts: Vec<u64> = counts.iter().map(|count| count.parse().unwrap_or(0)).collect();
        let mut random = StdRng::seed_from_u64(line as u64);
        let on_time = *trigger == "timer" && timers == Timers::OnTime;
        let arrivals = arrivals(&counts, on_time, &mut random);
        let usual = [100.0; 7];
        let percentiles = durations.get(function).unwrap_or(&usual);
        let request = |at| Request { at, service: draw(percentiles, random.random::<f64>() * 100.0) };
        let requests: Vec<Request> = arrivals.into_iter().map(request).collect();
        if !requests.is_empty() {
            let memory_mib = memory.get(function).copied().unwrap_or(USUAL_MIB);
            functions.push(Function {
                requests,
                footprint: Footprint { memory_mib, cpu_milli: CPU_MILLI, parked_mib: Some(PARKED_MIB) },
            });
        }
    }
    Ok(Some(Workload { functions, end: minutes as u64 * MINUTE as u64, wakes: Wakes::default() }))
}

/// Percentiles of execution times in ms, by function.
fn durations_of(csv: &str) -> HashMap<&str, [f64; 7]> {
    let rows = csv.lines().skip(1).filter_map(|row| {
        let cells: Vec<&str> = row.split(',').collect();
        let values: Vec<f64> = cells.get(7..14)?.iter().filter_map(|cell| cell.parse().ok()).collect();
        Some((*cells.get(2)?, values.try_into().ok()?))
    });
    rows.collect()
}

/// Average memory in MiB, by function.
fn memory_of(csv: &str) -> HashMap<&str, u32> {
    let rows = csv.lines().skip(1).filter_map(|row| {
        let mut cells = row.split(',');
        let function = cells.next()?;
        let average: f64 = cells.nth(3)?.parse().ok()?;
        Some((function, (average.ceil() as u32).max(1)))
    });
    rows.collect()
}

/// An execution time in ms at a percentile, between those that are known.
fn draw(percentiles: &[f64; 7], at: f64) -> u64 {
    let place = PERCENTILES.iter().rposition(|known| *known <= at).unwrap_or(0).min(PERCENTILES.len() - 2);
    let share = (at - PERCENTILES[place]) / (PERCENTILES[place + 1] - PERCENTILES[place]);
    (percentiles[place] + share * (percentiles[place + 1] - percentiles[place])).max(1.0) as u64
}

/// Moments in ms, ascending, by counts of each minute.
pub(crate) fn arrivals(counts: &[u64], on_time: bool, random: &mut StdRng) -> Vec<u64> {
    let offset = random.random::<f64>() * MINUTE;
    let mut found = Vec::new();
    for (minute, count) in counts.iter().enumerate() {
        for one in 0..*count {
            let within = if on_time {
                (offset + MINUTE * one as f64 / *count as f64) % MINUTE + random.random::<f64>() * 200.0
            } else {
                random.random::<f64>() * MINUTE
            };
            found.push((minute as f64 * MINUTE + within.min(MINUTE - 1.0)) as u64);
        }
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_becomes_so_many_requests_within_its_minute() {
        for on_time in [false, true] {
            let moments = arrivals(&[0, 3, 0, 1], on_time, &mut StdRng::seed_from_u64(1));
            let minutes: Vec<u64> = moments.iter().map(|at| at / 60_000).collect();
            assert_eq!(minutes, [1, 1, 1, 3]);
        }
    }

    #[test]
    fn a_timer_keeps_its_second() {
        let moments = arrivals(&[1; 60], true, &mut StdRng::seed_from_u64(7));
        assert!(moments.windows(2).all(|pair| (59_700..60_300).contains(&(pair[1] - pair[0]))), "{moments:?}");
    }

    #[test]
    fn rows_are_read_by_function() {
        let durations = "O,A,F,Average,Count,Min,Max,0,1,25,50,75,99,100\no,a,f,250,3,1,9,10,20,30,40,50,60,70\n";
        let durations = durations_of(durations);
        assert_eq!([0.0, 13.0, 50.0, 100.0].map(|at| draw(&durations["f"], at)), [10, 25, 40, 70]);
        assert_eq!(memory_of("F,O,A,Samples,Average\nf,o,a,3,61.2\n").get("f"), Some(&62));
    }
}
