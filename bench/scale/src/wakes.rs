//! One Function that is woken again and again, and beside it what raw Kubernetes makes of the same pod: whatever a full cluster costs
//! Kubernetes itself shows in both.
//!
//! What always holds: the two take turns, so that what else the machine does meets both; a first start of each is not counted.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::Client;
use pilotlight_e2e::cold_start::{ANSWERED, Cold};
use pilotlight_e2e::fixture::image;
use pilotlight_e2e::floor;
use pilotlight_e2e::stage::Stage;
use serde_json::json;

/// The Function that is woken.
const WOKEN: &str = "hello";

/// The Function and the plain Deployment, each in a namespace of its own.
pub(crate) struct Sleepers {
    function: Stage,
    floor: Stage,
}

/// Medians of one of them over all rounds.
#[derive(Clone, Debug)]
pub(crate) struct Median {
    /// Until the whole answer was there.
    pub(crate) answered: Duration,
    /// Until each phase, the answer included, in order.
    pub(crate) phases: Vec<(&'static str, Duration)>,
}

/// What the rounds told.
#[derive(Clone, Debug)]
pub(crate) struct Wakes {
    pub(crate) function: Median,
    pub(crate) floor: Median,
}

impl Sleepers {
    /// Makes the namespaces.
    pub(crate) async fn set() -> Result<Self> {
        Ok(Self { function: Stage::set("bench").await?, floor: Stage::set("bench-floor").await? })
    }

    /// Takes them away.
    pub(crate) async fn strike(self) -> Result<()> {
        self.floor.strike().await?;
        self.function.strike().await
    }

    /// A client of the cluster.
    pub(crate) fn client(&self) -> &Client {
        &self.function.reach.client
    }

    /// Makes both, at zero.
    pub(crate) async fn create(&self) -> Result<()> {
        let scaling = json!({"idleSeconds": 1, "initialReplicas": 0});
        self.function.functions.create(WOKEN, json!({"scaling": scaling})).await?;
        floor::create(&self.floor, &image("hello-go"), None).await?;
        self.function.ready(WOKEN).await.map(drop)
    }

    /// Wakes both so many times.
    pub(crate) async fn wake(&self, rounds: u32) -> Result<Wakes> {
        let (mut function, mut plain) = (Vec::new(), Vec::new());
        for round in 0..=rounds {
            self.function.functions.at_zero(WOKEN).await?;
            let woken = Cold::of(&self.function, WOKEN).await?.first_request().await?;
            floor::at_zero(&self.floor).await?;
            let observer = floor::look(&self.floor).await;
            let started = floor::start(&self.floor, observer).await.context("the plain Deployment")?;
            floor::scale(&self.floor, 0).await?;
            if round > 0 {
                function.push(woken.moments);
                let mut moments = started.moments;
                moments.push((ANSWERED, started.answered));
                plain.push(moments);
            }
        }
        Ok(Wakes { function: Median::of(&function)?, floor: Median::of(&plain)? })
    }
}

impl Median {
    fn of(rounds: &[Vec<(&'static str, Duration)>]) -> Result<Self> {
        let mut phases: BTreeMap<&'static str, Vec<Duration>> = BTreeMap::new();
        for (phase, at) in rounds.iter().flatten() {
            phases.entry(phase).or_default().push(*at);
        }
        let middle = |(phase, mut all): (&'static str, Vec<Duration>)| {
            all.sort();
            (phase, all[all.len() / 2])
        };
        let mut phases: Vec<_> = phases.into_iter().map(middle).collect();
        phases.sort_by_key(|(_, at)| *at);
        let answered = phases.iter().find(|(phase, _)| *phase == ANSWERED).map(|(_, at)| *at);
        Ok(Self { answered: answered.context("no wake was measured")?, phases })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_a_median_of_its_own() {
        let ms = Duration::from_millis;
        let rounds = [
            vec![("scaled", ms(5)), (ANSWERED, ms(300))],
            vec![("scaled", ms(9)), (ANSWERED, ms(100))],
            vec![("scaled", ms(7)), (ANSWERED, ms(200))],
        ];
        let median = Median::of(&rounds).unwrap();
        assert_eq!((median.answered, median.phases), (ms(200), vec![("scaled", ms(7)), (ANSWERED, ms(200))]));
        assert!(Median::of(&[]).is_err());
    }
}
