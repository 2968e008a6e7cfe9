//! The cluster's branch of the cgroup hierarchies, `/pilotlight-<name>`: `kubepods` below it is kubelet's, `node` holds
//! the cluster's own processes. An empty branch means that no process of the cluster is left, which is how removal
//! knows that it may go on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::layout::Layout;

const MOUNT: &str = "/sys/fs/cgroup";

/// Which cgroup version kubelet and the runtime will use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    /// A directory for each controller. A host that mounts version 2 beside it counts as this.
    V1,
    /// One hierarchy.
    V2,
}

impl CgroupVersion {
    /// Looks at the host.
    pub fn detect() -> Self {
        if Path::new(MOUNT).join("cgroup.controllers").exists() { Self::V2 } else { Self::V1 }
    }
}

/// The roots of all mounted hierarchies.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mount = Path::new(MOUNT);
    if CgroupVersion::detect() == CgroupVersion::V2 {
        return Ok(vec![mount.to_owned()]);
    }
    let mut roots = Vec::new();
    for entry in fs::read_dir(mount).map_err(Error::io("reading", mount))? {
        let path = entry.map_err(Error::io("reading", mount))?.path();
        // Links such as cpu,cpuacct lead to a hierarchy that is listed itself.
        let real_dir = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        if real_dir && path.join("cgroup.procs").exists() {
            roots.push(path);
        }
    }
    Ok(roots)
}

fn branch(root: &Path, layout: &Layout) -> PathBuf {
    root.join(layout.cgroup().trim_start_matches('/'))
}

/// Makes the branch in every hierarchy. kubelet insists that its root exists.
pub(crate) fn create(layout: &Layout) -> Result<()> {
    let version = CgroupVersion::detect();
    for root in hierarchies()? {
        let dir = branch(&root, layout);
        if version == CgroupVersion::V2 {
            enable_controllers(&root)?;
        }
        make(&dir)?;
        if version == CgroupVersion::V2 {
            enable_controllers(&dir)?;
        } else {
            inherit_cpuset(&root, &dir)?;
            grant_cpu(&dir)?;
        }
        make(&dir.join("node"))?;
    }
    Ok(())
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::io("creating the cgroup", dir))
}

/// Lets children have what this cgroup has. On a host with systemd most are enabled already.
fn enable_controllers(dir: &Path) -> Result<()> {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).map_err(Error::io("reading", dir))?;
    let control = dir.join("cgroup.subtree_control");
    for controller in available.split_whitespace() {
        // One at a time: a controller that the kernel keeps back must not take the others with it.
        let _ = fs::write(&control, format!("+{controller}"));
    }
    let enabled = fs::read_to_string(&control).map_err(Error::io("reading", &control))?;
    for needed in ["cpu", "memory", "pids"] {
        if !enabled.split_whitespace().any(|controller| controller == needed) {
            return Err(Error::Internal(format!(
                "the cgroup controller {needed} cannot be enabled in {}: start the host's kernel with it, or give the container that this runs in --cgroupns=host --privileged",
                dir.display()
            )));
        }
    }
    Ok(())
}

/// A cpuset begins empty and then takes no process.
fn inherit_cpuset(parent: &Path, dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let source = parent.join(file);
        if source.exists() {
            let value = fs::read_to_string(&source).map_err(Error::io("reading", &source))?;
            let target = dir.join(file);
            fs::write(&target, value).map_err(Error::io("writing", &target))?;
        }
    }
    Ok(())
}

/// Pods together weigh as much as one process for each CPU; the branch competes with single processes of the root.
fn grant_cpu(dir: &Path) -> Result<()> {
    let shares = dir.join("cpu.shares");
    if shares.exists() {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        fs::write(&shares, (1024 * cpus).to_string()).map_err(Error::io("writing", &shares))?;
    }
    Ok(())
}

/// Puts this process, and so all it starts, into `node`: with version 1 only of the `pids` hierarchy, so that CPU and
/// memory are accounted where the user's shell is.
pub(crate) fn join(layout: &Layout) -> Result<()> {
    let version = CgroupVersion::detect();
    for root in hierarchies()? {
        if version == CgroupVersion::V1 && !root.ends_with("pids") {
            continue;
        }
        let procs = branch(&root, layout).join("node/cgroup.procs");
        fs::write(&procs, "0").map_err(Error::io("joining", &procs))?;
    }
    Ok(())
}

/// Removes the branch everywhere, waiting for the last processes in it to end. That there is none is success.
pub(crate) async fn remove(layout: &Layout, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    for root in hierarchies()? {
        let dir = branch(&root, layout);
        while let Err(error) = remove_tree(&dir) {
            if Instant::now() >= deadline {
                return Err(Error::io("removing the cgroup", &dir)(error));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// The kernel's files in a cgroup cannot be removed, only directories, deepest first.
fn remove_tree(dir: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
