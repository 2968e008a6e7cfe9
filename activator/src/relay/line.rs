//! The connections to the owner of one Function, and the mark that requests carry there.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, Version};
use pilotlight_crds::workload::Protocol;

use super::key::Keys;
use super::mark::Mark;
use crate::control::Token;
use crate::endpoint::Upstream;
use crate::endpoint::connect::connect;
use crate::endpoint::schedule::Schedule;
use crate::function::FunctionCell;
use crate::ownership::Peer;
use crate::runtime::Shared;

/// What activators need to know of each other. By default: nothing, so this one owns no Function.
#[derive(Default)]
pub struct Peers {
    /// Uid of this activator's pod; without one it never owns a Function.
    pub uid: Option<Arc<str>>,
    /// The port where the Host header names the Function, the same for all.
    pub http_port: u16,
    /// The port of the control protocol, the same for all.
    pub control_port: u16,
    /// The control token.
    pub keys: Arc<Keys>,
}

impl Peers {
    /// This activator's own, which are those of all others but for the uid. Follows the token from now on.
    pub fn new(uid: Option<String>, http_port: u16, control_port: u16, token: &Token) -> Self {
        let keys = Arc::new(Keys::load(token.clone()));
        tokio::spawn(keys.clone().follow());
        Self { uid: uid.map(Arc::from), http_port, control_port, keys }
    }
}

/// The way to the owner of a Function.
#[derive(Debug)]
pub struct Line {
    /// The epoch that names it.
    pub epoch: i64,
    /// Its address, at the Function's route port.
    pub address: SocketAddr,
    key: Option<Arc<str>>,
    owner: Arc<str>,
    mark: Option<HeaderValue>,
    h1: Arc<Upstream>,
    h2: Arc<Upstream>,
}

impl Line {
    /// A way without connections yet.
    pub fn new(epoch: i64, owner: &Peer, address: SocketAddr, key: Option<Arc<str>>, shared: &Shared) -> Self {
        let upstream = |protocol| {
            let upstream = Upstream::at(address, protocol, owner.pod.clone(), &shared.limits);
            Arc::new(upstream.through(shared.dial.clone()))
        };
        Self {
            epoch,
            address,
            mark: key.as_ref().and_then(|key| Mark::new(key, epoch, &owner.uid).value()),
            key,
            owner: owner.uid.clone(),
            h1: upstream(Protocol::HTTP1),
            h2: upstream(Protocol::H2C),
        }
    }

    /// Whether it still leads to this owner, with this mark.
    pub fn leads_to(&self, epoch: i64, owner: &Peer, address: SocketAddr, key: Option<&Arc<str>>) -> bool {
        self.epoch == epoch && self.owner == owner.uid && self.address == address && self.key.as_ref() == key
    }

    /// What a request carries.
    pub fn mark(&self) -> Option<&HeaderValue> {
        self.mark.as_ref()
    }

    /// The connections for a client's protocol, so that the owner sees what the client sent: upgrades exist in HTTP/1.1 only,
    /// undeclared trailers in HTTP/2 only.
    pub fn upstream(&self, client: Version) -> &Arc<Upstream> {
        if client == Version::HTTP_2 { &self.h2 } else { &self.h1 }
    }
}

/// Tries an owner that could not be reached until it can be, or another is named.
pub async fn find(cell: Arc<FunctionCell>, line: Arc<Line>) {
    let mut schedule = Schedule::default();
    let limit = cell.shared().limits.connect_timeout;
    while cell.misses_owner(line.epoch) {
        tokio::time::sleep(schedule.next_pause()).await;
        if connect(&cell.shared().dial, line.address, limit).await.is_ok() {
            cell.found_owner(line.epoch);
            return;
        }
    }
}
