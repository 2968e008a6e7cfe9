//! What `/metrics` tells of TLS: when each certificate expires, whether a changed one was refused, how handshakes end.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::HandshakeError;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoadLabels {
    certificate: String,
    result: &'static str,
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TlsMetrics {
    expiry: Family<CertificateLabels, Gauge>,
    rejected: Family<CertificateLabels, Gauge>,
    loads: Family<LoadLabels, Counter>,
    handshakes: Family<ResultLabels, Counter>,
}

impl TlsMetrics {
    /// Makes `/metrics` tell them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "tls_certificate_expiry_timestamp_seconds",
            "When the certificate that is served expires, in seconds since 1970",
            self.expiry.clone(),
        );
        registry.register(
            "tls_certificate_rejected",
            "1 while the files of a certificate cannot be used and an older one is served instead",
            self.rejected.clone(),
        );
        registry.register("tls_certificate_loads", "Certificates read, by result", self.loads.clone());
        registry.register("tls_handshakes", "TLS handshakes, by result", self.handshakes.clone());
    }

    /// A certificate is served from now on.
    pub fn loaded(&self, certificate: &str, not_after: i64) {
        let labels = CertificateLabels { certificate: certificate.to_owned() };
        self.expiry.get_or_create(&labels).set(not_after);
        self.rejected.get_or_create(&labels).set(0);
        self.load(certificate, "loaded");
    }

    /// Changed files cannot be used.
    pub fn rejected(&self, certificate: &str) {
        self.rejected.get_or_create(&CertificateLabels { certificate: certificate.to_owned() }).set(1);
        self.load(certificate, "rejected");
    }

    /// The files are those that are served, after all.
    pub fn restored(&self, certificate: &str) {
        self.rejected.get_or_create(&CertificateLabels { certificate: certificate.to_owned() }).set(0);
    }

    fn load(&self, certificate: &str, result: &'static str) {
        self.loads.get_or_create(&LoadLabels { certificate: certificate.to_owned(), result }).inc();
    }

    /// A handshake has ended.
    pub fn handshake<T>(&self, result: &Result<T, HandshakeError>) {
        let result = match result {
            Ok(_) => "ok",
            Err(HandshakeError::Timeout) => "timeout",
            Err(HandshakeError::Failed(_)) => "failed",
        };
        self.handshakes.get_or_create(&ResultLabels { result }).inc();
    }
}
