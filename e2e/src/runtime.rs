//! What starts the containers that a benchmark measures. The names here are those of the command line and of the JSON.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::{Api, Client};

/// What starts containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Runtime {
    /// The cluster's default, which is runc nearly everywhere.
    Runc,
    /// The RuntimeClass `crun`.
    Crun,
}

impl Runtime {
    /// Its key in the JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// The RuntimeClass that pods name to get it.
    pub fn class(self) -> Option<&'static str> {
        match self {
            Self::Runc => None,
            Self::Crun => Some("crun"),
        }
    }
}

/// Those of `wanted` that the cluster can start pods with; tells on standard error which are left out.
///
/// # Errors
/// When there is none, or the API server does not answer.
pub async fn usable(client: &Client, wanted: &[Runtime]) -> Result<Vec<Runtime>> {
    let classes: Api<RuntimeClass> = Api::all(client.clone());
    let mut usable = Vec::new();
    for runtime in wanted {
        let Some(class) = runtime.class() else {
            usable.push(*runtime);
            continue;
        };
        if classes.get_opt(class).await.context("looking for a RuntimeClass")?.is_some() {
            usable.push(*runtime);
        } else {
            eprintln!("{class} is left out: the cluster has no RuntimeClass `{class}`");
        }
    }
    ensure!(!usable.is_empty(), "nothing to measure: make that RuntimeClass, or choose --runtime runc");
    Ok(usable)
}
