//! What every benchmark on a cluster does: its program, a cluster with the images that it needs, Pilotlight on it by its chart, and the program
//! measuring there.

use anyhow::Result;
use clap::Args;

use crate::images;
use crate::release::Release;
use crate::shell::{Steps, run};
use crate::stage::{Embedding, Stage, Where};

/// What every such benchmark can be told.
#[derive(Args)]
pub(crate) struct Measure {
    #[command(flatten)]
    place: Where,
    /// Print JSON on standard output; all else goes to standard error.
    #[arg(long)]
    json: bool,
}

impl Measure {
    /// Has `pilotlight-bench-NAME` measure, with these arguments, beside Pilotlight's own images and those of `examples`.
    pub(crate) fn run(&self, name: &str, embedding: &Embedding, examples: &[&str], arguments: &[String]) -> Result<()> {
        let mut steps = Steps::default();
        let package = format!("pilotlight-bench-{name}");
        let program = steps.step("the benchmark's own program", || images::beside(&package))?;
        let stage = Stage::set(&mut steps, &self.place, embedding, &format!("bench-{name}"), &needed(examples))?;
        let release = Release::ensure(&mut steps, &stage)?;
        let mut bench = stage.command(program);
        bench.args(arguments).args(self.json.then_some("--json"));
        let measured = steps.step("measuring", || run(&mut bench));
        release.end(&stage)?;
        measured
    }
}

/// Images by the names of their recipes.
fn needed(examples: &[&str]) -> Vec<String> {
    let own = ["operator", "activator", "pilot"].map(str::to_owned);
    own.into_iter().chain(examples.iter().map(|example| format!("example-{example}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_that_are_used_are_built() {
        assert_eq!(needed(&["hello-node"]), ["operator", "activator", "pilot", "example-hello-node"]);
    }
}
