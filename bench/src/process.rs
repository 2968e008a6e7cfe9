//! Programs under measurement: started on cores of their own, asked for their CPU time and memory, and ended whatever happens.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// How long a program may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(5);

/// A program that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
}

/// Keeps this thread, and whatever it starts from now on, on these cores.
///
/// # Errors
/// The machine has none of them for us.
pub(crate) fn pin(cores: &[usize]) -> Result<()> {
    sched_setaffinity(Pid::from_raw(0), &set_of(cores)?).with_context(|| format!("cannot run on cores {cores:?}"))
}

fn set_of(cores: &[usize]) -> Result<CpuSet> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    Ok(set)
}

/// So many cores for what is measured, and one for everything else. That one is among the first where there are no more.
///
/// # Errors
/// There are fewer, or only one.
pub(crate) fn cores(measured: usize) -> Result<(Vec<usize>, usize)> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let all: Vec<usize> = (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect();
    match (all.get(measured).or(all.last()), all.get(..measured)) {
        (Some(home), Some(measured)) if all.len() > 1 && !measured.is_empty() => Ok((measured.to_vec(), *home)),
        _ => bail!(
            "the benchmark needs {} cores, one for the load and the others for what is measured; there are {}",
            measured.max(2),
            all.len()
        ),
    }
}

impl Program {
    /// Starts a program on `cores`; what it says goes to a file. The calling thread is on `home` again afterwards.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(command: &Command, cores: &[usize], home: usize, log: &Path) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut command = ended_with_us(command);
        let file = File::create(log).with_context(|| format!("making {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        pin(cores)?;
        let child = command.spawn().with_context(|| format!("cannot start {name}"));
        pin(&[home])?;
        Ok(Self { name, child: child? })
    }

    /// Its process and that process's children, as nginx has them.
    fn pids(&self) -> Vec<u32> {
        let own = self.child.id();
        let listed = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        std::iter::once(own).chain(listed.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
    }

    /// User and system CPU time so far.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let ticks: u64 = self.pids().into_iter().map(cpu_ticks).sum::<Result<u64>>().context(self.name.clone())?;
        let per_second = sysconf(SysconfVar::CLK_TCK)?.and_then(|hertz| u32::try_from(hertz).ok()).unwrap_or(100);
        Ok(Duration::from_secs(ticks) / per_second)
    }

    /// Resident memory in bytes; pages shared between its processes count once each.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn memory(&self) -> Result<u64> {
        self.pids().into_iter().map(proportional_bytes).sum::<Result<u64>>().context(self.name.clone())
    }

    /// Moves all its threads to other cores.
    ///
    /// # Errors
    /// It has ended, or the machine has no such cores for us.
    pub(crate) fn move_to(&self, cores: &[usize]) -> Result<()> {
        let set = set_of(cores)?;
        for pid in self.pids() {
            for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
                let thread = task?.file_name().to_string_lossy().parse()?;
                sched_setaffinity(Pid::from_raw(thread), &set)?;
            }
        }
        Ok(())
    }

    /// Waits for a condition, and no longer than the program lives.
    ///
    /// # Errors
    /// It ended, or `limit` is over.
    pub(crate) fn wait_until(&mut self, what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        while !is_so() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before {what}", self.name);
            }
            if start.elapsed() > limit {
                bail!("{}: {what} did not happen within {} s", self.name, limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let pids: Vec<Pid> =
            self.pids().into_iter().filter_map(|pid| i32::try_from(pid).ok()).map(Pid::from_raw).collect();
        let _ = kill(pids[0], Signal::SIGTERM);
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for pid in pids {
            let _ = kill(pid, Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// The same command, ended by the kernel when this process is gone, however it went.
fn ended_with_us(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "TERM"]).arg(command.get_program()).args(command.get_args());
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped
}

fn cpu_ticks(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name is in parentheses and may hold anything; utime and stime are the 12th and 13th field after it.
    let after = text.rsplit_once(')').context("a stat file without a name")?.1;
    let mut fields = after.split_whitespace().skip(11);
    let mut next = || fields.next().and_then(|field| field.parse::<u64>().ok()).context("a short stat file");
    Ok(next()? + next()?)
}

fn proportional_bytes(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss in smaps_rollup")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_measured_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (measured, home) = cores(1).unwrap();
        let log = folder.path().join("log");
        let mut busy = Command::new("sh");
        busy.args(["-c", "echo here; while :; do :; done"]);
        let mut program = Program::start(&busy, &measured, home, &log).unwrap();
        let started = program.cpu().unwrap();
        let told = || std::fs::read_to_string(&log).is_ok_and(|text| text == "here\n");
        program.wait_until("it says so", Duration::from_secs(10), told).unwrap();
        let pid = program.child.id();
        let mut used = Duration::ZERO;
        while used <= started {
            used = cpu_ticks(pid).map(Duration::from_millis).unwrap();
        }
        assert!(program.memory().unwrap() > 0);
        drop(program);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
