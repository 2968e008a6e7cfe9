//! Outcomes as figures, as a table for people and as JSON for programs.

use serde_json::{Value, json};

use crate::world::{Outcome, SECOND};

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Time that pods existed, in seconds.
    pub(crate) replica_seconds: f64,
    /// Percentiles of how long requests waited for a slot, in ms: 50, 95, 99.
    pub(crate) wait_ms: [f64; 3],
    /// Changes of the number of replicas in an hour, for one Function.
    pub(crate) changes_per_hour: f64,
}

/// Outcomes of one or several Functions in `seconds` altogether, as figures.
pub(crate) fn figures(outcomes: &[&Outcome], seconds: f64) -> Figures {
    let mut waits: Vec<u64> = outcomes.iter().flat_map(|outcome| outcome.waits.iter().copied()).collect();
    waits.sort_unstable();
    let percentile = |percent: usize| {
        let at = (waits.len() * percent).div_ceil(100).max(1) - 1;
        waits.get(at).map_or(0.0, |micros| *micros as f64 / 1000.0)
    };
    let micros: u64 = outcomes.iter().map(|outcome| outcome.replica_micros).sum();
    let changes: u64 = outcomes.iter().map(|outcome| outcome.changes).sum();
    Figures {
        replica_seconds: micros as f64 / SECOND as f64,
        wait_ms: [percentile(50), percentile(95), percentile(99)],
        changes_per_hour: changes as f64 * 3600.0 / seconds,
    }
}

impl Figures {
    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let rounded = |value: f64| (value * 10.0).round() / 10.0;
        json!({
            "replica_seconds": rounded(self.replica_seconds),
            "p50_ms": rounded(self.wait_ms[0]),
            "p95_ms": rounded(self.wait_ms[1]),
            "p99_ms": rounded(self.wait_ms[2]),
            "changes_per_hour": rounded(self.changes_per_hour),
        })
    }
}

/// One load's rows.
pub(crate) struct Row {
    /// Which load.
    pub(crate) name: String,
    /// Ours, the KPA's, the omniscient one's.
    pub(crate) figures: [Figures; 3],
}

/// The table for people.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = format!(
        "{:<11} {:>10} {:>10} {:>10} {:>6}  {:>26}  {:>26}  {:>13}\n",
        "", "replica-s", "KPA", "omniscient", "ratio", "wait p50/p95/p99 ms", "KPA", "changes/h (KPA)"
    );
    for row in rows {
        let [ours, kpa, omniscient] = &row.figures;
        let waits = |f: &Figures| format!("{:.0} / {:.0} / {:.0}", f.wait_ms[0], f.wait_ms[1], f.wait_ms[2]);
        table += &format!(
            "{:<11} {:>10.0} {:>10.0} {:>10.0} {:>6.2}  {:>26}  {:>26}  {:>6.0} ({:.0})\n",
            row.name,
            ours.replica_seconds,
            kpa.replica_seconds,
            omniscient.replica_seconds,
            ours.replica_seconds / kpa.replica_seconds,
            waits(ours),
            waits(kpa),
            ours.changes_per_hour,
            kpa.changes_per_hour,
        );
    }
    table
}

/// The JSON for programs.
pub(crate) fn json(rows: &[Row]) -> Value {
    let of = |row: &Row| {
        let [ours, kpa, omniscient] = &row.figures;
        json!({ "pilotlight": ours.json(), "kpa": kpa.json(), "omniscient": omniscient.json() })
    };
    Value::Object(rows.iter().map(|row| (row.name.clone(), of(row))).collect())
}
