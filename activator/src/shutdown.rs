//! The way out (SIGTERM): not ready at once, go on accepting until no EndpointSlice leads here and no connection comes, then finish
//! what is in flight and leave. A request that was accepted is never cut unless the drain's own limit is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::runtime::Shared;

/// How long each part may take.
#[derive(Clone, Copy, Debug)]
pub struct DrainSettings {
    /// Accept until for so long no connection has come, and no EndpointSlice has led here: kube-proxy learns of it later than the
    /// API server.
    pub quiet: Duration,
    /// But no longer than this.
    pub quiet_max: Duration,
    /// For requests in flight.
    pub in_flight: Duration,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self { quiet: Duration::from_secs(5), quiet_max: Duration::from_secs(30), in_flight: Duration::from_secs(660) }
    }
}

/// Drains. `true` where everything in flight was finished.
pub async fn drain(shared: &Arc<Shared>, settings: DrainSettings) -> bool {
    shared.set_draining();
    info!("draining: not ready any more, still accepting");
    let began = Instant::now();
    loop {
        // That nobody asked says nothing about the next client: it is led wherever the slices lead.
        let led = shared.led.last(Instant::now()).unwrap_or(began);
        let last = shared.last_accept().max(began).max(led);
        let until = (last + settings.quiet).min(began + settings.quiet_max);
        if until <= Instant::now() {
            break;
        }
        tokio::time::sleep_until(until.into()).await;
    }
    let led = shared.led.count();
    if led > 0 {
        warn!(
            slices = led,
            "no operator has taken this address out of the EndpointSlices: leaving all the same; raise --drain-delay-max-seconds if an operator can be away for so long"
        );
    }
    shared.stop_accepting.cancel();
    shared.close_idle.cancel();
    info!(connections = shared.clients.len(), "draining: finishing what is in flight");
    shared.tasks.close();
    let finished = tokio::time::timeout(settings.in_flight, shared.tasks.wait()).await.is_ok();
    if !finished {
        warn!(
            connections = shared.clients.len(),
            "drain timeout is over: cutting what is still in flight; raise --drain-timeout-seconds above the longest request"
        );
        shared.force_close.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(1), shared.tasks.wait()).await;
    }
    finished
}
