//! Pilotlight on a stage's cluster, by its chart: installed from this tree where it is not there yet, and taken away again from a
//! cluster that somebody else runs.

use anyhow::Result;

use crate::shell::{Steps, output};
use crate::stage::Stage;

/// Who may have which other host names, where this installs Pilotlight.
const HOSTNAMES: &str = "hostnames[0].domain=*.hostnames.test,hostnames[0].namespaces={*}";
/// The domain of external host names, where this installs Pilotlight.
const DOMAIN: &str = "functions.test";

/// What has to be undone in the end.
#[must_use = "an existing cluster must be left as it was found"]
pub(crate) struct Release {
    undo: bool,
}

impl Release {
    /// Installs the chart with the images of this tree and waits until it is ready, unless Pilotlight is there already.
    pub(crate) fn ensure(steps: &mut Steps, stage: &Stage) -> Result<Self> {
        if is_installed(stage)? {
            eprintln!("Pilotlight is installed there already, and is left as it is");
            return Ok(Self { undo: false });
        }
        steps.step("helm install", || install(stage))?;
        Ok(Self { undo: !stage.is_embedded() })
    }

    /// Takes away what [`Self::ensure`] brought, the definition of Functions included. No step of its own: steps are not begun any more
    /// after an interrupt, and this has to be.
    pub(crate) fn end(self, stage: &Stage) -> Result<()> {
        if !stage.is_embedded() {
            // Those of tests that failed: on a cluster that is taken down they may stay to be looked at.
            let own = ["delete", "namespaces", "--selector", "pilotlight.dev/test=true", "--ignore-not-found"];
            output(stage.command("kubectl").args(own))?;
        }
        if !self.undo {
            return Ok(());
        }
        eprintln!("▶ helm uninstall: takes some twenty seconds");
        uninstall(stage)
    }
}

fn install(stage: &Stage) -> Result<()> {
    let mut helm = stage.command("helm");
    helm.args(["upgrade", "--install", "pilotlight", "charts/pilotlight", "--namespace", "pilotlight-system"]);
    helm.args(["--create-namespace", "--wait", "--timeout", "3m", "--set"]);
    helm.arg(format!("image.registry={},image.tag=dev,domain={DOMAIN},{HOSTNAMES}", stage.registry()));
    output(&mut helm).map(|_| ())
}

fn is_installed(stage: &Stage) -> Result<bool> {
    let releases = output(stage.command("helm").args(["list", "--all-namespaces", "--output", "json"]))?;
    let releases: Vec<serde_json::Value> = serde_json::from_str(&releases)?;
    Ok(releases.iter().any(|release| release["chart"].as_str().is_some_and(|chart| chart.starts_with("pilotlight-"))))
}

fn uninstall(stage: &Stage) -> Result<()> {
    output(stage.command("helm").args(["uninstall", "pilotlight", "--namespace", "pilotlight-system", "--wait"]))?;
    output(stage.command("kubectl").args(["delete", "customresourcedefinition", "functions.pilotlight.dev"]))?;
    output(stage.command("kubectl").args(["delete", "namespace", "pilotlight-system"])).map(|_| ())
}
