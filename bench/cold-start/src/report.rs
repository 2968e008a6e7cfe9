//! From the starts of a run to figures: a table for people and JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pilotlight_e2e::runtime::Runtime;
use pilotlight_e2e::sample::Sample;
use serde_json::{Map, Value, json};

use crate::contestant::Start;
use crate::subject::{Language, Subject, Variant};

/// What was measured of one subject.
#[derive(Clone, Debug, Default)]
struct Figures {
    answered: Sample,
    ready: Sample,
    phases: BTreeMap<&'static str, Sample>,
}

/// What was measured in a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report(BTreeMap<Subject, Figures>);

impl Report {
    /// Adds a start.
    pub(crate) fn push(&mut self, subject: Subject, start: &Start) {
        let figures = self.0.entry(subject).or_default();
        figures.answered.push(start.answered);
        if let Some(ready) = start.ready {
            figures.ready.push(ready);
        }
        for (phase, at) in &start.phases {
            figures.phases.entry(phase).or_default().push(*at);
        }
    }

    /// By runtime and variant, of the first language; and below `languages` of each language.
    pub(crate) fn json(&self) -> Value {
        let mut runtimes = Map::new();
        for runtime in self.runtimes() {
            let languages = self.languages(runtime);
            let mut of_runtime =
                languages.first().map(|language| self.variants(runtime, *language)).unwrap_or_default();
            let each = languages.iter().map(|language| {
                let variants = Value::Object(self.variants(runtime, *language));
                (language.key().to_owned(), variants)
            });
            of_runtime.insert("languages".to_owned(), Value::Object(each.collect()));
            runtimes.insert(runtime.key().to_owned(), Value::Object(of_runtime));
        }
        Value::Object(runtimes)
    }

    fn variants(&self, runtime: Runtime, language: Language) -> Map<String, Value> {
        let mut variants = Map::new();
        for variant in Variant::ALL {
            let subject = Subject { runtime, language, variant };
            let Some(figures) = self.0.get(&subject) else { continue };
            let mut entry = summary(&figures.answered);
            entry["language"] = json!(language.key());
            entry["rounds"] = json!(figures.answered.len());
            if variant != Variant::Floor {
                entry["ratio"] = json!(self.ratio(subject).map(hundredths));
            }
            if !figures.ready.is_empty() {
                entry["ready"] = summary(&figures.ready);
            }
            let phases = figures.phases.iter();
            let phases =
                phases.map(|(phase, at)| (format!("{}_ms", phase.replace(' ', "_")), json!(at.median().map(tenths))));
            entry["phases"] = Value::Object(phases.collect());
            variants.insert(variant.key().to_owned(), entry);
        }
        variants
    }

    /// Median over the floor's median.
    fn ratio(&self, subject: Subject) -> Option<f64> {
        let floor = self.0.get(&Subject { variant: Variant::Floor, ..subject })?;
        Some(self.0.get(&subject)?.answered.median()? / floor.answered.median()?)
    }

    fn runtimes(&self) -> Vec<Runtime> {
        let mut runtimes: Vec<_> = self.0.keys().map(|subject| subject.runtime).collect();
        runtimes.dedup();
        runtimes
    }

    fn languages(&self, runtime: Runtime) -> Vec<Language> {
        let subjects = self.0.keys().filter(|subject| subject.runtime == runtime);
        let mut languages: Vec<_> = subjects.map(|subject| subject.language).collect();
        languages.dedup();
        languages
    }

    /// For people: a line for each subject, then the phases.
    pub(crate) fn text(&self) -> String {
        let mut text =
            format!("\n{:<8}{:<8}{:<22}{:>8}{:>8}{:>8}{:>8}   ms\n", "", "", "", "min", "median", "p95", "ratio");
        for (subject, figures) in &self.0 {
            let ratio = (subject.variant != Variant::Floor).then(|| self.ratio(*subject)).flatten();
            let ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            line(&mut text, *subject, subject.variant.key(), &figures.answered, &ratio);
            if !figures.ready.is_empty() {
                let label = format!("{}, ready", subject.variant.key());
                line(&mut text, *subject, &label, &figures.ready, "");
            }
        }
        text.push_str("\nphases, medians in ms\n");
        for (subject, figures) in &self.0 {
            let mut phases: Vec<_> =
                figures.phases.iter().filter_map(|(phase, at)| Some((*phase, at.median()?))).collect();
            phases.sort_by(|a, b| a.1.total_cmp(&b.1));
            let phases: Vec<_> = phases.iter().map(|(phase, at)| format!("{phase} {at:.0}")).collect();
            let _ = writeln!(text, "{subject}: {}", phases.join(", "));
        }
        text
    }
}

fn line(text: &mut String, subject: Subject, label: &str, sample: &Sample, ratio: &str) {
    let [min, median, p95] = [sample.min(), sample.median(), sample.p95()]
        .map(|value| value.map(|ms| format!("{ms:.0}")).unwrap_or_default());
    let (runtime, language) = (subject.runtime.key(), subject.language.key());
    let _ = writeln!(text, "{runtime:<8}{language:<8}{label:<22}{min:>8}{median:>8}{p95:>8}{ratio:>8}");
}

fn summary(sample: &Sample) -> Value {
    json!({
        "min_ms": sample.min().map(tenths),
        "median_ms": sample.median().map(tenths),
        "p95_ms": sample.p95().map(tenths),
    })
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn start(answered: u64, ready: Option<u64>) -> Start {
        let phases =
            vec![("pod created", Duration::from_millis(answered / 10)), ("answered", Duration::from_millis(answered))];
        Start { answered: Duration::from_millis(answered), ready: ready.map(Duration::from_millis), phases }
    }

    fn report() -> Report {
        let mut report = Report::default();
        for runtime in [Runtime::Crun, Runtime::Runc] {
            for language in [Language::Node, Language::Go] {
                for (floor, zero) in [(800, 300), (1000, 400), (900, 350)] {
                    let subject = |variant| Subject { runtime, language, variant };
                    report.push(subject(Variant::ZeroWithoutBeacon), &start(zero, None));
                    report.push(subject(Variant::Floor), &start(floor, Some(floor + 50)));
                }
            }
        }
        report
    }

    #[test]
    fn json_is_by_runtime_and_variant_in_the_documented_form() {
        let json = report().json();
        let floor = json!({
            "min_ms": 800.0, "median_ms": 900.0, "p95_ms": 1000.0, "rounds": 3, "language": "go",
            "ready": {"min_ms": 850.0, "median_ms": 950.0, "p95_ms": 1050.0},
            "phases": {"pod_created_ms": 90.0, "answered_ms": 900.0},
        });
        let zero = json!({
            "min_ms": 300.0, "median_ms": 350.0, "p95_ms": 400.0, "rounds": 3, "language": "go", "ratio": 0.39,
            "phases": {"pod_created_ms": 35.0, "answered_ms": 350.0},
        });
        for runtime in ["runc", "crun"] {
            assert_eq!(json[runtime]["floor"], floor);
            assert_eq!(json[runtime]["zero_without_beacon"], zero);
            assert_eq!(json[runtime]["languages"]["go"]["floor"], floor);
            assert_eq!(json[runtime]["languages"]["node"]["zero_without_beacon"]["ratio"], 0.39);
        }
        assert_eq!(json.as_object().map(Map::len), Some(2), "runtimes only");
    }

    #[test]
    fn a_table_has_a_line_for_each_subject() {
        let text = report().text();
        assert!(text.contains("runc    go      zero_without_beacon        300     350     400    0.39\n"), "{text}");
        assert!(text.contains("crun    node    floor, ready               850     950    1050        \n"), "{text}");
    }
}
