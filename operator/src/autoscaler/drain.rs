//! Asking the activators to leave pods alone, and telling them what came of it: the messages of one hand-shake.
//!
//! What always holds: `ask` says drained only if everyone asked said so; everyone asked is told of the end.

use std::time::Duration;

use futures::future::join_all;
use pilotlight_crds::control::{DrainOutcome, DrainPurpose, DrainRequest, DrainResponse, DrainScope, ReleaseRequest};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::cluster::Peer;
use super::control::ControlClient;

/// For how long an activator keeps to a drain without a release.
pub(super) const TTL: Duration = Duration::from_secs(10);
/// Time for one activator's answer, beside what it may wait for requests to end.
const ANSWER: Duration = Duration::from_secs(1);

/// What the activators said.
#[derive(Debug)]
pub(super) enum Asked {
    /// None of them has a request at the pods, nor will send one until the release.
    Drained,
    /// One has requests there, or waiting.
    Busy {
        /// Requests at the pods.
        in_flight: u32,
        /// Requests that wait.
        queued: u32,
    },
    /// One gave no usable answer.
    Unanswered {
        /// Its pod.
        pod: String,
        /// Why.
        error: String,
    },
}

/// One hand-shake of one Function.
pub(super) struct Drain<'a> {
    control: &'a ControlClient,
    request: DrainRequest,
    asked: Vec<Peer>,
}

impl<'a> Drain<'a> {
    /// A hand-shake that nobody knows of yet.
    pub(super) fn new(
        control: &'a ControlClient,
        (namespace, name): (&str, &str),
        scope: DrainScope,
        ttl: Duration,
        wait: Duration,
    ) -> Self {
        let handshake = format!("{:032x}", rand::random::<u128>());
        Self {
            control,
            request: DrainRequest {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                handshake,
                scope,
                purpose: DrainPurpose::Remove,
                ttl_millis: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
                wait_millis: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            },
            asked: Vec::new(),
        }
    }

    /// For another purpose than to remove pods.
    pub(super) fn to(mut self, purpose: DrainPurpose) -> Self {
        self.request.purpose = purpose;
        self
    }

    /// Asks `peers`. Whoever was asked is told of the end, whatever the answer was.
    pub(super) async fn ask(&mut self, peers: &[Peer], until: Instant) -> Asked {
        // Noted first: who is asked must be told of the end, also if this call is cancelled.
        self.asked.extend_from_slice(peers);
        let limit = (ANSWER + Duration::from_millis(self.request.wait_millis))
            .min(until.saturating_duration_since(Instant::now()));
        let request = &self.request;
        let control = self.control;
        let answers = join_all(peers.iter().map(|peer| async move {
            match peer.address {
                Some(address) => control.drain(address, request, limit).await.map_err(|error| error.to_string()),
                None => Err("it has no address yet".to_owned()),
            }
        }))
        .await;
        let mut verdict = Asked::Drained;
        for (peer, answer) in peers.iter().zip(answers) {
            match (answer, &verdict) {
                (Ok(DrainResponse::Drained), _) => {}
                (Ok(DrainResponse::Busy { in_flight, queued }), _) => {
                    debug!(pod = %peer.pod, in_flight, queued, "An activator is busy");
                    verdict = Asked::Busy { in_flight, queued };
                }
                // Traffic is the better reason to stay than a missing answer.
                (Err(_), Asked::Busy { .. }) => {}
                (Err(error), _) => {
                    verdict = Asked::Unanswered { pod: peer.pod.clone(), error };
                }
            }
        }
        verdict
    }

    /// Tells every activator that was asked what became of it. One that does not hear it fences when its time is over.
    pub(super) async fn release(&self, outcome: DrainOutcome) {
        let release = ReleaseRequest {
            namespace: self.request.namespace.clone(),
            name: self.request.name.clone(),
            handshake: self.request.handshake.clone(),
            outcome,
        };
        let release = &release;
        join_all(self.asked.iter().map(|peer| async move {
            let Some(address) = peer.address else { return };
            let first = self.control.release(address, release, ANSWER).await;
            if first.is_ok() {
                return;
            }
            if let Err(error) = self.control.release(address, release, ANSWER).await {
                warn!(
                    function = %release.name, namespace = %release.namespace, pod = %peer.pod, %error,
                    "An activator did not hear the end of a hand-shake; it fences by itself"
                );
            }
        }))
        .await;
    }
}
