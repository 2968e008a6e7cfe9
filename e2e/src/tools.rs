//! The tools that a user types: kubectl and helm, run as a user runs them; and what GitOps tools would say.

use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What a tool printed, and whether it was content.
#[derive(Clone, Debug)]
pub struct Printed {
    /// Whether it exited with 0.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Printed {
    /// Standard output of a run that must have gone well.
    ///
    /// # Errors
    /// When it did not; with what it printed.
    pub fn success(self) -> Result<String> {
        if self.ok {
            return Ok(self.out);
        }
        bail!("{}{}", self.out, self.err)
    }
}

impl From<Output> for Printed {
    fn from(output: Output) -> Self {
        Self {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// `kubectl` with arguments; `PILOTLIGHT_E2E_KUBECTL` names another binary.
///
/// # Errors
/// When it cannot be started.
pub async fn kubectl(arguments: &[&str]) -> Result<Printed> {
    run("PILOTLIGHT_E2E_KUBECTL", "kubectl", arguments, None).await
}

/// `kubectl` with arguments and a document on its standard input.
///
/// # Errors
/// When it cannot be started.
pub async fn kubectl_with(arguments: &[&str], document: &[u8]) -> Result<Printed> {
    run("PILOTLIGHT_E2E_KUBECTL", "kubectl", arguments, Some(document)).await
}

/// `helm` with arguments; `PILOTLIGHT_E2E_HELM` names another binary.
///
/// # Errors
/// When it cannot be started.
pub async fn helm(arguments: &[&str]) -> Result<Printed> {
    run("PILOTLIGHT_E2E_HELM", "helm", arguments, None).await
}

/// containerd's own tool, for the images and containers of Kubernetes. Only on the embedded cluster, on whose node this process stands.
///
/// # Errors
/// When it cannot be started.
pub async fn ctr(arguments: &[&str]) -> Result<Printed> {
    run("PILOTLIGHT_E2E_CTR", "ctr", &[&["--namespace", "k8s.io"], arguments].concat(), None).await
}

/// The program of `e2e/gitops`, with an Argo CD health script and the objects to be judged. `cargo xtask test` builds it;
/// `PILOTLIGHT_E2E_GITOPS` names another binary.
///
/// # Errors
/// When it cannot be started.
pub async fn gitops(script: &str, objects: &[u8]) -> Result<Printed> {
    let built = crate::chart::repository().join("target/e2e/gitops");
    let built = built.to_str().context("the repository's path is not UTF-8")?;
    run("PILOTLIGHT_E2E_GITOPS", built, &[script], Some(objects)).await
}

async fn run(variable: &str, tool: &str, arguments: &[&str], document: Option<&[u8]>) -> Result<Printed> {
    let binary = std::env::var(variable).unwrap_or_else(|_| tool.to_owned());
    let mut child = Command::new(&binary)
        .args(arguments)
        .stdin(if document.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {binary}; set {variable} to its path"))?;
    if let (Some(document), Some(mut input)) = (document, child.stdin.take()) {
        input.write_all(document).await?;
    }
    Ok(child.wait_with_output().await?.into())
}
