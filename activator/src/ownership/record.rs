//! The operator's word on who may send to a Function's pods, as plain data.

use std::net::IpAddr;
use std::sync::Arc;

use pilotlight_crds::status::{ActivatorRef, RouteOwner};

/// Another activator, or this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Uid of its pod.
    pub uid: Arc<str>,
    /// Name of its pod.
    pub pod: Arc<str>,
    /// Where it is; `None` where that is not known.
    pub ip: Option<IpAddr>,
}

impl From<&ActivatorRef> for Peer {
    fn from(activator: &ActivatorRef) -> Self {
        Self {
            uid: activator.uid.as_str().into(),
            pod: activator.pod.as_str().into(),
            ip: activator.address.parse().ok(),
        }
    }
}

impl From<&Peer> for ActivatorRef {
    fn from(peer: &Peer) -> Self {
        Self {
            pod: peer.pod.to_string(),
            uid: peer.uid.to_string(),
            address: peer.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        }
    }
}

/// Who may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Every activator: the Function has no hard limit.
    Everyone,
    /// None yet.
    Nobody,
    /// This one alone.
    One(Peer),
}

/// Who may send, and since which epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Grows with every change.
    pub epoch: i64,
    /// Who may send.
    pub sender: Sender,
    /// Whom the owner must ask; `None` where another activator told of the epoch, which does not know.
    pub others: Option<Vec<Peer>>,
}

impl From<&RouteOwner> for Record {
    fn from(owner: &RouteOwner) -> Self {
        let sender = match &owner.activator {
            Some(activator) => Sender::One(activator.into()),
            None if owner.everyone => Sender::Everyone,
            None => Sender::Nobody,
        };
        Self { epoch: owner.epoch, sender, others: Some(owner.others.iter().map(Peer::from).collect()) }
    }
}
