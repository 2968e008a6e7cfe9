//! A real single-node Kubernetes in namespaces of its own, for demos, tests and benchmarks: built from Go modules, run
//! with the distribution's container runtime, and gone without a trace when it is taken down.
//!
//! An executable that brings clusters up calls [`reentry`] first in its `main`, since it also is their supervisor:
//!
//! ```no_run
//! use pilotlight_cluster::{Options, Progress, reentry, up};
//!
//! fn main() {
//!     reentry();
//!     let runtime = tokio::runtime::Runtime::new().expect("threads can be made");
//!     match runtime.block_on(up(&Options::default(), &Progress::start(false))) {
//!         Ok(up) => println!("{}", up.cluster().kubeconfig().display()),
//!         Err(error) => eprintln!("{error}"),
//!     }
//! }
//! ```
//!
//! How it works is told in `README.md` beside this crate.

mod api;
mod binaries;
mod certificates;
mod cgroups;
pub mod cli;
mod cluster;
mod command;
mod components;
mod config;
mod error;
mod forward;
mod images;
mod layout;
mod mounts;
mod network;
mod node;
mod options;
mod packages;
mod preflight;
mod progress;
mod stages;
mod state;
mod supervise;
mod up;

pub use binaries::{KUBERNETES_VERSION, build, cache_directory};
pub use cgroups::CgroupVersion;
pub use cluster::{Cluster, Target};
pub use error::{Error, Result};
pub use images::{ImportedImage, ScratchImage};
pub use layout::Layout;
pub use network::{API_ADDRESS, DNS_ADDRESS, NODE_ADDRESS, NODE_NAME, POD_RANGE, SERVICE_RANGE};
pub use options::{ClusterName, Forward, Options, Runtime};
pub use progress::Progress;
pub use stages::reentry;
pub use state::{Phase, State};
pub use up::{Up, down, up};
