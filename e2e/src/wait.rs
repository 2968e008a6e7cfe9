//! Waiting on conditions. A wait that runs out of time fails with what it waited for and what it last saw.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Looks at `observe` until `holds` says yes, and returns what was seen then.
///
/// # Errors
/// When `limit` is over: names `what` and the last observation. An observation that fails counts as not yet.
pub async fn until<T, F>(
    what: &str,
    limit: Duration,
    mut observe: impl FnMut() -> F,
    mut holds: impl FnMut(&T) -> bool,
) -> Result<T>
where
    T: Debug,
    F: Future<Output = Result<T>>,
{
    let start = Instant::now();
    loop {
        let seen = match observe().await {
            Ok(seen) if holds(&seen) => return Ok(seen),
            Ok(seen) => format!("{seen:#?}"),
            Err(error) => format!("error: {error:#}"),
        };
        if start.elapsed() > limit {
            bail!("after {} s still waiting for {what}; last seen: {seen}", limit.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}
