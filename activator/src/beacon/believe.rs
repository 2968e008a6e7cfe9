//! Whether a beacon's word about a pod's address is believed. Pure.
//!
//! Three things must agree: the pod is one that the watch shows, and may have a beacon; Kubernetes has not reported another address for it; and the
//! word came from the very address that it names. The pod's uid is what a stranger would have to know: it is random, and only who may
//! read pods in that namespace sees it.

use std::net::IpAddr;

use pilotlight_crds::control::Beacon;

use crate::index::PodView;

/// What a believed word amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The address was not known.
    News,
    /// It was.
    Known,
}

impl Word {
    /// As the metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::News => "Believed",
            Self::Known => "Known",
        }
    }
}

/// Why a word is not believed. It then changes nothing, and the watch tells the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    /// It is no announcement.
    #[error("POST the announcement of a pod, in JSON, to /v1/beacon")]
    Malformed,
    /// No such pod, in that namespace and of that Function, has been seen.
    #[error("no pod with this uid is known for this Function")]
    UnknownPod,
    /// The pod is of another revision.
    #[error("the pod runs another revision")]
    OtherRevision,
    /// The pod has no beacon, or was not made for a revision of the Function.
    #[error("this pod has no beacon")]
    NoBeacon,
    /// The pod has no node yet, so nothing of it runs.
    #[error("the pod does not run anywhere yet")]
    NotScheduled,
    /// The pod ends, or has ended.
    #[error("the pod ends")]
    Ending,
    /// The connection came from another address, as it does through NAT or from the host's network.
    #[error("the connection does not come from the address that it announces")]
    OtherSource,
    /// Kubernetes reports another address.
    #[error("Kubernetes reports another address for the pod, or another one was announced before")]
    OtherAddress,
    /// The address belongs to another pod.
    #[error("the address is that of another pod")]
    AnotherPodsAddress,
    /// Another pod's address was announced for this pod before.
    #[error("another pod's address was announced for this pod before")]
    Disputed,
    /// Too many at once, or the API server does not answer.
    #[error("it cannot be told now; try again")]
    Busy,
}

impl Disbelief {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::Malformed,
        Self::UnknownPod,
        Self::OtherRevision,
        Self::NoBeacon,
        Self::NotScheduled,
        Self::Ending,
        Self::OtherSource,
        Self::OtherAddress,
        Self::AnotherPodsAddress,
        Self::Disputed,
        Self::Busy,
    ];

    /// CamelCase, for answer and metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "Malformed",
            Self::UnknownPod => "UnknownPod",
            Self::OtherRevision => "OtherRevision",
            Self::NoBeacon => "NoBeacon",
            Self::NotScheduled => "NotScheduled",
            Self::Ending => "Ending",
            Self::OtherSource => "OtherSource",
            Self::OtherAddress => "OtherAddress",
            Self::AnotherPodsAddress => "AnotherPodsAddress",
            Self::Disputed => "Disputed",
            Self::Busy => "Busy",
        }
    }
}

/// Judges `beacon`, which came from `source`; `pod` is the pod with its uid, of its Function.
///
/// # Errors
/// Why it is not believed.
pub fn judge(beacon: &Beacon, source: IpAddr, pod: Option<&PodView>) -> Result<Word, Disbelief> {
    let usable = !(source.is_unspecified() || source.is_multicast());
    if beacon.ip.to_canonical() != source || !usable {
        return Err(Disbelief::OtherSource);
    }
    let pod = pod.ok_or(Disbelief::UnknownPod)?;
    if *pod.revision != *beacon.revision {
        return Err(Disbelief::OtherRevision);
    }
    if !pod.beacon.expected {
        return Err(Disbelief::NoBeacon);
    }
    if !pod.beacon.scheduled {
        return Err(Disbelief::NotScheduled);
    }
    if !pod.is_live() {
        return Err(Disbelief::Ending);
    }
    match pod.address {
        Some(known) if known.ip() == source => Ok(Word::Known),
        Some(_) => Err(Disbelief::OtherAddress),
        None if pod.beacon.disputed => Err(Disbelief::Disputed),
        None => Ok(Word::News),
    }
}

#[cfg(test)]
mod tests;
