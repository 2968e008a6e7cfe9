//! `cargo xtask bench storm`: a cluster, Pilotlight on it by its chart, and `pilotlight-bench-storm` measuring.

use anyhow::Result;
use clap::Args;

use crate::cold_start::Chosen;
use crate::measure::Measure;

/// What `storm` can be told.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    measure: Measure,
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
    let told = ["--functions", &arguments.functions.to_string(), "--rounds", &arguments.rounds.to_string()];
    let told = [told.map(str::to_owned).to_vec(), arguments.runtime.flags()].concat();
    arguments.measure.run("storm", &arguments.runtime.embedding(), &["hello-go"], &told)
}
