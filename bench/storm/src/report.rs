//! From storms to figures: a table for people and JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use pilotlight_e2e::runtime::Runtime;
use pilotlight_e2e::sample::Sample;
use serde_json::{Map, Value, json};

use crate::crowd::Rung;

/// What was measured of one rung.
#[derive(Clone, Debug, Default)]
struct Figures {
    /// Of all storms together.
    answered: Sample,
    failed: usize,
    /// Runtime calls of all storms together.
    calls: f64,
}

/// What was measured in a run.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    functions: u32,
    figures: BTreeMap<(Runtime, Rung), Figures>,
}

impl Report {
    /// Nothing yet, of storms of so many.
    pub(crate) fn new(functions: u32) -> Self {
        Self { functions, figures: BTreeMap::new() }
    }

    /// Adds a storm, and tells of its failures.
    pub(crate) fn push(&mut self, runtime: Runtime, rung: Rung, storm: &[Result<Duration>], calls: f64) {
        let figures = self.figures.entry((runtime, rung)).or_default();
        figures.calls += calls;
        for answer in storm {
            match answer {
                Ok(took) => figures.answered.push(*took),
                Err(error) => {
                    figures.failed += 1;
                    eprintln!("  {} {}: {error:#}", runtime.key(), rung.key());
                }
            }
        }
    }

    /// By runtime and rung.
    pub(crate) fn json(&self) -> Value {
        let mut runtimes: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
        for ((runtime, rung), figures) in &self.figures {
            let mut entry = json!({
                "n": self.functions,
                "answers": figures.answered.len(),
                "failed": figures.failed,
                "p50_ms": figures.answered.median().map(tenth),
                "p99_ms": figures.answered.percentile(99).map(tenth),
                "runtime_calls_per_wake": tenth(figures.calls_per_wake()),
            });
            if *rung != Rung::Floor {
                entry["p50_ratio"] = json!(self.ratio(*runtime, figures, Sample::median));
                entry["p99_ratio"] = json!(self.ratio(*runtime, figures, |sample| sample.percentile(99)));
            }
            runtimes.entry(runtime.key()).or_default().insert(rung.key().to_owned(), entry);
        }
        json!(runtimes)
    }

    /// A figure over the floor's.
    fn ratio(&self, runtime: Runtime, figures: &Figures, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let floor = of(&self.figures.get(&(runtime, Rung::Floor))?.answered)?;
        Some((of(&figures.answered)? / floor * 1e3).round() / 1e3)
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} at once, ms until the answer\n", self.functions);
        let _ = writeln!(
            text,
            "  {:<18} {:>8} {:>8} {:>7} {:>7} {:>11}",
            "", "p50", "p99", "×floor", "failed", "calls/wake"
        );
        for ((runtime, rung), figures) in &self.figures {
            let ratio = self.ratio(*runtime, figures, Sample::median);
            let _ = writeln!(
                text,
                "  {:<18} {:>8} {:>8} {:>7} {:>7} {:>11.1}",
                format!("{} {}", runtime.key(), rung.key()),
                whole(figures.answered.median()),
                whole(figures.answered.percentile(99)),
                ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")),
                figures.failed,
                figures.calls_per_wake(),
            );
        }
        text
    }
}

impl Figures {
    fn calls_per_wake(&self) -> f64 {
        self.calls / (self.answered.len() + self.failed).max(1) as f64
    }
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn whole(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn storms_are_told_together_and_beside_the_floor() {
        let ms = |all: &[u64]| all.iter().map(|ms| Ok(Duration::from_millis(*ms))).collect::<Vec<_>>();
        let mut report = Report::new(2);
        report.push(Runtime::Runc, Rung::Floor, &ms(&[1_000, 2_000]), 6.0);
        report.push(Runtime::Runc, Rung::Zero, &ms(&[500, 700]), 10.0);
        report.push(Runtime::Runc, Rung::Zero, &[Ok(Duration::from_millis(600)), Err(anyhow!("refused"))], 10.0);
        let json = report.json();
        assert_eq!(json["runc"]["floor"]["p50_ms"], 1_500.0);
        assert_eq!(json["runc"]["floor"]["p50_ratio"], Value::Null);
        let zero = &json["runc"]["zero"];
        assert_eq!((&zero["answers"], &zero["failed"], &zero["n"]), (&json!(3), &json!(1), &json!(2)));
        assert_eq!((&zero["p50_ms"], &zero["p99_ms"]), (&json!(600.0), &json!(700.0)));
        assert_eq!((&zero["p50_ratio"], &zero["runtime_calls_per_wake"]), (&json!(0.4), &json!(5.0)));
        assert!(report.text().contains("runc zero"));
    }
}
