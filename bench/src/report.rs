//! From the rounds of a run to figures: medians with their range, ratios, a table for people and JSON for programs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::peers::Peer;

/// The values of one figure, one for each round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    /// Adds a round.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one; between the two middle ones where their number is even.
    pub(crate) fn median(&self) -> f64 {
        let count = self.0.len();
        match count {
            0 => f64::NAN,
            _ if count % 2 == 1 => self.0[count / 2],
            _ => f64::midpoint(self.0[count / 2 - 1], self.0[count / 2]),
        }
    }

    fn range(&self) -> (f64, f64) {
        (self.0.first().copied().unwrap_or(f64::NAN), self.0.last().copied().unwrap_or(f64::NAN))
    }
}

/// One figure's name, as in the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// Requests for each second of the proxy's CPU time; of the app's where there is no proxy.
    PerCpuSecond,
    /// Requests a second with all connections busy.
    PerSecond,
    /// The proxy's share of its core meanwhile.
    CoreShare,
    /// Median at a moderate rate, microseconds.
    P50,
    /// 99th percentile at that rate, microseconds.
    P99,
    /// Median with one request at a time, microseconds.
    LowLoadP50,
    /// The same with everything on one core, so that no other has to wake up: the proxy's own work.
    LowLoadOneCoreP50,
    /// Bytes of memory for each idle connection.
    IdleConnection,
    /// Bytes of memory for each connection with a request in flight.
    BusyConnection,
}

impl Figure {
    /// Its key in the JSON.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::PerCpuSecond => "requests_per_cpu_second",
            Self::PerSecond => "requests_per_second",
            Self::CoreShare => "core_share",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
            Self::LowLoadP50 => "low_load_p50_us",
            Self::LowLoadOneCoreP50 => "low_load_one_core_p50_us",
            Self::IdleConnection => "idle_connection_bytes",
            Self::BusyConnection => "busy_connection_bytes",
        }
    }
}

/// What was measured under one load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    series: BTreeMap<(Peer, Figure), Series>,
}

impl Table {
    /// Adds one round's value.
    pub(crate) fn push(&mut self, peer: Peer, figure: Figure, value: f64) {
        self.series.entry((peer, figure)).or_default().push(value);
    }

    /// The median of a figure, where it was measured.
    pub(crate) fn median(&self, peer: Peer, figure: Figure) -> Option<f64> {
        self.series.get(&(peer, figure)).map(Series::median)
    }

    /// Medians by peer and figure.
    pub(crate) fn json(&self) -> Value {
        let mut peers = Map::new();
        for ((peer, figure), series) in &self.series {
            let entry = peers.entry(peer.name()).or_insert_with(|| Value::Object(Map::new()));
            entry[figure.key()] = rounded(series.median());
        }
        Value::Object(peers)
    }

    /// For people: a line for each peer and figure, with the range over the rounds.
    pub(crate) fn text(&self, title: &str) -> String {
        let mut text = format!("\n{title}\n{:<26}{:<11}{:>12}   range\n", "figure", "", "median");
        let mut figures: Vec<Figure> = self.series.keys().map(|(_, figure)| *figure).collect();
        figures.sort();
        figures.dedup();
        for figure in figures {
            for ((peer, _), series) in self.series.iter().filter(|((_, of), _)| *of == figure) {
                let (least, most) = series.range();
                let median = series.median();
                let line = format!("{:<26}{:<11}{median:>12.1}   {least:.1} – {most:.1}\n", figure.key(), peer.name());
                text.push_str(&line);
            }
        }
        text + &self.ratios()
    }

    fn ratios(&self) -> String {
        let mut text = String::new();
        for peer in [Peer::Haproxy, Peer::Nginx] {
            for figure in [Figure::PerCpuSecond, Figure::P50, Figure::P99] {
                if let (Some(own), Some(other)) = (self.median(Peer::Activator, figure), self.median(peer, figure)) {
                    text.push_str(&format!("activator / {}, {}: {:.2}\n", peer.name(), figure.key(), own / other));
                }
            }
        }
        for peer in [Peer::Activator, Peer::Haproxy, Peer::Nginx] {
            for figure in [Figure::LowLoadP50, Figure::LowLoadOneCoreP50] {
                if let (Some(with), Some(without)) = (self.median(peer, figure), self.median(Peer::Direct, figure)) {
                    text.push_str(&format!("added by {}, {}: {:.1}\n", peer.name(), figure.key(), with - without));
                }
            }
        }
        text
    }
}

/// A tenth is as exact as any of these figures are.
pub(crate) fn rounded(value: f64) -> Value {
    Value::from((value * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_by_peer_in_the_documented_form() {
        let mut table = Table::default();
        for value in [3.0, 1.0, 2.04] {
            table.push(Peer::Activator, Figure::P99, value);
            table.push(Peer::Haproxy, Figure::P99, 4.08);
        }
        assert_eq!(table.json(), serde_json::json!({ "activator": { "p99_us": 2.0 }, "haproxy": { "p99_us": 4.1 } }));
        assert!(table.text("t").contains("activator / haproxy, p99_us: 0.50\n"));
    }

    #[test]
    fn an_even_number_of_rounds_has_its_median_between_two() {
        let mut series = Series::default();
        series.push(4.0);
        series.push(1.0);
        assert!((series.median() - 2.5).abs() < f64::EPSILON);
    }
}
