//! kill -9 of every operator while a Deployment is taken over, and while it is given back: whoever leads next goes on from what is there, and no
//! request notices.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, PostParams};
use pilotlight_crds::Function;
use pilotlight_crds::names::{FINALIZER_RELEASE, endpoint_slice_name};
use pilotlight_e2e::existing::{adopting, deployment, service};
use pilotlight_e2e::fixture::PATIENCE;
use pilotlight_e2e::load::Load;
use pilotlight_e2e::reach::{OPERATORS, is_ready};
use pilotlight_e2e::renew::renew;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;

use super::{back, kill_all};

/// How far it has come.
#[derive(Debug)]
struct Scene {
    function: Option<Function>,
    service: Service,
    slice: Option<EndpointSlice>,
}

impl Scene {
    async fn of(stage: &Stage) -> Result<Self> {
        Ok(Self {
            function: stage.api().get_opt("web").await?,
            service: stage.api().get("web").await?,
            slice: stage.api().get_opt(&endpoint_slice_name("web")).await?,
        })
    }

    fn is_bound(&self) -> bool {
        self.function.as_ref().is_some_and(|function| function.finalizers().iter().any(|it| it == FINALIZER_RELEASE))
    }

    fn is_noted(&self) -> bool {
        self.service.annotations().keys().any(|key| key.starts_with("pilotlight.dev/"))
    }

    fn leads(&self) -> bool {
        self.slice.is_some()
    }

    fn selects(&self) -> bool {
        let selector = self.service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| !selector.is_empty())
    }
}

/// Moments to kill at. What has come stays until the Deployment is taken over, or given back, so none is missed.
type Moment = (&'static str, fn(&Scene) -> bool);
const TAKING: [Moment; 3] =
    [("the finalizer", Scene::is_bound), ("notes on the Service", Scene::is_noted), ("our slice", Scene::leads)];
const GIVING: [Moment; 3] = [
    ("the end of the Function begun", |scene| {
        scene.function.as_ref().is_some_and(|function| function.metadata.deletion_timestamp.is_some())
    }),
    ("the selector back", Scene::selects),
    ("our slice gone", |scene| !scene.leads()),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn operators_killed_while_they_take_over_and_give_back_a_deployment_fail_no_request() -> Result<()> {
    let stage = Stage::set("kill-adopting").await?;
    stage.api::<Deployment>().create(&PostParams::default(), &deployment("api", "web", 2)?).await?;
    let made = stage.api::<Service>().create(&PostParams::default(), &service("web", "api")?).await?;
    let ready = |pods: &BTreeMap<String, (bool, i32)>| pods.len() == 2 && pods.values().all(|(ready, _)| *ready);
    let pods = until("ready pods", PATIENCE, || pods(&stage), ready).await?;
    stage.answers("web").await?;
    let load = Load::start(&stage.reach, &stage.namespace, &["web"], 3).await?;
    for (taking, giving) in TAKING.into_iter().zip(GIVING) {
        renew(&stage.reach, OPERATORS).await?;
        stage.apply(&adopting("web", "api", json!({"minReplicas": 2})).to_string()).await?.success()?;
        let killed = kill_at(&stage, taking).await?;
        stage.functions.ready("web").await.with_context(|| format!("killed at {}", taking.0))?;
        let taken = Scene::of(&stage).await?;
        ensure!(taken.leads() && !taken.selects(), "killed at {}: it was not taken over", taking.0);
        back(&stage.reach, OPERATORS, killed).await?;
        stage.api::<Function>().delete("web", &DeleteParams::default()).await?;
        kill_at(&stage, giving).await?;
        stage.gone::<Function>("web").await.with_context(|| format!("killed at {}", giving.0))?;
        let given = Scene::of(&stage).await?;
        ensure!(!given.leads() && !given.is_noted(), "killed at {}: something of Pilotlight's is left", giving.0);
        ensure!(given.service.spec == made.spec, "killed at {}: the Service is another than before", giving.0);
    }
    println!("{} requests, none failed", load.end_without_failure().await?);
    ensure!(self::pods(&stage).await? == pods, "pods were replaced or restarted");
    stage.strike().await
}

/// Kills every operator at this moment; how often their containers had been started before.
async fn kill_at(stage: &Stage, (what, come): Moment) -> Result<i32> {
    until(what, PATIENCE, || Scene::of(stage), come).await?;
    kill_all(&stage.reach, OPERATORS).await
}

/// The Deployment's pods by uid: whether they are ready, and how often they began anew.
async fn pods(stage: &Stage) -> Result<BTreeMap<String, (bool, i32)>> {
    let found = stage.api::<Pod>().list(&ListParams::default().labels("app=api")).await?;
    Ok(found.iter().map(|pod| (pod.uid().unwrap_or_default(), (is_ready(pod), super::restarts(pod)))).collect())
}
