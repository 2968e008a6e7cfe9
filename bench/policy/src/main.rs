//! `cargo xtask bench policy`: Pilotlight's idle ladder against fixed keep-alive, the hybrid histogram and greedy-dual caching, on the same requests.

mod fixed;
mod greedy;
mod hybrid;
mod ours;
mod plot;
mod report;
mod synthetic;
mod trace;
mod world;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use pilotlight_scaling::idle::{Prices, Rung, Rungs};

use fixed::Fixed;
use hybrid::HybridHistogram;
use ours::Adaptive;
use report::{Figures, Row, figures};
use trace::Timers;
use world::{Function, Outcome, Policy, Workload, simulate};

/// Percent of the memory of all Functions at once that greedy-dual may use.
const CAPACITIES: [u64; 3] = [25, 50, 75];
/// Keep-alive in minutes.
const KEEP_ALIVE: [u64; 4] = [1, 10, 20, 60];
/// Prices of a second of waiting for the frontier, in GiB·s.
const FRONTIER: [u64; 6] = [10, 50, 150, 300, 800, 2_400];

/// The idle ladder against published keep-alive policies.
#[derive(Parser)]
struct Arguments {
    /// Figures as JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Folder of a production trace (invocations.csv, durations.csv, memory.csv); without it, a workload made from published distributions.
    #[arg(long, value_name = "FOLDER")]
    trace: Option<PathBuf>,
    /// Which Functions: prices are tuned on every other one, and judged on the rest.
    #[arg(long, value_enum, default_value_t = Half::Judged)]
    half: Half,
    /// Timers of the trace come anywhere in their minutes instead of on the second.
    #[arg(long)]
    timers_anywhere: bool,
    /// What each process takes to start beyond a small Go program's, in ms.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    start_millis: u64,
    /// What a second of waiting is worth to the adaptive policy, in GiB·s.
    #[arg(long, value_name = "GIB_S")]
    wait_price: Option<u64>,
    /// What a pod's place on a node is worth to it, in MiB.
    #[arg(long, value_name = "MIB")]
    place_price: Option<u64>,
    /// Writes a picture of latency over memory-time and over pod creations to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Prints the decisions of the Function of this index, with their reasons.
    #[arg(long, value_name = "INDEX")]
    why: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Half {
    /// The half that prices were chosen on.
    Tuned,
    /// The other half.
    Judged,
    /// Both.
    All,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let workload = workload(&arguments)?;
    let requests: usize = workload.functions.iter().map(|function| function.requests.len()).sum();
    let hours = workload.end as f64 / 3_600_000.0;
    eprintln!("▶ {} Functions, {requests} requests in {hours:.1} h", workload.functions.len());
    let prices = prices(arguments.wait_price, arguments.place_price);
    if let Some(index) = arguments.why {
        return why(&workload, index, &prices);
    }
    let rows = rows(&workload, &prices);
    if let Some(file) = &arguments.plot {
        let lines = [
            ("adaptive, full ladder", frontier(&workload, Rungs::ALL, &prices)),
            ("adaptive, Active and Zero", frontier(&workload, Rungs::PLAIN, &prices)),
        ];
        std::fs::write(file, plot::svg(&rows, &lines)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if arguments.json {
        println!("{}", report::json(&rows));
    } else {
        print!("{}", report::table(&rows));
    }
    Ok(())
}

fn workload(arguments: &Arguments) -> Result<Workload> {
    let timers = if arguments.timers_anywhere { Timers::Anywhere } else { Timers::OnTime };
    let mut workload = match &arguments.trace {
        None => synthetic::workload(),
        Some(folder) => match trace::workload(folder, timers)? {
            Some(workload) => workload,
            None => bail!(
                "--trace {}: there is no invocations.csv; name the folder of a trace, or leave --trace out for a synthetic one",
                folder.display()
            ),
        },
    };
    let mut place = 0;
    workload.functions.retain(|_| {
        place += 1;
        arguments.half == Half::All || (place % 2 == 0) == (arguments.half == Half::Judged)
    });
    workload.wakes.parked_millis += arguments.start_millis;
    workload.wakes.zero_millis += arguments.start_millis;
    Ok(workload)
}

fn prices(wait: Option<u64>, place: Option<u64>) -> Prices {
    let usual = Prices::default();
    let wait_second = wait.map_or(usual.wait_second, |gib| gib * 1024);
    Prices { wait_second, pod_second: place.unwrap_or(usual.pod_second), ..usual }
}

fn rows(workload: &Workload, prices: &Prices) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |name: String, outcomes: Vec<Outcome>| rows.push(Row { name, figures: figures(&outcomes) });
    for minutes in KEEP_ALIVE {
        add(format!("fixed_{minutes}m"), each(workload, |_| Fixed(minutes * 60_000)));
    }
    add("hybrid_histogram".to_owned(), each(workload, |_| HybridHistogram::default()));
    for percent in CAPACITIES {
        add(format!("greedy_dual_{percent}"), greedy::simulate(workload, percent));
    }
    add("adaptive_zero_only".to_owned(), adaptive(workload, Rungs::PLAIN, prices));
    add("adaptive_no_parked".to_owned(), adaptive(workload, Rungs::ALL.without(Rung::Parked), prices));
    add("adaptive".to_owned(), adaptive(workload, Rungs::ALL, prices));
    rows
}

/// A policy of its own for each Function.
fn each<P: Policy>(workload: &Workload, new: impl Fn(&Function) -> P) -> Vec<Outcome> {
    let run = |function: &Function| simulate(function, workload.wakes, workload.end, &mut new(function));
    workload.functions.iter().map(run).collect()
}

fn adaptive(workload: &Workload, available: Rungs, prices: &Prices) -> Vec<Outcome> {
    each(workload, |function| Adaptive::new(function.footprint, available, prices))
}

fn frontier(workload: &Workload, available: Rungs, prices: &Prices) -> Vec<Figures> {
    let at = |gib: &u64| figures(&adaptive(workload, available, &Prices { wait_second: gib * 1024, ..*prices }));
    FRONTIER.iter().map(at).collect()
}

fn why(workload: &Workload, index: usize, prices: &Prices) -> Result<()> {
    let Some(function) = workload.functions.get(index) else {
        bail!("--why {index}: there are {} Functions, counted from 0", workload.functions.len());
    };
    let mut policy = Adaptive::new(function.footprint, Rungs::ALL, prices);
    policy.why = Some(Vec::new());
    let outcome = simulate(function, workload.wakes, workload.end, &mut policy);
    for (at, rung, reason) in policy.why.unwrap_or_default() {
        println!("{:>10.1} s  {:<9}  {reason}", at as f64 / 1000.0, rung.name());
    }
    println!("{:?}", figures(&[outcome]));
    Ok(())
}
