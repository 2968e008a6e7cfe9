//! `cargo xtask …`: everything that a developer or CI runs. Each command can be run again at any point.

mod bench;
mod checks;
mod cold_start;
mod coverage;
mod crds;
#[cfg(test)]
mod dashboard;
mod demo;
mod images;
mod interrupt;
mod measure;
mod release;
mod scale;
mod shell;
mod stage;
mod storm;
mod test;
mod traefik;

use std::process::ExitCode;

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
    /// Shows a Function answering its first request from zero pods, and going back to zero.
    Demo(demo::Arguments),
    /// Every test: checks, units, and the promises to a user on a real cluster.
    Test(test::Arguments),
    /// The benchmarks, each against its peers in the same run.
    Bench(bench::Arguments),
    /// Formatting, lints, licences, drift and unit tests: everything that needs no cluster.
    Check,
    /// Line coverage of the decision core by its own tests; fails below 100 %.
    Coverage,
    /// A real Kubernetes on this machine, without Docker.
    Cluster(pilotlight_cluster::cli::ClusterArgs),
    /// The CustomResourceDefinition in the chart, generated from the types.
    Crds(crds::Arguments),
    /// The images, as archives in target/images; needs no Docker. Skips what is up to date.
    Images {
        /// Only this image; may be given several times.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Link-time optimization, for images that are published: some percent faster, and minutes longer to build.
        #[arg(long)]
        optimize: bool,
    },
}

fn main() -> ExitCode {
    // This executable also supervises the embedded cluster.
    pilotlight_cluster::reentry();
    let outcome = match Arguments::parse().command {
        Command::Cluster(arguments) => return pilotlight_cluster::cli::run(arguments),
        Command::Demo(arguments) => interruptible(|| demo::command(&arguments)),
        Command::Test(arguments) => interruptible(|| test::command(&arguments)),
        Command::Bench(arguments) => interruptible(|| bench::command(&arguments)),
        Command::Check => {
            let mut steps = shell::Steps::default();
            let outcome = checks::all(&mut steps);
            steps.report();
            outcome
        }
        Command::Coverage => coverage::command(),
        Command::Crds(arguments) => crds::run(&arguments),
        Command::Images { only, optimize } => images::command(&mut shell::Steps::default(), &only, optimize),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt::came() => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn interruptible(command: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    interrupt::listen()?;
    command()
}
