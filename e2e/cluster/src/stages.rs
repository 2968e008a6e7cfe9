//! The processes behind a cluster are this same executable, started again with a hidden first argument:
//!
//! `supervise` (the host's namespaces; holds the listeners) → `unshare` (makes the namespaces) → `init` (process 1 in
//! them; ends with its parents and takes everything with it) → `node` (starts and watches the components).
//!
//! Each ends when the one before it ends, by the parent-death signal and by the end of a pipe, so that a `kill -9`
//! anywhere leaves no process behind.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, wait, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::options::{BadName, ClusterName, Options};
use crate::{cgroups, node, supervise};

/// The argument that no command line of a person begins with.
pub(crate) const MARK: &str = "__pilotlight-cluster";

/// What every stage needs to know. `up` writes it to the supervisor's stdin, as a line; the supervisor writes it to a
/// file for the others, whose last argument is the cluster's name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) options: Options,
    /// Names for `bin/` and the built programs they lead to.
    pub(crate) programs: Vec<(String, std::path::PathBuf)>,
}

impl Plan {
    pub(crate) fn layout(&self) -> Layout {
        Layout::of(&self.options.name)
    }

    /// As one line of JSON.
    pub(crate) fn to_line(&self) -> Result<String> {
        let text = serde_json::to_string(self).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(text + "\n")
    }

    /// From what [`Self::to_line`] wrote.
    pub(crate) fn from_line(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| Error::Internal(format!("damaged plan: {error}")))
    }

    fn of_cluster(name: &str) -> Result<Self> {
        let name: ClusterName = name.parse().map_err(|error: BadName| Error::Internal(error.to_string()))?;
        let path = Layout::of(&name).plan();
        Self::from_line(&std::fs::read_to_string(&path).map_err(Error::io("reading", &path))?)
    }
}

/// What a stage reports upwards, a line of JSON each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub(crate) enum Event {
    /// The namespaces exist; their first process as the host numbers it.
    Init { pid: u32 },
    /// A step is done.
    Step { text: String, seconds: f64 },
    /// Everything answers.
    Ready { seconds: f64 },
    /// Somebody else has the lock.
    Busy,
    /// It will not come up, or no longer is.
    Failed { reason: String },
    /// Everything is removed.
    Stopped,
}

impl Event {
    /// Prints it to stdout. That nobody listens any more is no error: the pipe of commands says so as well.
    pub(crate) fn report(&self) {
        if let Ok(line) = serde_json::to_string(self) {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    }
}

/// The command that starts a stage.
pub(crate) fn command(executable: &Path, stage: &str, plan: &Plan) -> Command {
    let mut command = Command::new(executable);
    command.args([MARK, stage, plan.options.name.as_str()]);
    command
}

/// Runs a stage, and does not return, if this process was started as one. To be called first in `main`, before any
/// thread exists.
pub fn reentry() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some(MARK) {
        return;
    }
    let stage = args.next().unwrap_or_default();
    let name = args.next().unwrap_or_default();
    let done = match stage.as_str() {
        "supervise" => supervise::run(),
        "unshare" => Plan::of_cluster(&name).and_then(|plan| unshare_stage(&plan)),
        "init" => Plan::of_cluster(&name).and_then(|plan| init_stage(&plan)),
        "node" => Plan::of_cluster(&name).and_then(|plan| node::run(&plan)),
        _ => Err(Error::Internal(format!("no stage is called {stage:?}"))),
    };
    std::process::exit(match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{stage}: {error}");
            Event::Failed { reason: error.to_string() }.report();
            1
        }
    })
}

/// Makes the namespaces and starts `init` as the first process in them. Must stay a single thread.
fn unshare_stage(plan: &Plan) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).map_err(Error::sys("prctl"))?;
    cgroups::join(&plan.layout())?;
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(flags).map_err(Error::sys("making namespaces (unshare)"))?;
    // Nothing that is mounted from here on may reach the host.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(Error::sys("making mounts private"))?;
    let child = command(&plan.layout().executable(), "init", plan)
        .spawn()
        .map_err(|source| Error::Io { what: "starting init".to_owned(), source })?;
    let init = child.id();
    Event::Init { pid: init }.report();
    let pid = Pid::from_raw(i32::try_from(init).expect("process ids fit"));
    match waitpid(pid, None).map_err(Error::sys("waiting for init"))? {
        WaitStatus::Exited(_, 0) => Ok(()),
        status => Err(Error::Internal(format!("init ended: {status:?}"))),
    }
}

/// Process 1: starts `node`, reaps whatever is left to it, and ends when `node` ends or its stdin does. With it the
/// kernel ends every process of the namespaces.
fn init_stage(plan: &Plan) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).map_err(Error::sys("prctl"))?;
    let mut child = command(&plan.layout().executable(), "node", plan);
    let node = child
        .stdin(Stdio::null())
        .spawn()
        .map_err(|source| Error::Io { what: "starting node".to_owned(), source })?
        .id();
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    loop {
        match wait().map_err(Error::sys("waiting for processes"))? {
            WaitStatus::Exited(pid, code) if pid.as_raw().unsigned_abs() == node => std::process::exit(code),
            WaitStatus::Signaled(pid, signal, _) if pid.as_raw().unsigned_abs() == node => {
                return Err(Error::Internal(format!("the node process was ended by {signal}")));
            }
            _ => {}
        }
    }
}
