//! Certificates for tests as Kubernetes mounts them, and clients that trust them.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pilotlight_activator::runtime::TlsConfig;
use pilotlight_activator::tls::HandshakeLimits;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Body, World};

/// Certificate, and both files' contents.
pub(crate) struct Made {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) chain: String,
    pub(crate) key: String,
}

pub(crate) fn make(names: &[&str]) -> Made {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    Made { der: made.cert.der().clone(), chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

/// A Secret's mount: `tls.crt` and `tls.key` are links through `..data`, which leads to the present version's directory.
pub(crate) struct Mount {
    root: TempDir,
    version: AtomicU32,
}

impl Mount {
    pub(crate) fn new(made: &Made) -> Self {
        let mount = Self { root: TempDir::new().unwrap(), version: AtomicU32::new(0) };
        mount.swap(&made.chain, &made.key);
        for file in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(file), mount.root.path().join(file)).unwrap();
        }
        mount
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.path().to_owned()
    }

    /// As kubelet does: a new directory, and the link renamed over the old one.
    pub(crate) fn swap(&self, chain: &str, key: &str) {
        let version = format!("..{}", self.version.fetch_add(1, Ordering::Relaxed));
        let directory = self.root.path().join(&version);
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("tls.crt"), chain).unwrap();
        std::fs::write(directory.join("tls.key"), key).unwrap();
        let link = self.root.path().join("..data_tmp");
        symlink(&version, &link).unwrap();
        std::fs::rename(&link, self.root.path().join("..data")).unwrap();
    }
}

pub(crate) fn tls(mounts: &[&Mount]) -> TlsConfig {
    TlsConfig {
        port: 0,
        certificates: mounts.iter().map(|mount| mount.path()).collect(),
        handshakes: HandshakeLimits::default(),
        reload: Duration::from_millis(20),
    }
}

/// With the Function `hello`.
pub(crate) fn world(config: TlsConfig) -> World {
    let world = World::configured(|settings| settings.tls = Some(config));
    world.apply(|_| {});
    world
}

pub(crate) fn client_config(trusted: &[&Made], alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for made in trusted {
        roots.add(made.der.clone()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A resumed session shows no certificate.
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Shakes hands with the activator.
pub(crate) async fn connect(
    world: &World,
    config: Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(world.activator.https.unwrap()).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(config).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

/// The certificate that the activator showed.
pub(crate) fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Sends a request over an encrypted connection, by the protocol that was agreed on.
pub(crate) async fn exchange(stream: TlsStream<TcpStream>, mut request: Request<Body>) -> Response<Incoming> {
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    // By TLS only names outside the cluster lead anywhere.
    if request.headers()["host"] == "hello.shop" {
        request.headers_mut().insert("host", HeaderValue::from_static("hello.shop.fn.example.com"));
    }
    if h2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let host = request.headers_mut().remove("host").unwrap();
        let uri = format!("https://{}{}", host.to_str().unwrap(), request.uri().path());
        *request.uri_mut() = uri.parse().unwrap();
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        *request.uri_mut() = request.uri().path().parse().unwrap();
        sender.send_request(request).await.unwrap()
    }
}
