//! The story of `cargo xtask demo`: a Function at zero pods answers its first request, and goes back to zero.
//!
//! It expects Pilotlight installed and prints what it does; a step that fails ends it with an error.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use pilotlight_e2e::cold_start::{Cold, ColdStart};
use pilotlight_e2e::http;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::timeline::draw;
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
    let ColdStart { answer, moments } = Cold::of(stage, "hello").await?.first_request().await?;
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
