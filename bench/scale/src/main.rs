//! Very many Functions at zero on a real API server: how fast they become Ready, what operator and activators cost while nobody asks for any of
//! them, and whether a wake notices the others. `cargo xtask bench scale` brings the cluster, installs Pilotlight and starts this.
//!
//! What always holds: the one Function that is woken is the same, alone and beside all others; nothing is measured as idle before nobody
//! writes to the API server any more.

mod crowd;
mod figures;
mod usage;
mod wakes;
mod writes;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use kube::Client;

use crate::crowd::Crowd;
use crate::figures::Figures;
use crate::usage::Usage;
use crate::wakes::Sleepers;
use crate::writes::Writes;

/// So long nobody must have written before the cluster counts as settled.
const SETTLED: Duration = Duration::from_secs(30);
/// Between two lines about how it settles.
const PROGRESS: Duration = Duration::from_secs(60);

#[derive(Parser)]
#[command(about = "Very many Functions at zero; `cargo xtask bench scale` brings what it needs and starts it")]
struct Arguments {
    /// Print JSON on standard output; all else goes to standard error.
    #[arg(long)]
    json: bool,
    /// How many Functions there are beside the one that is woken.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    functions: u32,
    /// Measured wakes, alone and beside all others.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds that idle processes are looked at.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(20..))]
    idle_seconds: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let sleepers = Sleepers::set().await?;
    let crowd = Crowd::new(sleepers.client(), arguments.functions);
    let measured = measure(&arguments, &sleepers, &crowd).await;
    // Whatever came of it, the cluster is left without them.
    crowd.strike().await?;
    sleepers.strike().await?;
    let figures = measured?;
    eprint!("{}", figures.text());
    if arguments.json {
        println!("{:#}", figures.json());
    }
    Ok(())
}

async fn measure(arguments: &Arguments, sleepers: &Sleepers, crowd: &Crowd) -> Result<Figures> {
    let client = sleepers.client();
    sleepers.create().await?;
    let alone = sleepers.wake(arguments.rounds).await.context("waking it alone")?;
    settle(client, 1).await?;

    let before = Writes::read(client).await?;
    let ready_per_second = crowd.create().await?;
    eprintln!("  all are Ready, {ready_per_second:.1} a second; waiting until nobody writes any more");
    let writes = settle(client, arguments.functions).await?.since(&before);

    eprintln!("  looking at idle processes for {} s", arguments.idle_seconds);
    let begun = (Usage::read(client).await?, Writes::read(client).await?);
    tokio::time::sleep(Duration::from_secs(arguments.idle_seconds.into())).await; // what is measured
    let ended = (Usage::read(client).await?, Writes::read(client).await?);
    let beside = sleepers.wake(arguments.rounds).await.context("waking it beside all others")?;
    Ok(Figures {
        functions: arguments.functions,
        ready_per_second,
        usage: ended.0.since(&begun.0)?,
        writes,
        idle: ended.1.since(&begun.1),
        alone,
        beside,
    })
}

/// Waits until nobody has written anything for a while, but Leases and Events.
async fn settle(client: &Client, functions: u32) -> Result<Writes> {
    // Kubernetes' own controllers write 20 times a second by default, some times for each.
    let limit = Duration::from_secs(300 + u64::from(functions));
    let begun = Instant::now();
    let (mut last, mut since) = (Writes::read(client).await?, Instant::now());
    let mut told = (last.total(), Instant::now());
    while since.elapsed() < SETTLED {
        anyhow::ensure!(begun.elapsed() < limit, "after {} s there are still writes: {last:?}", limit.as_secs());
        tokio::time::sleep(Duration::from_secs(2)).await; // between two looks
        let now = Writes::read(client).await?;
        if told.1.elapsed() >= PROGRESS {
            eprintln!("  {} writes in the last {} s", now.total() - told.0, told.1.elapsed().as_secs());
            told = (now.total(), Instant::now());
        }
        if now.total() != last.total() {
            (last, since) = (now, Instant::now());
        }
    }
    Writes::read(client).await
}
