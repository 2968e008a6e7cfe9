//! A running cluster as a value: where its kubeconfig is, how to run a program inside it, how to give it images.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Error, Result};
use crate::images::{self, ImportedImage};
use crate::layout::Layout;
use crate::options::{ClusterName, Options};
use crate::state::{Lock, Phase, State};
use crate::{mounts, node};

/// Which cluster a command works on: the embedded one, or one that somebody else runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The embedded cluster of this name.
    Embedded(ClusterName),
    /// The cluster of this kubeconfig context.
    Existing {
        /// The context's name.
        context: String,
    },
}

impl Target {
    /// `--context NAME` means an existing cluster, its absence the embedded one.
    pub fn choose(context: Option<String>, name: ClusterName) -> Self {
        context.map_or(Self::Embedded(name), |context| Self::Existing { context })
    }
}

/// Enters the namespaces of process $1 and runs the rest there, in the same directory by its name: as an open one it
/// would not be part of the new view of the file system.
const ENTER: &str = r#"init=$1; shift
exec nsenter --target "$init" --mount --net --pid --ipc --uts -- sh -c 'cd -- "$0" && exec "$@"' "$(pwd)" "$@""#;

/// A cluster that is up.
#[derive(Clone, Debug)]
pub struct Cluster {
    layout: Layout,
    options: Options,
    init: u32,
}

impl Cluster {
    /// The cluster of this name. Fails with [`Error::NotRunning`] if it is not up.
    pub fn open(name: &ClusterName) -> Result<Self> {
        let layout = Layout::of(name);
        let alive = Lock::is_held(&layout)?;
        match State::read(&layout)? {
            Some(State { phase: Phase::Ready { .. }, init: Some(init), options, .. }) if alive => {
                Ok(Self { layout, options, init })
            }
            _ => Err(Error::NotRunning(name.to_string())),
        }
    }

    /// What it was made with; the API server's port on the host is filled in.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// An administrator's kubeconfig for programs on the host.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// An administrator's kubeconfig for programs inside, see [`Self::command`] and [`Self::enter_network`].
    pub fn kubeconfig_inside(&self) -> PathBuf {
        self.layout.kubeconfig_inside()
    }

    /// Its logs, one file for each component.
    pub fn logs(&self) -> PathBuf {
        self.layout.logs()
    }

    /// `kubectl`, `helm` and the components' programs; they run on the host as well.
    pub fn bin(&self) -> PathBuf {
        self.layout.bin()
    }

    /// A command that runs inside the cluster's namespaces, in its current directory: pod addresses, Services and cluster
    /// DNS answer, `kubectl` and `helm` are in `PATH`, and `KUBECONFIG` is set. It ends with the cluster.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", ENTER, "sh", &self.init.to_string()]).arg(program);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", node::search_path(&self.layout)));
        command.env("KUBECONFIG", self.kubeconfig_inside());
        command.env("PILOTLIGHT_CLUSTER", self.options.name.as_str());
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        command
    }

    /// Moves the calling thread, and every thread that it starts from then on, into the cluster's network, with cluster
    /// DNS as its resolver. Call it before an async runtime starts. There is no way back.
    pub fn enter_network(&self) -> Result<()> {
        let path = PathBuf::from(format!("/proc/{}/ns/net", self.init));
        let network = File::open(&path).map_err(Error::io("opening", &path))?;
        unshare(CloneFlags::CLONE_NEWNS).map_err(Error::sys("making a mount namespace"))?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .map_err(Error::sys("making mounts private"))?;
        let resolver = fs::canonicalize("/etc/resolv.conf").unwrap_or_else(|_| "/etc/resolv.conf".into());
        mounts::bind(&self.layout.resolv_conf(), &resolver)?;
        setns(network, CloneFlags::CLONE_NEWNET).map_err(Error::sys("entering the cluster's network"))
    }

    /// Gives the node images from OCI or Docker archives. Each is known by its name and tag and by `name@sha256:…`.
    pub async fn import_images(&self, archives: &[PathBuf]) -> Result<Vec<ImportedImage>> {
        let socket = Path::new("/proc").join(self.init.to_string()).join("root").join(images::CONTAINERD_SOCKET);
        images::import(&socket, archives).await
    }
}
