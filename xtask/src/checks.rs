//! Everything that is checked without a cluster, cheapest first.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::shell::{Steps, cache, cargo, output, program, repository, run};

/// The version of cargo-deny that checks licences and bans.
const CARGO_DENY: &str = "0.20.2";

/// Runs all of them; the first that fails ends it.
pub(crate) fn all(steps: &mut Steps) -> Result<()> {
    steps.step("layout: directions and file sizes", layout)?;
    steps.step("cargo fmt --check", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
    steps.step("cargo clippy", || {
        run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"]))
    })?;
    steps.step("cargo deny", deny)?;
    steps.step("gofmt and go vet", go)?;
    steps
        .step("cargo test: units, properties, sockets, drift", || run(&mut cargo(&["test", "--workspace", "--locked"])))
}

/// Which crates of the workspace may depend on which; ARCHITECTURE.md, "Parts and direction".
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("pilotlight-crds", &[]),
    ("pilotlight-scaling", &[]),
    ("pilotlight-operator", &["pilotlight-crds", "pilotlight-scaling"]),
    ("pilotlight-activator", &["pilotlight-crds", "pilotlight-scaling"]),
    ("pilotlight-pilot", &["pilotlight-crds"]),
    ("pilotlight-bench", &[]),
    ("pilotlight-bench-autoscaler", &["pilotlight-scaling"]),
    ("pilotlight-bench-cold-start", &["pilotlight-e2e"]),
    ("pilotlight-bench-policy", &["pilotlight-scaling"]),
    ("pilotlight-bench-scale", &["pilotlight-crds", "pilotlight-e2e"]),
    ("pilotlight-bench-storm", &["pilotlight-e2e"]),
    ("pilotlight-cluster", &[]),
    ("pilotlight-e2e", &["pilotlight-crds"]),
    ("xtask", &["pilotlight-cluster", "pilotlight-crds"]),
];

/// The most lines that a Rust file may have.
const LINES: usize = 400;

fn layout() -> Result<()> {
    let metadata = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut wrong = Vec::new();
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        let allowed = DIRECTIONS.iter().find(|(crate_, _)| *crate_ == name).map_or(&[][..], |(_, to)| to);
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            if names.contains(&to) && !allowed.contains(&to) {
                wrong.push(format!("{name} must not depend on {to} (ARCHITECTURE.md, \"Parts and direction\")"));
            }
        }
    }
    for file in tracked(&["*.rs"])? {
        let text = std::fs::read_to_string(&file)?;
        let lines = text.lines().count();
        if lines > LINES {
            wrong.push(format!("{}: {lines} lines, more than {LINES}: split it by idea", file.display()));
        }
        if !text.starts_with("//!") && !file.components().any(|part| part.as_os_str() == "tests") {
            wrong.push(format!("{}: does not open with `//!` and why it exists", file.display()));
        }
    }
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
}

fn tracked(patterns: &[&str]) -> Result<Vec<PathBuf>> {
    let mut arguments = vec!["ls-files", "--"];
    arguments.extend(patterns);
    let listed = output(&mut program("git", &arguments))?;
    let files = listed.lines().map(|line| repository().join(line));
    Ok(files.filter(|path| path.exists()).collect())
}

/// Licences, bans and sources. Advisories need a database from the network, so they are a step of their own in a connected CI.
fn deny() -> Result<()> {
    let root = cache()?.join(format!("cargo-deny-{CARGO_DENY}"));
    let binary = root.join("bin/cargo-deny");
    if !binary.exists() {
        eprintln!("  building cargo-deny {CARGO_DENY}, once for this machine");
        run(cargo(&["install", "cargo-deny", "--version", CARGO_DENY, "--locked", "--debug", "--no-track", "--root"])
            .arg(&root))?;
    }
    run(program(&binary, &["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"])
        .env("CARGO_TERM_COLOR", "never"))
}

fn go() -> Result<()> {
    let sources = tracked(&["*.go"])?;
    let mut modules: Vec<&Path> = sources.iter().filter_map(|file| module(file)).collect();
    modules.sort_unstable();
    modules.dedup();
    let unformatted = output(program("gofmt", &["-l"]).args(&sources))?;
    if !unformatted.is_empty() {
        bail!("not formatted, run gofmt -w on:\n{unformatted}");
    }
    for module in modules {
        // The dependencies of the control plane and of Traefik take ten minutes to type-check from nothing; their builds are the check.
        if module.ends_with("kubernetes") || module.ends_with("coredns") || module.ends_with("traefik") {
            continue;
        }
        run(program("go", &["vet", "./..."]).current_dir(module))?;
    }
    Ok(())
}

/// The folder of the Go module that a file belongs to.
fn module(file: &Path) -> Option<&Path> {
    file.ancestors().find(|folder| folder.join("go.mod").exists())
}
