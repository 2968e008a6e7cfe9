//! `cargo xtask bench scale`: a cluster, Pilotlight on it by its chart, and `pilotlight-bench-scale` measuring.

use anyhow::Result;
use clap::Args;

use crate::measure::Measure;
use crate::stage::Embedding;

/// Requests a second that each of Kubernetes' controllers may make in an embedded cluster. At upstream's default of 20 the Deployment
/// controller is all that is measured while Functions become Ready: it writes about four times for each.
const CONTROLLERS_QPS: u32 = 500;

/// What `scale` can be told.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    measure: Measure,
    /// How many Functions there are beside the one that is woken.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    functions: u32,
    /// Measured wakes, alone and beside all others.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    let embedding = Embedding { controllers_qps: Some(CONTROLLERS_QPS), ..Embedding::default() };
    let told = ["--functions", &arguments.functions.to_string(), "--rounds", &arguments.rounds.to_string()];
    arguments.measure.run("scale", &embedding, &["hello-go"], &told.map(str::to_owned))
}
