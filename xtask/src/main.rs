//! `cargo xtask …`: everything that a developer or CI runs. Each command can be run again at any point.

mod checks;
mod crds;
mod shell;

use clap::{Parser, Subcommand};

/// Everything that a developer or CI runs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Formatting, lints, licences, drift and unit tests: everything that needs no cluster.
    Check,
    /// The CustomResourceDefinition in the chart, generated from the types.
    Crds(crds::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Crds(arguments) => crds::run(&arguments),
        Command::Check => {
            let mut steps = shell::Steps::default();
            let outcome = checks::all(&mut steps);
            steps.report();
            outcome
        }
    }
}
