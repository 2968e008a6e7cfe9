//! `cargo xtask bench cold-start`: a cluster, Pilotlight on it by its chart, and `pilotlight-bench-cold-start` measuring.

use anyhow::Result;
use clap::{Args, ValueEnum};
use pilotlight_cluster::Runtime;

use crate::images;
use crate::release::Release;
use crate::shell::{Steps, run};
use crate::stage::{Embedding, Stage, Where};

/// What `cold-start` can be told.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Where,
    /// Print JSON on standard output; all else goes to standard error.
    #[arg(long)]
    json: bool,
    /// Measured starts of each variant, for each runtime and language.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// What starts the containers. With --context, runc stands for the cluster's default and crun for its RuntimeClass `crun`.
    #[arg(long, value_enum, default_value_t)]
    runtime: Chosen,
    /// Only the example in this language: go, rust, python or node; may be given several times.
    #[arg(long, value_name = "LANGUAGE", value_parser = LANGUAGES)]
    language: Vec<String>,
}

/// Which runtimes are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Chosen {
    Runc,
    Crun,
    #[default]
    Both,
}

impl Chosen {
    /// As the cluster knows them.
    pub(crate) fn runtimes(self) -> &'static [Runtime] {
        match self {
            Self::Runc => &[Runtime::Runc],
            Self::Crun => &[Runtime::Crun],
            Self::Both => &[Runtime::Runc, Runtime::Crun],
        }
    }
}

/// The examples that are measured.
const LANGUAGES: [&str; 4] = ["go", "rust", "python", "node"];

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::default();
    let program = steps.step("the benchmark's own program", || images::beside("pilotlight-bench-cold-start"))?;
    let chosen = arguments.runtime.runtimes();
    // Pods without a RuntimeClass get runc; it is there in any case.
    let embedding = Embedding { runtime: Runtime::Runc, more: chosen.to_vec(), ..Embedding::default() };
    let stage = Stage::set(&mut steps, &arguments.place, &embedding, "bench-cold-start", &needed(&arguments.language))?;
    let release = Release::ensure(&mut steps, &stage)?;
    let mut bench = stage.command(program);
    bench.args(["--rounds", &arguments.rounds.to_string()]).args(arguments.json.then_some("--json"));
    for runtime in chosen {
        bench.args(["--runtime", runtime.program()]);
    }
    for language in &arguments.language {
        bench.args(["--language", language]);
    }
    let measured = steps.step("measuring", || run(&mut bench));
    release.end(&stage)?;
    measured
}

/// Pilotlight's own images and those of the examples in `languages`, all where none is named.
fn needed(languages: &[String]) -> Vec<String> {
    let wanted = |language: &&str| languages.is_empty() || languages.iter().any(|named| named == language);
    let examples = LANGUAGES.iter().filter(|language| wanted(language));
    let own = ["operator", "activator", "pilot"].map(str::to_owned);
    own.into_iter().chain(examples.map(|language| format!("example-hello-{language}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_that_are_used_are_built() {
        assert_eq!(needed(&["node".to_owned()]), ["operator", "activator", "pilot", "example-hello-node"]);
        assert_eq!(needed(&[]).len(), 3 + LANGUAGES.len());
    }
}
