//! What stands between client and app: nothing, the activator, haproxy, nginx; each on one core, with kept connections behind it, without
//! an access log, adding the same kind of `X-Forwarded-…` fields.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::api::{Api, Served};
use crate::process::{Program, cores, pin};
use crate::wire::Protocol;

const PATIENCE: Duration = Duration::from_secs(20);

/// What stands between client and app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// Nothing.
    Direct,
    /// Pilotlight's.
    Activator,
    /// haproxy.
    Haproxy,
    /// nginx.
    Nginx,
}

impl Peer {
    /// All, in the order in which they take turns.
    pub(crate) const ALL: [Self; 4] = [Self::Direct, Self::Activator, Self::Haproxy, Self::Nginx];

    /// As in the output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Activator => "activator",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }
}

/// Where a peer or the app listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// HTTP/1.1.
    pub(crate) http1: SocketAddr,
    /// HTTP/2 without TLS.
    pub(crate) h2c: SocketAddr,
}

impl Addresses {
    /// Two free ones.
    ///
    /// # Errors
    /// There are none.
    pub(crate) fn free() -> Result<Self> {
        let [http1, h2c] = free()?;
        Ok(Self { http1, h2c })
    }

    /// Where this protocol is spoken.
    pub(crate) fn of(&self, protocol: Protocol) -> SocketAddr {
        match protocol {
            Protocol::Http1 => self.http1,
            Protocol::H2c => self.h2c,
        }
    }
}

/// Addresses on loopback that nobody listened on a moment ago.
fn free<const N: usize>() -> Result<[SocketAddr; N]> {
    let held: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<Result<_, _>>().context("no free ports")?;
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for (address, listener) in addresses.iter_mut().zip(&held) {
        *address = listener.local_addr()?;
    }
    Ok(addresses)
}

/// The cores, the folder for configurations and logs, and the activator's program.
#[derive(Debug)]
pub(crate) struct Stand {
    /// Removed at the end.
    pub(crate) folder: tempfile::TempDir,
    /// Of what is measured.
    pub(crate) cores: Vec<usize>,
    /// Of everything else.
    pub(crate) home: usize,
    /// The activator's program.
    pub(crate) activator: PathBuf,
}

/// A peer that runs.
#[derive(Debug)]
pub(crate) struct Running {
    /// Which.
    pub(crate) peer: Peer,
    /// Where it listens.
    pub(crate) addresses: Addresses,
    /// Its process; for [`Peer::Direct`] there is none.
    pub(crate) program: Option<Program>,
}

impl Stand {
    /// Finds `measured` cores for what is measured and one for the rest, and makes a folder.
    ///
    /// # Errors
    /// There are not enough cores, or there is no room for a folder.
    pub(crate) fn new(activator: PathBuf, measured: usize) -> Result<Self> {
        let (cores, home) = cores(measured)?;
        pin(&[home])?;
        let folder = tempfile::Builder::new().prefix("pilotlight-bench-").tempdir()?;
        Ok(Self { folder, cores, home, activator })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, name: &str, command: &Command, addresses: &Addresses) -> Result<Program> {
        let log = self.path(&format!("{name}.log"));
        let cores = if name == "app" { &[self.home] } else { self.cores.as_slice() };
        let mut program = Program::start(command, cores, self.home, &log)?;
        let listening = || TcpStream::connect(addresses.http1).is_ok() && TcpStream::connect(addresses.h2c).is_ok();
        program.wait_until("it listens", PATIENCE, listening).with_context(|| told(&log))?;
        Ok(program)
    }

    /// Starts the app.
    ///
    /// # Errors
    /// It does not start; the error has its words.
    pub(crate) fn app(&self) -> Result<(Program, Addresses)> {
        let addresses = Addresses::free()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["app", "--http1", &addresses.http1.to_string(), "--h2c", &addresses.h2c.to_string()]);
        Ok((self.start("app", &command, &addresses)?, addresses))
    }

    /// Starts a peer before the app.
    ///
    /// # Errors
    /// It does not start; the error has its words.
    pub(crate) fn peer(&self, peer: Peer, app: &Addresses) -> Result<Running> {
        let addresses = Addresses::free()?;
        let program = match peer {
            Peer::Direct => return Ok(Running { peer, addresses: *app, program: None }),
            Peer::Activator => {
                let function = |name, listen: SocketAddr, pod, protocol| Served {
                    name,
                    port: listen.port(),
                    pod,
                    protocol,
                    warm: true,
                };
                let served = [
                    function("plain", addresses.http1, app.http1, "http1"),
                    function("multiplexed", addresses.h2c, app.h2c, "h2c"),
                ];
                self.activator(&Api::start(&served)?, &addresses)?
            }
            Peer::Haproxy => {
                let config = self.path("haproxy.cfg");
                std::fs::write(&config, haproxy(&addresses, app))?;
                self.start("haproxy", Command::new("haproxy").arg("-db").arg("-f").arg(config), &addresses)?
            }
            Peer::Nginx => {
                let config = self.path("nginx.conf");
                std::fs::write(&config, nginx(self.folder.path(), &addresses, app))?;
                self.start("nginx", Command::new("nginx").arg("-c").arg(config), &addresses)?
            }
        };
        Ok(Running { peer, addresses, program: Some(program) })
    }

    /// Starts the activator with its watches led to `api`; it is there when the route ports are open.
    ///
    /// # Errors
    /// It does not start; the error has its words.
    pub(crate) fn activator(&self, api: &Api, routes: &Addresses) -> Result<Program> {
        let mut command = Command::new(&self.activator);
        command.args(["--bind", "127.0.0.1", "--drain-delay-seconds", "0"]);
        let ports = ["--http-port", "--external-port", "--admin-port", "--control-port", "--beacon-port"];
        for (flag, address) in ports.into_iter().zip(free::<5>()?) {
            command.args([flag, &address.port().to_string()]);
        }
        command.env("KUBECONFIG", api.kubeconfig(self.folder.path())?).env("RUST_LOG", "info");
        self.start("activator", &command, routes)
    }
}

fn told(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(10).collect();
    format!("it said: {}", lines.into_iter().rev().collect::<Vec<_>>().join(" | "))
}

/// Half of the open files that one process may have: each request needs two.
fn connections() -> u64 {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map_or(512, |(soft, _)| soft / 2 - 100)
}

fn haproxy(own: &Addresses, app: &Addresses) -> String {
    let (http1, h2c, plain, multiplexed) = (own.http1, own.h2c, app.http1, app.h2c);
    let fields = "http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(Host)]";
    format!(
        "global
  nbthread 1
  maxconn {}
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  http-reuse always
  option forwardfor
frontend plain
  bind {http1} backlog 4096
  {fields}
  default_backend plain
frontend multiplexed
  bind {h2c} proto h2 backlog 4096
  {fields}
  default_backend multiplexed
backend plain
  server app {plain} pool-purge-delay 300s
backend multiplexed
  server app {multiplexed} proto h2 pool-purge-delay 300s
",
        connections()
    )
}

/// nginx speaks HTTP/2 to a server behind it only by `grpc_pass`, one request at a time on each connection.
fn nginx(folder: &Path, own: &Addresses, app: &Addresses) -> String {
    let (http1, h2c, plain, multiplexed) = (own.http1, own.h2c, app.http1, app.h2c);
    let folder = folder.display();
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path {folder}/nginx-{name};\n"))
        .concat();
    let kept = "keepalive 1024; keepalive_requests 1000000000; keepalive_time 1h; keepalive_timeout 300s;";
    let fields = |module: &str| {
        format!(
            "{module}_set_header X-Forwarded-For $proxy_add_x_forwarded_for; {module}_set_header X-Forwarded-Proto http; \
             {module}_set_header X-Forwarded-Host $http_host;"
        )
    };
    format!(
        "daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn; {user}
events {{ worker_connections {}; }}
http {{
  access_log off;
  keepalive_requests 1000000000; keepalive_time 1h; keepalive_timeout 300s;
{temporary}
  upstream plain {{ server {plain}; {kept} }}
  upstream multiplexed {{ server {multiplexed}; {kept} }}
  proxy_http_version 1.1; proxy_buffer_size 16k; proxy_buffers 8 16k; proxy_max_temp_file_size 0;
  server {{
    listen {http1} backlog=4096;
    location / {{ proxy_pass http://plain; proxy_set_header Connection \"\"; proxy_set_header Host $http_host; {} }}
  }}
  server {{
    listen {h2c} http2 backlog=4096; http2_max_concurrent_streams 256;
    location / {{ grpc_pass grpc://multiplexed; {} }}
  }}
}}
",
        connections() * 2,
        fields("proxy"),
        fields("grpc"),
    )
}
