//! `cargo xtask bench scale`: a cluster, Pilotlight on it by its chart, and `pilotlight-bench-scale` measuring.

use anyhow::Result;
use clap::Args;

use crate::images;
use crate::release::Release;
use crate::shell::{Steps, run};
use crate::stage::{Embedding, Stage, Where};

/// Requests a second that each of Kubernetes' controllers may make in an embedded cluster. At upstream's default of 20 the Deployment
/// controller is all that is measured while Functions become Ready: it writes about four times for each.
const CONTROLLERS_QPS: u32 = 500;

/// What `scale` can be told.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Where,
    /// Print JSON on standard output; all else goes to standard error.
    #[arg(long)]
    json: bool,
    /// How many Functions there are beside the one that is woken.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    functions: u32,
    /// Measured wakes, alone and beside all others.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::default();
    let program = steps.step("the benchmark's own program", || images::beside("pilotlight-bench-scale"))?;
    let needed = ["operator", "activator", "example-hello-go"].map(str::to_owned);
    let embedding = Embedding { controllers_qps: Some(CONTROLLERS_QPS), ..Embedding::default() };
    let stage = Stage::set(&mut steps, &arguments.place, &embedding, "bench-scale", &needed)?;
    let release = Release::ensure(&mut steps, &stage)?;
    let mut bench = stage.command(program);
    bench.args(["--functions", &arguments.functions.to_string(), "--rounds", &arguments.rounds.to_string()]);
    bench.args(arguments.json.then_some("--json"));
    let measured = steps.step("measuring", || run(&mut bench));
    release.end(&stage)?;
    measured
}
