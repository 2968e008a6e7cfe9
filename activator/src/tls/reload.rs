//! Certificates follow their files. Kubernetes swaps the files of a mounted Secret within a minute or so of its change, by a symbolic link
//! that no notification of the file itself would show; so they are read every few seconds and compared. What cannot be used changes
//! nothing: the certificate before goes on being served, and log and metric say so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::certificate::{Certificate, CertificateError, Files};
use super::metrics::TlsMetrics;
use super::store::Store;

/// The files that a certificate comes from.
#[derive(Debug)]
pub struct Source {
    directory: PathBuf,
    served: Files,
    refused: Option<String>,
}

/// What new content of the files means.
#[derive(Debug)]
enum Change {
    /// Nothing, or nothing that was not said before.
    None,
    /// The files are as served again.
    Restored,
    /// A certificate to serve.
    Replace(Certificate),
    /// They cannot be used.
    Refuse(CertificateError),
}

impl Source {
    /// The last part of the directory, which names the certificate in logs and metrics.
    pub fn name(&self) -> &str {
        name_of(&self.directory)
    }

    /// Decides what `read` means, and remembers it.
    fn take(&mut self, read: Result<Files, CertificateError>) -> Change {
        let changed = read.and_then(|files| {
            if files == self.served {
                return Ok(None);
            }
            Certificate::parse(&files).map(|certificate| Some((files, certificate)))
        });
        match changed {
            Ok(None) if self.refused.take().is_some() => Change::Restored,
            Ok(None) => Change::None,
            Ok(Some((files, certificate))) => {
                self.served = files;
                self.refused = None;
                Change::Replace(certificate)
            }
            Err(error) => {
                let said = error.to_string();
                if self.refused.as_deref() == Some(said.as_str()) {
                    return Change::None;
                }
                self.refused = Some(said);
                Change::Refuse(error)
            }
        }
    }
}

fn name_of(directory: &Path) -> &str {
    directory.file_name().and_then(|name| name.to_str()).unwrap_or("unnamed")
}

/// Reads every directory for the first time.
///
/// # Errors
/// The first that cannot be used, and why. At a start there is none before it to go on with; in a rollout, the pods before it stay.
pub fn load(
    directories: &[PathBuf],
    metrics: &TlsMetrics,
) -> Result<(Store, Vec<Source>), (PathBuf, CertificateError)> {
    let mut certificates = Vec::new();
    let mut sources = Vec::new();
    for directory in directories {
        let failed = |error| (directory.clone(), error);
        let served = Files::read(directory).map_err(failed)?;
        let certificate = Certificate::parse(&served).map_err(failed)?;
        let name = name_of(directory);
        info!(certificate = name, not_after = certificate.not_after, "certificate loaded");
        metrics.loaded(name, certificate.not_after);
        certificates.push(Arc::new(certificate));
        sources.push(Source { directory: directory.clone(), served, refused: None });
    }
    Ok((Store::new(certificates), sources))
}

/// Follows the files until `stop`.
pub async fn follow(
    store: Arc<Store>,
    mut sources: Vec<Source>,
    metrics: TlsMetrics,
    every: Duration,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stop.cancelled() => return,
        }
        for (index, source) in sources.iter_mut().enumerate() {
            let directory = source.directory.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || Files::read(&directory)).await else { continue };
            match source.take(read) {
                Change::None => {}
                Change::Restored => {
                    info!(certificate = source.name(), "the certificate's files are as served again");
                    metrics.restored(source.name());
                }
                Change::Replace(certificate) => {
                    info!(certificate = source.name(), not_after = certificate.not_after, "certificate replaced");
                    metrics.loaded(source.name(), certificate.not_after);
                    store.replace(index, Arc::new(certificate));
                }
                Change::Refuse(why) => {
                    error!(certificate = source.name(), reason = why.reason(), error = %why, "cannot use a changed certificate: the one before is still served");
                    metrics.rejected(source.name());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        let made = rcgen::generate_simple_self_signed(["a.example.com".to_owned()]).unwrap();
        Files { chain: made.cert.pem().into_bytes(), key: made.signing_key.serialize_pem().into_bytes() }
    }

    #[test]
    fn a_broken_file_is_said_once_and_a_good_one_replaces_it() {
        let (first, second) = (files(), files());
        let mut source = Source { directory: "/certificates/shop".into(), served: first.clone(), refused: None };
        assert_eq!(source.name(), "shop");
        assert!(matches!(source.take(Ok(first.clone())), Change::None));
        let torn = Files { key: first.key.clone(), ..second.clone() };
        assert!(matches!(source.take(Ok(torn.clone())), Change::Refuse(CertificateError::KeyMismatch(_))));
        assert!(matches!(source.take(Ok(torn)), Change::None), "not again with each look");
        assert!(matches!(source.take(Err(CertificateError::NoKey)), Change::Refuse(_)), "but another trouble is");
        assert!(matches!(source.take(Ok(first)), Change::Restored));
        assert!(matches!(source.take(Ok(second.clone())), Change::Replace(_)));
        assert!(matches!(source.take(Ok(second)), Change::None));
    }
}
