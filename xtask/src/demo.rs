//! `cargo xtask demo`: a newcomer's first look. A real cluster, the chart installed, a Function's first request from zero.

use anyhow::Result;
use clap::Args;

use crate::shell::{Steps, cargo, output, repository, run};
use crate::stage::{Stage, Where};

/// Shows a Function answering its first request from zero pods, and going back to zero.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Where,
}

/// The images that the demo needs.
const IMAGES: [&str; 3] = ["operator", "activator", "example-hello-go"];

/// The domain of external host names, where this installs Pilotlight.
const DOMAIN: &str = "functions.test";

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::default();
    steps.step("the demo's own program", || {
        run(&mut cargo(&["build", "--package", "pilotlight-e2e", "--bin", "pilotlight-demo", "--locked"]))
    })?;
    let stage = Stage::set(&mut steps, &arguments.place, "demo", &IMAGES.map(str::to_owned))?;
    let ours = !is_installed(&stage)?;
    if ours {
        steps.step("helm install", || install(&stage))?;
    } else {
        eprintln!("Pilotlight is installed there already, and is left as it is");
    }
    let story = repository().join("target/debug/pilotlight-demo");
    let told = run(stage.command(story).args(["--image", &stage.image("example-hello-go")]));
    if ours && !stage.is_embedded() {
        steps.step("helm uninstall", || uninstall(&stage))?;
    }
    told?;
    steps.report();
    Ok(())
}

/// Installs the chart with the images of this tree, and waits until it is ready.
pub(crate) fn install(stage: &Stage) -> Result<()> {
    let mut helm = stage.command("helm");
    helm.args(["upgrade", "--install", "pilotlight", "charts/pilotlight", "--namespace", "pilotlight-system"]);
    helm.args(["--create-namespace", "--wait", "--timeout", "3m", "--set"]);
    helm.arg(format!("image.registry={},image.tag=dev,domain={DOMAIN}", stage.registry()));
    output(&mut helm).map(|_| ())
}

fn is_installed(stage: &Stage) -> Result<bool> {
    let releases = output(stage.command("helm").args(["list", "--all-namespaces", "--output", "json"]))?;
    let releases: Vec<serde_json::Value> = serde_json::from_str(&releases)?;
    Ok(releases.iter().any(|release| release["chart"].as_str().is_some_and(|chart| chart.starts_with("pilotlight-"))))
}

/// Takes away what [`install`] brought, the definition of Functions included.
fn uninstall(stage: &Stage) -> Result<()> {
    output(stage.command("helm").args(["uninstall", "pilotlight", "--namespace", "pilotlight-system", "--wait"]))?;
    output(stage.command("kubectl").args(["delete", "customresourcedefinition", "functions.pilotlight.dev"]))?;
    output(stage.command("kubectl").args(["delete", "namespace", "pilotlight-system"])).map(|_| ())
}
