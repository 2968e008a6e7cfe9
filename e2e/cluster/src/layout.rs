//! Where a cluster keeps its files. All of them are below one directory, so that removing that directory removes the
//! cluster; inside the cluster's mount namespace the same paths are valid.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::options::ClusterName;

/// The parent of all clusters' directories.
pub(crate) const STATE_ROOT: &str = "/var/lib/pilotlight";

/// The paths of one cluster.
#[derive(Clone, Debug)]
pub struct Layout {
    name: ClusterName,
    root: PathBuf,
}

impl Layout {
    /// The paths of the cluster with this name.
    pub fn of(name: &ClusterName) -> Self {
        Self { name: name.clone(), root: Path::new(STATE_ROOT).join(name.as_str()) }
    }

    /// Which cluster.
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// The directory that holds all of it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What is known about the cluster, see [`crate::state::State`].
    pub fn state_file(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// What its processes were told.
    pub(crate) fn plan(&self) -> PathBuf {
        self.root.join("plan.json")
    }

    /// The copy of the executable that supervises this cluster: a rebuild does not touch it.
    pub fn executable(&self) -> PathBuf {
        self.root.join("pilotlight-cluster")
    }

    /// One log file for each component.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Links named as the components and tools (`kubectl`, `helm`), for `PATH`.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// Keys and certificates.
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// Configuration files of the components.
    pub fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    /// Administrator's access from the host, through the loopback port.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// Administrator's access from inside the cluster's network.
    pub fn kubeconfig_inside(&self) -> PathBuf {
        self.root.join("kubeconfig-inside")
    }

    /// Name resolution as pods have it.
    pub fn resolv_conf(&self) -> PathBuf {
        self.config().join("resolv.conf")
    }

    /// Data that appears as `/var/lib/<component>`, `/var/log` … inside.
    pub fn data(&self, component: &str) -> PathBuf {
        self.root.join("data").join(component)
    }

    /// The cluster's own branch of the cgroup hierarchies, as an absolute cgroup path.
    pub fn cgroup(&self) -> String {
        format!("/pilotlight-{}", self.name)
    }

    /// Makes every directory.
    pub(crate) fn create(&self) -> Result<()> {
        for dir in [self.root.clone(), self.logs(), self.bin(), self.pki(), self.config()] {
            fs::create_dir_all(&dir).map_err(Error::io("creating", &dir))?;
        }
        // Keys are in here, and the kubeconfig is an administrator's.
        set_mode(&self.root, 0o700)
    }

    /// Removes what is in the directory and makes it anew; the directory itself, which may be locked, stays.
    pub(crate) fn clear(&self) -> Result<()> {
        self.remove_entries(|_| false)?;
        self.create()
    }

    /// Removes everything but the logs.
    pub(crate) fn remove_all_but_logs(&self) -> Result<()> {
        self.remove_entries(|name| name == "logs")
    }

    fn remove_entries(&self, keep: impl Fn(&std::ffi::OsStr) -> bool) -> Result<()> {
        for entry in fs::read_dir(&self.root).map_err(Error::io("reading", &self.root))? {
            let entry = entry.map_err(Error::io("reading", &self.root))?;
            if !keep(&entry.file_name()) {
                remove_entry(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes every file, and the parent if this was the last cluster. That there is nothing is success.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", &self.root)(error)),
            _ => {
                // Fails while other clusters exist, as it should.
                let _ = fs::remove_dir(STATE_ROOT);
                Ok(())
            }
        }
    }
}

/// Removes a file or a directory with all that is in it.
fn remove_entry(path: &Path) -> Result<()> {
    let is_dir = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    let removed = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(Error::io("removing", path))
}

/// Sets permission bits.
pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io("setting permissions of", path))
}

/// Writes a whole file, making its directory where needed.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("creating", parent))?;
    }
    fs::write(path, content).map_err(Error::io("writing", path))
}
