//! `operator run`: stands by, becomes the leader, reconciles until it is told to stop or the Lease is lost.
//!
//! What always holds: nothing is watched or written before the Lease is won; when it is lost, the process ends at once, so that
//! two never write.

use anyhow::{Context as _, bail};
use kube::Client;
use kube::runtime::events::Reporter;
use kube::runtime::reflector::ObjectRef;
use pilotlight_crds::Function;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::autoscaler::{Affected, Autoscaler, AutoscalerContext, AutoscalerMetrics, ScalingEvent, ScalingEventKind};
use crate::cache::{Caches, Triggers};
use crate::cli::RunArgs;
use crate::context::Context;
use crate::controller;
use crate::event_writer::EventWriter;
use crate::hostnames::{HostIndex, Rules};
use crate::http::{Health, serve};
use crate::leader::Election;
use crate::metrics::Metrics;
use crate::pilot::PilotSource;
use crate::ports::PortIndex;
use crate::reconcile::claimant;
use crate::transitions::REPORTER;
use crate::write::publish_scaling;

/// Between two rounds of forgetting Functions that are gone.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

/// Runs until SIGTERM or SIGINT.
///
/// Errors when the start fails, or when the Lease is lost: the container is started again and stands by.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let token = read_token(&args)?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let autoscaler_metrics = AutoscalerMetrics::register(&mut registry);
    let health = Health::new(registry);
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("--listen {}: cannot listen there", args.listen))?;
    tokio::spawn(serve(listener, health.clone()));
    let client = Client::try_default().await.context("cannot find the cluster: run in a pod, or set KUBECONFIG")?;
    let identity = args.identity.clone().unwrap_or_else(random_identity);
    let common = &args.common;
    let mut election = Election::new(client.clone(), &common.namespace, &common.lease_name, &identity);
    let stop = stop_signal()?;
    tokio::pin!(stop);
    tokio::select! {
        () = election.acquire(|| health.set_ready(true)) => {}
        () = &mut stop => return Ok(()),
    }
    metrics.leader.set(1);
    let shutdown = CancellationToken::new();
    let leading = lead(&args, client, token, metrics, autoscaler_metrics, health, shutdown.clone());
    let lost = tokio::select! {
        result = leading => {
            shutdown.cancel();
            election.release().await;
            return result;
        }
        lost = election.hold() => lost,
        () = &mut stop => {
            tracing::info!("stopping");
            shutdown.cancel();
            // Hand-shakes that are under way end as aborted before another process may begin its own.
            tokio::time::sleep(SHUTDOWN_GRACE).await;
            election.release().await;
            return Ok(());
        }
    };
    shutdown.cancel();
    bail!("lost the leadership: {lost}");
}

/// For the autoscaler's tasks to end what they are at.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

async fn lead(
    args: &RunArgs,
    client: Client,
    token: String,
    metrics: Metrics,
    autoscaler_metrics: AutoscalerMetrics,
    health: Health,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (triggers, queue) = mpsc::unbounded_channel();
    let caches = Caches::start(&client, &triggers, args.gateway.front()?);
    caches.ready().await.context("a watch ended before its first list")?;
    health.set_ready(true);
    let (events, scaling_events) = mpsc::channel(1024);
    let autoscaler = Autoscaler::start(AutoscalerContext {
        client: client.clone(),
        namespace: args.common.namespace.clone(),
        activator_selector: args.common.activator_selector.clone(),
        token,
        functions: caches.functions.clone(),
        deployments: caches.deployments.clone(),
        adopted: caches.adopted.clone(),
        pods: {
            let caches = caches.clone();
            Arc::new(move |namespace, name| caches.pods_of(namespace, name))
        },
        metrics: autoscaler_metrics,
        events,
        shutdown,
    });
    health.show_decisions_of(autoscaler.clone());
    let reporter = Reporter { controller: REPORTER.to_owned(), instance: args.identity.clone() };
    let pilot = PilotSource::new(client.clone(), &args.common.namespace, args.beacon.clone());
    pilot.refresh().await;
    let mut functions = caches.functions.all();
    functions.sort_by_key(|function| claimant(function));
    let context = Arc::new(Context::new(
        client.clone(),
        caches.clone(),
        autoscaler,
        EventWriter::new(client, reporter),
        metrics,
        args.domain(),
        args.activator_host(),
        pilot,
        triggers.clone(),
        seeded_ports(&functions),
        seeded_hostnames(&functions, Rules::new(args.hostnames.clone(), args.domain())),
    ));
    drop(functions);
    tokio::select! {
        () = controller::run(Arc::clone(&context), queue, args.max_concurrent_reconciles) => {
            bail!("the controller ended; this is a bug")
        }
        () = reconcile_on_activator_changes(&context, &triggers) => {
            bail!("the autoscaler ended; this is a bug")
        }
        () = tell_scaling(&context, &triggers, scaling_events) => {
            bail!("the autoscaler's events ended; this is a bug")
        }
        () = housekeeping(&context) => unreachable!("it has no end"),
        () = follow_pilot(&context, &triggers) => unreachable!("it has no end"),
    }
}

/// The ports that Functions have, the older first, so that whoever is reconciled first cannot take an older one's.
fn seeded_ports(functions: &[Arc<Function>]) -> PortIndex {
    let mut ports = PortIndex::default();
    for function in functions {
        let route = function.status.as_ref().and_then(|s| s.route.as_ref());
        if let Some(route) = route {
            // A conflict is solved when the younger is reconciled.
            let _ = ports.claim(&claimant(function), Some(route.port));
        }
    }
    ports
}

/// The host names that Functions have, before those that they wait for; of both, the older first.
fn seeded_hostnames(functions: &[Arc<Function>], rules: Rules) -> HostIndex {
    let mut index = HostIndex::new(rules);
    for function in functions {
        let had = function.status.iter().flat_map(|status| &status.hostnames);
        let kept: Vec<_> = had.filter(|host| function.spec.hostnames.contains(host)).cloned().collect();
        index.claim(&claimant(function), &kept);
    }
    for function in functions {
        index.claim(&claimant(function), &function.spec.hostnames);
    }
    index
}

/// Every Function's slice depends on which activators there are, and on which of them acknowledged its own route.
async fn reconcile_on_activator_changes(context: &Context, triggers: &Triggers) {
    let mut activators = context.autoscaler.activators().changes();
    while let Some(affected) = activators.next().await {
        match affected {
            Affected::All => {
                for (namespace, name) in context.caches.functions.names() {
                    let _ = triggers.send(ObjectRef::new(&name).within(&namespace));
                }
            }
            Affected::Some(functions) => {
                for (namespace, name) in functions {
                    let _ = triggers.send(ObjectRef::new(&name).within(&namespace));
                }
            }
        }
    }
    // Without an autoscaler there is nothing to wait for; the controller goes on.
    std::future::pending::<()>().await;
}

async fn tell_scaling(context: &Context, triggers: &Triggers, mut events: mpsc::Receiver<ScalingEvent>) {
    while let Some(event) = events.recv().await {
        if let Some(function) = context.caches.functions.get(&event.namespace, &event.name) {
            publish_scaling(&context.recorder, &function, &event).await;
            if event.kind == ScalingEventKind::ResizeRefused {
                // A condition tells of it, too.
                let _ = triggers.send(ObjectRef::from_obj(&*function));
            }
        }
    }
    std::future::pending::<()>().await;
}

/// The Service may come later than the operator, or be made again. Deployments at rest then get other beacons.
async fn follow_pilot(context: &Context, triggers: &Triggers) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        if context.pilot.refresh().await {
            for (namespace, name) in context.caches.functions.names() {
                let _ = triggers.send(ObjectRef::new(&name).within(&namespace));
            }
        }
    }
}

/// Forgets Functions that are gone, and counts those that are there.
async fn housekeeping(context: &Context) {
    loop {
        let uids = context.caches.functions.uids();
        context.forget(|uid| uids.contains(uid));
        context.free_hostnames();
        context.metrics.functions.set(i64::try_from(uids.len()).unwrap_or(i64::MAX));
        tokio::time::sleep(HOUSEKEEPING).await;
    }
}

fn read_token(args: &RunArgs) -> anyhow::Result<String> {
    let path = &args.control_token_file;
    let token = std::fs::read_to_string(path)
        .with_context(|| format!("--control-token-file {}: cannot read it", path.display()))?;
    let token = token.trim();
    if token.is_empty() {
        bail!(
            "--control-token-file {}: it is empty; it must hold the token that the activators have, too",
            path.display()
        );
    }
    Ok(token.to_owned())
}

fn random_identity() -> String {
    format!("operator-{:016x}", rand::random::<u64>())
}

/// Resolves at SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
