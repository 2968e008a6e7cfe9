//! Spans on their way to a collector, by OTLP over HTTP. Requests never wait for it: whole traces go into a bounded queue, and what does not
//! fit is counted and dropped before it is even built, so that a collector that is slow or dead costs next to nothing.

use std::time::Duration;

use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::sampler::Sampler;

/// Traces that wait at most.
const QUEUE: usize = 1024;
/// Spans in one message to the collector.
const BATCH: usize = 512;
/// How long one message may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where spans go, and which.
#[derive(Clone, Debug)]
pub struct TracingConfig {
    /// The collector's URL for traces, like `http://collector:4318/v1/traces`.
    pub endpoint: String,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// How long spans are gathered for one message.
    pub delay: Duration,
}

/// There is no exporter.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The settings make none.
    #[error(
        "cannot export traces: {0}; give an http:// or https:// URL in OTEL_EXPORTER_OTLP_ENDPOINT, whose collector takes http/protobuf (port 4318, not 4317)"
    )]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// No certificates to check the collector's against.
    #[error("cannot read the system's root certificates: {0}; install ca-certificates, or use an http:// endpoint")]
    Roots(#[from] std::io::Error),
}

/// Decides about traces, and takes their spans.
#[derive(Debug)]
pub struct Tracer {
    /// Which traces are recorded.
    pub sampler: Sampler,
    traces: Sender<Vec<SpanData>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Spans that were given to the collector.
    pub exported: Counter,
    /// Traces that did not fit into the queue, and spans that the collector did not take.
    pub dropped: Counter,
}

impl Tracer {
    /// Starts the task that exports.
    ///
    /// # Errors
    /// The endpoint is no URL, or there is no way to check its certificate.
    pub fn start(config: TracingConfig) -> Result<Self, ExportError> {
        let mut exporter = exporter(config.endpoint)?;
        exporter.set_resource(&resource());
        let (traces, receiver) = channel(QUEUE);
        let tracer = Self {
            sampler: config.sampler,
            traces,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            exported: Counter::default(),
            dropped: Counter::default(),
        };
        let counters = (tracer.exported.clone(), tracer.dropped.clone());
        tracer.tasks.spawn(run(receiver, exporter, config.delay, tracer.stop.clone(), counters));
        tracer.tasks.close();
        Ok(tracer)
    }

    /// Takes a trace, whose spans are only built where there is room.
    pub fn submit(&self, build: impl FnOnce() -> Vec<SpanData>) {
        match self.traces.try_reserve() {
            Ok(room) => room.send(build()),
            Err(_) => {
                self.dropped.inc();
            }
        }
    }

    /// Sends what waits, for at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            warn!("the last spans could not be exported in time");
        }
    }
}

/// Certificates are only looked for where the endpoint needs them: a small image may have none.
fn exporter(endpoint: String) -> Result<SpanExporter, ExportError> {
    let builder = SpanExporter::builder().with_http();
    let builder = if endpoint.starts_with("https:") {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
            .https_only()
            .enable_http1()
            .build();
        builder.with_http_client(HyperClient::new(connector, EXPORT_TIMEOUT, None))
    } else {
        builder.with_http_client(HyperClient::with_default_connector(EXPORT_TIMEOUT, None))
    };
    let builder = builder.with_protocol(Protocol::HttpBinary).with_timeout(EXPORT_TIMEOUT).with_endpoint(endpoint);
    Ok(builder.build()?)
}

/// Who tells: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` come before what is said here.
fn resource() -> Resource {
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some()
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|attributes| attributes.contains("service.name"));
    let mut builder = Resource::builder();
    if !named {
        builder = builder.with_service_name("pilotlight-activator");
    }
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let pod = std::env::var("POD_NAME").ok().map(|name| opentelemetry::KeyValue::new("service.instance.id", name));
    builder.with_attributes(std::iter::once(version).chain(pod)).build()
}

async fn run(
    mut traces: Receiver<Vec<SpanData>>,
    exporter: SpanExporter,
    delay: Duration,
    stop: CancellationToken,
    (exported, dropped): (Counter, Counter),
) {
    let mut well = true;
    let mut batch = Vec::new();
    loop {
        gather(&mut traces, &mut batch, delay, &stop).await;
        if batch.is_empty() {
            return;
        }
        let spans = batch.len() as u64;
        match exporter.export(std::mem::take(&mut batch)).await {
            Ok(()) => {
                exported.inc_by(spans);
                if !std::mem::replace(&mut well, true) {
                    info!("traces are exported again");
                }
            }
            Err(error) => {
                dropped.inc_by(spans);
                if std::mem::replace(&mut well, false) {
                    warn!(%error, "cannot export traces; spans are dropped until the collector answers");
                }
            }
        }
    }
}

/// Waits for a first trace, then for more, until there are enough or `delay` is over. Leaves the batch empty when told to stop and nothing is left.
async fn gather(
    traces: &mut Receiver<Vec<SpanData>>,
    batch: &mut Vec<SpanData>,
    delay: Duration,
    stop: &CancellationToken,
) {
    let first = tokio::select! {
        biased;
        trace = traces.recv() => trace,
        () = stop.cancelled() => traces.try_recv().ok(),
    };
    let Some(first) = first else { return };
    batch.extend(first);
    let enough = async {
        while batch.len() < BATCH {
            let Some(trace) = traces.recv().await else { return };
            batch.extend(trace);
        }
    };
    tokio::select! {
        () = enough => {}
        () = tokio::time::sleep(delay) => {}
        () = stop.cancelled() => {}
    }
    while batch.len() < BATCH
        && let Ok(trace) = traces.try_recv()
    {
        batch.extend(trace);
    }
}
