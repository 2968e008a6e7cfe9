//! What the cluster's processes see of the file system: the host's, except that every directory and sysctl that a
//! component would change is the cluster's own. Nothing here reaches the host, because the mount namespace is private
//! and ends with its processes, whatever way they end.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Error, Result};
use crate::layout::{Layout, write};
use crate::options::Runtime;

/// Sysctls without a namespace that kubelet sets, with the values it wants: it finds them set, in files that only look
/// like the kernel's.
const KERNEL_TUNABLES: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Components whose directory below `/var/lib` is the cluster's own.
const OWN_IN_VAR_LIB: [&str; 3] = ["kubelet", "containerd", "cni"];

/// Where the host's `/var/lib` is inside.
const HOST_VAR_LIB: &str = "/run/host/var-lib";

/// Sets up the mount namespace that this process is in, which must be a private one.
pub(crate) fn set_up(layout: &Layout, runtimes: &[Runtime]) -> Result<()> {
    own_proc()?;
    own_kernel_tunables(layout)?;
    own_run()?;
    own_var_lib(layout)?;
    let logs = layout.data("log");
    fs::create_dir_all(&logs).map_err(Error::io("creating", &logs))?;
    bind(&logs, Path::new("/var/log"))?;
    bind_resolv_conf(layout)?;
    if runtimes.contains(&Runtime::Crun) && Path::new("/sys/fs/cgroup/unified").exists() {
        // crun refuses a host that mixes both cgroup versions; without this mount it sees version 1 alone.
        umount2("/sys/fs/cgroup/unified", MntFlags::MNT_DETACH)
            .map_err(Error::sys("unmounting /sys/fs/cgroup/unified"))?;
    }
    Ok(())
}

/// A /proc that shows the cluster's processes.
fn own_proc() -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).map_err(Error::sys("mounting /proc"))
}

fn own_kernel_tunables(layout: &Layout) -> Result<()> {
    for (name, value) in KERNEL_TUNABLES {
        let target = Path::new("/proc/sys").join(name);
        if !target.exists() {
            continue;
        }
        let file = layout.config().join("sysctl").join(name);
        write(&file, format!("{value}\n"))?;
        bind(&file, &target)?;
    }
    Ok(())
}

/// A /run of its own: sockets, locks and network namespaces of containers. The host's `/var/lib` stays reachable in it.
fn own_run() -> Result<()> {
    let host = PathBuf::from("/var/lib");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755"))
        .map_err(Error::sys("mounting /run"))?;
    let inside = Path::new(HOST_VAR_LIB);
    fs::create_dir_all(inside).map_err(Error::io("creating", inside))?;
    mount(Some(&host), inside, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(Error::sys("binding /var/lib"))
}

/// A /var/lib in which the components' directories are the cluster's own and all else leads to the host's. Mounting
/// over single directories would need them to exist on the host.
fn own_var_lib(layout: &Layout) -> Result<()> {
    mount(Some("tmpfs"), "/var/lib", Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755"))
        .map_err(Error::sys("mounting /var/lib"))?;
    let host = Path::new(HOST_VAR_LIB);
    for entry in fs::read_dir(host).map_err(Error::io("reading", host))? {
        let name = entry.map_err(Error::io("reading", host))?.file_name();
        if OWN_IN_VAR_LIB.iter().any(|own| name == **own) {
            continue;
        }
        let link = Path::new("/var/lib").join(&name);
        std::os::unix::fs::symlink(host.join(&name), &link).map_err(Error::io("linking", &link))?;
    }
    for own in OWN_IN_VAR_LIB {
        let data = layout.data(own);
        fs::create_dir_all(&data).map_err(Error::io("creating", &data))?;
        let target = Path::new("/var/lib").join(own);
        fs::create_dir(&target).map_err(Error::io("creating", &target))?;
        bind(&data, &target)?;
    }
    Ok(())
}

/// Name resolution as pods have it. Where the host's file is a link into /run, that link leads into the cluster's own
/// /run, where the file is simply made.
pub(crate) fn bind_resolv_conf(layout: &Layout) -> Result<()> {
    let path = Path::new("/etc/resolv.conf");
    if path.exists() {
        return bind(&layout.resolv_conf(), path);
    }
    let link = fs::read_link(path).map_err(Error::io("reading", path))?;
    let target = Path::new("/etc").join(link);
    let content = fs::read(layout.resolv_conf()).map_err(Error::io("reading", &layout.resolv_conf()))?;
    write(&target, content)
}

/// Makes `source` appear at `target`.
pub(crate) fn bind(source: &Path, target: &Path) -> Result<()> {
    let what = format!("binding {} to {}", source.display(), target.display());
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(Error::sys(what))
}
