//! Minutes of a production trace: many Functions, most of them rarely called. Format: CSV of invocations a minute and of execution
//! times, as in the public Azure Functions data set of 2019 ("Serverless in the Wild", USENIX ATC'20).

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::loads::{log_normal, micros, starts};
use crate::world::{Request, SECOND, Scenario};

/// Columns before the counts: owner, app, function, trigger.
const NAMES: usize = 4;
/// Minutes that are simulated.
const MINUTES: usize = 120;
/// A Function with more invocations is left out, to keep the run short; there are few, and the other loads stand for them.
const MOST_INVOCATIONS: u64 = 200_000;

/// One scenario for each Function that is called at all. `None` where the trace is absent.
///
/// # Errors
/// The trace is there and cannot be read.
pub(crate) fn scenarios(folder: &Path) -> Result<Option<Vec<Scenario>>> {
    let invocations = folder.join("invocations.csv");
    if !invocations.exists() {
        return Ok(None);
    }
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let table = read(&folder.join("durations.csv"))?;
    let durations = durations(&table);
    let mut found = Vec::new();
    for (line, row) in read(&invocations)?.lines().enumerate().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        let Some(seconds) = cells.get(2).and_then(|function| durations.get(*function)) else { continue };
        let counts: Vec<u64> = cells.iter().skip(NAMES).take(MINUTES).map(|count| count.parse().unwrap_or(0)).collect();
        let total: u64 = counts.iter().sum();
        if total > 0 && total <= MOST_INVOCATIONS {
            found.push(scenario(&counts, *seconds, line as u64));
        }
    }
    Ok(Some(found))
}

/// Mean execution time in seconds by function.
fn durations(csv: &str) -> HashMap<&str, f64> {
    let rows = csv.lines().skip(1).filter_map(|row| {
        let mut cells = row.split(',');
        let function = cells.nth(2)?;
        let millis: f64 = cells.next()?.parse().ok()?;
        Some((function, (millis / 1000.0).max(0.001)))
    });
    rows.collect()
}

/// Invocations at random moments of their minutes.
fn scenario(counts: &[u64], seconds: f64, seed: u64) -> Scenario {
    let mut random = StdRng::seed_from_u64(seed);
    let mut requests = Vec::new();
    for (minute, count) in counts.iter().enumerate() {
        for _ in 0..*count {
            let at = micros((minute as f64 + random.random::<f64>()) * 60.0);
            requests.push(Request { at, service: micros(log_normal(&mut random, seconds, 0.5)) });
        }
    }
    requests.sort_unstable_by_key(|request| request.at);
    let starts = starts(&mut random, 1.5);
    Scenario { requests, starts, slots: 10, end: counts.len() as u64 * 60 * SECOND }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_becomes_so_many_requests_within_its_minute() {
        let scenario = scenario(&[0, 3, 0, 1], 0.1, 1);
        let minutes: Vec<u64> = scenario.requests.iter().map(|request| request.at / (60 * SECOND)).collect();
        assert_eq!(minutes, [1, 1, 1, 3]);
    }

    #[test]
    fn durations_are_read_by_function() {
        let csv = "HashOwner,HashApp,HashFunction,Average,Count\no,a,f,250,3\n";
        assert_eq!(durations(csv).get("f"), Some(&0.25));
    }
}
