//! Outcomes as figures, as a table for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::world::Outcome;

/// What came of a policy. Latencies are each Function's mean added latency over its requests, and its percentiles over the Functions, so that a Function that
/// is called once an hour counts as much as one that is called each second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    pub(crate) cold_starts: u64,
    pub(crate) p50_added_ms: f64,
    pub(crate) p75_added_ms: f64,
    pub(crate) p99_added_ms: f64,
    /// Mean over all Functions.
    pub(crate) mean_added_ms: f64,
    /// Mean over all requests of all Functions together.
    pub(crate) request_added_ms: f64,
    pub(crate) gb_minutes: f64,
    pub(crate) core_minutes: f64,
    pub(crate) pod_minutes: f64,
    pub(crate) pod_creations: u64,
    pub(crate) unparked: u64,
}

/// Outcomes of all Functions as figures.
pub(crate) fn figures(outcomes: &[Outcome]) -> Figures {
    let total = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let area = |of: fn(&Outcome) -> u128| outcomes.iter().map(of).sum::<u128>() as f64 / 60_000.0;
    let waited = |outcome: &Outcome| outcome.waits.iter().sum::<u64>();
    let mut means: Vec<f64> = outcomes
        .iter()
        .filter(|outcome| outcome.requests > 0)
        .map(|outcome| waited(outcome) as f64 / outcome.requests as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    let percentile =
        |percent: usize| means.get((means.len() * percent).div_ceil(100).max(1) - 1).copied().unwrap_or(0.0);
    Figures {
        cold_starts: total(|outcome| outcome.cold_starts),
        p50_added_ms: percentile(50),
        p75_added_ms: percentile(75),
        p99_added_ms: percentile(99),
        mean_added_ms: means.iter().sum::<f64>() / means.len().max(1) as f64,
        request_added_ms: outcomes.iter().map(waited).sum::<u64>() as f64
            / total(|outcome| outcome.requests).max(1) as f64,
        gb_minutes: area(|outcome| outcome.memory) / 1024.0,
        core_minutes: area(|outcome| outcome.cpu) / 1000.0,
        pod_minutes: area(|outcome| outcome.pods),
        pod_creations: total(|outcome| outcome.pod_creations),
        unparked: total(|outcome| outcome.unparked),
    }
}

impl Figures {
    /// What is compared: latencies, memory-time, pod creations. Less is better in each.
    fn compared(&self) -> [f64; 5] {
        let of = |value: f64| (value * 10.0).round() / 10.0;
        [
            of(self.p50_added_ms),
            of(self.p75_added_ms),
            of(self.p99_added_ms),
            of(self.gb_minutes),
            self.pod_creations as f64,
        ]
    }

    /// Whether it is nowhere worse than another and better somewhere; otherwise where it is worse.
    pub(crate) fn against(&self, other: &Self) -> Result<(), Vec<&'static str>> {
        const NAMES: [&str; 5] = ["p50", "p75", "p99", "GB-min", "creations"];
        let pairs = || self.compared().into_iter().zip(other.compared());
        let worse: Vec<&str> =
            NAMES.into_iter().zip(pairs()).filter(|(_, (own, peer))| own > peer).map(|(name, _)| name).collect();
        if !worse.is_empty() {
            return Err(worse);
        }
        if pairs().any(|(own, peer)| own < peer) { Ok(()) } else { Err(vec!["nowhere better"]) }
    }

    fn json(&self) -> Value {
        let rounded = |value: f64| (value * 100.0).round() / 100.0;
        json!({
            "cold_starts": self.cold_starts,
            "p50_added_ms": rounded(self.p50_added_ms),
            "p75_added_ms": rounded(self.p75_added_ms),
            "p99_added_ms": rounded(self.p99_added_ms),
            "mean_added_ms": rounded(self.mean_added_ms),
            "request_added_ms": rounded(self.request_added_ms),
            "gb_minutes": rounded(self.gb_minutes),
            "core_minutes": rounded(self.core_minutes),
            "pod_minutes": rounded(self.pod_minutes),
            "pod_creations": self.pod_creations,
            "unparked": self.unparked,
        })
    }
}

/// A policy and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) figures: Figures,
}

/// The table for people; the last column says how `adaptive` compares with each.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = format!(
        "{:<18} {:>6} {:>22} {:>9} {:>8} {:>9} {:>9} {:>9} {:>8}  {}\n",
        "",
        "cold",
        "added ms p50/p75/p99",
        "mean ms",
        "req. ms",
        "GB-min",
        "core-min",
        "creations",
        "unparked",
        "adaptive beside it"
    );
    let adaptive = rows.iter().find(|row| row.name == "adaptive").map(|row| row.figures);
    for Row { name, figures: f } in rows {
        let verdict = match adaptive.filter(|_| name != "adaptive").map(|own| own.against(f)) {
            None => String::new(),
            Some(Ok(())) => "dominates".to_owned(),
            Some(Err(worse)) => format!("worse: {}", worse.join(", ")),
        };
        let added = format!("{:.0} / {:.0} / {:.0}", f.p50_added_ms, f.p75_added_ms, f.p99_added_ms);
        let line = format!(
            "{name:<18} {:>6} {added:>22} {:>9.1} {:>8.2} {:>9.0} {:>9.0} {:>9} {:>8}  {verdict}",
            f.cold_starts,
            f.mean_added_ms,
            f.request_added_ms,
            f.gb_minutes,
            f.core_minutes,
            f.pod_creations,
            f.unparked,
        );
        let _ = writeln!(table, "{}", line.trim_end());
    }
    table
}

/// The JSON for programs.
pub(crate) fn json(rows: &[Row]) -> Value {
    Value::Object(rows.iter().map(|row| (row.name.clone(), row.figures.json())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(waits: &[u64], requests: u64, creations: u64) -> Outcome {
        Outcome {
            requests,
            waits: waits.to_vec(),
            pod_creations: creations,
            memory: 1024 * 60_000,
            ..Outcome::default()
        }
    }

    #[test]
    fn each_function_counts_once() {
        let f = figures(&[of(&[100], 1, 1), of(&[100, 100], 100, 2), of(&[], 1_000, 0), of(&[], 0, 0)]);
        assert_eq!((f.p50_added_ms, f.p75_added_ms, f.p99_added_ms), (2.0, 100.0, 100.0));
        assert_eq!((f.gb_minutes, f.pod_creations), (4.0, 3));
        assert!((f.request_added_ms - 300.0 / 1_101.0).abs() < 1e-9);
    }

    #[test]
    fn to_dominate_is_to_be_nowhere_worse_and_somewhere_better() {
        let base = figures(&[of(&[100], 1, 2)]);
        assert_eq!(base.against(&base), Err(vec!["nowhere better"]));
        assert_eq!(figures(&[of(&[100], 1, 1)]).against(&base), Ok(()));
        assert_eq!(figures(&[of(&[101], 1, 1)]).against(&base), Err(vec!["p50", "p75", "p99"]));
        let rows = [Row { name: "adaptive".into(), figures: base }, Row { name: "peer".into(), figures: base }];
        assert!(table(&rows).contains("nowhere better"));
        assert_eq!(json(&rows)["peer"]["p75_added_ms"], 100.0);
    }
}
