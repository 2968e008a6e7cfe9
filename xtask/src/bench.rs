//! `cargo xtask bench …`: builds the activator as it is published, brings haproxy and nginx from the distribution, and has
//! `pilotlight-bench` measure.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::cold_start;
use crate::images;
use crate::scale;
use crate::shell::{Steps, cargo, program, repository, run};
use crate::storm;

/// The benchmarks, each against its peers in the same run. All but `cold-start`, `scale` and `storm` stay on this machine's loopback, need no cluster, and leave nothing
/// behind but the packages haproxy and nginx, which they install where they are missing.
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
        #[command(flatten)]
        place: Nowhere,
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
    /// The idle ladder beside fixed keep-alive, the hybrid histogram and greedy-dual, in a simulation: added latency, memory-time, pod creations. Some
    /// seconds.
    Policy {
        /// Print JSON on standard output; all else goes to standard error.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Nowhere,
        /// Folder of a production trace (invocations.csv, durations.csv, memory.csv as in the Azure Functions data set of 2019); without it a workload
        /// made from published distributions.
        #[arg(long, value_name = "FOLDER")]
        trace: Option<PathBuf>,
        /// Write a picture of latency over memory-time and pod creations to this file, as SVG.
        #[arg(long, value_name = "FILE")]
        plot: Option<PathBuf>,
        /// More for the simulation itself, after `--`; `-- --help` lists it.
        #[arg(last = true)]
        more: Vec<String>,
    },
    /// A Function at zero beside raw Kubernetes, on a real cluster: from no pod to the first answer, by phase. About half an hour.
    ColdStart(cold_start::Arguments),
    /// Ten thousand Functions at zero on a real API server: how fast they are Ready, what idle operators and activators cost, and a wake beside
    /// them all. Most of its time goes until Kubernetes has looked at their Deployments.
    Scale(scale::Arguments),
    /// Many Functions woken at once from each rung of the idle ladder, beside as many plain Deployments, on a real cluster. About half an
    /// hour.
    Storm(storm::Arguments),
    /// A warm Function beside one that is flooded while it has no pod: errors and latencies of the warm one. About two minutes.
    Isolation {
        #[command(flatten)]
        output: Output,
        /// Cores that the activator may use. Where there is none besides, clients and apps share the last.
        #[arg(long)]
        cores: Option<usize>,
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
    #[command(flatten)]
    place: Nowhere,
}

/// Takes `--context` only to say why not.
#[derive(Args)]
struct Nowhere {
    #[arg(long, hide = true, value_parser = no_cluster)]
    context: Option<Infallible>,
}

fn no_cluster(_: &str) -> Result<Infallible, &'static str> {
    Err(
        "this benchmark needs no cluster and runs on this machine alone; leave --context out (only `bench cold-start`, `bench scale` and `bench storm` take it)",
    )
}

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::default();
    let (name, output, more) = match &arguments.which {
        Which::Proxy { output, only } => ("proxy", output, only.clone().map(|only| ["--only".to_owned(), only])),
        Which::Isolation { output, cores } => {
            ("isolation", output, cores.map(|cores| ["--cores".to_owned(), cores.to_string()]))
        }
        Which::ColdStart(arguments) => return cold_start::command(arguments),
        Which::Scale(arguments) => return scale::command(arguments),
        Which::Storm(arguments) => return storm::command(arguments),
        Which::Autoscaler { json, only, why, plot, .. } => {
            return autoscaler(&mut steps, *json, only.as_deref(), *why, plot.as_deref());
        }
        Which::Policy { json, trace, plot, more, .. } => {
            return policy(&mut steps, *json, trace.as_deref(), plot.as_deref(), more);
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
    bench.args(more.into_iter().flatten());
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

fn policy(steps: &mut Steps, json: bool, trace: Option<&Path>, plot: Option<&Path>, more: &[String]) -> Result<()> {
    let mut bench = cargo(&["run", "--quiet", "--release", "--locked", "--package", "pilotlight-bench-policy", "--"]);
    bench.args(json.then_some("--json"));
    for (flag, value) in [("--trace", trace), ("--plot", plot)] {
        if let Some(value) = value {
            // The program runs in the repository's folder, wherever this was typed.
            bench.arg(flag).arg(std::path::absolute(value)?);
        }
    }
    bench.args(more);
    steps.step("the simulation", || run(&mut bench))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, FromArgMatches as _, Parser};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(line: &[&str]) -> Result<Line, clap::Error> {
        let matches = Line::command().try_get_matches_from([&["bench"], line].concat())?;
        Line::from_arg_matches(&matches)
    }

    #[test]
    fn what_needs_no_cluster_says_so_when_it_is_given_one() {
        for which in ["proxy", "autoscaler", "policy", "isolation"] {
            assert!(parse(&[which]).is_ok());
            let refused = parse(&[which, "--context", "kind"]).err().unwrap().to_string();
            assert!(refused.contains("needs no cluster") && refused.contains("cold-start"), "{refused}");
        }
        assert!(parse(&["cold-start", "--context", "kind", "--registry", "pilotlight.dev"]).is_ok());
    }
}
