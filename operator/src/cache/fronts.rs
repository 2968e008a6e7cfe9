//! The HTTPRoutes or Ingresses of Functions, where there are to be any; nothing of it is watched otherwise.
//!
//! What always holds: that the cluster does not know HTTPRoutes keeps nothing from going on; once it does, all Functions are reconciled.

use futures::StreamExt;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::Api;
use kube::core::Status;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource};
use pilotlight_crds::{Function, names};
use std::collections::HashSet;
use std::fmt::Debug;
use std::time::Duration;
use tokio::sync::watch;

use super::{Filler, Kept, PAGE, Shelf, Triggers, log_failure, take, trim};
use crate::gateway::{Front, HTTPRoute, IngressRules, ParentRef};

/// Longest wait for the first answer: what holds it back must not keep all else from going on.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// Between two looks whether the cluster knows the kind by now.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What is in front, and what there is of it. Cheap to clone.
#[derive(Clone)]
pub enum Fronts {
    /// HTTPRoutes attached to these.
    Routes(Vec<ParentRef>, Watched<HTTPRoute>),
    /// Ingresses.
    Ingresses(IngressRules, Watched<Ingress>),
}

/// Objects of a kind that the cluster may not have.
pub struct Watched<K> {
    /// Those that are labelled as Functions'.
    pub shelf: Shelf<K>,
    served: watch::Receiver<Option<bool>>,
}

impl<K> Clone for Watched<K> {
    fn clone(&self) -> Self {
        Self { shelf: self.shelf.clone(), served: self.served.clone() }
    }
}

impl<K> Watched<K> {
    /// Whether the cluster has this kind, and its objects were listed; `None`: it is not known yet.
    pub fn is_served(&self) -> Option<bool> {
        *self.served.borrow()
    }

    async fn answered(&self) {
        let mut served = self.served.clone();
        let answer = served.wait_for(Option::is_some);
        if tokio::time::timeout(FIRST_ANSWER, answer).await.is_err() {
            tracing::warn!("what is in front of the cluster cannot be listed yet");
        }
    }
}

impl Fronts {
    /// Starts the watch on the current runtime. `functions`: all of them.
    pub(super) fn start(client: &Client, triggers: &Triggers, functions: &Shelf<Function>, front: Front) -> Self {
        match front {
            Front::Gateway(parents) => Self::Routes(parents, watch_front(client, triggers, functions)),
            Front::Ingress(rules) => Self::Ingresses(rules, watch_front(client, triggers, functions)),
        }
    }

    /// Waits until it is known whether the cluster has such objects, and which; for a while.
    pub(super) async fn answered(&self) {
        match self {
            Self::Routes(_, watched) => watched.answered().await,
            Self::Ingresses(_, watched) => watched.answered().await,
        }
    }
}

fn watch_front<K>(client: &Client, triggers: &Triggers, functions: &Shelf<Function>) -> Watched<K>
where
    K: Kept + Resource<Scope = kube::core::NamespaceResourceScope> + Debug,
{
    let (shelf, filler) = Shelf::new(|_| true);
    let (told, served) = watch::channel(None);
    tokio::spawn(follow::<K>(Api::all(client.clone()), filler, told, triggers.clone(), functions.clone()));
    Watched { shelf, served }
}

async fn follow<K: Kept + Debug>(
    api: Api<K>,
    mut filler: Filler<K>,
    told: watch::Sender<Option<bool>>,
    triggers: Triggers,
    functions: Shelf<Function>,
) {
    loop {
        // Begun anew with a list each time: a watch that goes on where one of a kind that was gone meanwhile ended would not tell that it is back.
        follow_once(&api, &mut filler, &told, &triggers, &functions).await;
        // What there was is gone with its kind.
        for event in [watcher::Event::Init, watcher::Event::InitDone] {
            take(&mut filler, &mut HashSet::new(), event);
        }
        tell::<K>(false, &told, &triggers, &functions);
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Returns when the cluster does not know the kind.
async fn follow_once<K: Kept + Debug>(
    api: &Api<K>,
    filler: &mut Filler<K>,
    told: &watch::Sender<Option<bool>>,
    triggers: &Triggers,
    functions: &Shelf<Function>,
) {
    let config = watcher::Config::default().labels(names::LABEL_FUNCTION).page_size(PAGE);
    let mut events = watcher(api.clone(), config).default_backoff().boxed();
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        if event.as_ref().is_err_and(is_unknown_kind) {
            return;
        }
        let Some(event) = log_failure(&K::kind(&()), event) else { continue };
        let whole = matches!(event, watcher::Event::InitDone);
        let event = event.modify(|object| trim::metadata(object.meta_mut()));
        for function in take(filler, &mut listed, event) {
            let _ = triggers.send(function);
        }
        if whole {
            tell::<K>(true, told, triggers, functions);
        }
    }
}

/// Notes whether the cluster knows the kind; all Functions are reconciled where that is news.
fn tell<K: Kept>(served: bool, told: &watch::Sender<Option<bool>>, triggers: &Triggers, functions: &Shelf<Function>) {
    let now = Some(served);
    if !told.send_if_modified(|was| std::mem::replace(was, now) != now) {
        return;
    }
    let kind = K::kind(&());
    if served {
        tracing::info!(kind = %kind, "what leads to Functions from outside is known");
    } else {
        tracing::error!(
            kind = %kind,
            "the cluster does not know this kind: install the Gateway API's CustomResourceDefinitions; until then no route leads to Functions from outside"
        );
    }
    for (namespace, name) in functions.names() {
        let _ = triggers.send(ObjectRef::new(&name).within(&namespace));
    }
}

fn is_unknown_kind(error: &watcher::Error) -> bool {
    // By the code: where nobody serves a group, the API server answers in words, without the reason that other 404s have.
    let not_found = |status: &Status| status.code == 404;
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => not_found(status),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_unknown_where_the_answer_is_404_in_whatever_words() {
        let failed = |code| {
            let status = Status::failure("404 page not found", "Failed to parse error data").with_code(code);
            watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
        };
        assert!(is_unknown_kind(&failed(404)));
        assert!(!is_unknown_kind(&failed(403)));
        assert!(!is_unknown_kind(&watcher::Error::NoResourceVersion));
    }
}
