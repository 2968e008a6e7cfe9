//! `isolation`: one Function gets 10,000 requests at once while it has no pod; another, warm, goes on at 500 requests a second. What the
//! second one sees of that, beside the same run undisturbed.

use std::io::{BufRead as _, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Common;
use crate::api::{Api, Served};
use crate::load::{Client, Load, Outcome, Pace};
use crate::peers::{Addresses, Stand};
use crate::report::{Series, rounded};
use crate::wire::Protocol;

const FLOOD: usize = 10_000;
const WARM_PER_SECOND: u32 = 500;
/// So long each run lasts; flood and late pod must fit into it.
const RUN: Duration = Duration::from_secs(10);
/// What the flood's process says when all its requests are on their way.
const SENT: &str = "sent";
const PATIENCE: Duration = Duration::from_secs(50);

/// What came of a flood, as its process tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Flooded {
    answered: u64,
    failed: u64,
}

/// Sends one request on each of many connections, waits for the answers, and says how many came.
///
/// # Errors
/// A connection cannot be opened.
pub(crate) fn flood(address: SocketAddr, requests: usize) -> Result<()> {
    let load = Load { address, protocol: Protocol::Http1, connections: requests, streams: 1, path: "/" };
    let mut client = Client::connect(&load)?;
    let outcome = client.run_and_tell(Pace::Once(PATIENCE), || println!("{SENT}"))?;
    println!("{}", serde_json::to_string(&Flooded { answered: outcome.answered, failed: outcome.failed })?);
    Ok(())
}

/// Latencies of the warm Function over the rounds of one kind of run.
#[derive(Default)]
struct Warm {
    answered: u64,
    errors: u64,
    p50: Series,
    p99: Series,
}

impl Warm {
    fn add(&mut self, outcome: &Outcome) {
        self.answered += outcome.answered;
        self.errors += outcome.failed;
        self.p50.push(outcome.micros(0.5));
        self.p99.push(outcome.micros(0.99));
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "answered": self.answered, "errors": self.errors,
            "p50_us": rounded(self.p50.median()), "p99_us": rounded(self.p99.median()),
        })
    }
}

/// Runs the benchmark and prints its figures.
///
/// # Errors
/// Something cannot be started.
pub(crate) fn run(common: &Common, cores: usize) -> Result<()> {
    let stand = Stand::new(common.activator.clone(), cores)?;
    eprintln!("the activator is on cores {:?}, clients and apps on core {}", stand.cores, stand.home);
    // Each Function has an app of its own, or it would be the app that makes one wait for the other.
    let (_warm_app, warm) = stand.app()?;
    let (_cold_app, cold) = stand.app()?;
    let behind = [warm.http1, cold.http1];
    let (mut alone, mut disturbed) = (Warm::default(), Warm::default());
    let mut flooded = Flooded { answered: 0, failed: 0 };
    for round in 0..common.rounds {
        eprintln!("isolation: round {} of {}", round + 1, common.rounds);
        let one = Round::run(&stand, behind, false)?;
        alone.add(&one.warm);
        let two = Round::run(&stand, behind, true)?;
        disturbed.add(&two.warm);
        if let Some(flood) = two.flooded {
            flooded.answered += flood.answered;
            flooded.failed += flood.failed;
        }
    }
    let ratio = disturbed.p99.median() / alone.p99.median();
    eprintln!(
        "\na warm Function at {WARM_PER_SECOND} requests a second, {} rounds of {} s\n\
         undisturbed:                      {} answered, {} errors, p50 {:.0} µs, p99 {:.0} µs\n\
         beside {FLOOD} requests for a cold one: {} answered, {} errors, p50 {:.0} µs, p99 {:.0} µs\n\
         p99, disturbed / undisturbed: {ratio:.2}\n\
         the cold one's requests, over all rounds: {} answered, {} failed",
        common.rounds,
        RUN.as_secs(),
        alone.answered,
        alone.errors,
        alone.p50.median(),
        alone.p99.median(),
        disturbed.answered,
        disturbed.errors,
        disturbed.p50.median(),
        disturbed.p99.median(),
        flooded.answered,
        flooded.failed,
    );
    if common.json {
        let output = json!({
            "undisturbed": alone.json(), "disturbed": disturbed.json(), "p99_ratio": rounded(ratio),
            "flood": { "answered": flooded.answered, "failed": flooded.failed },
        });
        println!("{output}");
    }
    Ok(())
}

struct Round {
    warm: Outcome,
    flooded: Option<Flooded>,
}

impl Round {
    /// One run with an activator of its own.
    fn run(stand: &Stand, [warm, cold]: [SocketAddr; 2], with_flood: bool) -> Result<Self> {
        let routes = Addresses::free()?;
        let served =
            |name, listen: SocketAddr, pod, warm| Served { name, port: listen.port(), pod, protocol: "http1", warm };
        let (warm, cold) = (served("warm", routes.http1, warm, true), served("cold", routes.h2c, cold, false));
        let api = Api::start(&[warm, cold.clone()])?;
        let _activator = stand.activator(&api, &routes)?;
        let load = Load { address: routes.http1, protocol: Protocol::Http1, connections: 16, streams: 1, path: "/" };
        let mut client = Client::connect(&load)?;
        client.run(Pace::Open { per_second: WARM_PER_SECOND, during: Duration::from_secs(1) })?;
        let flood = with_flood.then(|| Flood::start(routes.h2c)).transpose()?;
        std::thread::scope(|scope| {
            let flooded = flood.map(|flood| scope.spawn(|| flood.run(&api, &cold)));
            let warm = client.run(Pace::Open { per_second: WARM_PER_SECOND, during: RUN })?;
            let Some(flooded) = flooded else { return Ok(Self { warm, flooded: None }) };
            if !flooded.is_finished() {
                bail!(
                    "the flood outlasted the {} s beside which it should have been: the machine is too busy",
                    RUN.as_secs()
                );
            }
            let Ok(flooded) = flooded.join() else { bail!("the thread that watched the flood broke off") };
            Ok(Self { warm, flooded: Some(flooded?) })
        })
    }
}

/// A flood from a process of its own, which leaves the warm Function's client and app the first call on their core: it is the activator
/// that is measured.
struct Flood {
    process: Child,
    told: Lines<BufReader<ChildStdout>>,
}

impl Flood {
    fn start(address: SocketAddr) -> Result<Self> {
        let mut command = Command::new("nice");
        command.args(["-n", "5"]).arg(std::env::current_exe()?).args(["flood", "--address", &address.to_string()]);
        command.args(["--requests", &FLOOD.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().context("cannot start the flood")?;
        let told = process.stdout.take().context("the flood has no standard output")?;
        Ok(Self { process, told: BufReader::new(told).lines() })
    }

    /// Lets the cold Function's pod appear once its requests have waited for a while and have woken it, and gives what came of them.
    fn run(mut self, api: &Api, cold: &Served) -> Result<Flooded> {
        let sent = self.told.next().context("the flood said nothing")??;
        if sent != SENT {
            bail!("the flood said {sent} before its requests were sent");
        }
        // So long the requests wait beside the warm Function's.
        std::thread::sleep(Duration::from_secs(2));
        let sent = Instant::now();
        while !api.was_woken(cold) {
            if sent.elapsed() > RUN {
                bail!("the activator did not wake the Function that was flooded");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        api.add_pod(cold);
        let outcome = self.told.next().context("the flood did not say what came of it")??;
        self.process.wait()?;
        serde_json::from_str(&outcome).context("the flood did not say what came of it")
    }
}
