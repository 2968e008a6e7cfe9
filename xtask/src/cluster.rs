//! `cargo xtask cluster …`: the embedded Kubernetes, whose command line its own crate defines.

use std::process::ExitCode;

pub(crate) use pilotlight_cluster::cli::ClusterArgs as Arguments;

/// Runs the command line to its end; it catches interrupts itself and has exit codes of its own.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    ExitCode::from(pilotlight_cluster::cli::run(arguments))
}
