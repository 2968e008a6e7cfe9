//! Wires the parts together: what they share, which tasks run, which ports are open. Tests start the same activator with ephemeral
//! ports and a `/scale` of their own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::args::Args;
use crate::beacon::holders::{AddressPort, KubeAddresses};
use crate::beacon::{self, Beacons};
use crate::control::{Control, Token};
use crate::endpoint::pace::Crowd;
use crate::endpoint::stream::Dial;
use crate::insiders::{serve_admin, serve_control};
use crate::lanes::{Lanes, PerLane, Threads};
use crate::led::Led;
use crate::limits::{Limits, Pending};
use crate::listen::sweep::Connections;
use crate::listen::{Entrance, accept, bind};
use crate::metrics::Metrics;
use crate::proxy::Target;
use crate::proxy::forwarded::Trust;
use crate::publish::Publisher;
use crate::registry::Registry;
use crate::relay::line::Peers;
use crate::route::{Domains, Side};
use crate::scale::{KubeScale, ScalePort};
use crate::shutdown::{DrainSettings, drain};
use crate::telemetry::{Telemetry, TelemetryConfig};
use crate::tls::{HandshakeLimits, TlsServer, reload};
use crate::turns::Turns;
use crate::{publish, watch};

/// For the last spans, on the way out.
const FLUSH: Duration = Duration::from_secs(2);

/// What all parts share.
pub struct Shared {
    /// Process-wide bounds.
    pub limits: Limits,
    /// What waits in all queues.
    pub pending: Pending,
    /// What activators need to know of each other.
    pub peers: Peers,
    /// `/scale`.
    pub scale: Arc<dyn ScalePort>,
    /// What serves requests.
    pub lanes: Arc<Lanes>,
    /// Whose request is looked at next, on each lane.
    pub turns: PerLane<Arc<Turns>>,
    /// How pods are reached.
    pub dial: Dial,
    /// The pods that are probed.
    pub probed: Crowd,
    /// Where samples go.
    pub publisher: Publisher,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Whose word about a request's origin is taken.
    pub trust: Trust,
    /// What tells of requests.
    pub telemetry: Telemetry,
    /// When this activator started; seconds of samples count from here.
    pub epoch: Instant,
    /// Which EndpointSlices lead here.
    pub led: Led,
    /// Room for client connections.
    pub connections: Arc<Semaphore>,
    /// Client connections, for the sweep.
    pub clients: Connections,
    /// Connections and tunnels, for the drain.
    pub tasks: TaskTracker,
    /// Listeners close.
    pub stop_accepting: CancellationToken,
    /// Idle connections close, busy ones after their requests.
    pub close_idle: CancellationToken,
    /// Everything closes.
    pub force_close: CancellationToken,
    /// The drain has begun: clients are told to go elsewhere.
    pub draining: CancellationToken,
    functions_listed: AtomicBool,
    pods_listed: AtomicBool,
    last_accept_millis: AtomicU64,
}

impl Shared {
    /// For an activator that starts now, and serves requests in the runtime that this is called in.
    pub fn new(limits: Limits, scale: Arc<dyn ScalePort>, trust: Trust, telemetry: Telemetry) -> Self {
        Self {
            lanes: Arc::new(Lanes::here()),
            turns: PerLane::new(limits.threads),
            connections: Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS))),
            led: Led::default(),
            limits,
            pending: Pending::default(),
            peers: Peers::default(),
            scale,
            dial: Dial::default(),
            probed: Crowd::default(),
            publisher: Publisher::default(),
            metrics: Arc::new(Metrics::new(&telemetry)),
            trust,
            telemetry,
            epoch: Instant::now(),
            clients: Connections::default(),
            tasks: TaskTracker::new(),
            stop_accepting: CancellationToken::new(),
            close_idle: CancellationToken::new(),
            force_close: CancellationToken::new(),
            draining: CancellationToken::new(),
            functions_listed: AtomicBool::new(false),
            pods_listed: AtomicBool::new(false),
            last_accept_millis: AtomicU64::new(0),
        }
    }

    /// This lane's.
    pub fn turns(&self) -> &Arc<Turns> {
        self.turns.here(Arc::default)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A connection was accepted.
    pub fn note_accept(&self) {
        self.last_accept_millis.store(self.millis(), Ordering::Relaxed);
    }

    /// When the last connection was accepted; the epoch where none was.
    pub fn last_accept(&self) -> Instant {
        self.epoch + Duration::from_millis(self.last_accept_millis.load(Ordering::Relaxed))
    }

    /// The drain has begun.
    pub fn set_draining(&self) {
        self.draining.cancel();
    }

    /// Whether the drain has begun.
    pub fn draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// The Functions were listed. `true` the first time.
    pub fn functions_listed(&self) -> bool {
        !self.functions_listed.swap(true, Ordering::Relaxed)
    }

    /// The pods were listed. `true` the first time.
    pub fn pods_listed(&self) -> bool {
        !self.pods_listed.swap(true, Ordering::Relaxed)
    }

    /// Why this activator should get no connections; `None` where it should.
    pub fn not_ready_because(&self) -> Option<&'static str> {
        if self.draining() {
            return Some("draining\n");
        }
        if !self.functions_listed.load(Ordering::Relaxed) || !self.pods_listed.load(Ordering::Relaxed) {
            return Some("the first lists of functions and pods have not come yet\n");
        }
        None
    }
}

/// What an activator needs besides flags: addresses, bounds, names.
pub struct Config {
    /// Address of every port.
    pub bind: IpAddr,
    /// Where the Host header names the Function; 0: any free port.
    pub http_port: u16,
    /// The same for requests from outside the cluster; 0: any free port.
    pub external_port: u16,
    /// `/livez`, `/readyz`, `/metrics`.
    pub admin_port: u16,
    /// The control protocol.
    pub control_port: u16,
    /// Where starting pods announce themselves.
    pub beacon_port: u16,
    /// Which pods have an address.
    pub addresses: Arc<dyn AddressPort>,
    /// Who may use it.
    pub token: Token,
    /// Uid of this activator's pod, by which the operator names it the owner of Functions.
    pub pod_uid: Option<String>,
    /// Host names.
    pub domains: Domains,
    /// Bounds.
    pub limits: Limits,
    /// The way out.
    pub drain: DrainSettings,
    /// Whose word about a request's origin is taken.
    pub trust: Trust,
    /// What tells of requests.
    pub telemetry: TelemetryConfig,
    /// Where clients may use TLS.
    pub tls: Option<TlsConfig>,
}

/// TLS towards clients.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Where it is spoken; the Host header names the Function; 0: any free port.
    pub port: u16,
    /// One for each certificate; the first is the default. Never empty.
    pub certificates: Vec<PathBuf>,
    /// Bounds of handshakes.
    pub handshakes: HandshakeLimits,
    /// How often the files are looked at.
    pub reload: Duration,
}

/// A running activator.
pub struct Activator {
    /// What its parts share.
    pub shared: Arc<Shared>,
    /// Its Functions.
    pub registry: Arc<Registry>,
    /// Where the Host header names the Function.
    pub http: SocketAddr,
    /// The same for requests from outside the cluster.
    pub external: SocketAddr,
    /// The same with TLS, where there are certificates.
    pub https: Option<SocketAddr>,
    /// What is served there.
    pub tls: Option<Arc<TlsServer>>,
    /// `/livez`, `/readyz`, `/metrics`.
    pub admin: SocketAddr,
    /// The control protocol.
    pub control: SocketAddr,
    /// Where starting pods announce themselves.
    pub beacon: SocketAddr,
    drain: DrainSettings,
    /// Last, because everything else must be gone before they are waited for.
    _threads: Threads,
}

impl Activator {
    /// Opens the ports and starts every task but the watches.
    ///
    /// # Errors
    /// A port cannot be opened, or a certificate cannot be used; the message names the flag.
    pub fn start(config: Config, scale: Arc<dyn ScalePort>) -> anyhow::Result<Self> {
        let open = |port: u16, flag: &str| -> anyhow::Result<(std::net::TcpListener, SocketAddr)> {
            let listener = bind(SocketAddr::new(config.bind, port)).with_context(|| {
                format!("cannot open port {port}: give another with --{flag}, or end what holds it")
            })?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (http_listener, http) = open(config.http_port, "http-port")?;
        let (external_listener, external) = open(config.external_port, "external-port")?;
        let (admin_listener, admin) = open(config.admin_port, "admin-port")?;
        let (control_listener, control_address) = open(config.control_port, "control-port")?;
        let (beacon_listener, beacon) = open(config.beacon_port, "beacon-port")?;
        let peers = Peers::new(config.pod_uid, http.port(), control_address.port(), &config.token);
        let telemetry = Telemetry::start(config.telemetry)?;
        let count = config.limits.threads;
        let (lanes, threads) =
            Lanes::start(count).with_context(|| format!("cannot start {count} threads: give fewer with --threads"))?;
        let mut shared = Shared::new(config.limits, scale, config.trust, telemetry);
        shared.peers = peers;
        shared.lanes = Arc::new(lanes);
        let shared = Arc::new(shared);
        let registry = Arc::new(Registry::new(shared.clone(), config.bind, config.domains, config.drain.in_flight));
        let hosts = |from, tls| Entrance { target: Target::Hosts(registry.clone(), from), tls };
        let control = Control { shared: shared.clone(), registry: registry.clone(), token: config.token };
        let enter = |listener, entrance| {
            let accepting = accept(shared.clone(), listener, entrance, shared.stop_accepting.clone());
            shared.lanes.spawn_listener(&shared.tasks, accepting);
        };
        enter(http_listener, hosts(Side::Inside, None));
        enter(external_listener, hosts(Side::Outside, None));
        let (mut https, mut tls) = (None, None);
        if let Some(config) = config.tls {
            let (listener, address) = open(config.port, "tls-port")?;
            let server = start_tls(&shared, &config)?;
            enter(listener, hosts(Side::Outside, Some(server.clone())));
            (https, tls) = (Some(address), Some(server));
        }
        tokio::spawn(serve_admin(TcpListener::from_std(admin_listener)?, shared.clone(), registry.clone()));
        tokio::spawn(serve_control(TcpListener::from_std(control_listener)?, control));
        let beacons = Beacons::new(shared.clone(), registry.clone(), config.addresses, beacon.port());
        tokio::spawn(beacon::serve(TcpListener::from_std(beacon_listener)?, Arc::new(beacons)));
        tokio::spawn(publish::run(shared.clone(), registry.clone()));
        tokio::spawn(sweep(shared.clone()));
        Ok(Self {
            shared,
            registry,
            http,
            external,
            https,
            tls,
            admin,
            control: control_address,
            beacon,
            drain: config.drain,
            _threads: threads,
        })
    }

    /// Drains. `true` where everything in flight was finished.
    pub async fn drain(&self) -> bool {
        let finished = drain(&self.shared, self.drain).await;
        self.shared.telemetry.flush(FLUSH).await;
        finished
    }
}

fn start_tls(shared: &Arc<Shared>, config: &TlsConfig) -> anyhow::Result<Arc<TlsServer>> {
    let metrics = &shared.metrics.tls;
    let (store, sources) = reload::load(&config.certificates, metrics).map_err(|(directory, error)| {
        let hint = "give --tls-certificate-dir a directory with tls.crt and tls.key, or leave it out";
        anyhow::Error::new(error).context(format!("cannot use the certificate in {}: {hint}", directory.display()))
    })?;
    let store = Arc::new(store);
    let server = Arc::new(TlsServer::new(store.clone(), metrics.clone(), config.handshakes)?);
    let follow = reload::follow(store, sources, metrics.clone(), config.reload, shared.force_close.clone());
    tokio::spawn(follow);
    Ok(server)
}

async fn sweep(shared: Arc<Shared>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        let now = shared.millis();
        shared.clients.sweep(now, &shared.limits, shared.close_idle.is_cancelled(), shared.draining());
    }
}

/// Runs the activator until a signal ends it.
///
/// # Errors
/// A flag is wrong, a port is taken, or there is no way to reach a cluster.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let limits = args.limits()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let client = kube::Client::try_default().await.context(
        "cannot find a cluster: run inside one with a service account, or set KUBECONFIG to a kubeconfig file",
    )?;
    let config = Config {
        bind: args.bind,
        http_port: args.http_port,
        external_port: args.external_port,
        admin_port: args.admin_port,
        control_port: args.control_port,
        beacon_port: args.beacon_port,
        addresses: Arc::new(KubeAddresses::new(client.clone())),
        token: args.control_token_file.clone().map_or(Token::Missing, Token::File),
        pod_uid: args.pod_uid.clone().filter(|uid| !uid.is_empty()),
        domains: Domains::new(&args.cluster_domain, &args.domain),
        limits,
        trust: args.observe.trust(),
        telemetry: args.observe.telemetry()?,
        drain: args.drain(),
        tls: args.tls(),
    };
    let activator = Activator::start(config, Arc::new(KubeScale::new(client.clone())))?;
    info!(http = %activator.http, https = ?activator.https, admin = %activator.admin, control = %activator.control, "started");
    let (shared, registry) = (&activator.shared, &activator.registry);
    let namespace = args.namespace.clone();
    tokio::spawn(watch::functions(shared.clone(), registry.clone(), client.clone(), namespace.clone()));
    tokio::spawn(watch::pods(shared.clone(), registry.clone(), client.clone(), namespace.clone()));
    if !args.pod_ips.is_empty() {
        tokio::spawn(watch::slices(registry.clone(), client, namespace, args.pod_ips.clone()));
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::select! {
        _ = activator.drain() => {}
        _ = interrupt.recv() => info!("interrupted again: leaving at once"),
    }
    info!("stopped");
    Ok(())
}
