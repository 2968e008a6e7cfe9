//! Bringing a cluster up and taking it down, as seen by the caller. Until the cluster is ready this process answers for
//! it: if it ends, in whatever way, the supervisor sees its pipe close and takes everything away.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::forward::Door;
use crate::layout::Layout;
use crate::options::{ClusterName, Options};
use crate::preflight::{self, HostFacts};
use crate::progress::Progress;
use crate::stages::{self, Event, Plan};
use crate::state::{Lock, Phase, State};
use crate::supervise::ACKNOWLEDGED;
use crate::{api, binaries, cgroups, packages};

/// How long `down` waits for the supervisor, which itself waits for the last process.
const STOPPING: Duration = Duration::from_secs(60);

/// What `up` found or did.
#[derive(Debug)]
pub enum Up {
    /// It is up now.
    Started {
        /// The cluster.
        cluster: Cluster,
        /// Time from the start of its processes to readiness; building not counted.
        took: Duration,
    },
    /// It was up before.
    AlreadyUp(Cluster),
}

impl Up {
    /// The cluster, however it came to be.
    pub fn cluster(self) -> Cluster {
        match self {
            Self::Started { cluster, .. } | Self::AlreadyUp(cluster) => cluster,
        }
    }
}

/// Brings a cluster up: installs and builds what is missing, starts it, and waits until pods run in it. Prints progress
/// on stderr. SIGINT, SIGTERM and SIGHUP end it with [`Error::Interrupted`] once all is taken away again. The calling
/// executable must call [`crate::reentry`] first in its `main`.
pub async fn up(options: &Options, progress: &Progress) -> Result<Up> {
    preflight::judge(&HostFacts::gather()?)?;
    let layout = Layout::of(&options.name);
    if let Some(cluster) = already_up(&layout)? {
        return Ok(Up::AlreadyUp(cluster));
    }
    ports_are_free(options)?;
    let mut interrupt = Interrupt::listen()?;

    let began = Instant::now();
    packages::ensure(&options.runtimes(), progress).await?;
    progress.done("packages are installed", began.elapsed());
    let programs = tokio::select! {
        built = binaries::build(progress) => built?,
        () = interrupt.wait() => return Err(Error::Interrupted),
    };

    let began = Instant::now();
    let plan = Plan { options: options.clone(), programs };
    let mut supervisor = start_supervisor(&plan).await?;
    follow(&mut supervisor, &layout, &mut interrupt, progress).await?;
    Ok(Up::Started { cluster: Cluster::open(&options.name)?, took: began.elapsed() })
}

fn already_up(layout: &Layout) -> Result<Option<Cluster>> {
    if !Lock::is_held(layout)? {
        return Ok(None);
    }
    match State::read(layout)? {
        Some(State { phase: Phase::Ready { .. }, .. }) => Cluster::open(layout.name()).map(Some),
        _ => Err(Error::Busy(layout.name().to_string())),
    }
}

/// Says at once what would otherwise be found out after everything is built. The supervisor opens them for good.
fn ports_are_free(options: &Options) -> Result<()> {
    let nowhere = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    let wanted = options.forwards.iter().map(|forward| (forward.host_port, "--forward"));
    for (port, flag) in wanted.chain([(options.api_port, "--port")]) {
        Door::open(port, nowhere, flag)?;
    }
    Ok(())
}

async fn start_supervisor(plan: &Plan) -> Result<Child> {
    let executable =
        std::env::current_exe().map_err(|source| Error::Io { what: "finding this program".to_owned(), source })?;
    let mut command = tokio::process::Command::from(stages::command(&executable, "supervise", plan));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/");
    let io = |source| Error::Io { what: "starting the supervisor".to_owned(), source };
    let mut child = command.spawn().map_err(io)?;
    let stdin = child.stdin.as_mut().expect("stdin was piped just above");
    stdin.write_all(plan.to_line()?.as_bytes()).await.map_err(io)?;
    Ok(child)
}

/// Shows what the supervisor reports until the cluster is ready.
async fn follow(supervisor: &mut Child, layout: &Layout, interrupt: &mut Interrupt, progress: &Progress) -> Result<()> {
    let mut lines = BufReader::new(supervisor.stdout.take().expect("stdout was piped")).lines();
    let mut to_supervisor = supervisor.stdin.take();
    let mut interrupted = false;
    let not_up = |reason: String| Error::NotUp { name: layout.name().to_string(), reason, logs: layout.logs() };
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line.ok().flatten(),
            () = interrupt.wait(), if !interrupted => {
                interrupted = true;
                progress.say("interrupted: stopping and removing everything");
                // The end of the pipe tells the supervisor.
                to_supervisor = None;
                continue;
            }
        };
        let Some(line) = line else {
            return Err(if interrupted { Error::Interrupted } else { not_up("its supervisor ended".to_owned()) });
        };
        match serde_json::from_str(&line) {
            Ok(Event::Step { text, seconds }) => progress.done(&text, Duration::from_secs_f64(seconds)),
            Ok(Event::Ready { .. }) if !interrupted => {
                let acknowledged = match &mut to_supervisor {
                    Some(pipe) => pipe.write_all(&[ACKNOWLEDGED]).await,
                    None => Ok(()),
                };
                return acknowledged.map_err(|_| not_up("its supervisor ended".to_owned()));
            }
            Ok(Event::Failed { .. } | Event::Stopped) if interrupted => return Err(Error::Interrupted),
            Ok(Event::Failed { reason }) => return Err(not_up(reason)),
            Ok(Event::Stopped) => return Err(not_up("it was stopped by `down`".to_owned())),
            Ok(Event::Busy) => return Err(Error::Busy(layout.name().to_string())),
            _ => {}
        }
    }
}

/// Takes a cluster down, or removes what a crashed one left. Returns whether there was anything.
pub async fn down(name: &ClusterName) -> Result<bool> {
    preflight::judge(&HostFacts::gather()?)?;
    let layout = Layout::of(name);
    let existed = layout.root().exists();
    if Lock::is_held(&layout)?
        && let Some(state) = State::read(&layout)?
    {
        let pid = i32::try_from(state.supervisor).map_err(|error| Error::Internal(error.to_string()))?;
        // The lock is held, so the process that wrote its number lives.
        kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(Error::sys("stopping the supervisor"))?;
    }
    api::until(&format!("the supervisor of cluster {name} ending"), STOPPING, || async {
        match Lock::is_held(&layout) {
            Ok(false) => Ok(()),
            Ok(true) => Err("it still runs".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    cgroups::remove(&layout, STOPPING).await?;
    layout.remove()?;
    Ok(existed)
}

/// The signals that ask to stop.
struct Interrupt([tokio::signal::unix::Signal; 3]);

impl Interrupt {
    fn listen() -> Result<Self> {
        let listen =
            |kind| signal(kind).map_err(|source| Error::Io { what: "listening to signals".to_owned(), source });
        Ok(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
