//! TLS towards clients: certificates from mounted files, chosen by the name that the client asks for, and handshakes that are bounded
//! in time and number. Pods are reached without TLS, as before.

pub mod certificate;
pub mod metrics;
pub mod reload;
pub mod store;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use metrics::TlsMetrics;
use store::Store;

/// Bounds of handshakes.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeLimits {
    /// How long one may take, from the connection on.
    pub timeout: Duration,
    /// At once, from the client's first message on; further ones wait, within the timeout.
    pub concurrent: usize,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), concurrent: 512 }
    }
}

/// Why there is no encrypted connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It took too long.
    #[error("the TLS handshake took longer than --tls-handshake-timeout-seconds")]
    Timeout,
    /// The client broke off, or the two share no protocol version, cipher or ALPN protocol.
    #[error("the TLS handshake failed: {0}")]
    Failed(#[from] io::Error),
}

/// What a TLS listener needs.
pub struct TlsServer {
    /// The certificates.
    pub store: Arc<Store>,
    metrics: TlsMetrics,
    config: Arc<ServerConfig>,
    limits: HandshakeLimits,
    running: Semaphore,
}

impl TlsServer {
    /// A server of the certificates in `store`: TLS 1.3 and 1.2, HTTP/2 before HTTP/1.1.
    ///
    /// # Errors
    /// The cryptography at hand offers no such protocol; does not happen.
    pub fn new(store: Arc<Store>, metrics: TlsMetrics, limits: HandshakeLimits) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(store.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = ring::Ticketer::new()?;
        let running = Semaphore::new(limits.concurrent.min(Semaphore::MAX_PERMITS));
        Ok(Self { store, metrics, config: Arc::new(config), limits, running })
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let result = match tokio::time::timeout(self.limits.timeout, self.shake(stream)).await {
            Ok(result) => result.map_err(HandshakeError::Failed),
            Err(_) => Err(HandshakeError::Timeout),
        };
        self.metrics.handshake(&result);
        result
    }

    /// A client that connects and says nothing holds no place: only the part that costs cryptography is counted.
    async fn shake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        let _place = self.running.acquire().await.map_err(io::Error::other)?;
        start.into_stream(self.config.clone()).await
    }
}
