//! The story of `cargo xtask demo`: a Function at zero pods answers its first request, and goes back to zero.
//!
//! It expects Pilotlight installed and prints what it does; a step that fails ends it with an error.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::http::{self, Answer};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::timeline::{Observer, Phase, draw};
use pilotlight_e2e::tools;

/// Shows a Function's way from zero to its first answer and back.
#[derive(Parser)]
struct Arguments {
    /// Image of the Function.
    #[arg(long, default_value = pilotlight_e2e::fixture::HELLO)]
    image: String,
    /// Seconds without a request until the Function goes to zero.
    #[arg(long, default_value_t = 5)]
    idle_seconds: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let stage = Stage::set("demo").await?;
    let told = story(&arguments, &stage).await;
    stage.strike().await?;
    told
}

async fn story(arguments: &Arguments, stage: &Stage) -> Result<()> {
    let (functions, namespace) = (&stage.functions, stage.namespace.as_str());
    say("1. One YAML: the Function `hello`");
    let document = format!(
        "apiVersion: pilotlight.dev/v1alpha1\nkind: Function\nmetadata:\n  name: hello\n  namespace: {namespace}\nspec:\n  \
         image: {}\n  imagePullPolicy: IfNotPresent\n  scaling:\n    idleSeconds: {}\n",
        arguments.image, arguments.idle_seconds
    );
    println!("{document}");
    print!("{}", tools::kubectl_with(&["apply", "-f", "-"], document.as_bytes()).await?.success()?);

    say("2. It proves once that it starts, then goes to zero");
    stage.ready("hello").await?;
    functions.at_zero("hello").await?;
    show(namespace).await?;

    say("3. The first request, from zero pods");
    let (answer, moments) = first_request(stage).await?;
    println!("  {} {:?}\n", answer.status, answer.text().trim());
    println!("{}", draw(&moments));
    show(namespace).await?;

    say("4. Warm requests");
    let warm = warm_requests(stage).await?;
    let way = if stage.reach.in_network() { "" } else { ", each through a port forward of the API server" };
    println!("  100 requests, each with a connection of its own{way}: median {:.2} ms", warm.as_secs_f64() * 1e3);

    say("5. Idle again: back to zero");
    functions.at_zero("hello").await?;
    show(namespace).await
}

/// Sends the request that wakes the Function; returns the answer and when each phase was reached.
async fn first_request(stage: &Stage) -> Result<(Answer, Vec<(String, Duration)>)> {
    let reach = &stage.reach;
    let address = reach.address(&stage.namespace, "hello").await?;
    let host = format!("hello.{}.svc", stage.namespace);
    let mut observer = Observer::start(&reach.client, &stage.namespace, "hello");
    ensure!(stage.functions.pods("hello").await?.is_empty(), "the Function has pods before its first request");
    let start = Instant::now();
    let answer = http::get_at(reach, &address, &host, "/").await?;
    ensure!(answer.status.is_success(), "the first request was answered {}: {}", answer.status, answer.text());
    ensure!(answer.header("pilotlight-cold-start") == "true", "the first request was not a cold start");
    let seen = observer.since(start, PATIENCE).await;
    ensure!(seen.len() == Phase::ALL.len(), "the API server told only of {seen:?} within {PATIENCE:?}");
    let mut moments: Vec<_> = seen.into_iter().map(|(phase, at)| (phase.label().to_owned(), at)).collect();
    if let Some(at) = server_timing(answer.header("server-timing"), "reachable") {
        moments.push(("reachable".to_owned(), at));
    }
    moments.push(("answered".to_owned(), answer.took));
    moments.sort_by_key(|(_, at)| *at);
    Ok((answer, moments))
}

/// The duration of one metric of a `Server-Timing` header.
fn server_timing(header: &str, name: &str) -> Option<Duration> {
    let entry = header.split(',').map(str::trim).find(|entry| entry.split(';').next() == Some(name))?;
    let millis: f64 = entry.split(';').find_map(|part| part.trim().strip_prefix("dur="))?.parse().ok()?;
    Some(Duration::from_secs_f64(millis / 1e3))
}

/// The median over 100 requests to the running Function.
async fn warm_requests(stage: &Stage) -> Result<Duration> {
    let address = stage.reach.address(&stage.namespace, "hello").await?;
    let host = format!("hello.{}.svc", stage.namespace);
    let mut took = Vec::with_capacity(100);
    for _ in 0..100 {
        let answer = http::get_at(&stage.reach, &address, &host, "/").await?;
        ensure!(answer.status.is_success(), "a warm request was answered {}: {}", answer.status, answer.text());
        took.push(answer.took);
    }
    took.sort();
    Ok(took[took.len() / 2])
}

async fn show(namespace: &str) -> Result<()> {
    let printed = tools::kubectl(&["get", "functions,deployments,pods", "--namespace", namespace]).await?.success()?;
    println!("$ kubectl get functions,deployments,pods\n{printed}");
    Ok(())
}

fn say(step: &str) {
    println!("\n── {step}\n");
}
