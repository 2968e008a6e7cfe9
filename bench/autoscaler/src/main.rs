//! `cargo xtask bench autoscaler`: Pilotlight's own decision core against the KPA and against an autoscaler that knows the future, on the
//! same requests and the same start times.

mod kpa;
mod loads;
mod omniscient;
mod ours;
mod plot;
mod report;
mod scaler;
mod trace;
mod world;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser;

use kpa::Kpa;
use ours::Ours;
use report::{Row, figures};
use world::{Outcome, SECOND, Scenario, simulate};

const MAX_REPLICAS: u32 = 1000;

/// The autoscaler against the KPA and an omniscient one.
#[derive(Parser)]
struct Arguments {
    /// Figures as JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Only loads whose name contains this.
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Prints every change of replicas, with its reason.
    #[arg(long)]
    why: bool,
    /// Writes a picture of each load into this folder, as SVG.
    #[arg(long, value_name = "FOLDER")]
    plot: Option<PathBuf>,
    /// Folder of a production trace; it is left out where absent.
    #[arg(long, value_name = "FOLDER", default_value = "../shared/data/azure2019-250")]
    trace: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let mut suite = Suite::default();
    for load in loads::suite().into_iter().filter(|load| wanted(load.name)) {
        eprintln!("  {}: {}", load.name, load.about);
        let scenario = [load.scenario];
        let outcomes = suite.add(load.name, &scenario, arguments.why);
        if let Some(folder) = &arguments.plot {
            let file = folder.join(format!("{}.svg", load.name));
            std::fs::write(&file, plot::svg(load.name, &scenario[0], outcomes))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    if wanted("trace") {
        match trace::scenarios(&arguments.trace)? {
            Some(scenarios) => _ = suite.add("trace", &scenarios, arguments.why),
            None => eprintln!("  trace: left out, there is none in {}", arguments.trace.display()),
        }
    }
    let rows = suite.finish();
    if arguments.json {
        println!("{}", report::json(&rows));
    } else {
        print!("{}", report::table(&rows));
    }
    Ok(())
}

/// What came of the loads so far.
#[derive(Default)]
struct Suite {
    rows: Vec<Row>,
    all: [Vec<Outcome>; 3],
    /// Seconds simulated, of all Functions together.
    seconds: f64,
}

impl Suite {
    /// Runs a load of one or several Functions; the outcomes of its last Function.
    fn add(&mut self, name: &str, scenarios: &[Scenario], why: bool) -> [&Outcome; 3] {
        eprintln!("▶ {name}: {} requests", scenarios.iter().map(|s| s.requests.len()).sum::<usize>());
        let outcomes = compete(scenarios, why);
        let seconds: f64 = scenarios.iter().map(|s| s.end as f64 / SECOND as f64).sum();
        let of = |outcomes: &Vec<Outcome>| figures(&outcomes.iter().collect::<Vec<_>>(), seconds);
        self.rows.push(Row { name: name.to_owned(), figures: outcomes.each_ref().map(of) });
        self.seconds += seconds;
        for (all, outcomes) in self.all.iter_mut().zip(outcomes) {
            all.extend(outcomes);
        }
        self.all.each_ref().map(|all| all.last().expect("a load has a Function"))
    }

    /// All rows, and one for all loads together.
    fn finish(mut self) -> Vec<Row> {
        let of = |outcomes: &Vec<Outcome>| figures(&outcomes.iter().collect::<Vec<_>>(), self.seconds);
        let mixed = self.all.each_ref().map(of);
        self.rows.push(Row { name: "mixed".to_owned(), figures: mixed });
        self.rows
    }
}

/// Ours, the KPA and the omniscient one, each on every scenario.
fn compete(scenarios: &[Scenario], why: bool) -> [Vec<Outcome>; 3] {
    let mut outcomes: [Vec<Outcome>; 3] = Default::default();
    for scenario in scenarios {
        let mut ours = Ours::new(scenario.slots, MAX_REPLICAS);
        outcomes[0].push(simulate(scenario, &mut ours));
        if why {
            for (at, replicas, reason) in ours.decisions {
                eprintln!("{:>9.2} s  {replicas:>4}  {reason}", at as f64 / SECOND as f64);
            }
        }
        outcomes[1].push(simulate(scenario, &mut Kpa::new(scenario.slots, MAX_REPLICAS)));
        outcomes[2].push(omniscient::outcome(scenario));
    }
    outcomes
}
