//! `cargo xtask bench cold-start`: a cluster, Pilotlight on it by its chart, and `pilotlight-bench-cold-start` measuring.

use anyhow::Result;
use clap::{Args, ValueEnum};
use pilotlight_cluster::Runtime;

use crate::measure::Measure;
use crate::stage::Embedding;

/// What `cold-start` can be told.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    measure: Measure,
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
    fn runtimes(self) -> &'static [Runtime] {
        match self {
            Self::Runc => &[Runtime::Runc],
            Self::Crun => &[Runtime::Crun],
            Self::Both => &[Runtime::Runc, Runtime::Crun],
        }
    }

    /// An embedded cluster that has them. Pods without a RuntimeClass get runc; it is there in any case.
    pub(crate) fn embedding(self) -> Embedding {
        Embedding { runtime: Runtime::Runc, more: self.runtimes().to_vec(), ..Embedding::default() }
    }

    /// As the benchmark's program is told of them.
    pub(crate) fn flags(self) -> Vec<String> {
        self.runtimes().iter().flat_map(|runtime| ["--runtime", runtime.program()]).map(str::to_owned).collect()
    }
}

/// The languages of the examples that are measured.
const LANGUAGES: [&str; 4] = ["go", "rust", "python", "node"];
/// Their names.
const EXAMPLES: [&str; 4] = ["hello-go", "hello-rust", "hello-python", "hello-node"];

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    let mut told = vec!["--rounds".to_owned(), arguments.rounds.to_string()];
    told.extend(arguments.runtime.flags());
    for language in &arguments.language {
        told.extend(["--language".to_owned(), language.clone()]);
    }
    arguments.measure.run("cold-start", &arguments.runtime.embedding(), &examples(&arguments.language), &told)
}

/// The examples in `languages`, all where none is named.
fn examples(languages: &[String]) -> Vec<&'static str> {
    let wanted = |example: &&str| {
        languages.is_empty() || languages.iter().any(|named| example.strip_prefix("hello-") == Some(named.as_str()))
    };
    EXAMPLES.into_iter().filter(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_examples_that_are_measured_are_needed() {
        assert_eq!(examples(&["node".to_owned()]), ["hello-node"]);
        assert_eq!(examples(&[]), EXAMPLES);
        assert_eq!(EXAMPLES.map(|example| example.trim_start_matches("hello-")), LANGUAGES);
    }
}
