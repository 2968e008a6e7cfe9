//! What is known about a cluster from outside: a small file that its supervisor replaces whole, and a lock on the
//! cluster's directory that the supervisor holds as long as it lives. The lock, not the file, says whether it lives.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::layout::{Layout, write};
use crate::options::Options;

/// How far a cluster is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "phase")]
pub enum Phase {
    /// On its way up.
    Starting,
    /// Pods run, names resolve.
    Ready {
        /// Seconds that it took.
        seconds: f64,
    },
    /// A component ended, and with it the cluster.
    Failed {
        /// Which one, how, and its last words.
        reason: String,
    },
}

/// The contents of the state file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// What was asked for, with the API server's port filled in.
    pub options: Options,
    /// How far it is.
    #[serde(flatten)]
    pub phase: Phase,
    /// The supervising process.
    pub supervisor: u32,
    /// The first process of the cluster's namespaces, once there is one.
    pub init: Option<u32>,
}

impl State {
    /// Reads the state of a cluster; none if there is no such file.
    pub fn read(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.state_file();
        let text = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(Error::NotRoot),
            other => other.map_err(Error::io("reading", &path))?,
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| Error::Internal(format!("{} is damaged ({error}): remove it with `down`", path.display())))
    }

    /// Replaces the state file.
    pub(crate) fn write(&self, layout: &Layout) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::Internal(error.to_string()))?;
        let path = layout.state_file();
        let next = path.with_extension("json.next");
        write(&next, text)?;
        fs::rename(&next, &path).map_err(Error::io("replacing", &path))
    }
}

/// The lock on a cluster's directory; let go when dropped, and by the kernel when its holder dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _held: Flock<File>,
}

impl Lock {
    /// Takes the lock, making the directory where needed. `None` if somebody else still has it after `patience`.
    pub(crate) async fn take(layout: &Layout, patience: Duration) -> Result<Option<Self>> {
        let deadline = Instant::now() + patience;
        loop {
            layout.create()?;
            if let Some(lock) = Self::try_take(layout)? {
                return Ok(Some(lock));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether somebody holds the lock.
    pub(crate) fn is_held(layout: &Layout) -> Result<bool> {
        if !layout.root().exists() {
            return Ok(false);
        }
        Ok(Self::try_take(layout)?.is_none())
    }

    fn try_take(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.root();
        let Ok(file) = File::open(path) else { return Ok(None) };
        let opened = file.metadata().map_err(Error::io("reading", path))?.ino();
        let held = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => held,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(Error::sys(format!("locking {}", path.display()))(errno)),
        };
        // Its last holder may have removed the directory between the opening and the locking.
        let current = fs::metadata(path).map(|meta| meta.ino()).ok();
        Ok((current == Some(opened)).then_some(Self { _held: held }))
    }
}
