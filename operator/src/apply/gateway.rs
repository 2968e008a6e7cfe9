//! The HTTPRoutes or the Ingress of a Function.
//!
//! What always holds: an object that the Function does not own is left alone and named; a write happens only where something differs; what fails
//! here fails nothing else of the Function, and is tried again.

use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use pilotlight_crds::{Function, FunctionStatus, condition, names};
use std::fmt::Debug;
use std::sync::Arc;

use super::{Applied, ApplyError, Refusal, controller, sort, taken};
use crate::build::owns;
use crate::cache::{Fronts, Kept, Shelf, Watched};
use crate::context::Context;
use crate::drift::holds;
use crate::gateway::{HTTPRoute, Outside, Word, ingress, of_ingress, of_routes, routes};
use crate::reconcile::WATCHFUL;

/// What became of the way in from outside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fronted {
    /// What to say of it; nothing where the Function is not to be had from outside.
    pub word: Option<Word>,
    /// Whether it has to be looked at again though nothing tells: an object of somebody else is in the way, or the API server did not answer.
    pub again: bool,
}

impl Fronted {
    /// The next look, where `planned` is that for all else.
    pub fn next_look(&self, planned: Action) -> Action {
        if self.again && planned != Action::requeue(WATCHFUL) { Action::requeue(WATCHFUL * 5) } else { planned }
    }
}

/// [`apply`], once the Function's own objects were applied. As long as it has no Service, or that is somebody else's, nothing is led to it anew.
pub async fn apply_behind(
    context: &Context,
    function: &Function,
    status: &FunctionStatus,
    held: &[String],
    applied: &Applied,
) -> Fronted {
    match applied.service {
        Ok(()) => apply(context, function, status, held, Some(names::SERVICE_PORT)).await,
        Err(_) => Fronted::default(),
    }
}

/// Makes them what they should be. `service`: the port of the Function's Service, where that is the Function's to lead to; else none is kept.
pub async fn apply(
    context: &Context,
    function: &Function,
    status: &FunctionStatus,
    held: &[String],
    service: Option<u16>,
) -> Fronted {
    let Some(fronts) = &context.caches.fronts else { return Fronted::default() };
    let tags = status.route.as_ref().map(|route| route.tags.as_slice()).unwrap_or_default();
    let outside =
        Outside { function, port: service.unwrap_or_default(), domain: context.domain.as_deref(), held, tags };
    let settled = match fronts {
        Fronts::Routes(parents, watched) => {
            let wanted = if service.is_some() { routes(&outside, parents) } else { Vec::new() };
            let scene = Scene { context, function, kind: "HTTPRoute" };
            scene
                .settle(watched, wanted)
                .await
                .map(|made| made.map(|made: Vec<Arc<HTTPRoute>>| of_routes(&made, parents)))
        }
        Fronts::Ingresses(rules, watched) => {
            let wanted = service.and_then(|_| ingress(&outside, rules)).into_iter().collect();
            let scene = Scene { context, function, kind: "Ingress" };
            let made = scene.settle(watched, wanted).await;
            made.map(|made| made.and_then(|made| made.first().map(|made| of_ingress(made))))
        }
    };
    match settled {
        Ok(word) => Fronted { word, again: false },
        Err(Trouble::Waits(word)) => Fronted { word: Some(word), again: false },
        Err(Trouble::Refused(refusal)) => {
            let word = Word::new(Some(false), refusal.reason, refusal.message);
            Fronted { word: Some(word), again: true }
        }
        Err(Trouble::Failed(error)) => {
            tracing::warn!(
                function = function.name_any(),
                namespace = function.namespace().unwrap_or_default(),
                %error,
                "the way in from outside cannot be written now and is tried again"
            );
            let before = condition::get(&status.conditions, condition::GATEWAY_READY);
            let word = before.map_or_else(|| Word::new(None, condition::ROUTE_PENDING, error.to_string()), Word::again);
            Fronted { word: Some(word), again: true }
        }
    }
}

/// Why it is not as it should be.
enum Trouble {
    /// Something else has to come first, and its coming is told.
    Waits(Word),
    Refused(Refusal),
    Failed(ApplyError),
}

impl From<ApplyError> for Trouble {
    fn from(error: ApplyError) -> Self {
        Self::Failed(error)
    }
}

/// Whose objects of which kind.
struct Scene<'a> {
    context: &'a Context,
    function: &'a Function,
    kind: &'static str,
}

impl Scene<'_> {
    /// Writes what differs, and deletes what is not wanted any more. The objects as they are then; `None`: none is wanted.
    async fn settle<K>(&self, watched: &Watched<K>, wanted: Vec<K>) -> Result<Option<Vec<Arc<K>>>, Trouble>
    where
        K: Kept + Resource<Scope = NamespaceResourceScope> + Debug,
    {
        if watched.is_served() != Some(true) {
            let missing = watched.is_served().is_some();
            return if wanted.is_empty() { Ok(None) } else { Err(Trouble::Waits(self.unserved(missing))) };
        }
        let namespace = self.function.namespace().unwrap_or_default();
        let api: Api<K> = Api::namespaced(self.context.client.clone(), &namespace);
        self.discard(&api, &watched.shelf, &wanted).await?;
        let mut made = Vec::new();
        let mut refused = None;
        for desired in &wanted {
            match self.ensure(&api, &watched.shelf, desired).await? {
                Ok(object) => made.push(object),
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        match refused {
            Some(refusal) => Err(Trouble::Refused(refusal)),
            None => Ok(Some(made).filter(|made| !made.is_empty())),
        }
    }

    fn unserved(&self, missing: bool) -> Word {
        let kind = self.kind;
        if missing {
            let message =
                format!("The cluster does not know {kind}s: install the Gateway API's CustomResourceDefinitions");
            return Word::new(Some(false), condition::GATEWAY_API_MISSING, message);
        }
        Word::new(None, condition::ROUTE_PENDING, format!("The cluster's {kind}s cannot be listed yet"))
    }

    async fn ensure<K>(
        &self,
        api: &Api<K>,
        shelf: &Shelf<K>,
        desired: &K,
    ) -> Result<Result<Arc<K>, Refusal>, ApplyError>
    where
        K: Kept + Resource<Scope = NamespaceResourceScope> + Debug,
    {
        let name = desired.name_any();
        // What lost its labels, and what is somebody else's, is not in the cache.
        let live = match shelf.get(&self.function.namespace().unwrap_or_default(), &name) {
            Some(live) => Some(live),
            None => match api.get_opt(&name).await {
                Ok(live) => live.map(Arc::new),
                Err(error) => return self.refused("read", &name, error).map(Err),
            },
        };
        match live {
            Some(live) if !owns(self.function, live.meta()) => {
                let owner = controller(live.meta());
                return Ok(Err(taken(self.kind, &name, owner.as_deref())));
            }
            // One that goes cannot be held; its end brings the next reconcile.
            Some(live) if live.meta().deletion_timestamp.is_some() || holds(live.as_ref(), desired) => {
                return Ok(Ok(live));
            }
            _ => {}
        }
        let force = PatchParams::apply(names::MANAGER_OPERATOR).force();
        match api.patch(&name, &force, &Patch::Apply(desired)).await {
            Ok(applied) => {
                self.context.metrics.wrote(self.kind, "apply");
                Ok(Ok(Arc::new(applied)))
            }
            Err(error) => self.refused("apply", &name, error).map(Err),
        }
    }

    fn refused(&self, operation: &'static str, name: &str, error: kube::Error) -> Result<Refusal, ApplyError> {
        let refusal = sort(operation, self.kind, name, error)?;
        Ok(Refusal { reason: condition::ROUTE_REFUSED, ..refusal })
    }

    async fn discard<K>(&self, api: &Api<K>, shelf: &Shelf<K>, wanted: &[K]) -> Result<(), ApplyError>
    where
        K: Kept + Resource<Scope = NamespaceResourceScope> + Debug,
    {
        let all = shelf.of(&self.function.namespace().unwrap_or_default(), &self.function.name_any());
        let kept = |live: &Arc<K>| wanted.iter().any(|wanted| wanted.meta().name == live.meta().name);
        let ours = |live: &Arc<K>| owns(self.function, live.meta()) && live.meta().deletion_timestamp.is_none();
        for live in all.iter().filter(|live| ours(live) && !kept(live)) {
            let name = live.name_any();
            let this_one = Preconditions { uid: live.uid(), resource_version: None };
            match api.delete(&name, &DeleteParams::default().preconditions(this_one)).await {
                Ok(_) => self.context.metrics.wrote(self.kind, "delete"),
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
                Err(error) => {
                    return Err(ApplyError { operation: "delete", kind: self.kind, name, source: Box::new(error) });
                }
            }
        }
        Ok(())
    }
}
