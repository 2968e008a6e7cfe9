//! `cargo xtask images`: every image of the project, without Docker and without a registry.
//!
//! The Containerfile beside each component says what its image is; this puts the files that it copies into a folder of their own
//! and has buildah build it. What holds: binaries are static (checked, not assumed), nothing of the tree gets into
//! an image by accident, and an archive that is up to date is left alone.

mod elf;
mod recipe;
mod rootfs;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use self::recipe::{PILOT, Recipe, Source, known, select};
pub(crate) use self::rootfs::require;
use crate::shell::{Steps, cargo, output, program, repository, run};
use crate::traefik;

/// Tag of every image that is built here.
const TAG: &str = "dev";
/// Registry part of every image that is built here.
const REGISTRY: &str = "pilotlight.dev";

/// An image that was built.
#[derive(Debug)]
pub(crate) struct Image {
    /// As a pod names it: `pilotlight.dev/operator:dev`.
    pub(crate) reference: String,
    /// A Docker archive: `ctr images import`, `docker load`, `kind load image-archive` and `k3s ctr images import` all take it.
    pub(crate) archive: PathBuf,
}

/// Builds the named images, or all where none is named, and returns them in the order of the recipes. Link-time optimization is left
/// out: see [`compile`].
pub(crate) fn build(steps: &mut Steps, only: &[String]) -> Result<Vec<Image>> {
    build_as(steps, only, false)
}

/// Names of all images, those that only tests need included.
pub(crate) fn with_those_for_tests() -> Vec<String> {
    known().map(|recipe| recipe.name.to_owned()).collect()
}

/// Builds, and prints what was built.
pub(crate) fn command(steps: &mut Steps, only: &[String], optimize: bool) -> Result<()> {
    for image in build_as(steps, only, optimize)? {
        println!("{}\t{}", image.reference, image.archive.display());
    }
    Ok(())
}

fn build_as(steps: &mut Steps, only: &[String], optimize: bool) -> Result<Vec<Image>> {
    let recipes = select(only)?;
    require("buildah", "buildah")?;
    let _lock = lock(steps)?;
    if recipes.iter().any(|recipe| recipe.source.package().is_some()) {
        ensure_small_target(steps)?;
        // All of them, whichever are asked for: what they share is compiled with the features that the chosen ones need together, so that
        // each choice would compile it anew.
        let all = select(&[])?;
        let packages: Vec<&str> = all.iter().filter_map(|recipe| recipe.source.package()).collect();
        steps.step(&format!("static binaries: {}", packages.join(", ")), || {
            compile(&packages, &static_target(), optimize)
        })?;
    }
    let mut images = Vec::new();
    for recipe in recipes {
        let built = steps.step(&format!("image {}", recipe.reference()), || recipe.build())?;
        images.push(built);
    }
    // Half-built images and layers that nothing refers to any more.
    let storage = folder().join("storage");
    if storage.exists() {
        output(&mut buildah(&["rmi", "--all", "--force"]))?;
    }
    Ok(images)
}

/// Waits until no other process builds images here. The lock ends with the file, also when the process is killed.
fn lock(steps: &mut Steps) -> Result<File> {
    let path = folder().join("lock");
    std::fs::create_dir_all(folder()).with_context(|| format!("making {}", folder().display()))?;
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    if file.try_lock().is_err() {
        steps.step("waiting for another `cargo xtask images`", || Ok(file.lock()?))?;
    }
    Ok(file)
}

/// Everything about images that is built and kept.
fn folder() -> PathBuf {
    repository().join("target/images")
}

/// Cargo's target folder for static binaries: their flags differ from those of ordinary builds, and in one folder each would
/// throw away the other's work.
fn static_target() -> PathBuf {
    folder().join("build")
}

/// The target that this machine compiles for. Naming it keeps the flags away from build scripts and procedural macros.
fn host() -> Result<String> {
    let version = output(&mut program("rustc", &["--version", "--verbose"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc --version --verbose` names no host")?.to_owned())
}

/// The target that the pilot is compiled for where the toolchain has it: a third of the size and memory.
fn small_target(host: &str) -> String {
    host.replace("-gnu", "-musl")
}

fn has_target(target: &str) -> Result<bool> {
    let libraries = output(&mut program("rustc", &["--print", "target-libdir", "--target", target]))?;
    Ok(Path::new(libraries.trim()).exists())
}

/// Has rustup install the pilot's target where it is missing. Without it, the pilot is compiled like all else, and uses more than 1 MiB.
fn ensure_small_target(steps: &mut Steps) -> Result<()> {
    let small = small_target(&host()?);
    if has_target(&small)? {
        return Ok(());
    }
    let added =
        steps.step(&format!("rustup target add {small}"), || run(&mut program("rustup", &["target", "add", &small])));
    if let Err(error) = added {
        eprintln!("  the beacon is compiled without it, and takes three times the memory: {error:#}");
    }
    Ok(())
}

/// How a package is compiled: its profile in `Cargo.toml`, and the target.
struct Build {
    profile: &'static str,
    target: String,
}

impl Build {
    fn of(package: &str) -> Result<Self> {
        let host = host()?;
        if package != PILOT {
            return Ok(Self { profile: "release", target: host });
        }
        let small = small_target(&host);
        let target = if has_target(&small)? { small } else { host };
        Ok(Self { profile: "pilot", target })
    }

    /// Where the program is, below Cargo's target folder.
    fn program(&self, target: &Path, package: &str) -> PathBuf {
        target.join(&self.target).join(self.profile).join(package)
    }
}

/// Compiles packages. Link-time optimization is for what is published: it gains some percent, and takes minutes at each change.
fn compile(packages: &[&str], target: &Path, optimize: bool) -> Result<()> {
    let (pilot, others): (Vec<&str>, Vec<&str>) = packages.iter().partition(|package| **package == PILOT);
    for packages in [pilot, others] {
        let Some(first) = packages.first() else { continue };
        let how = Build::of(first)?;
        let mut build =
            cargo(&["build", "--profile", how.profile, "--locked", "--target", &how.target, "--target-dir"]);
        build.arg(target).env("RUSTFLAGS", "-C target-feature=+crt-static");
        if optimize && how.profile == "release" {
            build.env("CARGO_PROFILE_RELEASE_LTO", "thin").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "4");
        }
        for package in packages {
            build.args(["--package", package]);
        }
        run(&mut build)?;
    }
    Ok(())
}

/// A package's program, compiled as the images' are, and beside them: what they share is compiled once.
pub(crate) fn beside(package: &str) -> Result<PathBuf> {
    compile(&[package], &static_target(), false)?;
    Ok(Build::of(package)?.program(&static_target(), package))
}

/// A package's program as its published image has it. It has a folder of its own: in one folder with the images for tests, each would
/// throw away the other's work.
pub(crate) fn published(package: &str) -> Result<PathBuf> {
    let target = folder().join("published");
    compile(&[package], &target, true)?;
    Ok(Build::of(package)?.program(&target, package))
}

impl Recipe {
    fn reference(&self) -> String {
        format!("{REGISTRY}/{}:{TAG}", self.name)
    }

    fn build(&self) -> Result<Image> {
        let folder = folder();
        let context = folder.join("context").join(self.name);
        let archive = folder.join(format!("{}.tar", self.name));
        let stamp = folder.join(format!("{}.stamp", self.name));
        let own = repository().join(self.folder);
        let containerfile = own.join("Containerfile");

        std::fs::create_dir_all(&context).with_context(|| format!("making {}", context.display()))?;
        let inputs = self.stage(&own, &context)?;
        let digest = digest(&self.reference(), &containerfile, &inputs)?;
        let image = Image { reference: self.reference(), archive };
        if image.archive.exists() && std::fs::read_to_string(&stamp).is_ok_and(|old| old == digest) {
            eprintln!("  up to date");
            return Ok(image);
        }
        let _ = std::fs::remove_file(&stamp);
        let _ = std::fs::remove_file(&image.archive);
        assemble(&image, &containerfile, &context)?;
        std::fs::write(&stamp, digest).with_context(|| format!("writing {}", stamp.display()))?;
        Ok(image)
    }

    /// Puts what the Containerfile copies into `context`. Returns what the image depends on: files by their content, and for a
    /// root file system the words that tell it from any other.
    fn stage(&self, own: &Path, context: &Path) -> Result<Vec<Input>> {
        match self.source {
            Source::Cargo(package) => {
                let built = Build::of(package)?.program(&static_target(), package);
                let staged = context.join(package);
                copy(&built, &staged)?;
                elf::require_static(&staged)?;
                Ok(vec![Input::File(staged)])
            }
            Source::Go(package) => {
                let staged = context.join(package);
                require("go", "golang-go")?;
                let mut build = program("go", &["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"]);
                build.arg(&staged).arg(format!("./{package}")).env("CGO_ENABLED", "0");
                run(build.current_dir(repository().join("examples")))?;
                elf::require_static(&staged)?;
                Ok(vec![Input::File(staged)])
            }
            Source::Traefik => {
                let staged = context.join("traefik");
                copy(&traefik::build()?.program, &staged)?;
                elf::require_static(&staged)?;
                Ok(vec![Input::File(staged)])
            }
            Source::Python(files) => {
                let key = rootfs::python(&context.join("rootfs"))?;
                with_files(key, files, own, context)
            }
            Source::Node(files) => {
                let key = rootfs::node(&context.join("rootfs"))?;
                with_files(key, files, own, context)
            }
        }
    }
}

/// Something that an image depends on.
enum Input {
    File(PathBuf),
    Key(String),
}

fn with_files(key: String, files: &[&str], own: &Path, context: &Path) -> Result<Vec<Input>> {
    let mut inputs = vec![Input::Key(key)];
    for file in files {
        let staged = context.join(file);
        copy(&own.join(file), &staged)?;
        inputs.push(Input::File(staged));
    }
    Ok(inputs)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Hash of all that an image is made of.
fn digest(reference: &str, containerfile: &Path, inputs: &[Input]) -> Result<String> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    let mut parts = vec![reference.as_bytes().to_vec(), read(containerfile)?];
    for input in inputs {
        parts.push(match input {
            Input::File(path) => read(path)?,
            Input::Key(key) => key.clone().into_bytes(),
        });
    }
    let mut hash = Sha256::new();
    for part in parts {
        // The length first, so that bytes cannot move from one part to the next unnoticed.
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Has buildah build a folder by its Containerfile, and write the archive. Whole or not at all.
fn assemble(image: &Image, containerfile: &Path, context: &Path) -> Result<()> {
    // No layers are kept and time stands still: the same files make the same image, bit for bit.
    let mut build = buildah(&["build", "--isolation", "chroot", "--layers=false", "--timestamp", "0"]);
    build.args(["--quiet", "--tag", &image.reference, "--file"]).arg(containerfile).arg(context);
    output(&mut build)?;
    let partial = image.archive.with_extension("partial");
    let _ = std::fs::remove_file(&partial);
    let to = format!("docker-archive:{}:{}", partial.display(), image.reference);
    output(&mut buildah(&["push", "--quiet", &image.reference, &to]))?;
    std::fs::rename(&partial, &image.archive).with_context(|| format!("writing {}", image.archive.display()))
}

/// Buildah with a storage of its own below `target/`, so that it neither needs nor touches that of the machine.
fn buildah(arguments: &[&str]) -> Command {
    let storage = folder().join("storage");
    let mut command = program("buildah", &["--storage-driver", "vfs", "--root"]);
    command.arg(storage.join("root")).arg("--runroot").arg(storage.join("run")).args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_tells_where_one_part_ends() {
        let file = tempfile("FROM scratch");
        let key = |parts: &[&str]| {
            let inputs: Vec<_> = parts.iter().map(|part| Input::Key((*part).to_owned())).collect();
            digest("image", &file, &inputs).unwrap()
        };
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
    }

    fn tempfile(text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pilotlight-images-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }
}
