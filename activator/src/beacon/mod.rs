//! The port where starting pods announce their own address, a second before Kubernetes reports it. Anybody in the cluster may connect to it, so
//! nothing that comes in is believed by itself.
//!
//! What always holds: connections, bytes and time are bounded, for each source and in all; an address becomes known only where [`believe`]
//! says so and the API server knows of no other pod that has it; every announcement is counted, by what became of it.

pub mod believe;
pub mod holders;
pub mod metrics;
pub mod room;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pilotlight_crds::control::{Beacon, PATH_BEACON};
use pilotlight_crds::names;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::index::FunctionKey;
use crate::registry::Registry;
use crate::runtime::Shared;
use believe::{Disbelief, Word};
use holders::AddressPort;
use metrics::CONTRADICTED;
use room::Room;

/// Longest announcement, without its head.
const MAX_BODY: usize = 1024;
/// Longest head.
const MAX_HEAD: usize = 8 * 1024;
/// How long an announcement may wait for the watch to show its pod: the watch is rarely so late.
const HOLD: Duration = Duration::from_secs(2);
/// How long the API server may take to say who has an address.
const LOOKUP: Duration = Duration::from_secs(1);
/// How often it is looked whether Kubernetes still has not reported the address of a pod that was announced.
const CONFIRM_EVERY: Duration = Duration::from_secs(2);
/// How long a connection may last, whatever happens on it. More than the other two together.
const CONNECTION: Duration = Duration::from_secs(4);
/// Questions to the API server at once.
const LOOKUPS: usize = 16;

/// What answers announcements.
pub struct Beacons {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    addresses: Arc<dyn AddressPort>,
    lookups: Semaphore,
    room: Arc<Room>,
    /// Where the other activators listen, too.
    port: u16,
}

impl Beacons {
    /// Listens on `port`, as all activators do. `addresses` tells which pods have an address.
    pub fn new(shared: Arc<Shared>, registry: Arc<Registry>, addresses: Arc<dyn AddressPort>, port: u16) -> Self {
        Self { shared, registry, addresses, lookups: Semaphore::new(LOOKUPS), room: Arc::default(), port }
    }

    async fn decide(self: &Arc<Self>, beacon: &Beacon, source: IpAddr) -> Result<Word, Disbelief> {
        let key = FunctionKey::new(beacon.namespace.as_str(), beacon.function.as_str());
        if self.judge(&key, beacon, source).await? == Word::Known {
            return Ok(Word::Known);
        }
        self.ask_who_has(&key, &beacon.uid, source).await?;
        // The watch may have shown more in the meantime.
        let word = self.registry.announce(&key, beacon, source)?;
        debug!(function = %key.name, namespace = %key.namespace, address = %source, "a beacon told a pod's address");
        if word == Word::News {
            tokio::spawn(self.clone().confirm(key, beacon.uid.clone(), source));
        }
        Ok(word)
    }

    /// A pod that started in the same moment has no address in the API yet either. So it is asked again until Kubernetes has told.
    async fn confirm(self: Arc<Self>, key: FunctionKey, uid: String, source: IpAddr) {
        loop {
            tokio::time::sleep(CONFIRM_EVERY).await;
            if !self.registry.is_unconfirmed(&key, &uid) {
                return;
            }
            if self.ask_who_has(&key, &uid, source).await == Err(Disbelief::AnotherPodsAddress) {
                self.shared.metrics.beacons.count(CONTRADICTED);
                return;
            }
        }
    }

    /// Judges as soon as the pod is known.
    async fn judge(&self, key: &FunctionKey, beacon: &Beacon, source: IpAddr) -> Result<Word, Disbelief> {
        let judged = async {
            loop {
                let mut changed = pin!(self.registry.pods_changed().notified());
                changed.as_mut().enable();
                match self.registry.judge(key, beacon, source) {
                    Err(Disbelief::UnknownPod) => changed.await,
                    judged => return judged,
                }
            }
        };
        tokio::time::timeout(HOLD, judged).await.unwrap_or(Err(Disbelief::UnknownPod))
    }

    /// Another pod that knows this one's uid could announce itself in its place. Kubernetes knows whose address it is, as soon as that
    /// other pod has run for a second.
    async fn ask_who_has(&self, key: &FunctionKey, uid: &str, source: IpAddr) -> Result<(), Disbelief> {
        let _permit = self.lookups.try_acquire().map_err(|_| Disbelief::Busy)?;
        let asked = tokio::time::timeout(LOOKUP, self.addresses.holders(source)).await;
        let holders = match asked {
            Ok(Ok(holders)) => holders,
            Ok(Err(error)) => {
                warn!(%error, "cannot ask the API server which pod has an address; its word is waited for");
                return Err(Disbelief::Busy);
            }
            Err(_) => return Err(Disbelief::Busy),
        };
        let Some(other) = holders.iter().find(|holder| holder.uid != uid) else { return Ok(()) };
        self.registry.dispute(key, uid);
        warn!(function = %key.name, namespace = %key.namespace, pod = uid, address = %source, holder = %other.name, "a beacon announced the address of another pod");
        Err(Disbelief::AnotherPodsAddress)
    }

    /// Where else this pod should be announced: the activators that the Function's Service leads to beside this one.
    fn others(&self, beacon: &Beacon) -> String {
        let slice = (beacon.namespace.clone(), names::endpoint_slice_name(&beacon.function));
        let others = self.shared.led.others(&slice);
        others.into_iter().take(16).map(|ip| format!("{}\n", SocketAddr::new(ip, self.port))).collect()
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>, source: IpAddr) -> Response<Full<Bytes>> {
        let told = match read(request).await {
            Ok(beacon) => self.decide(&beacon, source).await.map(|word| (word, self.others(&beacon))),
            Err(error) => Err(error),
        };
        match told {
            Ok((word, others)) => {
                self.shared.metrics.beacons.count(word.as_str());
                Response::new(Full::from(others))
            }
            Err(disbelief) => {
                self.shared.metrics.beacons.count(disbelief.as_str());
                let mut response = Response::new(Full::from(format!("{}: {disbelief}\n", disbelief.as_str())));
                *response.status_mut() = status(disbelief);
                response
            }
        }
    }
}

fn status(disbelief: Disbelief) -> StatusCode {
    match disbelief {
        Disbelief::Malformed => StatusCode::BAD_REQUEST,
        // It may be otherwise in a moment.
        Disbelief::UnknownPod | Disbelief::Busy => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    }
}

async fn read(request: Request<Incoming>) -> Result<Beacon, Disbelief> {
    if (request.method(), request.uri().path()) != (&Method::POST, PATH_BEACON) {
        return Err(Disbelief::Malformed);
    }
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await.map_err(|_| Disbelief::Malformed)?;
    serde_json::from_slice(&body.to_bytes()).map_err(|_| Disbelief::Malformed)
}

/// Accepts announcements, for ever.
pub async fn serve(listener: TcpListener, beacons: Arc<Beacons>) {
    loop {
        let Ok((stream, source)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let source = source.ip().to_canonical();
        let Some(place) = beacons.room.enter(source) else {
            // Who floods this port gets no answer; a pilot comes back.
            beacons.shared.metrics.beacons.count(Disbelief::Busy.as_str());
            continue;
        };
        let beacons = beacons.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(CONNECTION, exchange(stream, source, beacons)).await;
            drop(place);
        });
    }
}

async fn exchange(stream: TcpStream, source: IpAddr, beacons: Arc<Beacons>) -> Result<(), hyper::Error> {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let beacons = beacons.clone();
        async move { Ok::<_, Infallible>(beacons.answer(request, source).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HOLD).max_buf_size(MAX_HEAD).keep_alive(false);
    builder.serve_connection(TokioIo::new(stream), service).await
}
