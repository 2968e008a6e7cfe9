//! What was measured: lines for people and JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::usage::Costs;
use crate::wakes::{Median, Wakes};
use crate::writes::Writes;

/// What was measured.
pub(crate) struct Figures {
    pub(crate) functions: u32,
    pub(crate) ready_per_second: f64,
    pub(crate) usage: Costs,
    /// From the first Function's creation until nobody wrote any more.
    pub(crate) writes: Writes,
    /// While nobody asked for anything.
    pub(crate) idle: Writes,
    /// Starts from zero with nothing else there, and beside all others.
    pub(crate) alone: Wakes,
    pub(crate) beside: Wakes,
}

impl Figures {
    fn each(&self, writes: u64) -> f64 {
        hundredths(writes as f64 / f64::from(self.functions))
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let Costs { operator, activator } = self.usage;
        let by_resource: Map<String, Value> = self
            .writes
            .by_resource()
            .map(|(resource, writes)| (resource.to_owned(), json!(self.each(writes))))
            .collect();
        json!({
            "functions": self.functions,
            "ready_per_second": hundredths(self.ready_per_second),
            "operator_rss_mib": hundredths(operator.rss_mib),
            "activator_rss_mib": hundredths(activator.rss_mib),
            "operator_idle_cpu_percent": hundredths(operator.cpu_percent),
            "activator_idle_cpu_percent": hundredths(activator.cpu_percent),
            "wake_ratio": ratio(&self.beside.function, &self.alone.function),
            "wake_alone_ms": millis(self.alone.function.answered),
            "wake_beside_all_ms": millis(self.beside.function.answered),
            "floor_ratio": ratio(&self.beside.floor, &self.alone.floor),
            "floor_alone_ms": millis(self.alone.floor.answered),
            "floor_beside_all_ms": millis(self.beside.floor.answered),
            "wake_phases_ms": {"alone": phases(&self.alone.function), "beside_all": phases(&self.beside.function)},
            "floor_phases_ms": {"alone": phases(&self.alone.floor), "beside_all": phases(&self.beside.floor)},
            "operator_writes_per_function": self.each(self.writes.by_operator()),
            "api_writes_per_function": by_resource,
            "idle_writes": self.idle.total(),
            "tick_ms": self.idle.tick_ms().map(hundredths),
        })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let Costs { operator, activator } = self.usage;
        let mut text = String::new();
        let mut line = |what: &str, figure: String| {
            let _ = writeln!(text, "  {what:<44} {figure}");
        };
        line("Functions at zero", self.functions.to_string());
        line("became Ready, each second", format!("{:.1}", self.ready_per_second));
        line(
            "operator: resident memory, idle CPU",
            format!("{:.1} MiB, {:.2} %", operator.rss_mib, operator.cpu_percent),
        );
        line(
            "activator: resident memory, idle CPU",
            format!("{:.1} MiB, {:.2} %", activator.rss_mib, activator.cpu_percent),
        );
        line("writes by the operator for each Function", format!("{:.2}", self.each(self.writes.by_operator())));
        for (resource, writes) in self.writes.by_resource() {
            line(&format!("  by anybody: {resource}"), format!("{:.2}", self.each(writes)));
        }
        line("writes by anybody while idle", self.idle.total().to_string());
        line(
            "a tick (what changed is compared)",
            self.idle.tick_ms().map_or("none was seen".to_owned(), |ms| format!("{ms:.2} ms")),
        );
        let starts = [
            ("a wake alone, beside all others", &self.alone.function, &self.beside.function),
            ("raw Kubernetes alone, beside all others", &self.alone.floor, &self.beside.floor),
        ];
        for (what, alone, beside) in starts {
            let (first, then) = (millis(alone.answered), millis(beside.answered));
            line(what, format!("{first:.0} ms, {then:.0} ms: ×{:.2}", ratio(beside, alone)));
            for (phase, at) in &alone.phases {
                let then = beside.phases.iter().find(|(other, _)| other == phase);
                let then = then.map_or("–".to_owned(), |(_, at)| format!("{:.0} ms", millis(*at)));
                line(&format!("  until {phase}"), format!("{:.0} ms, {then}", millis(*at)));
            }
        }
        text
    }
}

fn ratio(beside: &Median, alone: &Median) -> f64 {
    hundredths(beside.answered.as_secs_f64() / alone.answered.as_secs_f64())
}

fn phases(of: &Median) -> Map<String, Value> {
    of.phases.iter().map(|(phase, at)| ((*phase).to_owned(), json!(millis(*at)))).collect()
}

fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn millis(duration: Duration) -> f64 {
    hundredths(duration.as_secs_f64() * 1e3)
}
