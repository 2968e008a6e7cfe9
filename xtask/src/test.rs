//! `cargo xtask test`: every test, those on a real cluster included; what CI runs.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::checks;
use crate::images;
use crate::release::Release;
use crate::shell::{Steps, cargo, output, program, repository, run};
use crate::stage::{Embedding, Stage, Where};
use crate::traefik;

/// Every test: checks, units, and the promises to a user on a real cluster.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    embedding: Embedding,
    /// Only the tests on a cluster, and of those only the ones whose name contains this.
    #[arg(long, value_name = "PART")]
    only: Option<String>,
}

/// Test binaries of `e2e/`, in the order in which they run, each with how many tests run side by side. What disturbs Pilotlight itself
/// comes last and alone.
const SUITES: [(&str, &str); 4] = [("promises", "4"), ("gateway", "1"), ("disruption", "1"), ("lifecycle", "1")];

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::default();
    let outcome = everything(&mut steps, arguments);
    steps.report();
    outcome
}

fn everything(steps: &mut Steps, arguments: &Arguments) -> Result<()> {
    if arguments.only.is_none() {
        checks::all(steps)?;
        steps.step("the embedded cluster leaves the host as it was", leaves_host_as_it_was)?;
    }
    let binaries = steps.step("cargo test --no-run: tests on a cluster", e2e_binaries)?;
    steps.step("go build e2e/gitops: what GitOps tools make of a Function", gitops)?;
    let images = images::with_those_for_tests();
    let stage = Stage::set(steps, &arguments.place, &arguments.embedding, "test", &images)?;
    if stage.is_embedded() {
        steps.step("the Gateway API's definitions, for the tests with Traefik", traefik::stage_definitions)?;
    }
    steps.step("helm lint", || helm_lint(&stage))?;
    let release = Release::ensure(steps, &stage)?;
    let tested = suites(steps, arguments, &stage, &binaries);
    release.end(&stage)?;
    tested
}

/// As it is, and with what needs something of the cluster's owner.
fn helm_lint(stage: &Stage) -> Result<()> {
    let lint = ["lint", "--strict", "charts/pilotlight"];
    run(stage.command("helm").args(lint))?;
    let tls = "activator.tls.certificates[0].secretName=lint";
    run(stage.command("helm").args(lint).args(["--set", tls, "--set", "gateway.parentRefs[0].name=lint"]))?;
    run(stage.command("helm").args(lint).args(["--set", "ingress.className=lint,ingress.tls.secretName=lint"]))
}

fn suites(steps: &mut Steps, arguments: &Arguments, stage: &Stage, binaries: &[(String, PathBuf)]) -> Result<()> {
    for (suite, threads) in SUITES {
        if !stage.is_embedded() && suite != "promises" {
            eprintln!(
                "{suite}: left out, it kills processes on the node, or takes Pilotlight away or changes it; only on the embedded cluster"
            );
            continue;
        }
        let (_, binary) = binaries.iter().find(|(name, _)| name == suite).context("a suite has no binary")?;
        let mut tests = stage.command(binary);
        tests.args(["--ignored", "--test-threads", threads]);
        tests.args(&arguments.only);
        steps.step(&format!("tests on a cluster: {suite}"), || run(&mut tests))?;
    }
    Ok(())
}

/// Builds the test binaries; their names and paths.
fn e2e_binaries() -> Result<Vec<(String, PathBuf)>> {
    let arguments =
        ["test", "--package", "pilotlight-e2e", "--tests", "--no-run", "--locked", "--message-format", "json"];
    let messages = output(&mut cargo(&arguments))?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Ok(messages
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, PathBuf::from(message["executable"].as_str()?)))
        })
        .collect())
}

/// Builds the program that the tests ask what kstatus, Flux and Argo CD say.
fn gitops() -> Result<()> {
    let built = repository().join("target/e2e/gitops");
    let mut build = program("go", &["build", "-trimpath", "-buildvcs=false", "-o"]);
    build.arg(built).arg(".").env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
    run(build.current_dir(repository().join("e2e/gitops")))
}

fn leaves_host_as_it_was() -> Result<()> {
    run(&mut cargo(&["test", "--package", "pilotlight-cluster", "--locked", "--", "--ignored", "--test-threads", "1"]))
}
