//! The process that stands for a cluster on the host: it holds the lock and the listening ports, starts the namespaces,
//! and takes everything away again, whether it is told to (`down`), or `up` ends before it has taken over
//! responsibility, or the cluster ends by itself.

use std::fs::{self, File};
use std::net::SocketAddrV4;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{self, Host};
use crate::error::{Error, Result};
use crate::forward::{self, Door};
use crate::layout::{Layout, write};
use crate::network::{self, API_PORT, NODE_ADDRESS};
use crate::stages::{self, Event, Plan};
use crate::state::{Lock, Phase, State};
use crate::{certificates, cgroups};

/// What `up` writes once it has seen the cluster ready: from then on the cluster outlives it.
pub(crate) const ACKNOWLEDGED: u8 = b'!';

/// How long the last process of a cluster may take to end after it was told by SIGKILL.
const ENDING: Duration = Duration::from_secs(20);

/// Runs the stage until the cluster is gone.
pub(crate) fn run() -> Result<()> {
    // Away from the terminal, whose Ctrl-C is for `up` alone.
    nix::unistd::setsid().map_err(Error::sys("setsid"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Io { what: "starting".to_owned(), source })?;
    // One thread only: the children end with the thread that started them.
    runtime.block_on(async {
        let mut from_up = BufReader::new(pipe_from_up()?);
        let mut line = String::new();
        from_up
            .read_line(&mut line)
            .await
            .map_err(|source| Error::Io { what: "reading the plan".to_owned(), source })?;
        supervise(&Plan::from_line(&line)?, from_up).await
    })
}

/// How a cluster ended.
enum End {
    /// It was told to.
    Wanted,
    /// It did so itself.
    Failed(String),
}

/// The pipe that `up` holds the other end of.
type FromUp = BufReader<tokio::net::unix::pipe::Receiver>;

async fn supervise(plan: &Plan, from_up: FromUp) -> Result<()> {
    let layout = plan.layout();
    let listen = |kind| signal(kind).map_err(|source| Error::Io { what: "listening to signals".to_owned(), source });
    let mut signals = [listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?];
    let Some(lock) = Lock::take(&layout, Duration::from_millis(500)).await? else {
        Event::Busy.report();
        return Ok(());
    };
    // Whatever a killed predecessor left.
    cgroups::remove(&layout, ENDING).await?;
    layout.clear()?;

    let mut cluster = Supervised { layout: layout.clone(), child: None, doors: Vec::new(), state: initial_state(plan) };
    let end = match cluster.prepare(plan) {
        Ok(()) => cluster.watch(&mut signals, from_up).await,
        Err(error) => End::Failed(error.to_string()),
    };
    cluster.stop_processes().await;
    cgroups::remove(&layout, ENDING).await?;
    match end {
        End::Wanted => {
            layout.remove()?;
            drop(lock);
            Event::Stopped.report();
        }
        End::Failed(reason) => {
            // The logs and the reason stay for `status`.
            layout.remove_all_but_logs()?;
            cluster.state.phase = Phase::Failed { reason: reason.clone() };
            cluster.state.write(&layout)?;
            drop(lock);
            Event::Failed { reason }.report();
        }
    }
    Ok(())
}

/// Stdin, read without a thread that would wait for `up` at the end.
fn pipe_from_up() -> Result<tokio::net::unix::pipe::Receiver> {
    let io = |source| Error::Io { what: "opening the pipe from `up`".to_owned(), source };
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(io)?;
    tokio::net::unix::pipe::Receiver::from_owned_fd(stdin).map_err(io)
}

fn initial_state(plan: &Plan) -> State {
    State { options: plan.options.clone(), phase: Phase::Starting, supervisor: std::process::id(), init: None }
}

struct Supervised {
    layout: Layout,
    child: Option<Child>,
    doors: Vec<Door>,
    state: State,
}

impl Supervised {
    /// Everything up to the start of the namespaces.
    fn prepare(&mut self, plan: &Plan) -> Result<()> {
        let layout = &self.layout;
        let api = Door::open(plan.options.api_port, SocketAddrV4::new(NODE_ADDRESS, API_PORT), "--port")?;
        let port = api.port()?;
        self.doors.push(api);
        for forward in &plan.options.forwards {
            self.doors.push(Door::open(forward.host_port, forward.target, "--forward")?);
        }
        self.state.options.api_port = port;
        self.state.write(layout)?;
        write(&layout.plan(), plan.to_line()?)?;

        certificates::generate(layout)?;
        config::write_all(layout, &Host::detect(layout, plan.options.runtime)?)?;
        config::write_kubeconfig(layout, &layout.kubeconfig(), "admin", &format!("https://127.0.0.1:{port}"))?;
        cgroups::create(layout)?;
        network::load_bridge_filter()?;

        fs::copy("/proc/self/exe", layout.executable()).map_err(Error::io("copying", &layout.executable()))?;
        let log = layout.logs().join("node.log");
        let log = File::create(&log).map_err(Error::io("creating", &log))?;
        let mut command = Command::from(stages::command(&layout.executable(), "unshare", plan));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).current_dir("/").kill_on_drop(true);
        let child =
            command.spawn().map_err(|source| Error::Io { what: "starting the namespaces".to_owned(), source })?;
        self.child = Some(child);
        Ok(())
    }

    /// Relays what the node reports, until something ends.
    async fn watch(&mut self, signals: &mut [Signal; 2], mut from_up: FromUp) -> End {
        let Some(output) = self.child.as_mut().and_then(|child| child.stdout.take()) else {
            return End::Failed("the namespaces have no output".to_owned());
        };
        let mut lines = BufReader::new(output).lines();
        let mut acknowledged = false;
        let [terminate, interrupt] = signals;
        loop {
            let mut word = [0; 1];
            tokio::select! {
                _ = terminate.recv() => return End::Wanted,
                _ = interrupt.recv() => return End::Wanted,
                read = from_up.read(&mut word), if !acknowledged => match read {
                    Ok(1) if word[0] == ACKNOWLEDGED => acknowledged = true,
                    // `up` is gone, however that came.
                    _ => return End::Wanted,
                },
                line = lines.next_line() => {
                    let event = line.ok().flatten().and_then(|line| serde_json::from_str(&line).ok());
                    match event {
                        Some(Event::Failed { reason }) => return End::Failed(reason),
                        Some(event) => if let Err(error) = self.note(&event) {
                            return End::Failed(error.to_string());
                        },
                        None => return End::Failed("the cluster's first process ended; see node.log".to_owned()),
                    }
                }
            }
        }
    }

    fn note(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Init { pid } => {
                self.state.init = Some(*pid);
                self.state.write(&self.layout)?;
                forward::serve(std::mem::take(&mut self.doors), *pid)?;
            }
            Event::Ready { seconds } => {
                self.state.phase = Phase::Ready { seconds: *seconds };
                self.state.write(&self.layout)?;
            }
            _ => {}
        }
        event.report();
        Ok(())
    }

    /// Ends every process of the namespaces.
    async fn stop_processes(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // The end of this pipe ends `init`, and its end everything.
        drop(child.stdin.take());
        if tokio::time::timeout(ENDING, child.wait()).await.is_err() {
            eprintln!("the cluster's processes did not end by themselves; killing them");
            let _ = child.kill().await;
        }
    }
}

impl Host {
    /// Looks at what is installed, and at what this process may do.
    fn detect(layout: &Layout, runtime: crate::options::Runtime) -> Result<Self> {
        use crate::command::find_program;
        use crate::options::Runtime;
        let runtimes: Vec<_> = [Runtime::Runc, Runtime::Crun]
            .into_iter()
            .filter_map(|each| find_program(each.program()).map(|path| (each, path)))
            .collect();
        let cni_plugins = crate::packages::cni_plugins()
            .ok_or_else(|| Error::ProgramsMissing("the CNI plugins (bridge, host-local)".to_owned()))?;
        let on_overlay = nix::sys::statfs::statfs(layout.root()).map_err(Error::sys("statfs"))?.filesystem_type()
            == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC;
        Ok(Self {
            runtime,
            runtimes,
            cni_plugins,
            may_lower_oom_score: crate::preflight::has_capability(
                &fs::read_to_string("/proc/self/status")
                    .map_err(Error::io("reading", Path::new("/proc/self/status")))?,
                crate::preflight::CAP_SYS_RESOURCE,
            ),
            snapshotter: if on_overlay { "native" } else { "overlayfs" },
        })
    }
}
