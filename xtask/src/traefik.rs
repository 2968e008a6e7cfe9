//! Traefik, a real gateway and ingress controller for the tests, and the Gateway API's CustomResourceDefinitions of the same version: from the Go modules that
//! `e2e/traefik` pins, once for this machine.
//!
//! It is Traefik's own command, but for lego's DNS providers, by which it could order certificates: half of the build, and not all of them can be had
//! from the module proxy. A copy of lego has `e2e/traefik/nodns` in their place.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::shell::{cache, output, program, repository, run};

/// Traefik's command.
const PACKAGE: &str = "github.com/traefik/traefik/v3/cmd/traefik";
/// What a copy of lego leaves out.
const LEFT_OUT: [&str; 3] = ["cmd", "e2e", "providers/dns"];

/// What was built.
pub(crate) struct Built {
    /// The program.
    pub(crate) program: PathBuf,
    /// A folder with the Gateway API's standard definitions.
    pub(crate) definitions: PathBuf,
}

/// The folder of the module that pins it all.
fn module() -> PathBuf {
    repository().join("e2e/traefik")
}

/// Builds it where it is not in the cache.
pub(crate) fn build() -> Result<Built> {
    let folder = cache()?.join(format!("traefik-{}", hash()?));
    let built = Built { program: folder.join("traefik"), definitions: folder.join("gateway-api") };
    if built.program.is_file() && built.definitions.is_dir() {
        return Ok(built);
    }
    eprintln!("  building Traefik, once for this machine: ten minutes on two cores");
    let scratch = folder.with_extension("building");
    clear(&scratch)?;
    std::fs::create_dir_all(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    let lego = repository().join("target/e2e/lego");
    clear(&lego)?;
    copy(&source_of("github.com/go-acme/lego/v4")?, &lego, &LEFT_OUT.map(PathBuf::from))?;
    let providers = lego.join("providers/dns");
    std::fs::create_dir_all(&providers).with_context(|| format!("making {}", providers.display()))?;
    copy_file(&module().join("nodns/dns.go"), &providers.join("dns.go"))?;
    run(go(&["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"])
        .arg(scratch.join("traefik"))
        .arg(PACKAGE))?;
    let definitions = source_of("sigs.k8s.io/gateway-api")?.join("config/crd/standard");
    copy(&definitions, &scratch.join("gateway-api"), &["kustomization.yaml".into()])?;
    clear(&folder)?;
    std::fs::rename(&scratch, &folder).with_context(|| format!("writing {}", folder.display()))?;
    Ok(built)
}

/// Puts the definitions where the tests look for them.
pub(crate) fn stage_definitions() -> Result<()> {
    let staged = repository().join("target/e2e/gateway-api");
    clear(&staged)?;
    copy(&build()?.definitions, &staged, &[])
}

/// Go, in the module.
fn go(arguments: &[&str]) -> std::process::Command {
    let mut go = program("go", arguments);
    go.current_dir(module()).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly").env_remove("GOWORK");
    go
}

/// Where the module cache has a module in the version that is pinned; fetched where it has not.
fn source_of(name: &str) -> Result<PathBuf> {
    let path = module().join("go.mod");
    let pinned = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let version = version_of(name, &pinned).with_context(|| format!("{} does not pin {name}", path.display()))?;
    // Apart from the module: there, lego stands for the copy that is about to be made.
    let fetched = output(&mut program("go", &["mod", "download", "-json", &format!("{name}@{version}")]))?;
    let fetched: serde_json::Value = serde_json::from_str(&fetched)?;
    let folder = fetched["Dir"].as_str().with_context(|| format!("`go mod download {name}` names no folder"))?;
    Ok(folder.into())
}

/// The version that a go.mod requires.
fn version_of<'a>(name: &str, pinned: &'a str) -> Option<&'a str> {
    pinned.lines().find_map(|line| {
        let mut words = line.split_whitespace().filter(|word| *word != "require");
        (words.next() == Some(name)).then(|| words.next()).flatten()
    })
}

/// Hash of everything that shapes it.
fn hash() -> Result<String> {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    add(output(&mut program("go", &["version"]))?.as_bytes());
    for file in ["go.mod", "go.sum", "nodns/dns.go"] {
        let path = module().join(file);
        add(&std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
    }
    Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

fn clear(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Copies a folder, but for what `left_out` names below it. The copies can be written to, other than the module cache's files.
fn copy(from: &Path, to: &Path, left_out: &[PathBuf]) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        if left_out.contains(&name) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        if entry.file_type()?.is_dir() {
            let below: Vec<_> =
                left_out.iter().filter_map(|path| path.strip_prefix(&name).ok()).map(Path::to_owned).collect();
            copy(&source, &target, &below)?;
        } else {
            copy_file(&source, &target)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let content = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    std::fs::write(to, content).with_context(|| format!("writing {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_pinned_and_lego_s_copy_keeps_all_but_its_providers() {
        let pinned = std::fs::read_to_string(module().join("go.mod")).unwrap();
        for name in ["github.com/go-acme/lego/v4", "sigs.k8s.io/gateway-api", "github.com/traefik/traefik/v3"] {
            assert!(version_of(name, &pinned).is_some_and(|version| version.starts_with('v')), "{name}");
        }
        assert_eq!(version_of("example.com/none", &pinned), None);
        let (from, to) = (std::env::temp_dir(), std::process::id());
        let (from, to) = (from.join(format!("lego-{to}")), from.join(format!("lego-{to}-copy")));
        for file in ["providers/dns/one/one.go", "providers/http/two.go", "cmd/three.go", "lego.go"] {
            std::fs::create_dir_all(from.join(file).parent().unwrap()).unwrap();
            std::fs::write(from.join(file), "package x").unwrap();
        }
        copy(&from, &to, &LEFT_OUT.map(PathBuf::from)).unwrap();
        let there = |file: &str| to.join(file).exists();
        assert!(there("providers/http/two.go") && there("lego.go"));
        assert!(!there("providers/dns") && !there("cmd"));
        for folder in [from, to] {
            clear(&folder).unwrap();
        }
    }
}
