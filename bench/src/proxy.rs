//! `proxy`: the same app, client and connection counts directly, through the activator, through haproxy and through nginx.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use crate::Common;
use crate::load::{Client, Load, Outcome, Pace};
use crate::peers::{Addresses, Peer, Running, Stand};
use crate::process::Program;
use crate::report::{Figure, Table};
use crate::wire::Protocol;

/// Before each measurement, so that connections and caches are as they stay.
const WARM_UP: Duration = Duration::from_millis(300);
/// Connections whose memory is measured, bounded by the files that one process may have.
const MEMORY_CONNECTIONS: usize = 2_000;

/// One kind of traffic.
struct Kind {
    key: &'static str,
    title: &'static str,
    protocol: Protocol,
    path: &'static str,
    connections: usize,
    streams: usize,
    /// Requests a second for the latencies: well below what any of them can do on one core.
    moderate: u32,
}

const KINDS: [Kind; 3] = [
    Kind {
        key: "http1",
        title: "HTTP/1.1, bodies of 128 bytes, 64 connections; latencies at 6,000 requests a second",
        protocol: Protocol::Http1,
        path: "/",
        connections: 64,
        streams: 1,
        moderate: 6_000,
    },
    Kind {
        key: "h2c",
        title: "HTTP/2 without TLS on both sides, bodies of 128 bytes, 8 connections of 8 streams; latencies at 6,000 requests a \
                second. nginx has one request at a time on each connection to the app: grpc_pass, its only way to speak HTTP/2 there",
        protocol: Protocol::H2c,
        path: "/",
        connections: 8,
        streams: 8,
        moderate: 6_000,
    },
    Kind {
        key: "http1_64k",
        title: "HTTP/1.1, bodies of 64 KiB, 64 connections; latencies at 2,000 requests a second",
        protocol: Protocol::Http1,
        path: "/64k",
        connections: 64,
        streams: 1,
        moderate: 2_000,
    },
];

impl Kind {
    fn load(&self, addresses: &Addresses) -> Load {
        Load {
            address: addresses.of(self.protocol),
            protocol: self.protocol,
            connections: self.connections,
            streams: self.streams,
            path: self.path,
        }
    }

    fn alone(&self, addresses: &Addresses) -> Load {
        Load { connections: 1, streams: 1, ..self.load(addresses) }
    }
}

/// Runs the benchmark and prints its figures.
///
/// # Errors
/// Something cannot be started, or a request failed.
pub(crate) fn run(common: &Common, only: Option<&str>, named: &[String]) -> Result<()> {
    let kinds: Vec<&Kind> = KINDS.iter().filter(|kind| only.is_none_or(|key| key == kind.key)).collect();
    if kinds.is_empty() {
        bail!("--only takes http1, h2c or http1_64k");
    }
    let peers: Vec<Peer> =
        Peer::ALL.into_iter().filter(|peer| named.is_empty() || named.iter().any(|name| name == peer.name())).collect();
    let stand = Stand::new(common.activator.clone(), 1)?;
    let (app, behind) = stand.app()?;
    eprintln!(
        "what is measured is on core {}, client and app on core {}; {} rounds, in turns; load of the machine before: {}",
        stand.cores[0],
        stand.home,
        common.rounds,
        std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
    );
    let mut output = Map::new();
    for kind in kinds {
        let running: Vec<Running> = peers.iter().map(|peer| stand.peer(*peer, &behind)).collect::<Result<_>>()?;
        let mut table = Table::default();
        for round in 0..common.rounds {
            for running in &running {
                eprintln!("{}: round {} of {}: {}", kind.key, round + 1, common.rounds, running.peer.name());
                measure(kind, running, &stand, &app, Duration::from_millis(common.millis), &mut table)?;
            }
        }
        drop(running);
        if kind.key == "http1" {
            for peer in peers.iter().copied().filter(|peer| *peer != Peer::Direct) {
                eprintln!("{}: memory for each connection: {}", kind.key, peer.name());
                memory(&stand.peer(peer, &behind)?, &behind, &mut table)?;
            }
        }
        eprint!("{}", table.text(kind.title));
        output.insert(kind.key.to_owned(), table.json());
    }
    if common.json {
        println!("{}", Value::Object(output));
    }
    Ok(())
}

fn measure(
    kind: &Kind,
    running: &Running,
    stand: &Stand,
    app: &Program,
    during: Duration,
    table: &mut Table,
) -> Result<()> {
    let (peer, measured) = (running.peer, running.program.as_ref().unwrap_or(app));
    let mut client = Client::connect(&kind.load(&running.addresses))?;
    clean(client.run(Pace::Closed(WARM_UP))?)?;
    let before = measured.cpu()?;
    let full = clean(client.run(Pace::Closed(during))?)?;
    let used = (measured.cpu()? - before).as_secs_f64();
    let answered = full.answered as f64;
    table.push(peer, Figure::PerCpuSecond, answered / used);
    table.push(peer, Figure::PerSecond, answered / full.took.as_secs_f64());
    table.push(peer, Figure::CoreShare, used / full.took.as_secs_f64());
    let moderate = clean(client.run(Pace::Open { per_second: kind.moderate, during })?)?;
    table.push(peer, Figure::P50, moderate.micros(0.5));
    table.push(peer, Figure::P99, moderate.micros(0.99));
    drop(client);
    let mut client = Client::connect(&kind.alone(&running.addresses))?;
    clean(client.run(Pace::Closed(WARM_UP))?)?;
    let low = clean(client.run(Pace::Closed(during / 2))?)?;
    table.push(peer, Figure::LowLoadP50, low.micros(0.5));
    measured.move_to(&[stand.home])?;
    let low = clean(client.run(Pace::Closed(during / 2))?)?;
    table.push(peer, Figure::LowLoadOneCoreP50, low.micros(0.5));
    if peer != Peer::Direct {
        measured.move_to(&stand.cores)?;
    }
    Ok(())
}

fn clean(outcome: Outcome) -> Result<Outcome> {
    if outcome.failed > 0 {
        bail!("{} requests failed, {} were answered: the figures would say nothing", outcome.failed, outcome.answered);
    }
    Ok(outcome)
}

/// Memory of a fresh process before and after so many connections, first idle after one request each, then each with a request that the
/// app holds.
fn memory(running: &Running, app: &Addresses, table: &mut Table) -> Result<()> {
    let Some(program) = &running.program else { return Ok(()) };
    let small =
        Load { address: running.addresses.http1, protocol: Protocol::Http1, connections: 8, streams: 1, path: "/" };
    clean(Client::connect(&small)?.run(Pace::Closed(WARM_UP))?)?;
    let per_connection = |before: u64, after: u64| after.saturating_sub(before) as f64 / MEMORY_CONNECTIONS as f64;
    let before = program.memory()?;
    let mut idle = Client::connect(&Load { connections: MEMORY_CONNECTIONS, ..small.clone() })?;
    // One after the other, so that all the memory is what an idle connection keeps.
    clean(idle.run(Pace::Open { per_second: 2_000, during: Duration::from_millis(1_100) })?)?;
    table.push(running.peer, Figure::IdleConnection, per_connection(before, program.memory()?));
    drop(idle);
    let mut busy = Client::connect(&Load { connections: MEMORY_CONNECTIONS, path: "/hold", ..small.clone() })?;
    let release = Load { address: app.http1, connections: 1, path: "/release", ..small };
    let measured = std::thread::scope(|scope| {
        let held = scope.spawn(|| busy.run(Pace::Once(Duration::from_secs(20))));
        std::thread::sleep(Duration::from_secs(3));
        let after = program.memory();
        let released = Client::connect(&release).and_then(|mut client| client.run(Pace::Once(Duration::from_secs(5))));
        (after, released, held.join())
    });
    let (after, released, held) = measured;
    clean(released?)?;
    let Ok(held) = held else { bail!("the thread that held requests broke off") };
    clean(held?)?;
    table.push(running.peer, Figure::BusyConnection, per_connection(before, after?));
    Ok(())
}
