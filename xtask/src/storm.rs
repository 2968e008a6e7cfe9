//! `cargo xtask bench storm`: a cluster, Pilotlight on it by its chart, and `pilotlight-bench-storm` measuring.

use anyhow::Result;
use clap::Args;
use pilotlight_cluster::Runtime;

use crate::cold_start::Chosen;
use crate::images;
use crate::release::Release;
use crate::shell::{Steps, run};
use crate::stage::{Embedding, Stage, Where};

/// What `storm` can be told.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Where,
    /// Print JSON on standard output; all else goes to standard error.
    #[arg(long)]
    json: bool,
    /// Functions that are woken at once. A node takes 110 pods unless told otherwise.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=90))]
    functions: u32,
    /// Storms from each rung, for each runtime.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// What starts the containers. With --context, runc stands for the cluster's default and crun for its RuntimeClass `crun`.
    #[arg(long, value_enum, default_value_t)]
    runtime: Chosen,
}

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::default();
    let program = steps.step("the benchmark's own program", || images::beside("pilotlight-bench-storm"))?;
    let needed = ["operator", "activator", "pilot", "example-hello-go"].map(str::to_owned);
    let chosen = arguments.runtime.runtimes();
    // Pods without a RuntimeClass get runc; it is there in any case.
    let embedding = Embedding { runtime: Runtime::Runc, more: chosen.to_vec(), ..Embedding::default() };
    let stage = Stage::set(&mut steps, &arguments.place, &embedding, "bench-storm", &needed)?;
    let release = Release::ensure(&mut steps, &stage)?;
    let mut bench = stage.command(program);
    bench.args(["--functions", &arguments.functions.to_string(), "--rounds", &arguments.rounds.to_string()]);
    bench.args(arguments.json.then_some("--json"));
    for runtime in chosen {
        bench.args(["--runtime", runtime.program()]);
    }
    let measured = steps.step("measuring", || run(&mut bench));
    release.end(&stage)?;
    measured
}
