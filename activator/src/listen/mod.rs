//! The listeners: one where the Host header names the Function, and one for each Function's route port, which come and go with the
//! index. A port that cannot be opened is tried again and never fatal.

pub mod builders;
pub mod client_io;
pub mod conn;
pub mod gate;
pub mod sniff;
pub mod stream;
pub mod strict;
pub mod sweep;
pub mod syntax;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pilotlight_crds::control::RouteAck;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::conn::Protocol;
use crate::function::FunctionCell;
use crate::proxy::{Client, Target};
use crate::runtime::Shared;
use crate::tls::TlsServer;

const BACKLOG: i32 = 4096;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Opens a listening socket. `::` takes IPv4 too; where the host has no IPv6, `0.0.0.0` is opened instead.
///
/// # Errors
/// The port is taken, or not allowed.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    match bind_exactly(address) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && !is_taken(&error) => {
            bind_exactly(SocketAddr::from(([0, 0, 0, 0], address.port())))
        }
        result => result,
    }
}

fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

fn bind_exactly(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

struct Open {
    cell: Arc<FunctionCell>,
    stop: CancellationToken,
}

/// The route ports that are open.
#[derive(Default)]
pub struct RoutePorts {
    open: Mutex<HashMap<u16, Open>>,
}

impl RoutePorts {
    /// Lets a port lead to this Function, or to none: opens or closes its listener, where that is not so already.
    pub fn set(&self, shared: &Arc<Shared>, bind: IpAddr, port: u16, wanted: Option<Arc<FunctionCell>>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = open.get(&port) {
            if wanted.as_ref().is_some_and(|cell| Arc::ptr_eq(cell, &listener.cell)) {
                return;
            }
            listener.stop.cancel();
            shared.publisher.remove_route(&ack(&listener.cell, port));
            open.remove(&port);
        }
        let Some(cell) = wanted.filter(|_| !shared.stop_accepting.is_cancelled()) else { return };
        let stop = shared.stop_accepting.child_token();
        open.insert(port, Open { cell: cell.clone(), stop: stop.clone() });
        let serving = serve_route(shared.clone(), SocketAddr::new(bind, port), cell, stop);
        shared.lanes.spawn_listener(&shared.tasks, serving);
    }
}

fn ack(cell: &FunctionCell, port: u16) -> RouteAck {
    RouteAck { namespace: cell.key.namespace.to_string(), name: cell.key.name.to_string(), port }
}

async fn serve_route(shared: Arc<Shared>, address: SocketAddr, cell: Arc<FunctionCell>, stop: CancellationToken) {
    let mut pause = FIRST_RETRY;
    let listener = loop {
        match bind(address) {
            Ok(listener) => break listener,
            Err(error) => {
                warn!(function = %cell.key.name, namespace = %cell.key.namespace, port = address.port(), %error, "cannot open a route port, will try again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_RETRY),
            () = stop.cancelled() => return,
        }
    };
    info!(function = %cell.key.name, namespace = %cell.key.namespace, port = address.port(), "route port opened");
    if !stop.is_cancelled() {
        shared.publisher.add_route(ack(&cell, address.port()));
    }
    accept(shared, listener, Entrance { target: Target::Function(cell), tls: None }, stop).await;
}

/// Accepts until told to stop; then takes what the kernel has accepted already, so that no client is turned away that was let in.
pub async fn accept(shared: Arc<Shared>, listener: std::net::TcpListener, entrance: Entrance, stop: CancellationToken) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!(%error, "cannot watch a port: this process can watch no more sockets"),
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                entrance.target.take_turn(Instant::now()).await;
                admit(&shared, stream, peer, &entrance).await;
            }
            Err(error) => {
                if !is_peers_fault(&error) {
                    warn!(%error, "cannot accept connections, will try again");
                    tokio::time::sleep(FIRST_RETRY).await;
                }
            }
        }
    }
    while let Some(Ok((stream, peer))) = futures::FutureExt::now_or_never(listener.accept()) {
        admit(&shared, stream, peer, &entrance).await;
    }
}

fn is_peers_fault(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// What a listener's connections are about, and what they speak first.
#[derive(Clone)]
pub struct Entrance {
    /// Which Function.
    pub target: Target,
    /// With TLS.
    pub tls: Option<Arc<TlsServer>>,
}

/// Starts serving a connection once the process may have one more; until then accepting pauses.
async fn admit(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr, entrance: &Entrance) {
    shared.note_accept();
    let Ok(permit) = shared.connections.clone().acquire_owned().await else { return };
    let (serving, entrance) = (shared.clone(), entrance.clone());
    let serve = move |stream| async move {
        enter(serving, stream, peer, entrance).await;
        drop(permit);
    };
    if let Err(error) = shared.lanes.seat().serve(stream, &shared.tasks, serve) {
        warn!(%error, "cannot serve a connection");
    }
}

async fn enter(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr, entrance: Entrance) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    let Entrance { target, tls } = entrance;
    let client = Client { address: peer, encrypted: tls.is_some() };
    match tls {
        None => conn::serve(shared, stream, client, target, None).await,
        // On the heap, so that connections without TLS don't carry the room for it.
        Some(tls) => Box::pin(enter_tls(shared, stream, client, target, tls)).await,
    }
}

async fn enter_tls(shared: Arc<Shared>, stream: TcpStream, client: Client, target: Target, tls: Arc<TlsServer>) {
    let shaken = tokio::select! {
        shaken = tls.accept(stream) => shaken,
        () = shared.close_idle.cancelled() => return,
    };
    match shaken {
        Ok(stream) => {
            let protocol = stream.get_ref().1.alpn_protocol().map(|agreed| match agreed {
                b"h2" => Protocol::Http2,
                _ => Protocol::Http1,
            });
            conn::serve(shared, stream, client, target, protocol).await;
        }
        Err(error) => debug!(%error, "no encrypted connection"),
    }
}
