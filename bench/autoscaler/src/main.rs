//! `cargo xtask bench autoscaler`: Pilotlight's own decision core against the KPA and against an autoscaler that knows the future, on the
//! same requests and the same start times.

mod kpa;
mod loads;
mod omniscient;
mod ours;
mod report;
mod scaler;
mod trace;
mod world;

use std::path::PathBuf;

use anyhow::Result;
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
    /// Folder of a production trace; it is left out where absent.
    #[arg(long, value_name = "FOLDER", default_value = "../shared/data/azure2019-250")]
    trace: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let mut rows = Vec::new();
    let mut all: [Vec<Outcome>; 3] = Default::default();
    let mut seconds = 0.0;
    let mut add = |name: &str, scenarios: &[Scenario]| {
        eprintln!("▶ {name}: {} requests", scenarios.iter().map(|s| s.requests.len()).sum::<usize>());
        let outcomes = compete(scenarios, arguments.why);
        let lasts = scenarios.iter().map(|s| s.end as f64 / SECOND as f64).sum::<f64>() / scenarios.len() as f64;
        let of = |outcomes: &Vec<Outcome>| figures(&outcomes.iter().collect::<Vec<_>>(), lasts);
        rows.push(Row { name: name.to_owned(), figures: outcomes.each_ref().map(of) });
        seconds += lasts * scenarios.len() as f64;
        for (all, outcomes) in all.iter_mut().zip(outcomes) {
            all.extend(outcomes);
        }
    };
    for load in loads::suite().into_iter().filter(|load| wanted(load.name)) {
        eprintln!("  {}: {}", load.name, load.about);
        add(load.name, &[load.scenario]);
    }
    if wanted("trace") {
        match trace::scenarios(&arguments.trace)? {
            Some(scenarios) => add("trace", &scenarios),
            None => eprintln!("  trace: left out, there is none in {}", arguments.trace.display()),
        }
    }
    let mixed = all.each_ref().map(|outcomes| {
        let outcomes: Vec<&Outcome> = outcomes.iter().collect();
        figures(&outcomes, seconds / outcomes.len().max(1) as f64)
    });
    rows.push(Row { name: "mixed".to_owned(), figures: mixed });
    if arguments.json {
        println!("{}", report::json(&rows));
    } else {
        print!("{}", report::table(&rows));
    }
    Ok(())
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
