//! Where demo, tests and benchmarks play: a cluster that has Pilotlight's images, and the way to run programs against it.
//!
//! The embedded cluster is made for the purpose and taken down afterwards, also when a step fails or Ctrl-C is pressed; an existing
//! cluster (`--context`) is left as it was found.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use pilotlight_cluster::{Cluster, ClusterName, Options, Progress, Runtime, Target, down, up};

use crate::images;
use crate::shell::{Steps, output, program, repository};

/// Which cluster to play on.
#[derive(Args, Clone)]
pub(crate) struct Where {
    /// Use the cluster of this kubeconfig context (kind, k3s, minikube, a managed one) rather than an embedded one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// With --context: registry and path that the images of `cargo xtask images` were pushed to, as in ghcr.io/me.
    #[arg(long, value_name = "PREFIX", requires = "context")]
    registry: Option<String>,
    /// Leave the embedded cluster up afterwards.
    #[arg(long)]
    keep: bool,
}

/// How an embedded cluster is made.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Embedding {
    /// What starts containers in the embedded cluster.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) runtime: Runtime,
    /// What else can, where a pod names its RuntimeClass.
    #[arg(skip)]
    pub(crate) more: Vec<Runtime>,
    /// How many requests a second each of Kubernetes' controllers may make; upstream's default where absent.
    #[arg(skip)]
    pub(crate) controllers_qps: Option<u32>,
}

/// A cluster that is ready to play on.
pub(crate) struct Stage {
    place: Place,
    registry: String,
}

enum Place {
    Embedded { cluster: Cluster, name: ClusterName, keep: bool },
    Existing { kubeconfig: PathBuf },
}

impl Stage {
    /// Builds the images named `only` (all where none is named), brings the cluster up, and gives it the images.
    pub(crate) fn set(
        steps: &mut Steps,
        choice: &Where,
        embedding: &Embedding,
        name: &str,
        only: &[String],
    ) -> Result<Self> {
        let name: ClusterName = name.parse().context("a cluster's name")?;
        match Target::choose(choice.context.clone(), name) {
            Target::Embedded(name) => Self::embedded(steps, embedding, choice.keep, name, only),
            Target::Existing { context } => Self::existing(choice, &context),
        }
    }

    fn embedded(
        steps: &mut Steps,
        embedding: &Embedding,
        keep: bool,
        name: ClusterName,
        only: &[String],
    ) -> Result<Self> {
        // Kubernetes first: it says at once what is missing, and needs the longest.
        steps.step("Kubernetes, built once for this machine", || {
            asynchronous(pilotlight_cluster::build(&Progress::start(false))).map(|_| ())
        })?;
        let images = images::build(steps, only)?;
        let options = Options {
            name: name.clone(),
            runtime: embedding.runtime,
            more_runtimes: embedding.more.clone(),
            controllers_qps: embedding.controllers_qps,
            ..Options::default()
        };
        let started = steps.step("embedded cluster up", || asynchronous(up(&options, &Progress::start(false))))?;
        let place = Place::Embedded { cluster: started.cluster().clone(), name, keep };
        let stage = Self { place, registry: "pilotlight.dev".to_owned() };
        let archives: Vec<PathBuf> = images.into_iter().map(|image| image.archive).collect();
        steps.step("images into the cluster", || {
            let Place::Embedded { cluster, .. } = &stage.place else { return Ok(()) };
            asynchronous(cluster.import_images(&archives)).map(|_| ())
        })?;
        Ok(stage)
    }

    fn existing(choice: &Where, context: &str) -> Result<Self> {
        let Some(registry) = choice.registry.clone() else {
            bail!(
                "--context {context} needs --registry PREFIX: run `cargo xtask images`, push the archives in target/images to a \
                 registry that the cluster can pull from, and name it (`--registry pilotlight.dev` where the nodes have the images already)"
            );
        };
        let flattened = output(&mut program(
            "kubectl",
            &["config", "view", "--minify", "--flatten", "--raw", "--context", context],
        ))
        .with_context(|| {
            format!("--context {context}: kubectl cannot read it; `kubectl config get-contexts` lists what there is")
        })?;
        let kubeconfig = repository().join("target").join(format!("kubeconfig-{}", std::process::id()));
        std::fs::create_dir_all(repository().join("target"))?;
        std::fs::write(&kubeconfig, flattened)?;
        Ok(Self { place: Place::Existing { kubeconfig }, registry })
    }

    /// A program that talks to the cluster, in the repository's top folder; in the cluster's network where it is embedded.
    pub(crate) fn command(&self, name: impl AsRef<OsStr>) -> Command {
        let mut command = match &self.place {
            Place::Embedded { cluster, .. } => {
                let mut command = cluster.command(name);
                command.env("PILOTLIGHT_E2E_REACH", "network");
                command
            }
            Place::Existing { kubeconfig } => {
                let mut command = Command::new(name);
                command.env("KUBECONFIG", kubeconfig).env("PILOTLIGHT_E2E_REACH", "forward");
                command
            }
        };
        command.current_dir(repository()).env("PILOTLIGHT_E2E_REGISTRY", &self.registry);
        command
    }

    /// Whether the cluster was made for this run.
    pub(crate) fn is_embedded(&self) -> bool {
        matches!(self.place, Place::Embedded { .. })
    }

    /// Registry and path of the project's images on this cluster.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// Reference of one of the project's images on this cluster.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}:dev", self.registry)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        match &self.place {
            Place::Embedded { cluster, keep: true, .. } => {
                eprintln!("the cluster stays up; KUBECONFIG={}", cluster.kubeconfig().display());
            }
            Place::Embedded { name, .. } => {
                if let Err(error) = asynchronous(down(name)) {
                    eprintln!(
                        "the cluster {name} could not be taken down: {error:#}; try `cargo xtask cluster down --name {name}`"
                    );
                }
            }
            Place::Existing { kubeconfig } => {
                // Another run's file of the same name cannot exist: it carries this process's id.
                let _ = std::fs::remove_file(kubeconfig);
            }
        }
    }
}

/// Runs a future of the cluster's library to its end.
fn asynchronous<T>(future: impl Future<Output = pilotlight_cluster::Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future)?)
}
