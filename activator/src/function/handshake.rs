//! The activator's side of the step-down hand-shake (ARCHITECTURE.md): which pods must not be used, until when, and what a
//! release or the lack of one means. Pure.
//!
//! What always holds: between `drained` and either a release or a successful fence, a pod in scope gets no request.

use std::sync::Arc;
use std::time::Instant;

use pilotlight_crds::control::{DrainPurpose, DrainRequest, DrainScope};

/// One hand-shake that was answered with `drained`.
#[derive(Clone, Debug)]
struct Handshake {
    id: String,
    scope: DrainScope,
    purpose: DrainPurpose,
    expires: Instant,
    /// It was about the cell that answered.
    own: bool,
}

/// The hand-shakes of one Function that are neither released nor fenced. Where several cells serve it, each keeps all of them, because pods may
/// go from one to another, and sees to those that are about itself.
#[derive(Clone, Debug, Default)]
pub struct Handshakes {
    open: Vec<Handshake>,
}

/// Whether a scope is about a pod.
pub fn covers(scope: &DrainScope, revision: &str, uid: &str) -> bool {
    match scope {
        DrainScope::All { revision: scoped } => scoped == revision,
        DrainScope::Pods { uids } => uids.iter().any(|scoped| scoped == uid),
    }
}

impl Handshakes {
    /// Keeps to a hand-shake from now on. The same id again renews it. `own`: it is about the cell that keeps to it.
    pub fn open(&mut self, request: &DrainRequest, expires: Instant, own: bool) {
        let (id, scope, purpose) = (request.handshake.clone(), request.scope.clone(), request.purpose);
        self.open.retain(|h| h.id != id);
        self.open.push(Handshake { id, scope, purpose, expires, own });
    }

    /// The same ones, for a cell that was not there when they were answered.
    pub fn for_another(&self) -> Self {
        Self { open: self.open.iter().map(|h| Handshake { own: false, ..h.clone() }).collect() }
    }

    /// Ends a hand-shake and gives its scope and purpose; `None` for one that is unknown, or was fenced before.
    pub fn close(&mut self, id: &str) -> Option<(DrainScope, DrainPurpose)> {
        let at = self.open.iter().position(|h| h.id == id)?;
        let closed = self.open.swap_remove(at);
        Some((closed.scope, closed.purpose))
    }

    /// Whether a pod must not be used.
    pub fn blocks(&self, revision: &str, uid: &str) -> bool {
        self.open.iter().any(|h| covers(&h.scope, revision, uid))
    }

    /// Scope and purpose of the first one whose time is over without a release, of those that the cell has to see to. `is_about`: whether a
    /// scope is about the cell as it is now.
    pub fn expired(&self, now: Instant, is_about: impl Fn(&DrainScope) -> bool) -> Option<(&DrainScope, DrainPurpose)> {
        let expired = self.open.iter().find(|h| h.expires <= now && (h.own || is_about(&h.scope)));
        expired.map(|h| (&h.scope, h.purpose))
    }

    /// When the next one runs out.
    pub fn next_expiry(&self, now: Instant) -> Option<Instant> {
        self.open.iter().map(|h| h.expires).filter(|at| *at > now).min()
    }

    /// Forgets all for this purpose that had run out at `asked` (when the fence began), after a fence that succeeded, of those that the cell has
    /// to see to; gives their scopes.
    pub fn fenced(
        &mut self,
        asked: Instant,
        purpose: DrainPurpose,
        is_about: impl Fn(&DrainScope) -> bool,
    ) -> Vec<DrainScope> {
        let mut scopes = Vec::new();
        self.open.retain(|h| {
            let over = h.expires <= asked && h.purpose == purpose && (h.own || is_about(&h.scope));
            if over {
                scopes.push(h.scope.clone());
            }
            !over
        });
        scopes
    }
}

/// The revision whose Deployment a fence is about: the scope's own, or that of the first pod it names.
pub fn fence_target(scope: &DrainScope, revision_of: impl Fn(&str) -> Option<Arc<str>>) -> Option<Arc<str>> {
    match scope {
        DrainScope::All { revision } => Some(revision.as_str().into()),
        DrainScope::Pods { uids } => uids.iter().find_map(|uid| revision_of(uid)),
    }
}
