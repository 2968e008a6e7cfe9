//! What comes from the distribution: the container runtime, CNI plugins and network tools. Nothing is asked of the
//! package manager when all of it is there.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::command::{describe, find_program, tail};
use crate::error::{Error, Result};
use crate::options::Runtime;
use crate::progress::Progress;

/// Programs, and the Debian package that has each.
const PROGRAMS: [(&str, &str); 8] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
];

/// Where distributions put the CNI plugins.
const CNI_DIRECTORIES: [&str; 4] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni", "/usr/lib64/cni"];

/// Where a package's service would be kept from starting.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// The directory with the `bridge` plugin.
pub(crate) fn cni_plugins() -> Option<PathBuf> {
    CNI_DIRECTORIES.iter().map(PathBuf::from).find(|dir| dir.join("bridge").is_file())
}

/// The packages that `has` and `has_cni` say are missing.
fn missing(runtimes: &[Runtime], has: impl Fn(&str) -> bool, has_cni: bool) -> Vec<&'static str> {
    let mut packages: Vec<&'static str> = PROGRAMS
        .iter()
        .copied()
        .chain(runtimes.iter().map(|runtime| (runtime.program(), runtime.program())))
        .filter(|(program, _)| !has(program))
        .map(|(_, package)| package)
        .collect();
    if !has_cni {
        packages.push("containernetworking-plugins");
    }
    packages.dedup();
    packages
}

/// Installs what is missing. Not to be cancelled midway: it would leave the package manager's state damaged.
pub(crate) async fn ensure(runtimes: &[Runtime], progress: &Progress) -> Result<()> {
    let packages = missing(runtimes, |program| find_program(program).is_some(), cni_plugins().is_some());
    if packages.is_empty() {
        return Ok(());
    }
    if find_program("apt-get").is_none() {
        return Err(Error::ProgramsMissing(packages.join(", ")));
    }
    progress.say(&format!("installing {} with apt-get", packages.join(", ")));
    let _policy = NoServices::enforce()?;
    if apt_get(&[&["install", "--yes", "--no-install-recommends"], &packages[..]].concat()).await.is_err() {
        // Most often the lists are missing or old.
        apt_get(&["update"]).await?;
        apt_get(&[&["install", "--yes", "--no-install-recommends"], &packages[..]].concat()).await?;
    }
    let still = missing(runtimes, |program| find_program(program).is_some(), cni_plugins().is_some());
    if still.is_empty() { Ok(()) } else { Err(Error::ProgramsMissing(still.join(", "))) }
}

async fn apt_get(args: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    // A group of its own: a Ctrl-C in the terminal is not for it.
    command.process_group(0);
    let line = describe(command.as_std());
    let output = command.output().await.map_err(|source| Error::Io { what: format!("starting `{line}`"), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Command { command: line, status: output.status.to_string(), output: tail(&said, 5) })
}

/// While this lives, installing a package starts no service: only the cluster's own containerd is wanted.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn enforce() -> Result<Self> {
        let path = Path::new(POLICY);
        if path.exists() {
            // Somebody has decided already.
            return Ok(Self { ours: false });
        }
        crate::layout::write(path, "#!/bin/sh\nexit 101\n")?;
        crate::layout::set_mode(path, 0o755)?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_installed_where_nothing_is_missing() {
        assert!(missing(&[Runtime::Crun], |_| true, true).is_empty());
    }

    #[test]
    fn a_package_is_named_once_and_only_the_chosen_runtimes() {
        let bare = missing(&[Runtime::Crun], |_| false, false);
        assert_eq!(
            bare,
            [
                "containerd",
                "iptables",
                "nftables",
                "iproute2",
                "util-linux",
                "mount",
                "crun",
                "containernetworking-plugins"
            ]
        );
    }
}
