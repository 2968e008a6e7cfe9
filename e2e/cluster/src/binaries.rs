//! Kubernetes, CoreDNS and Helm as programs: built from pinned Go modules, once, and kept outside the tree under the
//! hash of everything that shapes them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::command::{output_of, tail};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// The version that the API server and kubectl report.
pub const KUBERNETES_VERSION: &str = "v1.35.4";
const HELM_VERSION: &str = "v3.22.0";
const COREDNS_VERSION: &str = "v1.15.0";

/// The modules' directory, in this crate.
const MODULES: &str = env!("CARGO_MANIFEST_DIR");

/// How often a build says how far it is.
const BUILD_PROGRESS: Duration = Duration::from_secs(10);

/// A program to build.
struct GoProgram {
    /// The directory of its module, and its file's name.
    name: &'static str,
    package: &'static str,
    link_flags: String,
    /// The names that it goes by; its own if empty.
    links: &'static [&'static str],
}

fn programs() -> Vec<GoProgram> {
    let set = |package: &str, values: &[(&str, &str)]| -> String {
        values.iter().map(|(name, value)| format!(" -X {package}.{name}={value}")).collect()
    };
    let kubernetes = [
        ("gitVersion", KUBERNETES_VERSION),
        ("gitMajor", "1"),
        ("gitMinor", "35"),
        ("gitTreeState", "clean"),
        // A fixed date: the same inputs give the same program.
        ("buildDate", "2026-01-01T00:00:00Z"),
    ];
    vec![
        GoProgram {
            name: "kubernetes",
            package: ".",
            link_flags: set("k8s.io/component-base/version", &kubernetes)
                + &set("k8s.io/client-go/pkg/version", &kubernetes),
            links: &[
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kube-proxy",
                "kubelet",
                "kubectl",
                "etcd",
            ],
        },
        GoProgram {
            name: "coredns",
            package: ".",
            link_flags: set("github.com/coredns/coredns/coremain", &[("GitCommit", COREDNS_VERSION)]),
            links: &[],
        },
        GoProgram {
            name: "helm",
            package: "helm.sh/helm/v3/cmd/helm",
            link_flags: set(
                "helm.sh/helm/v3/internal/version",
                &[("version", HELM_VERSION), ("gitTreeState", "clean")],
            ),
            links: &[],
        },
        GoProgram { name: "pause", package: ".", link_flags: String::new(), links: &[] },
    ]
}

/// Builds what is not in the cache, and returns every name with the program that it leads to.
pub async fn build(progress: &Progress) -> Result<Vec<(String, PathBuf)>> {
    let programs = programs();
    let go = go_version(&programs).await?;
    let mut found = Vec::new();
    for program in &programs {
        let path = program.ensure(&go, progress).await?;
        if program.links.is_empty() {
            found.push((program.name.to_owned(), path));
        } else {
            found.extend(program.links.iter().map(|link| ((*link).to_owned(), path.clone())));
        }
    }
    Ok(found)
}

/// `${XDG_CACHE_HOME:-~/.cache}/pilotlight`.
pub fn cache_directory() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(|| "/var/cache".into())
        .join("pilotlight")
}

/// What `go version` says, checked against what the modules ask for.
async fn go_version(programs: &[GoProgram]) -> Result<String> {
    let mut needed = String::new();
    for program in programs {
        let path = program.directory().join("go.mod");
        let text = fs::read_to_string(&path).map_err(Error::io("reading", &path))?;
        let asked = text.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or_default();
        if version_numbers(asked) > version_numbers(&needed) {
            needed = asked.to_owned();
        }
    }
    let mut command = Command::new("go");
    command.arg("version").current_dir(MODULES);
    match output_of(command).await {
        Ok(version) => check_go(&needed, version.trim()).map(|()| version),
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Err(Error::GoMissing { needed }),
        Err(error) => Err(error),
    }
}

/// Whether `go version` reports at least `needed`. One from 1.21 on fetches a newer toolchain when a module asks for it,
/// unless told not to.
fn check_go(needed: &str, version: &str) -> Result<()> {
    let found = version.split_whitespace().find_map(|word| word.strip_prefix("go1")).map(|rest| format!("1{rest}"));
    let found = found.unwrap_or_default();
    let fetches = std::env::var("GOTOOLCHAIN").unwrap_or_default() != "local";
    let enough = version_numbers(&found) >= version_numbers(needed);
    if enough || (fetches && version_numbers(&found) >= vec![1, 21]) {
        Ok(())
    } else {
        Err(Error::GoTooOld { needed: needed.to_owned(), found })
    }
}

fn version_numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

impl GoProgram {
    fn directory(&self) -> PathBuf {
        Path::new(MODULES).join(self.name)
    }

    fn build_flags(&self) -> Vec<String> {
        vec!["-trimpath".to_owned(), "-ldflags".to_owned(), format!("-s -w{}", self.link_flags)]
    }

    /// The hash of everything that shapes the program.
    fn hash(&self, go: &str) -> Result<String> {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        add(go.as_bytes());
        add(self.package.as_bytes());
        for flag in self.build_flags() {
            add(flag.as_bytes());
        }
        let dir = self.directory();
        let mut files = Vec::new();
        for entry in fs::read_dir(&dir).map_err(Error::io("reading", &dir))? {
            let path = entry.map_err(Error::io("reading", &dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".go") || name == "go.mod" || name == "go.sum" {
                files.push((name, path));
            }
        }
        files.sort();
        for (name, path) in files {
            add(name.as_bytes());
            add(&fs::read(&path).map_err(Error::io("reading", &path))?);
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The program, from the cache or built.
    async fn ensure(&self, go: &str, progress: &Progress) -> Result<PathBuf> {
        let cache = cache_directory();
        let path = cache.join(self.hash(go)?).join(self.name);
        if path.is_file() {
            return Ok(path);
        }
        fs::create_dir_all(&cache).map_err(Error::io("creating", &cache))?;
        // On the same file system as its place, and gone if the build does not end well.
        let scratch = tempfile::Builder::new().prefix("building-").tempdir_in(&cache);
        let scratch = scratch.map_err(Error::io("creating a directory in", &cache))?;
        let built = scratch.path().join(self.name);
        let began = Instant::now();
        self.build(&built, scratch.path(), progress).await?;
        let parent = path.parent().expect("it was joined from two parts");
        fs::create_dir_all(parent).map_err(Error::io("creating", parent))?;
        fs::rename(&built, &path).map_err(Error::io("moving into place", &path))?;
        progress.done(&format!("{} is built", self.name), began.elapsed());
        Ok(path)
    }

    fn go(&self, args: &[String], scratch: &Path) -> Command {
        let mut command = Command::new("go");
        command.args(args).current_dir(self.directory()).stdin(Stdio::null());
        command.env("CGO_ENABLED", "0").env("GOTMPDIR", scratch).env("GOFLAGS", "-mod=readonly").env_remove("GOWORK");
        command
    }

    async fn build(&self, target: &Path, scratch: &Path, progress: &Progress) -> Result<()> {
        progress.say(&format!("fetching the modules of {}", self.name));
        let list = ["list", "-deps", self.package].map(str::to_owned);
        let total = output_of(self.go(&list, scratch)).await?.lines().count();

        let mut args = vec!["build".to_owned(), "-v".to_owned(), "-o".to_owned(), target.display().to_string()];
        args.extend(self.build_flags());
        args.push(self.package.to_owned());
        let mut command = self.go(&args, scratch);
        // A group of its own, so that the compilers end with it.
        let mut child = command
            .process_group(0)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Io { what: "starting go build".to_owned(), source })?;
        let group = Group(child.id());
        let mut lines = BufReader::new(child.stderr.take().expect("stderr was piped just above")).lines();

        let mut said = String::new();
        let mut compiled = 0;
        let mut tick = tokio::time::interval(BUILD_PROGRESS);
        loop {
            tokio::select! {
                _ = tick.tick() => progress.say(&format!(
                    "building {}: {compiled} of at most {total} packages compiled", self.name
                )),
                line = lines.next_line() => match line {
                    Ok(Some(line)) => { compiled += 1; said.push_str(&line); said.push('\n'); }
                    _ => break,
                }
            }
        }
        let status =
            child.wait().await.map_err(|source| Error::Io { what: "waiting for go build".to_owned(), source })?;
        group.ended();
        if status.success() {
            return Ok(());
        }
        let command = format!("go build {} (in {})", self.package, self.directory().display());
        Err(Error::Command { command, status: status.to_string(), output: tail(&said, 8) })
    }
}

/// A process group that is killed when this is dropped before it ended.
struct Group(Option<u32>);

impl Group {
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_not_by_letter() {
        assert!(version_numbers("1.9") < version_numbers("1.26.0"));
        assert!(version_numbers("1.26.8") > version_numbers("1.26"));
    }

    #[test]
    fn an_ancient_go_is_named_with_the_remedy() {
        check_go("1.26.0", "go version go1.26.8 linux/amd64").unwrap();
        let error = check_go("1.26.0", "go version go1.19.3 linux/amd64").unwrap_err().to_string();
        assert!(error.contains("1.26.0") && error.contains("1.19.3") && error.contains("go.dev/dl"), "{error}");
        let error = Error::GoMissing { needed: "1.26.0".to_owned() }.to_string();
        assert!(error.contains("1.26.0") && error.contains("go.dev/dl"), "{error}");
    }

    #[test]
    fn the_hash_follows_the_toolchain_and_the_flags() {
        let [kubernetes, coredns, ..] = &programs()[..] else { panic!("two at least") };
        assert_ne!(kubernetes.hash("go1").unwrap(), kubernetes.hash("go2").unwrap());
        assert_ne!(kubernetes.hash("go1").unwrap(), coredns.hash("go1").unwrap());
        assert_eq!(kubernetes.hash("go1").unwrap(), kubernetes.hash("go1").unwrap());
    }
}
