//! `cargo xtask cluster …`: the embedded Kubernetes, whose command line its own crate defines.

pub(crate) use pilotlight_cluster::cli::{ClusterArgs as Arguments, run};
