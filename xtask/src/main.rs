//! `cargo xtask …`: everything that a developer or CI runs. Each command can be run again at any point.

mod checks;
mod cluster;
mod crds;
mod demo;
mod images;
mod interrupt;
mod shell;
mod stage;
mod test;

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
    /// A real single-node Kubernetes, without Docker.
    Cluster(pilotlight_cluster::cli::ClusterArgs),
    /// Formatting, lints, licences, drift and unit tests: everything that needs no cluster.
    Check,
    /// A real single-node Kubernetes in namespaces of its own: up, down, status, kubeconfig, exec.
    Cluster(cluster::Arguments),
    /// The CustomResourceDefinition in the chart, generated from the types.
    Crds(crds::Arguments),
    /// The images, as archives in target/images; needs no Docker. Skips what is up to date.
    Images {
        /// Only this image; may be given several times.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
    },
}

fn main() -> anyhow::Result<()> {
    // This executable also supervises the embedded cluster.
    pilotlight_cluster::reentry();
    match Arguments::parse().command {
        Command::Cluster(arguments) => {
            cluster::run(arguments);
            Ok(())
        }
        Command::Crds(arguments) => crds::run(&arguments),
        Command::Check => {
            let mut steps = shell::Steps::default();
            let outcome = checks::all(&mut steps);
            steps.report();
            outcome
        }
        Command::Images { only } => images::command(&mut shell::Steps::default(), &only),
    }
}
