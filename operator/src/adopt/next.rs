//! The next write that takes a Deployment and its Service over, or gives them back, decided from how they are. Pure.
//!
//! What always holds: the Service leads somewhere after every write (make before break); what it takes to give both back is noted before anything is
//! taken; nothing of Pilotlight's is left where a release has come to rest. Since every step follows from what is there, a crash between two
//! writes needs no repair: the next look goes on.

use super::note::Selector;

/// What is to become of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// It is taken over, and kept so.
    Adopt,
    /// It stays as it is: it does not fit, and its owner has not taken the consent back.
    Hold,
    /// It is given back.
    Release,
}

/// The EndpointSlice of Pilotlight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// There is none.
    Missing,
    /// It is not as it should be.
    Stale,
    /// It is as it should be, or nobody knows better.
    Right,
}

/// The Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceScene {
    /// Its selector.
    pub selector: Option<Selector>,
    /// The selector that it had.
    pub noted_selector: Option<Selector>,
    /// The replicas that the Deployment had.
    pub noted_replicas: Option<u32>,
    /// Whether there is any note, legible or not.
    pub noted: bool,
}

/// How things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// What is to become of the target.
    pub aim: Aim,
    /// The Function has the finalizer.
    pub bound: bool,
    /// The Service; `None`: there is none.
    pub service: Option<ServiceScene>,
    /// Replicas that the Deployment is to have; `None`: there is no Deployment.
    pub replicas: Option<u32>,
    /// Labels that select the Deployment's pods, in case the Service's own selector was lost.
    pub pods: Selector,
    /// Pilotlight's EndpointSlice.
    pub slice: Slice,
    /// Somebody is known that the Service can lead to, beside what its own selector makes.
    pub target: bool,
    /// There are EndpointSlices that Kubernetes made.
    pub others: bool,
    /// One of them has a ready endpoint.
    pub others_ready: bool,
    /// Whether to go on waiting for such an endpoint.
    pub patient: bool,
    /// Pilotlight's slice has been gone for long enough that nobody is led to activators any more.
    pub lingered: bool,
    /// The namespace is being deleted, with all of this.
    pub all_goes: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The Function gets the finalizer.
    Bind,
    /// The Service gets a note of its selector and of the Deployment's replicas.
    Note(Selector, u32),
    /// Pilotlight's EndpointSlice is written.
    Lead,
    /// The Service loses its selector.
    Unselect,
    /// What Kubernetes made of the selector goes.
    Clear,
    /// The Deployment gets so many replicas.
    Scale(u32),
    /// The Service gets its selector back.
    Select(Selector),
    /// Pilotlight's EndpointSlice goes.
    Unlead,
    /// The note goes.
    Forget,
    /// The finalizer goes.
    Unbind,
    /// There is nothing to do.
    Rest(Rest),
}

/// Why there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The target is taken over.
    Adopted,
    /// No activator can be led to yet.
    AwaitsActivators,
    /// It does not fit.
    Held,
    /// The Service's own endpoints are not ready yet.
    AwaitsEndpoints,
    /// Somebody may still be led to activators.
    Lingers,
    /// Nothing is taken over.
    Released,
}

/// Decides.
pub fn next(scene: &Scene) -> Step {
    match scene.aim {
        Aim::Adopt => adopt(scene),
        Aim::Hold if scene.slice == Slice::Stale && scene.target => Step::Lead,
        Aim::Hold => Step::Rest(Rest::Held),
        Aim::Release => release(scene),
    }
}

fn adopt(scene: &Scene) -> Step {
    let Some(service) = &scene.service else {
        return Step::Rest(Rest::Held);
    };
    if !scene.bound {
        return Step::Bind;
    }
    let unknown = service.noted_selector.is_none() || service.noted_replicas.is_none();
    let selector = service.selector.as_ref().or(service.noted_selector.as_ref());
    match selector {
        Some(selector) if unknown || service.noted_selector.as_ref() != Some(selector) => {
            // What it had when it was taken over counts, not what it has at zero.
            let replicas = service.noted_replicas.or(scene.replicas).unwrap_or(1).max(1);
            return Step::Note(selector.clone(), replicas);
        }
        Some(_) => {}
        None => return Step::Rest(Rest::Held),
    }
    match scene.slice {
        Slice::Missing if !scene.target => return Step::Rest(Rest::AwaitsActivators),
        Slice::Missing | Slice::Stale if scene.target => return Step::Lead,
        _ => {}
    }
    if service.selector.is_some() {
        return Step::Unselect;
    }
    if scene.others { Step::Clear } else { Step::Rest(Rest::Adopted) }
}

fn release(scene: &Scene) -> Step {
    if scene.all_goes {
        // Nobody would have it back. No pod can be made there any more, so to wait for one would only hold the namespace up.
        return if scene.bound { Step::Unbind } else { Step::Rest(Rest::Released) };
    }
    if let Some(service) = &scene.service
        && (service.noted || scene.slice != Slice::Missing)
    {
        return give_back(scene, service);
    }
    match (scene.bound, &scene.service, scene.replicas) {
        // With the Service went the note; at zero nobody would wake it any more.
        (true, None, Some(0)) => Step::Scale(1),
        (true, ..) => Step::Unbind,
        (false, ..) => Step::Rest(Rest::Released),
    }
}

fn give_back(scene: &Scene, service: &ServiceScene) -> Step {
    if scene.slice == Slice::Stale && scene.target {
        return Step::Lead;
    }
    let led = service.selector.is_some() && scene.others_ready;
    let replicas = service.noted_replicas.unwrap_or(1);
    // Once it leads to pods again, their number is the owner's business.
    let left = service.selector.is_some() && scene.slice == Slice::Missing;
    if !led && !left && scene.replicas.is_some_and(|now| now < replicas) {
        return Step::Scale(replicas);
    }
    if service.selector.is_none() {
        let selector = service.noted_selector.clone().unwrap_or_else(|| scene.pods.clone());
        if !selector.is_empty() {
            return Step::Select(selector);
        }
    }
    if scene.slice != Slice::Missing {
        let hopeless = !scene.patient || scene.replicas.is_none();
        return if led || hopeless { Step::Unlead } else { Step::Rest(Rest::AwaitsEndpoints) };
    }
    if scene.lingered { Step::Forget } else { Step::Rest(Rest::Lingers) }
}

#[cfg(test)]
mod tests;
