//! Small root file systems for examples whose language needs an interpreter: files of the distribution, without a base image.
//!
//! Each function leaves the folder as it is when it has what is asked for already, and returns words that tell its content
//! from any other.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell::{output, program, run};

/// Fails unless a program is in `PATH`; as root on Debian it is installed first.
pub(crate) fn require(name: &str, package: &str) -> Result<()> {
    if find(name).is_some() {
        return Ok(());
    }
    if find("apt-get").is_none() || std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() != 0) {
        bail!("`{name}` is needed and not in PATH; install the package {package} (Debian: apt-get install {package})");
    }
    eprintln!("  installing the package {package}");
    with_fresh_lists(|| {
        let mut install = program("apt-get", &["install", "--yes", "--quiet", "--no-install-recommends"]);
        install.args(["-o", "DPkg::Lock::Timeout=120", package]).env("DEBIAN_FRONTEND", "noninteractive");
        output(&mut install).with_context(|| format!("`{name}` is needed"))
    })?;
    Ok(())
}

/// Does something with apt's package lists; where that fails, once more after they were fetched anew. Most often they are missing
/// or old, as on a fresh machine.
fn with_fresh_lists<T>(work: impl Fn() -> Result<T>) -> Result<T> {
    work().or_else(|_| {
        output(&mut program("apt-get", &["update", "--quiet"]))?;
        work()
    })
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

/// Debian's Python with its standard library and the C library: five packages, unpacked.
pub(crate) fn python(folder: &Path) -> Result<String> {
    require("dpkg-deb", "dpkg")?;
    let interpreter = with_fresh_lists(python_package)?;
    let version =
        interpreter.strip_suffix("-minimal").context("the interpreter's package has another name than expected")?;
    let packages = [
        interpreter.clone(),
        format!("lib{version}-minimal"),
        format!("lib{version}-stdlib"),
        "libc6".to_owned(),
        "libexpat1".to_owned(),
        "zlib1g".to_owned(),
    ];
    let key = with_fresh_lists(|| candidates(&packages))?;
    fill(folder, &key, |empty| {
        let downloads = empty.with_extension("debs");
        // What a run that was cut off left there may be of other versions.
        let _ = std::fs::remove_dir_all(&downloads);
        std::fs::create_dir_all(&downloads)?;
        // Fails where the lists name versions that the mirror has no longer.
        with_fresh_lists(|| {
            let mut download = program("apt-get", &["download", "--quiet"]);
            output(download.args(&packages).current_dir(&downloads))
        })?;
        for file in std::fs::read_dir(&downloads)? {
            run(Command::new("dpkg-deb").arg("--extract").arg(file?.path()).arg(empty))?;
        }
        std::fs::remove_dir_all(&downloads)?;
        symlink(version, empty.join("usr/bin/python3"))?;
        merge(empty)
    })?;
    Ok(key)
}

/// Name of the package that Debian's default Python is in, such as `python3.11-minimal`.
fn python_package() -> Result<String> {
    let depends = output(&mut program("apt-cache", &["depends", "--important", "python3-minimal"]))?;
    let package = depends.lines().filter_map(|line| line.trim().split_once(": ")).map(|(_, name)| name.trim());
    let found = package.into_iter().find(|name| name.starts_with("python3.") && name.ends_with("-minimal"));
    Ok(found.context("apt knows no package python3-minimal")?.to_owned())
}

/// What apt would download: package names and versions.
fn candidates(packages: &[String]) -> Result<String> {
    let policy = output(program("apt-cache", &["policy"]).args(packages))?;
    let versions: Vec<&str> = policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
        .collect();
    if versions.len() != packages.len() {
        bail!("apt can't download each of {}", packages.join(", "));
    }
    Ok(format!("{} {}", packages.join(" "), versions.join(" ")))
}

/// Releases in which /lib is a link to /usr/lib ship no file below /lib, and leave the link to another package.
fn merge(root: &Path) -> Result<()> {
    for name in ["lib", "lib64"] {
        if !root.join(name).exists() && root.join("usr").join(name).exists() {
            symlink(Path::new("usr").join(name), root.join(name))?;
        }
    }
    Ok(())
}

/// The machine's Node.js, and the shared libraries that its loader would use.
pub(crate) fn node(folder: &Path) -> Result<String> {
    require("node", "nodejs")?;
    let binary = find("node").context("node was installed, but is not in PATH")?.canonicalize()?;
    let libraries = libraries(&output(Command::new("ldd").arg(&binary))?);
    let mut key = String::new();
    for file in std::iter::once(&binary).chain(&libraries) {
        let metadata = file.metadata().with_context(|| format!("{} is missing", file.display()))?;
        key.push_str(&format!("{} {} {}\n", file.display(), metadata.len(), metadata.mtime()));
    }
    fill(folder, &key, |empty| {
        place(&binary, &empty.join("usr/bin/node"))?;
        for library in &libraries {
            // The content at the name that the loader looks for, whatever links lead there on this machine.
            let name = library.strip_prefix("/").context("ldd names a library without its folder")?;
            place(library, &empty.join(name))?;
        }
        Ok(())
    })?;
    Ok(key)
}

/// Paths in what `ldd` prints: `name => /path (address)`, and the loader as `/path (address)`.
fn libraries(printed: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let (_, path) = line.split_once(" => ").unwrap_or(("", line));
        let path = path.trim().split(' ').next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    printed.lines().filter_map(path).collect()
}

fn place(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a file has a folder")?;
    std::fs::create_dir_all(folder)?;
    std::fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Makes the folder anew with `work`, unless it was made with the same key. A folder that was only begun is never taken for
/// finished: the key is written last.
fn fill(folder: &Path, key: &str, work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let marker = folder.with_extension("key");
    if std::fs::read_to_string(&marker).is_ok_and(|old| old == key) {
        return Ok(());
    }
    let _ = std::fs::remove_file(&marker);
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    work(folder)?;
    std::fs::write(&marker, key)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ldd_prints_is_understood() {
        let printed = "\tlinux-vdso.so.1 (0x1)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        let expected = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(libraries(printed), expected);
    }
}
