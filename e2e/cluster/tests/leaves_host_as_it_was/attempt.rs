//! Running the cluster's own program, and ending it in the ways that people and machines do.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pilotlight_cluster::{ClusterName, Layout, State};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pilotlight-cluster");

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exited(i32),
    Signaled(i32),
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        match status.code() {
            Some(code) => Self::Exited(code),
            None => Self::Signaled(status.signal().expect("a process ends by exit or signal")),
        }
    }
}

fn command(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["--name", name]).args(args);
    command
}

/// Makes sure that only starting is left to do.
pub(crate) fn build() {
    assert!(Command::new(PROGRAM).arg("build").stdout(Stdio::null()).status().unwrap().success());
}

/// Runs a subcommand to its end.
pub(crate) fn run(name: &str, args: &[&str]) -> End {
    command(name, args).status().unwrap().into()
}

/// What a subcommand prints.
pub(crate) fn output(name: &str, args: &[&str]) -> String {
    String::from_utf8(command(name, args).output().unwrap().stdout).unwrap()
}

/// What a subcommand says on stderr.
pub(crate) fn errors(name: &str, args: &[&str]) -> String {
    String::from_utf8(command(name, args).output().unwrap().stderr).unwrap()
}

/// An `up` on its way.
pub(crate) struct Attempt {
    child: Child,
    progress: BufReader<ChildStderr>,
    seen: String,
}

impl Attempt {
    pub(crate) fn start(name: &str) -> Self {
        let mut child = command(name, &["up", "--verbose"]).stderr(Stdio::piped()).spawn().unwrap();
        let progress = BufReader::new(child.stderr.take().unwrap());
        Self { child, progress, seen: String::new() }
    }

    /// Waits for so many lines of progress. False if it ended before.
    pub(crate) fn read_lines(&mut self, lines: usize) -> bool {
        (0..lines).all(|_| self.progress.read_line(&mut self.seen).unwrap() > 0)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits for its end, showing what it said.
    pub(crate) fn finish(mut self) -> End {
        while self.progress.read_line(&mut self.seen).unwrap() > 0 {}
        eprint!("{}", self.seen);
        self.child.wait().unwrap().into()
    }
}

/// kill -9 to the supervisor.
pub(crate) fn kill_supervisor(name: &str) {
    let state = State::read(&Layout::of(&cluster(name))).unwrap().expect("a started cluster has a state");
    kill(Pid::from_raw(i32::try_from(state.supervisor).unwrap()), Signal::SIGKILL).unwrap();
}

/// Ends a component of one cluster, found by its program below the cluster's directory, by a signal.
pub(crate) fn kill_component(name: &str, component: &str, with: Signal) {
    let program = Layout::of(&cluster(name)).bin().join(component).display().to_string();
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = || fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let runs = || line().split(|byte| *byte == 0).next() == Some(program.as_bytes());
            if runs() {
                let pid = entry.file_name().to_string_lossy().parse().unwrap();
                kill(Pid::from_raw(pid), with).unwrap();
                while runs() {
                    assert!(Instant::now() < deadline, "{program} does not end");
                    thread::sleep(Duration::from_millis(1));
                }
                return;
            }
        }
    }
    panic!("{program} does not run");
}

fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}
