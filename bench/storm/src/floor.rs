//! The storm on raw Kubernetes: plain Deployments go from 0 to 1 at once, their pods are watched for addresses, and each address is asked until
//! it answers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::floor::{address, first_answer, scale_named};
use pilotlight_e2e::stage::Stage;

/// What each of `names` took; an error for each that did not answer.
pub(crate) async fn storm(stage: &Stage, names: &[String]) -> Result<Vec<Result<Duration>>> {
    let mut pods = std::pin::pin!(watcher(stage.api::<Pod>(), watcher::Config::default()).default_backoff());
    while !matches!(pods.try_next().await?.context("the watch of pods ended")?, Event::InitDone) {}
    let begun = Instant::now();
    let scaled = join_all(names.iter().map(|name| scale_named(stage, name, 1)));
    let answered = tokio::time::timeout(PATIENCE, answers(stage, pods, names.len(), begun));
    let (scaled, answered) = tokio::join!(scaled, answered);
    for result in scaled {
        result.context("scaling a plain Deployment")?;
    }
    answered.context("not every pod got an address")?
}

async fn answers(
    stage: &Stage,
    mut pods: impl Stream<Item = watcher::Result<Event<Pod>>> + Unpin,
    wanted: usize,
    begun: Instant,
) -> Result<Vec<Result<Duration>>> {
    let (mut known, mut asked, mut answered) = (BTreeSet::new(), FuturesUnordered::new(), Vec::new());
    while answered.len() < wanted {
        tokio::select! {
            event = pods.next() => {
                let event = event.context("the watch of pods ended")?;
                // An error ends nothing: the watcher begins anew by itself.
                if let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event
                    && address(&pod).is_some()
                    && pod.metadata.deletion_timestamp.is_none()
                    && known.insert(pod.uid())
                {
                    asked.push(async move { first_answer(&stage.reach, &pod, begun).await });
                }
            }
            Some(answer) = asked.next() => answered.push(answer.map(|(_, whole)| whole)),
        }
    }
    Ok(answered)
}
