//! One certificate with its key, as a Secret of type `kubernetes.io/tls` holds them: read, checked against each other, and asked
//! for which names and until when it is good. What is read here is fit to be served.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_parser::parse_x509_certificate;

/// File with the chain, the server's own certificate first.
pub const CHAIN_FILE: &str = "tls.crt";
/// File with the private key.
pub const KEY_FILE: &str = "tls.key";

/// Why a certificate cannot be served. The texts hold no key material.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}: mount a Secret of type kubernetes.io/tls there", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The chain is not PEM, or has no certificate.
    #[error("{CHAIN_FILE} has no certificate: it must hold the chain as PEM, the server's own first")]
    NoCertificate,
    /// The key is not PEM, or of an unknown kind.
    #[error("{KEY_FILE} has no private key: it must hold one as PEM (PKCS#8, PKCS#1 or SEC1), without a password")]
    NoKey,
    /// The certificate cannot be understood.
    #[error("{CHAIN_FILE} is not a valid X.509 version 3 certificate: {0}")]
    Malformed(String),
    /// Key and certificate do not belong together, or the key is of no use.
    #[error("{KEY_FILE} does not fit {CHAIN_FILE}: {0}")]
    KeyMismatch(rustls::Error),
}

impl CertificateError {
    /// CamelCase, for logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "CertificateUnreadable",
            Self::NoCertificate => "NoCertificate",
            Self::NoKey => "NoPrivateKey",
            Self::Malformed(_) => "CertificateMalformed",
            Self::KeyMismatch(_) => "PrivateKeyMismatch",
        }
    }
}

/// The two files as they were read.
#[derive(Clone, PartialEq, Eq)]
pub struct Files {
    /// [`CHAIN_FILE`].
    pub chain: Vec<u8>,
    /// [`KEY_FILE`].
    pub key: Vec<u8>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files({} + {} bytes)", self.chain.len(), self.key.len())
    }
}

impl Files {
    /// Reads both from one directory. Kubernetes replaces both at once, by a symbolic link that leads elsewhere: should that happen
    /// between the two reads, they are read again.
    ///
    /// # Errors
    /// Names the file.
    pub fn read(directory: &Path) -> Result<Self, CertificateError> {
        let read = |name: &str| {
            let path = directory.join(name);
            std::fs::read(&path).map_err(|source| CertificateError::Unreadable { path, source })
        };
        let mut chain = read(CHAIN_FILE)?;
        loop {
            let key = read(KEY_FILE)?;
            let again = read(CHAIN_FILE)?;
            if again == chain {
                return Ok(Self { chain, key });
            }
            chain = again;
        }
    }
}

/// A certificate that can be served.
#[derive(Debug)]
pub struct Certificate {
    /// Chain and key.
    pub key: Arc<CertifiedKey>,
    /// When it expires: seconds since 1970.
    pub not_after: i64,
}

impl Certificate {
    /// Takes the files apart and checks that they fit each other. An expired certificate is one too: serving it is no worse than
    /// serving none, and some clients do not look.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(files: &Files) -> Result<Self, CertificateError> {
        let chain = CertificateDer::pem_slice_iter(&files.chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| CertificateError::NoCertificate)?;
        let own = chain.first().ok_or(CertificateError::NoCertificate)?;
        let (_, parsed) =
            parse_x509_certificate(own).map_err(|error| CertificateError::Malformed(error.to_string()))?;
        let not_after = parsed.validity().not_after.timestamp();
        ParsedCertificate::try_from(own).map_err(|error| CertificateError::Malformed(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|_| CertificateError::NoKey)?;
        let key =
            CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(CertificateError::KeyMismatch)?;
        Ok(Self { key: Arc::new(key), not_after })
    }

    /// Whether it is good for a name that a client asks for, wildcards included.
    pub fn covers(&self, name: &str) -> bool {
        let Ok(name) = ServerName::try_from(name) else { return false };
        let Some(own) = self.key.cert.first() else { return false };
        ParsedCertificate::try_from(own).is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Files {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Files { chain: made.cert.pem().into_bytes(), key: made.signing_key.serialize_pem().into_bytes() }
    }

    #[test]
    fn a_certificate_covers_its_own_names_and_no_others() {
        let certificate = Certificate::parse(&files(&["hello.shop.example.com", "*.fn.example.com"])).unwrap();
        for name in ["hello.shop.example.com", "Hello.Shop.Example.com", "any.fn.example.com"] {
            assert!(certificate.covers(name), "{name}");
        }
        for name in ["shop.example.com", "fn.example.com", "a.b.fn.example.com", "not a name", ""] {
            assert!(!certificate.covers(name), "{name}");
        }
        assert!(certificate.not_after > 1_700_000_000);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = files(&["a.example.com"]);
        let reason = |files: Files| Certificate::parse(&files).unwrap_err().reason();
        assert_eq!(reason(Files { key: files(&["a.example.com"]).key, ..good.clone() }), "PrivateKeyMismatch");
        assert_eq!(reason(Files { key: b"secret".to_vec(), ..good.clone() }), "NoPrivateKey");
        assert_eq!(reason(Files { chain: b"".to_vec(), ..good.clone() }), "NoCertificate");
        assert_eq!(reason(Files { chain: good.key.clone(), ..good.clone() }), "NoCertificate");
        let hollow = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
        assert_eq!(reason(Files { chain: hollow, ..good.clone() }), "CertificateMalformed");
        let missing = Files::read(Path::new("/nonexistent")).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/tls.crt"), "{missing}");
        assert!(!format!("{good:?}").contains("PRIVATE"), "keys never reach a log");
    }
}
