//! Running programs so that whoever waits sees what happens: each step has a name, a time, and a sign of life.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::interrupt;

/// How often a quiet step says that it is still there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// Named steps and how long each took.
#[derive(Default)]
pub(crate) struct Steps {
    taken: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs one step. Says its name before, a line every ten seconds meanwhile, and its time afterwards.
    pub(crate) fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if interrupt::came() {
            bail!("interrupted before: {name}");
        }
        eprintln!("▶ {name}");
        let start = Instant::now();
        let (done, finished) = channel::<()>();
        let told = name.to_owned();
        let ticker = std::thread::spawn(move || {
            while finished.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("  … {told}: {} s", start.elapsed().as_secs());
            }
        });
        let outcome = work().with_context(|| format!("step failed: {name}"));
        drop(done);
        let _ = ticker.join();
        let took = start.elapsed();
        let sign = if outcome.is_ok() { '✓' } else { '✗' };
        eprintln!("{sign} {name}: {:.1} s", took.as_secs_f64());
        self.taken.push((name.to_owned(), took));
        outcome
    }

    /// Prints where the time went, longest first.
    pub(crate) fn report(&self) {
        let mut taken: Vec<_> = self.taken.iter().collect();
        taken.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        let total: Duration = taken.iter().map(|(_, took)| *took).sum();
        eprintln!("\nWhere the time went ({:.0} s in all):", total.as_secs_f64());
        for (name, took) in taken {
            eprintln!("  {:>7.1} s  {name}", took.as_secs_f64());
        }
    }
}

/// The repository's top folder.
pub(crate) fn repository() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map_or_else(|| own.clone(), PathBuf::from)
}

/// A cache that outlives clones: `$XDG_CACHE_HOME/pilotlight`, or `~/.cache/pilotlight`.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache")
        }
    };
    Ok(base.join("pilotlight"))
}

/// A program to be run in the repository's top folder.
pub(crate) fn program(name: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(repository()).stdin(Stdio::null());
    command
}

/// Cargo, as the one that runs this.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
}

/// Runs a program that prints for itself.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{} {}", command.get_program().display(), shown_arguments(command));
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs a program and returns its standard output; what it said on standard error is part of the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{} {}", command.get_program().display(), shown_arguments(command));
    let output = command.stderr(Stdio::piped()).output().with_context(|| format!("cannot start `{shown}`"))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("`{shown}` ended with {}: {out}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(out)
}

fn shown_arguments(command: &Command) -> String {
    command.get_args().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
