//! Listens to one activator's samples for as long as its pod runs: opens the stream, reads batches, reconnects with a growing pause.
//!
//! What always holds: a line that is too long or unreadable ends the stream, because what it said is lost; the activator
//! replays the last minute to the next one.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use pilotlight_crds::control::SampleBatch;
use pilotlight_scaling::{ActivatorId, Millis};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::clock::Clock;
use super::control::{ControlClient, ControlError};
use super::lines::{LineTooLong, Lines};
use super::metrics::AutoscalerMetrics;

/// Bytes of one batch at most: some 30,000 routes.
const LINE: usize = 4 * 1024 * 1024;
/// Time for the head of the stream.
const OPEN: Duration = Duration::from_secs(2);
/// Silence after which the stream counts as dead; a batch comes every second.
const SILENCE: Duration = Duration::from_secs(5);
/// The first pause before a reconnect; it doubles up to the longest. It is short, because the next attempt tells whether the process
/// is gone.
const PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a stream tells the evaluation loop.
#[derive(Debug)]
pub(super) enum Heard {
    /// A batch arrived.
    Batch { id: ActivatorId, at: Millis, batch: SampleBatch },
    /// The stream broke, or could not be opened: `unreached`, where not even a connection was made. Another try will follow.
    Cut { id: ActivatorId, unreached: bool },
    /// Nobody listens at the activator's address: its process is gone, whatever Kubernetes knows yet.
    Gone { id: ActivatorId },
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamEnd {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("the activator closed the stream")]
    Closed,
    #[error("connection: {0}")]
    Broken(String),
    #[error("nothing for {} s", SILENCE.as_secs())]
    Silent,
    #[error("a batch that is not JSON of the protocol: {0}")]
    Garbage(String),
    #[error(transparent)]
    TooLong(#[from] LineTooLong),
    #[error("the autoscaler has ended")]
    Over,
}

impl StreamEnd {
    /// A CamelCase word for the metric.
    fn reason(&self) -> &'static str {
        match self {
            Self::Control(ControlError::Unauthorized(_) | ControlError::Token) => "Unauthorized",
            Self::Control(_) => "Unreachable",
            Self::Closed => "Closed",
            Self::Broken(_) => "Broken",
            Self::Silent => "Silent",
            Self::Garbage(_) => "Garbage",
            Self::TooLong(_) => "LineTooLong",
            Self::Over => "Over",
        }
    }
}

/// One activator's stream.
pub(super) struct Listener {
    pub(super) id: ActivatorId,
    pub(super) pod: String,
    pub(super) address: SocketAddr,
    pub(super) control: ControlClient,
    pub(super) clock: Clock,
    pub(super) heard: mpsc::Sender<Heard>,
    pub(super) metrics: AutoscalerMetrics,
}

impl Listener {
    /// Listens until the task is aborted or nobody listens to it any more.
    pub(super) async fn run(self) {
        let mut pause = PAUSE;
        loop {
            let batches = &mut 0_u64;
            let end = self.listen(batches).await;
            if matches!(end, StreamEnd::Over) {
                return;
            }
            self.metrics.stream_ended(end.reason());
            let unreached = matches!(
                end,
                StreamEnd::Control(ControlError::Connection(_) | ControlError::Refused | ControlError::Timeout(_))
            );
            if self.heard.send(Heard::Cut { id: self.id, unreached }).await.is_err() {
                return;
            }
            let gone = matches!(end, StreamEnd::Control(ControlError::Refused));
            if gone && self.heard.send(Heard::Gone { id: self.id }).await.is_err() {
                return;
            }
            if *batches > 0 {
                pause = PAUSE;
            }
            warn!(pod = %self.pod, error = %end, "Stream of samples ended; reconnecting");
            let jitter = rand::random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn listen(&self, batches: &mut u64) -> StreamEnd {
        let mut body = match self.control.samples(self.address, OPEN).await {
            Ok(body) => body,
            Err(error) => return error.into(),
        };
        info!(pod = %self.pod, "Listening to an activator's samples");
        let mut lines = Lines::new(LINE);
        loop {
            let parsed = match next(&mut body, &mut lines).await {
                Ok(parsed) => parsed,
                Err(end) => return end,
            };
            let at = self.clock.now();
            for batch in parsed {
                *batches += 1;
                let batch = Heard::Batch { id: self.id, at, batch };
                if self.heard.send(batch).await.is_err() {
                    return StreamEnd::Over;
                }
            }
        }
    }
}

/// The batches that the next chunk completes; often none.
async fn next(body: &mut Incoming, lines: &mut Lines) -> Result<Vec<SampleBatch>, StreamEnd> {
    let frame = tokio::time::timeout(SILENCE, body.frame())
        .await
        .map_err(|_| StreamEnd::Silent)?
        .ok_or(StreamEnd::Closed)?
        .map_err(|error| StreamEnd::Broken(error.to_string()))?;
    let mut batches = Vec::new();
    if let Ok(chunk) = frame.into_data() {
        lines.push(&chunk, |line| {
            let batch = serde_json::from_slice(line).map_err(|error| StreamEnd::Garbage(error.to_string()))?;
            batches.push(batch);
            Ok::<_, StreamEnd>(())
        })?;
    }
    Ok(batches)
}
