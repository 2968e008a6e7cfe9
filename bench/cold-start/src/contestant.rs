//! A subject on the cluster: how it is set up, started from zero, and brought back there. Each has a namespace of its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use pilotlight_e2e::cold_start::{ANSWERED, Cold};
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::floor::{self, FloorStart};
use pilotlight_e2e::rung::{is_parked, is_throttled};
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::timeline::Observer;
use pilotlight_e2e::wait::until;
use serde_json::json;

use crate::subject::{Subject, Variant};

/// Name of every contestant's Function, in its own namespace.
pub(crate) const NAME: &str = "hello";

/// What came of one start.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// From the beginning until the whole answer was there.
    pub(crate) answered: Duration,
    /// Until Kubernetes reported the pod ready, where that was waited for.
    pub(crate) ready: Option<Duration>,
    /// Until each phase, the answer included.
    pub(crate) phases: Vec<(&'static str, Duration)>,
}

/// A subject that is set up.
pub(crate) struct Contestant {
    pub(crate) subject: Subject,
    stage: Stage,
}

/// One that is looked at, just before its start.
pub(crate) enum Looking<'a> {
    Floor(Observer),
    Function(Cold<'a>),
    /// A pod on another rung.
    Resting,
}

impl Contestant {
    /// Sets one up, at zero pods.
    pub(crate) async fn set_up(subject: Subject) -> Result<Self> {
        let stage = Stage::set("bench").await?;
        let contestant = Self { subject, stage };
        if let Err(error) = contestant.create().await {
            contestant.strike().await?;
            return Err(error);
        }
        Ok(contestant)
    }

    async fn create(&self) -> Result<()> {
        let image = image(&format!("hello-{}", self.subject.language.key()));
        let class = self.subject.runtime.class();
        match self.subject.variant {
            Variant::Floor => floor::create(&self.stage, &image, class).await,
            Variant::ZeroWithoutBeacon | Variant::Zero => {
                let beacon = if self.subject.variant == Variant::Zero { "Enabled" } else { "Disabled" };
                let spec = json!({
                    "coldStart": {"beacon": beacon},
                    "image": image,
                    "runtimeClassName": class,
                    // So that it is soon at zero again; a first request at zero knows nothing of it.
                    "scaling": {"idleSeconds": 1},
                });
                self.stage.functions.create(NAME, spec).await?;
                self.stage.ready(NAME).await?;
                self.stage.functions.at_zero(NAME).await
            }
            Variant::Parked | Variant::Throttled => {
                let rung = if self.subject.variant == Variant::Parked { "Parked" } else { "Throttled" };
                let spec = json!({
                    "image": image,
                    "runtimeClassName": class,
                    "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "10m"}},
                    "scaling": {"idleSeconds": 3600, "idle": {"steps": [{"afterSeconds": 1, "rung": rung}]}},
                });
                self.stage.functions.create(NAME, spec).await?;
                self.stage.ready(NAME).await?;
                self.rest().await
            }
        }
    }

    /// Whether it has no pod before a start.
    pub(crate) fn rests_at_zero(&self) -> bool {
        !matches!(self.subject.variant, Variant::Parked | Variant::Throttled)
    }

    /// The namespace with its pods.
    pub(crate) fn namespace(&self) -> &str {
        &self.stage.namespace
    }

    /// Begins to watch.
    pub(crate) async fn look(&self) -> Result<Looking<'_>> {
        Ok(match self.subject.variant {
            Variant::Floor => Looking::Floor(floor::look(&self.stage).await),
            Variant::ZeroWithoutBeacon | Variant::Zero => Looking::Function(Cold::of(&self.stage, NAME).await?),
            Variant::Parked | Variant::Throttled => Looking::Resting,
        })
    }

    /// Starts it, and waits for its first answer.
    pub(crate) async fn start(&self, looking: Looking<'_>) -> Result<Start> {
        match looking {
            Looking::Floor(observer) => Ok(Start::of_floor(floor::start(&self.stage, observer).await?)),
            Looking::Function(cold) => {
                let started = cold.first_request().await?;
                Ok(Start { answered: started.answer.took, ready: None, phases: started.moments })
            }
            Looking::Resting => {
                let pods = self.stage.functions.pods(NAME).await?;
                ensure!(self.all_rest(&pods), "a start must begin with a pod on its rung");
                let answered = self.stage.ok(NAME, "/").await?.took;
                Ok(Start { answered, ready: None, phases: vec![(ANSWERED, answered)] })
            }
        }
    }

    /// Brings it back to zero.
    pub(crate) async fn rest(&self) -> Result<()> {
        match self.subject.variant {
            Variant::Floor => floor::scale(&self.stage, 0).await,
            Variant::ZeroWithoutBeacon | Variant::Zero => self.stage.functions.at_zero(NAME).await,
            Variant::Parked | Variant::Throttled => {
                let pods = || self.stage.functions.pods(NAME);
                until("the pod to be on its rung", PATIENCE, pods, |pods| self.all_rest(pods)).await?;
                Ok(())
            }
        }
    }

    /// Whether there are pods, and all are on the rung that is measured.
    fn all_rest(&self, pods: &[Pod]) -> bool {
        let rests = if self.subject.variant == Variant::Parked { is_parked } else { is_throttled };
        !pods.is_empty() && pods.iter().all(rests)
    }

    /// Takes it away.
    pub(crate) async fn strike(self) -> Result<()> {
        self.stage.strike().await
    }
}

impl Start {
    fn of_floor(FloorStart { answered, ready, mut moments }: FloorStart) -> Self {
        moments.push((ANSWERED, answered));
        Self { answered, ready: Some(ready), phases: moments }
    }
}
