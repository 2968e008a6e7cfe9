//! Container images without a registry: writing an archive around a static program, and importing archives so that a
//! digest resolves as it does after a real pull.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::config::PAUSE_IMAGE;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::node::run_inside;
use crate::{api, command};

/// Where containerd answers, inside.
pub(crate) const CONTAINERD_SOCKET: &str = "run/containerd/containerd.sock";

/// An image with nothing but one program in it.
#[derive(Clone, Debug)]
pub struct ScratchImage<'a> {
    /// The full name with a tag, for example `pilotlight.dev/pause:1`.
    pub reference: &'a str,
    /// The static program; it becomes `/<file name>` and the entry point.
    pub program: &'a Path,
    /// The user that it runs as, for example `65532:65532`.
    pub user: &'a str,
}

impl ScratchImage<'_> {
    /// Writes the image as an OCI archive. The same program gives the same bytes.
    pub fn write_to(&self, archive: &Path) -> Result<()> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { what: format!("writing the image {}", path.display()), source }
        };
        let name = self.program.file_name().ok_or_else(|| Error::Internal("a program without a name".to_owned()))?;
        let program = fs::read(self.program).map_err(Error::io("reading", self.program))?;
        let layer = tar_of(&[(&name.to_string_lossy(), &program, 0o755)]).map_err(io(archive))?;

        let layer_digest = digest(&layer);
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Entrypoint": [format!("/{}", name.to_string_lossy())], "User": self.user, "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": [&layer_digest] },
        })
        .to_string();
        let part =
            |media: &str, bytes: &[u8]| json!({ "mediaType": media, "digest": digest(bytes), "size": bytes.len() });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": part("application/vnd.oci.image.config.v1+json", config.as_bytes()),
            "layers": [part("application/vnd.oci.image.layer.v1.tar", &layer)],
        })
        .to_string();
        let mut entry: Value = part("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
        entry["annotations"] = json!({ "io.containerd.image.name": self.reference });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();

        let blob = |bytes: &[u8]| format!("blobs/sha256/{}", &digest(bytes)["sha256:".len()..]);
        let whole = tar_of(&[
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644),
            ("index.json", index.as_bytes(), 0o644),
            (&blob(manifest.as_bytes()), manifest.as_bytes(), 0o644),
            (&blob(config.as_bytes()), config.as_bytes(), 0o644),
            (&blob(&layer), &layer, 0o644),
        ])
        .map_err(io(archive))?;
        let mut file = fs::File::create(archive).map_err(io(archive))?;
        file.write_all(&whole).map_err(io(archive))
    }
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn tar_of(files: &[(&str, &[u8], u32)]) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, name, *content)?;
    }
    builder.into_inner()
}

/// Imports the sandbox image as soon as containerd answers.
pub(crate) async fn import_pause(layout: &Layout, patience: Duration) -> Result<()> {
    let archive = layout.root().join("pause.tar");
    let image = ScratchImage { reference: PAUSE_IMAGE, program: &layout.bin().join("pause"), user: "65535:65535" };
    image.write_to(&archive)?;
    let socket = format!("/{CONTAINERD_SOCKET}");
    let args = ["--address", &socket, "--namespace", "k8s.io"];
    api::until("containerd answering", patience, || async {
        run_inside(layout, "ctr", &[&args[..], &["version"]].concat()).await.map_err(|error| error.to_string())
    })
    .await?;
    let path = archive.display().to_string();
    run_inside(layout, "ctr", &[&args[..], &["images", "import", &path]].concat()).await?;
    fs::remove_file(&archive).map_err(Error::io("removing", &archive))
}

/// Imports archives through the socket at `socket`, and gives each image a second name with its digest. Returns the
/// references `name:tag` with their digests.
pub(crate) async fn import(socket: &Path, archives: &[PathBuf]) -> Result<Vec<ImportedImage>> {
    let socket = socket.display().to_string();
    let args = ["--address", &socket, "--namespace", "k8s.io", "images"];
    let ctr = |more: &[&str]| {
        let mut command = tokio::process::Command::new("ctr");
        command.args(args).args(more);
        command::output_of(command)
    };
    let mut imported = Vec::new();
    for archive in archives {
        let printed = ctr(&["import", &archive.display().to_string()]).await?;
        let names = imported_names(&printed);
        if names.is_empty() {
            return Err(Error::Internal(format!(
                "{} has no image with a name, or ctr does not say which: {printed}",
                archive.display()
            )));
        }
        let listed = ctr(&["ls"]).await?;
        for (reference, digest) in listed_digests(&listed) {
            if !names.contains(&reference) {
                continue;
            }
            let image = ImportedImage { reference: reference.to_owned(), digest: digest.to_owned() };
            ctr(&["tag", "--force", &image.reference, &image.by_digest()]).await?;
            imported.push(image);
        }
    }
    Ok(imported)
}

/// An image that the node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedImage {
    /// Its full name with its tag.
    pub reference: String,
    /// `sha256:…` of its manifest or index.
    pub digest: String,
}

impl ImportedImage {
    /// `name@sha256:…`, without the tag.
    pub fn by_digest(&self) -> String {
        let name_starts = self.reference.rfind('/').map_or(0, |slash| slash + 1);
        let name_ends =
            self.reference[name_starts..].find(':').map_or(self.reference.len(), |colon| name_starts + colon);
        format!("{}@{}", &self.reference[..name_ends], self.digest)
    }
}

/// What `ctr images import` names: lines such as `unpacking NAME (sha256:…)...done`, or `NAME saved` from version 2 on.
fn imported_names(printed: &str) -> Vec<&str> {
    fn name(line: &str) -> Option<&str> {
        let mut words = line.split_whitespace();
        match (words.next()?, words.next()?) {
            ("unpacking", name) | (name, "saved") => Some(name),
            _ => None,
        }
    }
    printed.lines().filter_map(name).collect()
}

/// The name and digest columns of `ctr images ls`.
fn listed_digests(printed: &str) -> impl Iterator<Item = (&str, &str)> {
    printed.lines().filter_map(|line| {
        let mut columns = line.split_whitespace();
        let (name, _media, digest) = (columns.next()?, columns.next()?, columns.next()?);
        digest.starts_with("sha256:").then_some((name, digest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_by_digest_drops_the_tag_and_keeps_a_registrys_port() {
        let image = |reference: &str| ImportedImage { reference: reference.to_owned(), digest: "sha256:ab".to_owned() };
        assert_eq!(image("localhost:5000/a/b:v1").by_digest(), "localhost:5000/a/b@sha256:ab");
        assert_eq!(image("docker.io/library/a:latest").by_digest(), "docker.io/library/a@sha256:ab");
        assert_eq!(image("localhost:5000/a").by_digest(), "localhost:5000/a@sha256:ab");
    }

    #[test]
    fn what_ctr_prints_is_read() {
        let printed = "unpacking pilotlight.dev/pause:1 (sha256:12)...done\n";
        assert_eq!(imported_names(printed), ["pilotlight.dev/pause:1"]);
        assert_eq!(imported_names("example.test/a:1   saved\nelapsed 0.1 s\n"), ["example.test/a:1"]);
        let listed = "REF TYPE DIGEST SIZE PLATFORMS LABELS\npilotlight.dev/pause:1 application/x sha256:12 2 MiB linux/amd64 -\n";
        assert_eq!(listed_digests(listed).collect::<Vec<_>>(), [("pilotlight.dev/pause:1", "sha256:12")]);
    }

    #[test]
    fn an_archive_is_the_same_for_the_same_program() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("tool");
        fs::write(&program, b"program").unwrap();
        let image = ScratchImage { reference: "example.test/tool:1", program: &program, user: "1:1" };
        let (a, b) = (dir.path().join("a.tar"), dir.path().join("b.tar"));
        image.write_to(&a).unwrap();
        image.write_to(&b).unwrap();
        assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    }
}
