//! How a container ends: SIGTERM first, then `terminationGracePeriodSeconds` for what it has begun, then SIGKILL.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use pilotlight_crds::names::{CONTAINER, LABEL_FUNCTION};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::stream::{self, Streamed};
use serde_json::{Value, json};

use super::{APP, spec, stage};

/// The grace that the tests give.
const GRACE_SECONDS: u32 = 6;

fn env(variables: &[(&str, &str)]) -> Value {
    variables.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

/// The next piece of what the app tells of its life.
async fn told(life: &mut Streamed) -> Result<Option<String>> {
    let event = tokio::time::timeout(PATIENCE, life.event()).await.context("the app says nothing")??;
    Ok(event.and_then(|event| Some(event.strip_prefix("data: ")?.trim_end().to_owned())))
}

/// Opens `/life`, and deletes the pod that tells it.
async fn life_of_a_deleted_pod(stage: &Stage) -> Result<Streamed> {
    let mut life = stream::open(&stage.reach, &stage.namespace, APP, "/life").await?;
    assert_eq!(told(&mut life).await?.as_deref(), Some("begun"));
    let pods = stage.functions.pods(APP).await?;
    let pod = pods.first().context("no pod runs")?;
    stage.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await?;
    assert_eq!(told(&mut life).await?.as_deref(), Some("SIGTERM"));
    Ok(life)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_a_pod_has_begun_it_finishes_after_it_was_deleted() -> Result<()> {
    let changes = json!({"env": env(&[("END_SECONDS", "5")]), "terminationGracePeriodSeconds": 60});
    let stage = stage("finishes", changes).await?;
    let held = stage.ok(APP, "/wait?seconds=35");
    let ends = async {
        let mut life = life_of_a_deleted_pod(&stage).await?;
        assert_eq!(told(&mut life).await?.as_deref(), Some("end"));
        assert_eq!(told(&mut life).await?, None, "the answer's proper end");
        // Whoever comes now gets another pod.
        stage.ok(APP, "/request").await
    };
    let (held, _) = futures::try_join!(held, ends)?;
    assert_eq!(held.text(), "answered");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_pod_that_does_not_end_has_its_whole_grace_and_no_more() -> Result<()> {
    let changes = json!({"env": env(&[("IGNORE_SIGTERM", "yes")]), "terminationGracePeriodSeconds": GRACE_SECONDS});
    let stage = stage("killed", changes).await?;
    let mut life = life_of_a_deleted_pod(&stage).await?;
    let mut last = Duration::ZERO;
    // SIGKILL breaks the answer off.
    while let Ok(since) = told(&mut life).await {
        let since = since.context("the answer was ended as if it were complete")?;
        last = Duration::from_secs_f64(since.parse()?);
    }
    let grace = Duration::from_secs(GRACE_SECONDS.into());
    ensure!(last + Duration::from_secs(1) >= grace, "killed {last:?} after SIGTERM, but the grace is {grace:?}");
    ensure!(last < 2 * grace, "it lived for {last:?} after SIGTERM, although the grace is {grace:?}");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_pod_that_is_not_needed_any_more_gets_sigterm_and_ends_by_itself() -> Result<()> {
    let stage = Stage::set("sigterm").await?;
    let config = watcher::Config::default().labels(&format!("{LABEL_FUNCTION}={APP}"));
    let pods = watcher(stage.api::<Pod>(), config).default_backoff().touched_objects();
    let mut pods = std::pin::pin!(pods);
    stage.functions.create(APP, spec(json!({"scaling": {"idleSeconds": 2}}))).await?;
    let last_words = async {
        while let Some(pod) = pods.try_next().await? {
            if let Some(ended) = ended(&pod) {
                return Ok(ended);
            }
        }
        anyhow::bail!("the watch has ended")
    };
    let ended = tokio::time::timeout(PATIENCE, last_words).await.context("no pod has ended")??;
    assert_eq!(ended.message.as_deref(), Some("ended by SIGTERM"), "{ended:?}");
    assert_eq!(ended.exit_code, 0, "{ended:?}");
    stage.strike().await
}

fn ended(pod: &Pod) -> Option<ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == CONTAINER)?.state.as_ref()?.terminated.clone()
}
