//! The embedded cluster's own small program: what `cargo xtask cluster` does, without the rest of xtask.

use std::process::ExitCode;

use clap::Parser;
use pilotlight_cluster::cli::{ClusterArgs, run};

#[derive(Debug, Parser)]
#[command(name = "pilotlight-cluster", version, about)]
struct Cli {
    #[command(flatten)]
    args: ClusterArgs,
}

fn main() -> ExitCode {
    pilotlight_cluster::reentry();
    run(Cli::parse().args)
}
