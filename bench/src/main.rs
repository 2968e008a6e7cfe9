//! The benchmarks of the data plane, each beside its peers in the same run. `cargo xtask bench` builds what it needs and starts this.
//!
//! What always holds: variants take turns within a run, what is measured has a core of its own and everything else has another, all traffic
//! stays on loopback, and a request that fails makes the run fail.

mod api;
mod app;
mod isolation;
mod link;
mod load;
mod peers;
mod process;
mod proxy;
mod report;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[derive(Parser)]
#[command(about = "The benchmarks of the data plane; `cargo xtask bench` builds what they need and starts them")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What every benchmark is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// The activator's program, as it is published.
    #[arg(long)]
    activator: PathBuf,
    /// Print JSON on standard output.
    #[arg(long)]
    json: bool,
    /// How often each variant has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Milliseconds of each measurement.
    #[arg(long, default_value_t = 2_000)]
    millis: u64,
}

#[derive(Subcommand)]
enum Command {
    /// The activator beside no proxy, haproxy and nginx.
    Proxy {
        #[command(flatten)]
        common: Common,
        /// Only this load: http1, h2c or http1_64k.
        #[arg(long)]
        only: Option<String>,
        /// Only this variant: direct, activator, haproxy or nginx; may be given several times. For profiling.
        #[arg(long)]
        peer: Vec<String>,
    },
    /// One Function flooded while it has no pod, another warm: what the second one sees of it.
    Isolation {
        #[command(flatten)]
        common: Common,
        /// Cores that the activator may use.
        #[arg(long, default_value_t = 1)]
        cores: usize,
    },
    /// The app behind the proxies.
    #[command(hide = true)]
    App {
        /// Where it speaks HTTP/1.1.
        #[arg(long)]
        http1: SocketAddr,
        /// Where it speaks HTTP/2.
        #[arg(long)]
        h2c: SocketAddr,
    },
    /// One request on each of many connections.
    #[command(hide = true)]
    Flood {
        /// Whom.
        #[arg(long)]
        address: SocketAddr,
        /// How many.
        #[arg(long)]
        requests: usize,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Connections are files, here and in what is started from here.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    match arguments.command {
        Command::Proxy { common, only, peer } => proxy::run(&common, only.as_deref(), &peer),
        Command::Isolation { common, cores } => isolation::run(&common, cores),
        Command::App { http1, h2c } => app::run(http1, h2c),
        Command::Flood { address, requests } => isolation::flood(address, requests),
    }
}
