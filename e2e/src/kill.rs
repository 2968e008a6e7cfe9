//! Processes, from inside the node: kill -9 of a container's and of the node's own, and what they use.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often a process is looked at. Short: what is lost until its end is seen counts as lost in it.
const LOOK: Duration = Duration::from_millis(1);

/// Sends SIGKILL to every process of a pod's containers, and tells which; they end a moment later ([`ended`]). Only on the embedded cluster,
/// whose node this process stands on.
///
/// # Errors
/// When the pod has no running container, or its process cannot be found or killed.
pub fn kill_containers(pod: &Pod) -> Result<Vec<i32>> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let ids: Vec<&str> = statuses
        .into_iter()
        .flatten()
        .filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
        .filter_map(|status| status.container_id.as_deref()?.strip_prefix("containerd://"))
        .collect();
    ensure!(!ids.is_empty(), "no container of the pod runs");
    let mut killed = Vec::new();
    for id in ids {
        let processes = processes_of(id)?;
        ensure!(!processes.is_empty(), "no process of container {id} was found");
        for process in processes {
            kill(Pid::from_raw(process), Signal::SIGKILL).with_context(|| format!("kill -9 {process}"))?;
            killed.push(process);
        }
    }
    Ok(killed)
}

/// Sends SIGKILL to one of the node's own components (`kubelet`, `containerd`), and waits until it has ended; the embedded cluster starts it again.
///
/// # Errors
/// When none runs, or it does not end in 10 s.
pub async fn kill_component(name: &str) -> Result<()> {
    let mut killed = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse() else { continue };
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let program = words.split(|byte| *byte == 0).next().unwrap_or_default();
        if program.rsplit(|byte| *byte == b'/').next() == Some(name.as_bytes()) {
            kill(Pid::from_raw(process), Signal::SIGKILL).with_context(|| format!("kill -9 {process}"))?;
            killed.push(process);
        }
    }
    ensure!(!killed.is_empty(), "no process of {name} was found; this needs the embedded cluster");
    ended(&killed, Duration::from_secs(10)).await?;
    Ok(())
}

/// Waits until processes have ended, and gives the moment at which that was seen: no connection was led to them that began later, for
/// the kernel has closed their sockets.
///
/// # Errors
/// When `limit` is over.
pub async fn ended(processes: &[i32], limit: Duration) -> Result<Instant> {
    let start = Instant::now();
    while !processes.iter().all(|process| has_ended(*process)) {
        ensure!(start.elapsed() < limit, "after {} s processes {processes:?} still run", limit.as_secs());
        tokio::time::sleep(LOOK).await;
    }
    Ok(Instant::now())
}

/// Whether all threads of a process have ended, whether or not its parent has asked for its status. That the first thread has (its state is
/// the process's) says nothing: the others hold the sockets until they have, too.
fn has_ended(process: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // "pid (name) state …": the name may hold anything.
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
    })
}

/// Resident memory of all processes of one container of a pod, in KiB. Only on the embedded cluster.
///
/// # Errors
/// When the container has no process.
pub fn resident_kib(pod: &Pod, container: &str) -> Result<u64> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut named = statuses.filter(|status| status.name == container);
    let id = named.find_map(|status| status.container_id.as_deref()?.strip_prefix("containerd://"));
    let id = id.with_context(|| format!("the pod has no running container {container}"))?;
    let processes = processes_of(id)?;
    ensure!(!processes.is_empty(), "no process of container {id} was found");
    let mut sum = 0;
    for process in processes {
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        sum += line.trim().trim_end_matches(" kB").parse::<u64>()?;
    }
    Ok(sum)
}

/// The node's process ids whose cgroup is the container's. `/proc` is that of the cluster's PID namespace here.
fn processes_of(container: &str) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse() else { continue };
        // A process that ended meanwhile has no cgroup file any more.
        let cgroups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroups.contains(container) {
            found.push(process);
        }
    }
    Ok(found)
}
