//! One cold start of a Function, as its first caller and an observer of the API server see it: the answer, and when each phase was reached.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::fixture::PATIENCE;
use crate::http::{self, Answer};
use crate::reach::Address;
use crate::stage::Stage;
use crate::timeline::{Observer, Phase, Subject};

/// The pod accepts connections.
pub const REACHABLE: &str = "reachable";
/// The whole answer is there.
pub const ANSWERED: &str = "answered";

/// A Function without pods that is looked at, just before its first request.
pub struct Cold<'a> {
    stage: &'a Stage,
    observer: Observer,
    address: Address,
    host: String,
}

/// What came of that request.
#[derive(Debug)]
pub struct ColdStart {
    /// The answer.
    pub answer: Answer,
    /// Time from the request's beginning until each phase, in order.
    pub moments: Vec<(&'static str, Duration)>,
}

impl<'a> Cold<'a> {
    /// Begins to look.
    ///
    /// # Errors
    /// When the Function has pods.
    pub async fn of(stage: &'a Stage, name: &str) -> Result<Self> {
        let address = stage.reach.address(&stage.namespace, name).await?;
        let host = format!("{name}.{}.svc", stage.namespace);
        let mut observer = Observer::start(&stage.reach.client, &stage.namespace, &Subject::function(name));
        observer.begun().await;
        ensure!(stage.functions.pods(name).await?.is_empty(), "the Function has pods before its first request");
        Ok(Self { stage, observer, address, host })
    }

    /// Sends the request that wakes the Function.
    ///
    /// # Errors
    /// When it is not answered with success, was no cold start, or the API server does not tell of every phase.
    pub async fn first_request(mut self) -> Result<ColdStart> {
        let start = Instant::now();
        let answer = http::get_at(&self.stage.reach, &self.address, &self.host, "/").await?;
        ensure!(answer.status.is_success(), "the first request was answered {}: {}", answer.status, answer.text());
        ensure!(answer.header("pilotlight-cold-start") == "true", "the first request was not a cold start");
        let mut moments = phases(&mut self.observer, start).await?;
        moments.extend(server_timing(answer.header("server-timing"), REACHABLE).map(|at| (REACHABLE, at)));
        moments.push((ANSWERED, answer.took));
        moments.sort_by_key(|(_, at)| *at);
        Ok(ColdStart { answer, moments })
    }
}

/// When each phase was reached that the API server tells of, from `start` on.
///
/// # Errors
/// When it does not tell of every one.
pub async fn phases(observer: &mut Observer, start: Instant) -> Result<Vec<(&'static str, Duration)>> {
    let seen = observer.since(start, PATIENCE).await;
    ensure!(seen.len() == Phase::ALL.len(), "the API server told only of {seen:?} within {PATIENCE:?}");
    Ok(seen.into_iter().map(|(phase, at)| (phase.label(), at)).collect())
}

/// The duration of one metric of a `Server-Timing` header.
fn server_timing(header: &str, name: &str) -> Option<Duration> {
    let entry = header.split(',').map(str::trim).find(|entry| entry.split(';').next() == Some(name))?;
    let millis: f64 = entry.split(';').find_map(|part| part.trim().strip_prefix("dur="))?.parse().ok()?;
    Some(Duration::from_secs_f64(millis / 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_metric_of_many_is_found() {
        let header = "queue;dur=240.000, patched;dur=0.000, reachable;dur=240.500, upstream;dur=2.000";
        assert_eq!(server_timing(header, REACHABLE), Some(Duration::from_micros(240_500)));
        assert_eq!(server_timing(header, "reach"), None);
    }
}
