//! From zero pods to the first answer, on a real cluster: raw Kubernetes beside a Function. `cargo xtask bench cold-start` brings the
//! cluster, installs Pilotlight and starts this.
//!
//! What always holds: variants take turns within a run, each start begins without a pod of any of them and at a random moment of kubelet's
//! relist, and a start that fails makes the run fail.

mod contestant;
mod report;
mod subject;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::reach::Reach;
use pilotlight_e2e::runtime::{Runtime, usable};
use pilotlight_e2e::wait::until;

use crate::contestant::Contestant;
use crate::report::Report;
use crate::subject::{Language, Subject, Variant};

/// Kubelet lists the states of all containers this often (its relist); what it finds depends on when a start began within it.
const RELIST: Duration = Duration::from_secs(1);

#[derive(Parser)]
#[command(
    about = "Cold starts beside raw Kubernetes; `cargo xtask bench cold-start` brings what it needs and starts it"
)]
struct Arguments {
    /// Print JSON on standard output; all else goes to standard error.
    #[arg(long)]
    json: bool,
    /// Measured starts of each variant, for each runtime and language.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// What starts the containers; may be given several times.
    #[arg(long, value_enum, required = true)]
    runtime: Vec<Runtime>,
    /// Only the example in this language; may be given several times.
    #[arg(long, value_enum)]
    language: Vec<Language>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let reach = Reach::connect().await?;
    let runtimes = usable(&reach.client, &arguments.runtime).await?;
    let languages = if arguments.language.is_empty() { Language::ALL.to_vec() } else { arguments.language.clone() };
    let contestants = set_up(&subjects(&runtimes, &languages)).await?;
    let measured = measure(&reach.client, &contestants, arguments.rounds).await;
    // Whatever came of it, the cluster is left without them.
    for contestant in contestants {
        contestant.strike().await?;
    }
    let report = measured?;
    if !reach.in_network() {
        eprintln!("every request went through a port forward of the API server, which is part of all figures");
    }
    eprint!("{}", report.text());
    if arguments.json {
        println!("{:#}", report.json());
    }
    Ok(())
}

/// All that is measured, in the order of its turns: the variants of one runtime and language next to each other.
fn subjects(runtimes: &[Runtime], languages: &[Language]) -> Vec<Subject> {
    let mut all = Vec::new();
    for runtime in runtimes {
        for language in languages {
            all.extend(Variant::ALL.map(|variant| Subject { runtime: *runtime, language: *language, variant }));
        }
    }
    all
}

async fn set_up(subjects: &[Subject]) -> Result<Vec<Contestant>> {
    let mut contestants = Vec::new();
    for subject in subjects {
        eprintln!("  setting up {subject}");
        match Contestant::set_up(*subject).await {
            Ok(contestant) => contestants.push(contestant),
            Err(error) => {
                for contestant in contestants {
                    contestant.strike().await?;
                }
                return Err(error.context(format!("setting up {subject}")));
            }
        }
    }
    Ok(contestants)
}

async fn measure(client: &Client, contestants: &[Contestant], rounds: u32) -> Result<Report> {
    let begun = Instant::now();
    let mut report = Report::default();
    // Nobody's first start counts: images and caches are warm for all or for none.
    for contestant in contestants {
        one(client, contestants, contestant).await.with_context(|| format!("warming up {}", contestant.subject))?;
    }
    for round in 1..=rounds {
        for group in contestants.chunks(Variant::ALL.len()) {
            // Each variant goes first equally often.
            let mut turns: Vec<&Contestant> = group.iter().collect();
            turns.rotate_left(round as usize % group.len());
            for contestant in turns {
                let start = one(client, contestants, contestant).await;
                let start = start.with_context(|| format!("round {round} of {}", contestant.subject))?;
                report.push(contestant.subject, &start);
            }
        }
        eprintln!("  round {round} of {rounds}: {} s", begun.elapsed().as_secs());
    }
    Ok(report)
}

/// One start, from no pods to no pods.
async fn one(client: &Client, all: &[Contestant], contestant: &Contestant) -> Result<contestant::Start> {
    let looking = contestant.look().await?;
    // What came before has ended, and kubelet is somewhere in its second.
    tokio::time::sleep(RELIST / 4 + RELIST.mul_f64(rand::random())).await;
    let early = pods(client, all).await?;
    if !early.is_empty() {
        bail!("a start must begin without pods, and there are {}", early.join(", "));
    }
    let start = contestant.start(looking).await?;
    contestant.rest().await?;
    until("all pods to be gone", PATIENCE, || pods(client, all), Vec::is_empty).await?;
    Ok(start)
}

/// The pods of all contestants, those that terminate included.
async fn pods(client: &Client, contestants: &[Contestant]) -> Result<Vec<String>> {
    let everywhere: Api<Pod> = Api::all(client.clone());
    let pods = everywhere.list(&ListParams::default()).await?.items.into_iter();
    let ours = pods.filter(|pod| {
        let at_zero = || contestants.iter().filter(|contestant| contestant.rests_at_zero());
        at_zero().any(|contestant| pod.metadata.namespace.as_deref() == Some(contestant.namespace()))
    });
    Ok(ours.filter_map(|pod| pod.metadata.name).collect())
}
