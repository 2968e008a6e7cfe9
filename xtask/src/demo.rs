//! `cargo xtask demo`: a newcomer's first look. A real cluster, the chart installed, a Function's first request from zero.

use anyhow::Result;
use clap::Args;

use crate::release::Release;
use crate::shell::{Steps, cargo, repository, run};
use crate::stage::{Embedding, Stage, Where};

/// Shows a Function answering its first request from zero pods, and going back to zero.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    embedding: Embedding,
}

/// The images that the demo needs.
const IMAGES: [&str; 4] = ["operator", "activator", "pilot", "example-hello-go"];

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::default();
    steps.step("the demo's own program", || {
        run(&mut cargo(&["build", "--package", "pilotlight-e2e", "--bin", "pilotlight-demo", "--locked"]))
    })?;
    let stage = Stage::set(&mut steps, &arguments.place, &arguments.embedding, "demo", &IMAGES.map(str::to_owned))?;
    let release = Release::ensure(&mut steps, &stage)?;
    let story = repository().join("target/debug/pilotlight-demo");
    let told = run(stage.command(story).args(["--image", &stage.image("example-hello-go")]));
    release.end(&stage)?;
    told?;
    steps.report();
    Ok(())
}
