//! Everything that can keep a cluster from coming up. Each message is one sentence that says what is missing and what
//! to do about it, because it is the first thing a newcomer may see of this project.

use std::path::{Path, PathBuf};

/// Why an operation on an embedded cluster failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Namespaces, mounts and cgroups need root.
    #[error(
        "the embedded cluster needs root, to make namespaces and cgroups: run the same command with sudo, or use an existing cluster with --context NAME"
    )]
    NotRoot,
    /// A container engine without privileges looks like root and is not.
    #[error(
        "root here lacks {0}, so no namespaces can be made: give the container that this runs in --privileged, or use an existing cluster with --context NAME"
    )]
    MissingCapability(&'static str),
    /// Only Linux has what is needed.
    #[error("the embedded cluster runs on Linux only: use an existing cluster with --context NAME")]
    NotLinux,
    /// The Go toolchain is absent.
    #[error(
        "Go {needed} or newer is needed to build Kubernetes from its modules and no `go` was found in PATH: install it from https://go.dev/dl, or use an existing cluster with --context NAME"
    )]
    GoMissing {
        /// The version that the modules ask for.
        needed: String,
    },
    /// The Go toolchain is too old.
    #[error(
        "Go {needed} or newer is needed to build Kubernetes from its modules and `go` is {found}: install a newer one from https://go.dev/dl"
    )]
    GoTooOld {
        /// The version that the modules ask for.
        needed: String,
        /// What `go version` says.
        found: String,
    },
    /// Programs are absent and there is no apt-get to install them.
    #[error("missing {0}, and there is no apt-get here to install them: install them with your package manager")]
    ProgramsMissing(String),
    /// A port of the host is in use.
    #[error(
        "port {port} of 127.0.0.1 is taken: free it (`ss -ltnp sport = :{port}` shows who has it) or choose another with {flag}"
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// The flag that chooses another.
        flag: &'static str,
    },
    /// Another `up` of this name has not ended yet.
    #[error(
        "another `up` is starting or stopping cluster {0} right now: wait for it, or stop it with `down --name {0}`"
    )]
    Busy(String),
    /// The cluster is not there.
    #[error("no cluster {0} is running: start it with `cargo xtask cluster up --name {0}`")]
    NotRunning(String),
    /// `up` was told to stop.
    #[error("interrupted; everything that was started is stopped and removed")]
    Interrupted,
    /// The cluster ended before it was ready.
    #[error("cluster {name} did not come up: {reason}\n  logs: {logs}\n  remove what is left with `down --name {name}`", logs = .logs.display())]
    NotUp {
        /// Which cluster.
        name: String,
        /// What ended it.
        reason: String,
        /// Where the logs are.
        logs: PathBuf,
    },
    /// A program that was run failed.
    #[error("`{command}` failed ({status}): {output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s: {last}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// What was seen last.
        last: String,
    },
    /// A file or system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// The API server refused something.
    #[error("{what}: {source}")]
    Api {
        /// What was being done.
        what: String,
        /// The client's word.
        source: Box<kube::Error>,
    },
    /// Anything that means a defect here rather than on the host.
    #[error("{0}")]
    Internal(String),
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An I/O error together with what was being done to `path`.
    pub(crate) fn io(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let what = format!("{doing} {}", path.display());
        move |source| Self::Io { what, source }
    }

    /// The same for a failed system call.
    pub(crate) fn sys(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        let what = what.into();
        move |errno| Self::Io { what, source: errno.into() }
    }

    /// A refused request to the API server.
    pub(crate) fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api { what, source: Box::new(source) }
    }
}
