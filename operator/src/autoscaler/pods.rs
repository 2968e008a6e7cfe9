//! Watches the activators' pods.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::mpsc;
use tracing::warn;

/// A change of the activators' pods.
#[derive(Debug)]
pub(super) enum PodChange {
    /// Added or changed. `listed`: it was found when the watch began, so it may have run for long.
    Applied { pod: Box<Pod>, listed: bool },
    /// Gone.
    Deleted { uid: String },
    /// The watch began anew, and these uids are all there are.
    AllListed { uids: BTreeSet<String> },
}

/// Watches until nobody listens any more. Failures are retried with a growing pause.
pub(super) async fn watch(client: kube::Client, namespace: String, selector: String, changes: mpsc::Sender<PodChange>) {
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().labels(&selector);
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let mut listed = BTreeSet::new();
    loop {
        let change = match events.try_next().await {
            Ok(Some(event)) => change(event, &mut listed),
            Ok(None) => return,
            Err(error) => {
                warn!(%error, "Watch of the activators failed; retrying");
                continue;
            }
        };
        if let Some(change) = change
            && changes.send(change).await.is_err()
        {
            return;
        }
    }
}

fn change(event: watcher::Event<Pod>, listed: &mut BTreeSet<String>) -> Option<PodChange> {
    match event {
        watcher::Event::Init => {
            listed.clear();
            None
        }
        watcher::Event::InitApply(pod) => {
            listed.extend(pod.metadata.uid.clone());
            let pod = Box::new(pod);
            Some(PodChange::Applied { pod, listed: true })
        }
        watcher::Event::InitDone => Some(PodChange::AllListed { uids: std::mem::take(listed) }),
        watcher::Event::Apply(pod) => Some(PodChange::Applied { pod: Box::new(pod), listed: false }),
        watcher::Event::Delete(pod) => pod.metadata.uid.map(|uid| PodChange::Deleted { uid }),
    }
}
