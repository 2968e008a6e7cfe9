//! What is told of requests, beside their answers: an id and a trace context for each, where its time went, spans for a collector, a
//! line in the access log. What the data path does for it is bounded and never waits.

pub mod access_log;
pub mod context;
pub mod export;
pub mod ids;
pub mod record;
pub mod sampler;
pub mod spans;
pub mod timing;

use std::time::Duration;

use http::{Method, Version};

use access_log::{AccessLog, AccessLogConfig};
use export::{Tracer, TracingConfig};
use timing::TimingHeaders;

/// What to tell, and where.
#[derive(Debug, Default)]
pub struct TelemetryConfig {
    /// Which responses tell their timing.
    pub timing: TimingHeaders,
    /// The access log, where there is one.
    pub access_log: Option<AccessLogConfig>,
    /// Export of traces, where there is one.
    pub tracing: Option<TracingConfig>,
}

/// What tells of requests, for the whole process.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// Which responses tell their timing.
    pub timing: TimingHeaders,
    /// The access log, where there is one.
    pub access_log: Option<AccessLog>,
    /// Export of traces, where there is one.
    pub tracer: Option<Tracer>,
}

impl Telemetry {
    /// Starts what is configured.
    ///
    /// # Errors
    /// The export cannot work, or there can be no more threads.
    pub fn start(config: TelemetryConfig) -> anyhow::Result<Self> {
        Ok(Self {
            timing: config.timing,
            access_log: config.access_log.map(AccessLog::start).transpose()?,
            tracer: config.tracing.map(Tracer::start).transpose()?,
        })
    }

    /// Sends what waits, for at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        if let Some(tracer) = &self.tracer {
            tracer.flush(limit).await;
        }
    }
}

/// The method as conventions want it: a closed set.
fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

fn protocol_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}
