//! Pilotlight as a platform team installs it: by its Helm chart.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::reach::SYSTEM_NAMESPACE;
use crate::tools::helm;

/// Name of the Helm release that tests and demo install.
pub const RELEASE: &str = "pilotlight";

/// The chart's folder; `PILOTLIGHT_E2E_CHART` names another.
pub fn path() -> PathBuf {
    std::env::var_os("PILOTLIGHT_E2E_CHART").map_or_else(|| repository().join("charts/pilotlight"), PathBuf::from)
}

/// The repository's top folder.
pub fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Who may have which host names, where tests install Pilotlight.
pub const HOSTNAMES: &str = r"hostnames[0].domain=*.hostnames.test,hostnames[0].namespaces={*}";

/// Installs the chart, or upgrades it, with further `--set` values, and waits until it is ready.
///
/// # Errors
/// When helm fails; with its words.
pub async fn install(values: &[&str]) -> Result<()> {
    let chart = path();
    let chart = chart.to_str().context("the chart's path is not UTF-8")?;
    let mut arguments = vec!["upgrade", "--install", RELEASE, chart, "--namespace", SYSTEM_NAMESPACE];
    arguments.extend(["--create-namespace", "--wait", "--timeout", "3m"]);
    let images = format!("image.registry={},image.tag=dev", crate::fixture::registry());
    arguments.extend(["--set", &images, "--set", "domain=functions.test", "--set", HOSTNAMES]);
    for value in values {
        arguments.extend(["--set", value]);
    }
    helm(&arguments).await?.success().context("helm upgrade --install failed")?;
    Ok(())
}

/// Uninstalls the release.
///
/// # Errors
/// When helm fails; with its words.
pub async fn uninstall() -> Result<()> {
    let arguments = ["uninstall", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--wait", "--timeout", "3m"];
    helm(&arguments).await?.success().context("helm uninstall failed")?;
    Ok(())
}
