//! `cargo xtask coverage`: every line of the decision core runs in its own tests.

use anyhow::{Context as _, Result};

use crate::shell::{Steps, cache, cargo, program, run};

/// The version of cargo-llvm-cov that measures.
const CARGO_LLVM_COV: &str = "0.9.1";

/// Measures, prints the lines that no test runs, and fails where there are any.
pub(crate) fn command() -> Result<()> {
    let mut steps = Steps::default();
    let root = cache()?.join(format!("cargo-llvm-cov-{CARGO_LLVM_COV}"));
    let binary = root.join("bin/cargo-llvm-cov");
    if !binary.exists() {
        let version = ["install", "cargo-llvm-cov", "--version", CARGO_LLVM_COV];
        steps.step("building cargo-llvm-cov, once for this machine", || {
            run(cargo(&version).args(["--locked", "--debug", "--no-track", "--root"]).arg(&root))
        })?;
    }
    let arguments = [
        "llvm-cov",
        "--package",
        "pilotlight-scaling",
        "--locked",
        "--show-missing-lines",
        "--fail-under-lines",
        "100",
    ];
    steps
        .step("line coverage of scaling/", || run(&mut program(&binary, &arguments)))
        .context("it needs the component llvm-tools: rustup component add llvm-tools")
}
