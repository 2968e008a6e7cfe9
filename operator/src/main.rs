//! The operator's binary. `operator run` is the controller, of which one replica leads; `operator release` is what the chart
//! runs before an uninstall.

use clap::Parser;
use pilotlight_operator::cli::{Cli, Command};
use pilotlight_operator::{release, run};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn,kube_client=warn"));
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
    let result = match cli.command {
        Command::Run(args) => run::run(*args).await,
        Command::Release(args) => release::release(args).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the operator ends");
            ExitCode::FAILURE
        }
    }
}
