//! What the operator's step-down hand-shake does to a Function's state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotlight_crds::control::{DrainOutcome, DrainPurpose, DrainRequest, DrainResponse, DrainScope};

use crate::endpoint::ProbeTarget;
use crate::function::endpoints::CONDEMNED_FOR;
use crate::index::PodView;

use super::State;

impl<W> State<W> {
    /// Answers a drain request of the operator. `concerned`: it is about this cell's revision or pods; else only requests at the pods in scope
    /// keep it from agreeing.
    pub fn drain(&mut self, now: Instant, request: &DrainRequest, concerned: bool) -> DrainResponse {
        let in_flight = self.endpoints.in_flight_of(&request.scope);
        let queued = match request.scope {
            _ if !concerned => 0,
            DrainScope::All { .. } => self.queued(),
            DrainScope::Pods { .. } if request.purpose == DrainPurpose::Park => self.queued(),
            // Whichever pod it is, it may be the one that they wait for.
            DrainScope::Pods { .. } if self.usable() == 0 => self.queued(),
            DrainScope::Pods { .. } => 0,
        };
        // Samples are told when a second is over: what happened since, whoever decided does not know.
        let unheard = concerned && request.purpose != DrainPurpose::Remove && self.was_asked_lately(now);
        if in_flight > 0 || queued > 0 || unheard {
            return DrainResponse::Busy { in_flight, queued };
        }
        self.begin_drain(now, request, concerned);
        DrainResponse::Drained
    }

    /// Sends nothing more to the pods in scope, though requests are in flight at them. [`Self::in_flight_at`] tells when they have ended.
    pub fn begin_drain(&mut self, now: Instant, request: &DrainRequest, concerned: bool) {
        let expires = now + Duration::from_millis(request.ttl_millis);
        self.handshakes.open(request, expires, concerned);
        if request.purpose == DrainPurpose::Park {
            self.endpoints.agree(&request.scope);
        }
        self.refresh(now);
    }

    /// Requests at the pods in scope.
    pub fn in_flight_at(&self, scope: &DrainScope) -> u32 {
        self.endpoints.in_flight_of(scope)
    }

    /// Ends a hand-shake. One that is unknown or was fenced changes nothing.
    pub fn release_handshake(&mut self, now: Instant, id: &str, outcome: DrainOutcome) {
        let Some((scope, purpose)) = self.handshakes.close(id) else { return };
        match (outcome, purpose) {
            (DrainOutcome::Committed, DrainPurpose::Remove) => self.endpoints.condemn(&scope, now + CONDEMNED_FOR),
            (DrainOutcome::Committed, DrainPurpose::Park) => self.endpoints.park(&scope),
            _ => {}
        }
        self.refresh(now);
    }

    /// Uids of throttled pods that requests are at: they have to get their CPU back.
    pub fn starved(&self) -> Vec<Arc<str>> {
        self.endpoints.starved()
    }

    /// A pod as the watch shows it.
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodView>> {
        self.pods.iter().find(|pod| &*pod.uid == uid)
    }

    /// The CPU was given back to the pods of every throttling that had run out at `asked`: none of them can happen any more.
    pub fn restored(&mut self, now: Instant, asked: Instant) {
        self.fence(asked, DrainPurpose::Throttle);
        self.refresh(now);
    }

    /// A fence that began at `asked` succeeded. `gone`: the step down had happened.
    pub fn fenced(&mut self, now: Instant, asked: Instant, gone: bool) {
        for scope in self.fence(asked, DrainPurpose::Remove) {
            if gone {
                self.endpoints.condemn(&scope, now + CONDEMNED_FOR);
            }
        }
        self.refresh(now);
    }

    /// Lets pods that outlived a step down be probed anew.
    pub fn reprieve(&mut self, now: Instant) -> Vec<ProbeTarget> {
        if !self.endpoints.reprieve(now) {
            return Vec::new();
        }
        self.endpoints.to_probe(&self.pods)
    }
}
