//! `cargo xtask bench …`: builds the activator as it is published, brings haproxy and nginx from the distribution, and has
//! `pilotlight-bench` measure.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::images;
use crate::shell::{Steps, cargo, program, repository, run};

/// The benchmarks, each against its peers in the same run. They stay on this machine's loopback, need no cluster, and leave nothing behind but
/// the packages haproxy and nginx, which they install where they are missing.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    which: Which,
}

#[derive(Subcommand)]
enum Which {
    /// The activator beside no proxy, haproxy and nginx: requests per CPU-second, latencies, memory. About seven minutes.
    Proxy {
        #[command(flatten)]
        output: Output,
        /// Only this load: http1, h2c or http1_64k.
        #[arg(long, value_name = "LOAD")]
        only: Option<String>,
    },
    /// The autoscaler beside Knative's and one that knows the future, in a simulation: replica-seconds, waiting, changes. Some seconds.
    Autoscaler {
        /// Print JSON on standard output; all else goes to standard error.
        #[arg(long)]
        json: bool,
        /// Only loads whose name contains this.
        #[arg(long, value_name = "PART")]
        only: Option<String>,
        /// Print every change of replicas, with its reason.
        #[arg(long)]
        why: bool,
        /// Write a picture of each load into this folder, as SVG.
        #[arg(long, value_name = "FOLDER")]
        plot: Option<PathBuf>,
    },
    /// A warm Function beside one that is flooded while it has no pod: errors and latencies of the warm one. About two minutes.
    Isolation {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
struct Output {
    /// Print JSON on standard output; all else goes to standard error.
    #[arg(long)]
    json: bool,
    /// How often each variant has its turn; figures are medians over the rounds.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::default();
    let (name, output, only) = match &arguments.which {
        Which::Proxy { output, only } => ("proxy", output, only.as_deref()),
        Which::Isolation { output } => ("isolation", output, None),
        Which::Autoscaler { json, only, why, plot } => {
            return autoscaler(&mut steps, *json, only.as_deref(), *why, plot.as_deref());
        }
    };
    if name == "proxy" {
        images::require("haproxy", "haproxy")?;
        images::require("nginx", "nginx")?;
    }
    let activator = steps.step("the activator, as it is published", || images::published("pilotlight-activator"))?;
    steps.step("the benchmark's own program", || {
        run(&mut cargo(&["build", "--release", "--package", "pilotlight-bench", "--locked"]))
    })?;
    let mut bench = program(repository().join("target/release/pilotlight-bench"), &[name, "--activator"]);
    bench.arg(activator).args(["--rounds", &output.rounds.to_string()]);
    if output.json {
        bench.arg("--json");
    }
    if let Some(only) = only {
        bench.args(["--only", only]);
    }
    steps.step("measuring", || run(&mut bench))
}

fn autoscaler(steps: &mut Steps, json: bool, only: Option<&str>, why: bool, plot: Option<&Path>) -> Result<()> {
    let mut bench =
        cargo(&["run", "--quiet", "--release", "--locked", "--package", "pilotlight-bench-autoscaler", "--"]);
    bench.arg("--trace").arg(repository().join("../shared/data/azure2019-250"));
    bench.args(json.then_some("--json")).args(why.then_some("--why"));
    if let Some(only) = only {
        bench.args(["--only", only]);
    }
    if let Some(folder) = plot {
        bench.arg("--plot").arg(folder);
    }
    steps.step("the simulation", || run(&mut bench))
}
