//! The certificates that are served now, and the choice among them. Connections that run keep what they began with.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// See the module. Never empty.
#[derive(Debug)]
pub struct Store {
    certificates: ArcSwap<Vec<Arc<Certificate>>>,
}

impl Store {
    /// With these; the first is for clients that ask for no name, or for one that no certificate is for.
    pub fn new(certificates: Vec<Arc<Certificate>>) -> Self {
        Self { certificates: ArcSwap::from_pointee(certificates) }
    }

    /// What is served now.
    pub fn certificates(&self) -> Arc<Vec<Arc<Certificate>>> {
        self.certificates.load_full()
    }

    /// Replaces the certificate at `index`, for handshakes from now on.
    pub fn replace(&self, index: usize, certificate: Arc<Certificate>) {
        self.certificates.rcu(|all| {
            let mut all = all.as_ref().clone();
            if let Some(place) = all.get_mut(index) {
                *place = certificate.clone();
            }
            all
        });
    }

    /// The first whose own names cover `name`, else the first of all.
    pub fn choose(&self, name: Option<&str>) -> Option<Arc<Certificate>> {
        let all = self.certificates.load();
        let named = name.and_then(|name| all.iter().find(|certificate| certificate.covers(name)));
        named.or(all.first()).cloned()
    }
}

impl ResolvesServerCert for Store {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name()).map(|certificate| certificate.key.clone())
    }
}
