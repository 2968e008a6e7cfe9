//! Many Functions woken at once, on a real cluster, from each rung of the idle ladder: beside as many plain Deployments. `cargo xtask bench
//! storm` brings the cluster, installs Pilotlight and starts this.
//!
//! What always holds: variants take turns within a run, and each storm begins with every Function on its rung and no pod of any other variant;
//! an answer that is not the Function's counts as failed, and is told.

mod calls;
mod crowd;
mod floor;
mod report;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use pilotlight_e2e::reach::Reach;
use pilotlight_e2e::runtime::{Runtime, usable};

use crate::calls::Calls;
use crate::crowd::{Crowd, Rung};
use crate::report::Report;

/// Kubelet lists the states of all containers this often (its relist); what it finds depends on when a storm began within it.
const RELIST: Duration = Duration::from_secs(1);

#[derive(Parser)]
#[command(
    about = "Many Functions woken at once, beside raw Kubernetes; `cargo xtask bench storm` brings what it needs and starts it"
)]
struct Arguments {
    /// Print JSON on standard output; all else goes to standard error.
    #[arg(long)]
    json: bool,
    /// Functions that are woken at once. A node takes 110 pods unless told otherwise.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=90))]
    functions: u32,
    /// Storms from each rung, for each runtime.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// What starts the containers; may be given several times.
    #[arg(long, value_enum, required = true)]
    runtime: Vec<Runtime>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let reach = Reach::connect().await?;
    let runtimes = usable(&reach.client, &arguments.runtime).await?;
    let mut report = Report::new(arguments.functions);
    for runtime in runtimes {
        let crowds = set_up(runtime, arguments.functions).await?;
        let measured = measure(&reach, runtime, &crowds, arguments.rounds, &mut report).await;
        // Whatever came of it, the cluster is left without them.
        for crowd in crowds {
            crowd.strike().await?;
        }
        measured?;
    }
    if !reach.in_network() {
        eprintln!("every request went through a port forward of the API server, which is part of all figures");
    }
    eprint!("{}", report.text());
    if arguments.json {
        println!("{:#}", report.json());
    }
    Ok(())
}

async fn set_up(runtime: Runtime, functions: u32) -> Result<Vec<Crowd>> {
    let mut crowds = Vec::new();
    for rung in Rung::ALL {
        eprintln!("  setting up {} {}", runtime.key(), rung.key());
        match Crowd::set_up(rung, runtime, functions).await {
            Ok(crowd) => crowds.push(crowd),
            Err(error) => {
                for crowd in crowds {
                    crowd.strike().await?;
                }
                return Err(error.context(format!("setting up {} {}", runtime.key(), rung.key())));
            }
        }
    }
    Ok(crowds)
}

async fn measure(reach: &Reach, runtime: Runtime, crowds: &[Crowd], rounds: u32, report: &mut Report) -> Result<()> {
    let begun = Instant::now();
    // The first round counts for nobody: images and caches are warm for all or for none.
    for round in 0..=rounds {
        for turn in 0..crowds.len() {
            // Each variant goes first equally often.
            let crowd = &crowds[(turn + round as usize) % crowds.len()];
            let doing = || format!("round {round} of {} {}", runtime.key(), crowd.rung.key());
            crowd.descend().await.with_context(doing)?;
            // What came before has ended, and kubelet is somewhere in its second.
            tokio::time::sleep(RELIST / 4 + RELIST.mul_f64(rand::random())).await;
            crowd.ensure_on_rung().await.with_context(doing)?;
            let before = Calls::read(&reach.client).await?;
            let storm = crowd.storm().await.with_context(doing)?;
            crowd.all_ready().await.with_context(doing)?;
            let calls = Calls::read(&reach.client).await?.since(&before);
            crowd.end().await.with_context(doing)?;
            if round > 0 {
                report.push(runtime, crowd.rung, &storm, calls);
            }
        }
        eprintln!("  round {round} of {rounds} with {}: {} s", runtime.key(), begun.elapsed().as_secs());
    }
    Ok(())
}
