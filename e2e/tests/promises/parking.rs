//! Promise: a parked pod reserves next to nothing, and is like any other to all that may happen to pods meanwhile.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{EvictParams, ListParams};
use kube::{Api, ResourceExt};
use pilotlight_crds::names::LABEL_REVISION;
use pilotlight_crds::park::{self, Requests};
use pilotlight_crds::throttle;
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::reach::OPERATORS;
use pilotlight_e2e::rung::is_parked;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;

use crate::metrics::{scrape, sum};
use crate::parked::{parked, restarts, rounds, spec, woken};
use crate::throttle::pod;

fn requests(pod: &Pod) -> Option<String> {
    Requests::of(pod).map(|requests| requests.record())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_parked_pod_reserves_next_to_nothing_until_its_function_is_back() -> Result<()> {
    let resources = json!({"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
    let stage = Stage::with_hello("parking-requests", spec(json!({"resources": resources}))).await?;
    for _ in 0..2 {
        let shrunk = |pod: &Pod| is_parked(pod) && requests(pod).as_deref() == Some("1m/2Mi");
        let low = pod(&stage, "a parked pod that requests next to nothing", shrunk).await?;
        let class = low.status.as_ref().and_then(|status| status.qos_class.as_deref());
        assert_eq!(class, Some("Burstable"));
        // As long as it is used it stays as it was made.
        let back = |pod: &Pod| park::function_runs(pod) && requests(pod).as_deref() == Some("50m/32Mi");
        let in_use = async {
            let pods = || async {
                stage.ok("hello", "/").await?;
                stage.functions.pods("hello").await
            };
            until("its requests to be back", PATIENCE, pods, |pods| pods.len() == 1 && pods.iter().all(back)).await
        };
        let high = in_use.await?.pop().context("no pod")?;
        assert_eq!((high.uid(), restarts(&high)), (low.uid(), restarts(&low) + 1));
    }
    let labels = [format!("namespace=\"{}\"", stage.namespace), "rung=\"Parked\"".to_owned()];
    let labels = [labels[0].as_str(), labels[1].as_str()];
    let counted = || async {
        let pages = scrape(&stage, OPERATORS).await?;
        Ok(sum(&pages, "pilotlight_operator_function_rung_seconds_total", &labels))
    };
    until("the operator to count the rest", PATIENCE, counted, |seconds| *seconds >= 1.0).await?;
    stage.strike().await
}

/// A new revision takes over from a parked one, and nothing of that is left.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_rollout_goes_past_a_parked_pod() -> Result<()> {
    let stage = Stage::with_hello("parking-rollout", spec(json!({}))).await?;
    let old = parked(&stage).await?;
    let generation = stage.functions.patch("hello", json!({"env": [{"name": "GREETING", "value": "new"}]})).await?;
    ensure!(generation.metadata.generation > Some(1), "it is another spec");
    // Whatever comes while the new revision takes over is answered by either.
    let asked = async {
        for _ in 0..20 {
            stage.ok("hello", "/").await?;
        }
        anyhow::Ok(())
    };
    let new =
        |pod: &Pod| pod.uid() != old.uid() && pod.labels().get(LABEL_REVISION) != old.labels().get(LABEL_REVISION);
    let taken = pod(&stage, "the new revision's pod alone", new);
    try_join(asked, taken).await?;
    parked(&stage).await?;
    stage.ok("hello", "/").await?;
    stage.strike().await
}

/// What a drain of its node does to a pod.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_evicted_parked_pod_is_followed_by_one_that_answers() -> Result<()> {
    let stage = Stage::with_hello("parking-evicted", spec(json!({}))).await?;
    for _ in 0..2 {
        let old = parked(&stage).await?;
        let evicted = async {
            stage.api::<Pod>().evict(&old.name_any(), &EvictParams::default()).await?;
            anyhow::Ok(())
        };
        try_join(evicted, stage.ok("hello", "/")).await?;
        pod(&stage, "another pod", |pod| pod.uid() != old.uid() && is_parked(pod)).await?;
        stage.ok("hello", "/").await?;
    }
    stage.strike().await
}

/// Requests come at any moment of a way through the whole ladder, and again and again: none fails, kubelet never holds a container back, and neither
/// containers nor names of images gather on the node.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn requests_at_any_moment_of_the_ladder_are_answered() -> Result<()> {
    let steps = json!([{"afterSeconds": 1, "rung": "Throttled"}, {"afterSeconds": 3, "rung": "Parked"}]);
    let resources = json!({"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
    let journey = json!({"resources": resources, "scaling": {"idleSeconds": 3600, "idle": {"steps": steps}}});
    let stage = Stage::with_hello("parking-journey", journey).await?;
    // A pod that still has to get its reservation back is not throttled before it is parked again.
    let throttled_or_later = |pod: &Pod| throttle::is_marked(pod) || park::is_marked(pod);
    let moments: [fn(&Pod) -> bool; 4] = [|_| true, throttled_or_later, park::is_marked, is_parked];
    let mut place = f64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_millis()) / 1_000.0;
    for (round, moment) in (1..=rounds(8)).zip(moments.into_iter().cycle()) {
        pod(&stage, "the next rung to be begun or reached", moment).await?;
        // Steps of the golden ratio leave no part of the time after that out.
        place = (place + 0.618_033_988_749_895).fract();
        tokio::time::sleep(Duration::from_secs_f64(1.5 * place)).await;
        let answer =
            stage.ok("hello", "/").await.with_context(|| format!("round {round}, after {place:.3} of 1.5 s"))?;
        ensure!(answer.header("pilotlight-placeholder").is_empty(), "round {round}: the function answers");
    }
    let last = parked(&stage).await?;
    stage.ok("hello", "/").await?;
    woken(&stage, &last).await?;
    ensure!(park::turn(&last) > 1, "it was parked on the way");
    let events = stage.events("Pod", &last.name_any()).await?;
    ensure!(!events.iter().any(|event| event.reason.as_deref() == Some("BackOff")), "{events:?}");
    let nodes: Api<Node> = Api::all(stage.reach.client.clone());
    let nodes = nodes.list(&ListParams::default()).await?;
    let images = nodes.iter().filter_map(|node| node.status.as_ref()?.images.as_ref()).flatten();
    let names: Vec<&String> = images.filter_map(|image| image.names.as_ref()).flatten().collect();
    ensure!(!names.iter().any(|name| name.contains(":w1@") || name.ends_with(":w1")), "{names:?}");
    stage.strike().await
}
