//! Command line flags, each with an environment variable, and their checks: a mistake names the flag and the remedy.

pub mod observe;

use clap::Parser;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::lanes::usual;
use crate::limits::Limits;
use crate::runtime::TlsConfig;
use crate::shutdown::DrainSettings;
use crate::telemetry::sampler::SamplerError;
use crate::tls::HandshakeLimits;

/// Far below the minute or so that Kubernetes itself takes to change the files of a mounted Secret.
const CERTIFICATE_RELOAD: Duration = Duration::from_secs(5);

/// The activator: routes requests to Functions, wakes and balances their pods.
#[derive(Clone, Debug, Parser)]
#[command(version, about)]
pub struct Args {
    /// Address that every port is opened on. `::` takes IPv4 too.
    #[arg(long, env = "PILOTLIGHT_BIND", default_value_t = IpAddr::V6(Ipv6Addr::UNSPECIFIED))]
    pub bind: IpAddr,
    /// Port where the Host header names the Function. All activators must use the same.
    #[arg(long, env = "PILOTLIGHT_HTTP_PORT", default_value_t = 8080)]
    pub http_port: u16,
    /// Port for requests from outside the cluster, where only Functions' names of that side lead anywhere.
    #[arg(long, env = "PILOTLIGHT_EXTERNAL_PORT", default_value_t = 8081)]
    pub external_port: u16,
    /// Port of /livez, /readyz and /metrics.
    #[arg(long, env = "PILOTLIGHT_ADMIN_PORT", default_value_t = 9090)]
    pub admin_port: u16,
    /// Port of the control protocol, for the operator and other activators. All activators must use the same.
    #[arg(long, env = "PILOTLIGHT_CONTROL_PORT", default_value_t = 9091)]
    pub control_port: u16,
    /// Port where starting pods announce their address. All activators must use the same.
    #[arg(long, env = "PILOTLIGHT_BEACON_PORT", default_value_t = pilotlight_crds::names::BEACON_PORT)]
    pub beacon_port: u16,
    /// File with the token that the operator shows. Without it, every call on the control port is refused, and nothing
    /// is ever scaled down.
    #[arg(long, env = "PILOTLIGHT_CONTROL_TOKEN_FILE")]
    pub control_token_file: Option<PathBuf>,
    /// Uid of this activator's pod (downward API: metadata.uid). Without it, this activator never counts the requests of a
    /// Function with a hard concurrency limit, and hands them to others.
    #[arg(long, env = "PILOTLIGHT_POD_UID")]
    pub pod_uid: Option<String>,
    /// Domain of external host names, as in `hello.shop.<domain>`. Empty: none.
    #[arg(long, env = "PILOTLIGHT_DOMAIN", default_value = "")]
    pub domain: String,
    /// The cluster's own DNS domain.
    #[arg(long, env = "PILOTLIGHT_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Only serve Functions of this namespace; all namespaces where absent.
    #[arg(long, env = "PILOTLIGHT_NAMESPACE")]
    pub namespace: Option<String>,
    /// This activator's addresses, in which EndpointSlices lead to it: it goes on accepting after SIGTERM until none does. Without
    /// them it goes by whether connections still come.
    #[arg(long, env = "POD_IPS", value_delimiter = ',')]
    pub pod_ips: Vec<IpAddr>,
    /// Threads that serve requests. Where absent: the cores that this process may use, by its affinity and its CPU limit, but no more than 8.
    #[arg(long, env = "PILOTLIGHT_THREADS")]
    pub threads: Option<usize>,
    /// Client connections at once; accepting pauses beyond.
    #[arg(long, env = "PILOTLIGHT_MAX_CONNECTIONS", default_value_t = 20_000)]
    pub max_connections: usize,
    /// Requests that wait for a pod, over all Functions.
    #[arg(long, env = "PILOTLIGHT_MAX_PENDING_REQUESTS", default_value_t = 50_000)]
    pub max_pending_requests: u64,
    /// Bytes of requests that wait for a pod, over all Functions.
    #[arg(long, env = "PILOTLIGHT_MAX_PENDING_BYTES", default_value_t = 256 * 1024 * 1024)]
    pub max_pending_bytes: u64,
    /// Bytes of one request's head.
    #[arg(long, env = "PILOTLIGHT_MAX_HEADER_BYTES", default_value_t = 64 * 1024)]
    pub max_header_bytes: usize,
    /// Header fields of one request.
    #[arg(long, env = "PILOTLIGHT_MAX_HEADERS", default_value_t = 128)]
    pub max_headers: usize,
    /// HTTP/2 streams at once on one client connection.
    #[arg(long, env = "PILOTLIGHT_MAX_STREAMS", default_value_t = 256)]
    pub max_streams: u32,
    /// Seconds that a client may take for the head of a request.
    #[arg(long, env = "PILOTLIGHT_HEADER_TIMEOUT_SECONDS", default_value_t = 15)]
    pub header_timeout_seconds: u64,
    /// Seconds that a client connection may stay without a request.
    #[arg(long, env = "PILOTLIGHT_IDLE_TIMEOUT_SECONDS", default_value_t = 180)]
    pub idle_timeout_seconds: u64,
    /// Seconds that a client may refuse to read its response.
    #[arg(long, env = "PILOTLIGHT_WRITE_STALL_TIMEOUT_SECONDS", default_value_t = 120)]
    pub write_stall_timeout_seconds: u64,
    /// Milliseconds for one attempt to connect to a pod.
    #[arg(long, env = "PILOTLIGHT_CONNECT_TIMEOUT_MILLIS", default_value_t = 250)]
    pub connect_timeout_millis: u64,
    /// After SIGTERM, go on accepting until for so many seconds no connection has come and no EndpointSlice has led here.
    #[arg(long, env = "PILOTLIGHT_DRAIN_DELAY_SECONDS", default_value_t = 5)]
    pub drain_delay_seconds: u64,
    /// After SIGTERM, go on accepting for at most so many seconds.
    #[arg(long, env = "PILOTLIGHT_DRAIN_DELAY_MAX_SECONDS", default_value_t = 30)]
    pub drain_delay_max_seconds: u64,
    /// After SIGTERM, wait for requests in flight for at most so many seconds. Keep the pod's
    /// terminationGracePeriodSeconds above this plus the drain delay.
    #[arg(long, env = "PILOTLIGHT_DRAIN_TIMEOUT_SECONDS", default_value_t = 660)]
    pub drain_timeout_seconds: u64,
    /// Directories with tls.crt and tls.key, one for each certificate, separated by commas: mounted Secrets of type
    /// kubernetes.io/tls. The client's SNI chooses by the certificates' own names; the first is the default. Read again
    /// when they change. None: no TLS.
    #[arg(long = "tls-certificate-dir", env = "PILOTLIGHT_TLS_CERTIFICATE_DIRS", value_delimiter = ',')]
    pub tls_certificate_dirs: Vec<PathBuf>,
    /// Port for HTTP/2 and HTTP/1.1 over TLS, where the Host header names the Function. Opened where there is a certificate.
    #[arg(long, env = "PILOTLIGHT_TLS_PORT", default_value_t = 8443)]
    pub tls_port: u16,
    /// Seconds that a TLS handshake may take.
    #[arg(long, env = "PILOTLIGHT_TLS_HANDSHAKE_TIMEOUT_SECONDS", default_value_t = 10)]
    pub tls_handshake_timeout_seconds: u64,
    /// TLS handshakes at once; further ones wait.
    #[arg(long, env = "PILOTLIGHT_TLS_MAX_HANDSHAKES", default_value_t = 512)]
    pub tls_max_handshakes: usize,
    /// Log as JSON, one object a line.
    #[arg(long, env = "PILOTLIGHT_LOG_JSON", default_value_t = false, action = clap::ArgAction::Set)]
    pub log_json: bool,
    /// What is told of requests.
    #[command(flatten)]
    pub observe: observe::Observe,
}

/// A flag whose value cannot work.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArgsError {
    /// A bound of zero would refuse everything.
    #[error("--{flag} is 0, which would refuse every request: give at least 1, or leave it out for its default")]
    Zero {
        /// The flag's long name.
        flag: &'static str,
    },
    /// A head cannot be that small.
    #[error("--max-header-bytes is {got}: give at least 8192, which common clients need for cookies")]
    HeaderBytes {
        /// What was given.
        got: usize,
    },
    /// No share.
    #[error("--access-log-ratio is {got}: give a share from 0 (errors only) to 1 (every request)")]
    AccessLogRatio {
        /// What was given.
        got: String,
    },
    /// Not by HTTP.
    #[error(
        "the OTLP endpoint is {got:?}: give the collector's http:// or https:// URL, with its port for OTLP over HTTP (4318)"
    )]
    OtlpEndpoint {
        /// What was given.
        got: String,
    },
    /// Not by protobuf over HTTP.
    #[error(
        "OTEL_EXPORTER_OTLP_PROTOCOL is {got:?}: give http/protobuf, and the collector's port for OTLP over HTTP (4318, not 4317)"
    )]
    OtlpProtocol {
        /// What was given.
        got: String,
    },
    /// The sampler does not exist.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// Two listeners cannot share a port.
    #[error("--{flag} and --{other} are both {port}: give one of them another port")]
    SamePort {
        /// A flag's long name.
        flag: &'static str,
        /// Another's.
        other: &'static str,
        /// What was given for both.
        port: u16,
    },
    /// The maximum must not be below the delay.
    #[error(
        "--drain-delay-max-seconds ({max}) is below --drain-delay-seconds ({delay}): raise the first or lower the second"
    )]
    DrainDelay {
        /// The delay.
        delay: u64,
        /// The maximum.
        max: u64,
    },
}

impl Args {
    /// Checks the flags and gives the bounds that they set.
    ///
    /// # Errors
    /// Names the flag that cannot work.
    pub fn limits(&self) -> Result<Limits, ArgsError> {
        let threads = self.threads.unwrap_or_else(usual);
        let zero = [
            ("threads", threads as u64),
            ("max-connections", self.max_connections as u64),
            ("max-pending-requests", self.max_pending_requests),
            ("max-pending-bytes", self.max_pending_bytes),
            ("max-headers", self.max_headers as u64),
            ("max-streams", u64::from(self.max_streams)),
            ("header-timeout-seconds", self.header_timeout_seconds),
            ("idle-timeout-seconds", self.idle_timeout_seconds),
            ("write-stall-timeout-seconds", self.write_stall_timeout_seconds),
            ("connect-timeout-millis", self.connect_timeout_millis),
            ("drain-timeout-seconds", self.drain_timeout_seconds),
            ("tls-handshake-timeout-seconds", self.tls_handshake_timeout_seconds),
            ("tls-max-handshakes", self.tls_max_handshakes as u64),
        ]
        .into_iter()
        .find(|(_, value)| *value == 0);
        if let Some((flag, _)) = zero {
            return Err(ArgsError::Zero { flag });
        }
        if self.max_header_bytes < 8192 {
            return Err(ArgsError::HeaderBytes { got: self.max_header_bytes });
        }
        self.check_ports()?;
        if self.drain_delay_max_seconds < self.drain_delay_seconds {
            return Err(ArgsError::DrainDelay { delay: self.drain_delay_seconds, max: self.drain_delay_max_seconds });
        }
        Ok(Limits {
            max_connections: self.max_connections,
            max_pending_requests: self.max_pending_requests,
            max_pending_bytes: self.max_pending_bytes,
            max_header_bytes: self.max_header_bytes,
            max_headers: self.max_headers,
            max_streams: self.max_streams,
            header_timeout: Duration::from_secs(self.header_timeout_seconds),
            idle_timeout: Duration::from_secs(self.idle_timeout_seconds),
            write_stall_timeout: Duration::from_secs(self.write_stall_timeout_seconds),
            connect_timeout: Duration::from_millis(self.connect_timeout_millis),
            threads,
            ..Limits::default()
        })
    }
}

impl Args {
    /// The way out.
    pub fn drain(&self) -> DrainSettings {
        DrainSettings {
            quiet: Duration::from_secs(self.drain_delay_seconds),
            quiet_max: Duration::from_secs(self.drain_delay_max_seconds),
            in_flight: Duration::from_secs(self.drain_timeout_seconds),
        }
    }

    fn check_ports(&self) -> Result<(), ArgsError> {
        let tls = (!self.tls_certificate_dirs.is_empty()).then_some(("tls-port", self.tls_port));
        let others = [
            ("external-port", self.external_port),
            ("admin-port", self.admin_port),
            ("control-port", self.control_port),
            ("beacon-port", self.beacon_port),
        ];
        let mut seen = vec![("http-port", self.http_port)];
        for (flag, port) in others.into_iter().chain(tls) {
            if let Some((other, _)) = seen.iter().find(|(_, taken)| *taken == port && port != 0) {
                return Err(ArgsError::SamePort { flag, other, port });
            }
            seen.push((flag, port));
        }
        Ok(())
    }

    /// TLS towards clients; `None` without a certificate.
    pub fn tls(&self) -> Option<TlsConfig> {
        (!self.tls_certificate_dirs.is_empty()).then(|| TlsConfig {
            port: self.tls_port,
            certificates: self.tls_certificate_dirs.clone(),
            handshakes: HandshakeLimits {
                timeout: Duration::from_secs(self.tls_handshake_timeout_seconds),
                concurrent: self.tls_max_handshakes,
            },
            reload: CERTIFICATE_RELOAD,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Args {
        Args::parse_from(std::iter::once("activator").chain(flags.iter().copied()))
    }

    #[test]
    fn defaults_are_valid() {
        let limits = parse(&[]).limits().unwrap();
        assert_eq!(limits.max_connections, 20_000);
    }

    #[test]
    fn mistakes_name_the_flag() {
        let error = parse(&["--max-streams", "0"]).limits().unwrap_err();
        assert_eq!(error, ArgsError::Zero { flag: "max-streams" });
        let error = parse(&["--drain-delay-seconds", "60"]).limits().unwrap_err();
        assert!(error.to_string().contains("--drain-delay-max-seconds"));
        let error = parse(&["--max-header-bytes", "100"]).limits().unwrap_err();
        assert_eq!(error, ArgsError::HeaderBytes { got: 100 });
    }
}
