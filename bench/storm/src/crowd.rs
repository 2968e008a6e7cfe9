//! Functions, or plain Deployments, that rest on one rung and are woken at once. Each crowd has a namespace of its own.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::floor as plain;
use pilotlight_e2e::http::{self, Answer};
use pilotlight_e2e::reach::{Address, is_ready};
use pilotlight_e2e::rung::{is_parked, is_throttled};
use pilotlight_e2e::runtime::Runtime;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::wait::until;
use serde_json::json;

use crate::floor;

/// Says whether the answer was a cold start's.
const COLD_START: &str = "pilotlight-cold-start";
/// Longer than a storm and all before it.
const FOR_LONG: u32 = 3_600;

/// What a crowd is woken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rung {
    /// Raw Kubernetes: plain Deployments at zero.
    Floor,
    /// Functions at zero.
    Zero,
    /// Functions with one idle pod each, in which a placeholder runs.
    Parked,
    /// Functions with one idle pod each, which has lost its CPU.
    Throttled,
}

impl Rung {
    /// Every one; the others are compared with the first.
    pub(crate) const ALL: [Self; 4] = [Self::Floor, Self::Zero, Self::Parked, Self::Throttled];

    /// Its key in the JSON.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Zero => "zero",
            Self::Parked => "parked",
            Self::Throttled => "throttled",
        }
    }

    /// Whether its pods stay.
    fn keeps_pods(self) -> bool {
        matches!(self, Self::Parked | Self::Throttled)
    }

    /// Whether a pod is on it.
    fn holds(self, pod: &Pod) -> bool {
        if self == Self::Parked { is_parked(pod) } else { is_throttled(pod) }
    }
}

/// One crowd.
pub(crate) struct Crowd {
    pub(crate) rung: Rung,
    stage: Stage,
    names: Vec<String>,
    addresses: Vec<Address>,
}

impl Crowd {
    /// Sets one up, at zero pods.
    pub(crate) async fn set_up(rung: Rung, runtime: Runtime, functions: u32) -> Result<Self> {
        let names = (0..functions).map(|number| format!("f{number}")).collect();
        let mut crowd = Self { rung, stage: Stage::set("bench-storm").await?, names, addresses: Vec::new() };
        if let Err(error) = crowd.create(runtime).await {
            crowd.strike().await?;
            return Err(error);
        }
        Ok(crowd)
    }

    async fn create(&mut self, runtime: Runtime) -> Result<()> {
        let (image, class) = (image("hello-go"), runtime.class());
        for name in &self.names {
            if self.rung == Rung::Floor {
                plain::create_named(&self.stage, name, &image, class).await?;
                continue;
            }
            let mut scaling = json!({"idleSeconds": 1, "initialReplicas": 0});
            if self.rung.keeps_pods() {
                let rung = if self.rung == Rung::Parked { "Parked" } else { "Throttled" };
                scaling = json!({
                    "idleSeconds": FOR_LONG,
                    "initialReplicas": 0,
                    "idle": {"steps": [{"afterSeconds": 1, "rung": rung}]},
                });
            }
            let resources = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "10m"}});
            let spec = json!({"runtimeClassName": class, "resources": resources, "scaling": scaling});
            self.stage.functions.create(name, spec).await?;
        }
        if self.rung != Rung::Floor {
            for name in &self.names {
                self.stage.ready(name).await?;
                self.addresses.push(self.stage.reach.address(&self.stage.namespace, name).await?);
            }
        }
        Ok(())
    }

    /// Brings every Function to its rung. Before, it is at zero.
    pub(crate) async fn descend(&self) -> Result<()> {
        if !self.rung.keeps_pods() {
            return Ok(());
        }
        self.idle_seconds(FOR_LONG).await?;
        for answer in self.ask().await {
            succeeded(&answer?)?;
        }
        let pods = || self.pods();
        let resting = |pods: &Vec<Pod>| pods.len() == self.names.len() && pods.iter().all(|pod| self.rung.holds(pod));
        until("all pods to be on their rung", PATIENCE, pods, resting).await.map(drop)
    }

    async fn idle_seconds(&self, seconds: u32) -> Result<()> {
        let changes = || json!({"scaling": {"idleSeconds": seconds}});
        try_join_all(self.names.iter().map(|name| self.stage.functions.patch(name, changes()))).await.map(drop)
    }

    /// An error where it is not on its rung as a whole.
    pub(crate) async fn ensure_on_rung(&self) -> Result<()> {
        let pods = self.pods().await?;
        match self.rung {
            Rung::Floor | Rung::Zero => ensure!(pods.is_empty(), "a storm must begin without pods"),
            Rung::Parked | Rung::Throttled => {
                let resting = pods.iter().filter(|pod| self.rung.holds(pod)).count();
                ensure!(resting == self.names.len(), "a storm must begin with pods on their rung alone");
            }
        }
        Ok(())
    }

    /// Wakes all at once; what each took, or why it failed.
    pub(crate) async fn storm(&self) -> Result<Vec<Result<Duration>>> {
        if self.rung == Rung::Floor {
            return floor::storm(&self.stage, &self.names).await;
        }
        let cold = if self.rung == Rung::Throttled { "" } else { "true" };
        let took = |answer: Result<Answer>| {
            let answer = answer?;
            succeeded(&answer)?;
            ensure!(answer.header(COLD_START) == cold, "{COLD_START} is {:?}", answer.header(COLD_START));
            Ok(answer.took)
        };
        Ok(self.ask().await.into_iter().map(took).collect())
    }

    /// One request to each Function, all at once.
    async fn ask(&self) -> Vec<Result<Answer>> {
        let (reach, namespace) = (&self.stage.reach, &self.stage.namespace);
        let ask = |(name, address)| async move {
            let host = format!("{name}.{namespace}.svc");
            let answer = tokio::time::timeout(PATIENCE, http::get_at(reach, address, &host, "/")).await;
            answer.with_context(|| format!("{name}: no answer within {PATIENCE:?}"))?
        };
        join_all(self.names.iter().zip(&self.addresses).map(ask)).await
    }

    /// Waits until Kubernetes reports one pod of each ready.
    pub(crate) async fn all_ready(&self) -> Result<()> {
        let all = |pods: &Vec<Pod>| pods.iter().filter(|pod| is_ready(pod)).count() >= self.names.len();
        match self.rung {
            // They go to zero again as soon as they are idle.
            Rung::Zero => Ok(()),
            Rung::Floor | Rung::Parked | Rung::Throttled => {
                until("all pods to be ready", PATIENCE, || self.pods(), all).await.map(drop)
            }
        }
    }

    /// Brings all to zero, and waits until no pod is left.
    pub(crate) async fn end(&self) -> Result<()> {
        match self.rung {
            Rung::Floor => {
                try_join_all(self.names.iter().map(|name| plain::scale_named(&self.stage, name, 0))).await?;
            }
            Rung::Zero => {}
            Rung::Parked | Rung::Throttled => self.idle_seconds(2).await?,
        }
        until("all pods to be gone", PATIENCE, || self.pods(), Vec::is_empty).await?;
        if self.rung != Rung::Floor {
            for name in &self.names {
                self.stage.functions.at_zero(name).await?;
            }
        }
        Ok(())
    }

    /// The pods, those that terminate included.
    async fn pods(&self) -> Result<Vec<Pod>> {
        Ok(self.stage.api::<Pod>().list(&ListParams::default()).await?.items)
    }

    /// Takes it away.
    pub(crate) async fn strike(self) -> Result<()> {
        self.stage.strike().await
    }
}

fn succeeded(answer: &Answer) -> Result<()> {
    if !answer.status.is_success() {
        bail!("answered {} (reason {:?})", answer.status, answer.header("pilotlight-reason"));
    }
    Ok(())
}
