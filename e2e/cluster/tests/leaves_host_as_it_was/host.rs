//! What of the host must be the same before and after. Other people may work on the host meanwhile, so that of cgroups
//! and processes only those count that can be the cluster's.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Everything compared, a fact a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Host {
    name: String,
    facts: BTreeSet<String>,
    processes: BTreeSet<String>,
}

impl Host {
    pub(crate) fn snapshot(name: &str) -> Self {
        let mut facts = BTreeSet::new();
        for (kind, args) in [
            ("link", &["-o", "link", "show"][..]),
            ("address", &["-o", "address", "show"]),
            ("route", &["route", "show", "table", "all"]),
            ("route6", &["-6", "route", "show", "table", "all"]),
            ("rule", &["rule", "show"]),
        ] {
            facts.extend(lines_of(kind, "ip", args));
        }
        for rules in ["iptables-save", "ip6tables-save", "iptables-legacy-save"] {
            // Comments carry the time.
            facts.extend(lines_of("rules", rules, &[]).filter(|line| !line.contains(": #")));
        }
        facts.extend(lines_of("nft", "nft", &["list", "ruleset"]));
        facts.extend(mounts());
        facts.extend(sysctls());
        facts.extend(entries());
        facts.extend(cgroups(name));
        Self { name: name.to_owned(), facts, processes: processes(name) }
    }

    pub(crate) fn differences(&self, now: &Self) -> Vec<String> {
        let gone = self.facts.difference(&now.facts).map(|fact| format!("- {fact}"));
        let new = now.facts.difference(&self.facts).filter(|fact| !self.is_a_loaded_modules(fact));
        let new = new.map(|fact| format!("+ {fact}"));
        let processes = now.processes.difference(&self.processes).map(|process| format!("+ {process}"));
        gone.chain(new).chain(processes).collect()
    }

    /// Whether this is a setting that the host did not have, of a kernel module that was loaded on demand: those of connection
    /// tracking, which tracks nothing until a rule wants it, and br_netfilter's where they are off, as if it were not there.
    fn is_a_loaded_modules(&self, fact: &str) -> bool {
        let Some((setting, value)) = fact.strip_prefix("sysctl: ").and_then(|fact| fact.split_once(" = ")) else {
            return false;
        };
        let existed = format!("sysctl: {setting} = ");
        let inert = setting.starts_with("/proc/sys/net/netfilter/")
            || setting == "/proc/sys/net/nf_conntrack_max"
            || (setting.starts_with("/proc/sys/net/bridge/") && value == "0");
        inert && !self.facts.iter().any(|fact| fact.starts_with(&existed))
    }

    /// Fails unless the host is as it was, or becomes so within `patience`.
    pub(crate) fn assert_unchanged(&self, after: &str, patience: Duration) {
        self.assert_within(after, patience, |host| self.differences(host));
    }

    /// Fails unless every process of the cluster ends within `patience`.
    pub(crate) fn assert_no_process_left(&self, after: &str, patience: Duration) {
        self.assert_within(after, patience, |host| host.processes.iter().cloned().collect());
    }

    fn assert_within(&self, after: &str, patience: Duration, wrong: impl Fn(&Self) -> Vec<String>) {
        let deadline = Instant::now() + patience;
        loop {
            let found = wrong(&Self::snapshot(&self.name));
            if found.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "after {after} the host is not as it was:\n{}", found.join("\n"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What a program prints; nothing where there is no such program.
fn lines_of(kind: &str, program: &str, args: &[&str]) -> impl Iterator<Item = String> {
    let printed = Command::new(program).args(args).output().map(|output| output.stdout).unwrap_or_default();
    let kind = kind.to_owned();
    String::from_utf8(printed)
        .expect("these programs print text")
        .lines()
        .map(move |line| format!("{kind}: {line}"))
        .collect::<Vec<_>>()
        .into_iter()
}

/// Mounts without their numbers.
fn mounts() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().map(|line| format!("mount: {}", line.splitn(4, ' ').last().unwrap_or_default())).collect()
}

/// Every network sysctl, and all others that kubelet, kube-proxy or the runtime could set.
fn sysctls() -> Vec<String> {
    let mut found = Vec::new();
    for dir in ["net", "kernel/keys", "vm", "user"] {
        read_sysctls(&Path::new("/proc/sys").join(dir), &mut found);
    }
    for name in ["panic", "panic_on_oops", "hostname", "domainname", "shmmax", "msgmax", "sem"] {
        read_sysctls(&Path::new("/proc/sys/kernel").join(name), &mut found);
    }
    // These count what happens; nobody sets them.
    let counters = ["nf_conntrack_count", "vm/stat_refresh", "drop_caches"];
    found.retain(|fact| !counters.iter().any(|name| fact.contains(name)));
    found
}

fn read_sysctls(path: &Path, found: &mut Vec<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            read_sysctls(&entry.path(), found);
        }
    } else if !path.ends_with("stat_refresh") {
        // Some can only be written.
        if let Ok(value) = fs::read_to_string(path) {
            found.push(format!("sysctl: {} = {}", path.display(), value.trim()));
        }
    }
}

/// Names in the directories where components like to make their own.
fn entries() -> Vec<String> {
    let mut found = Vec::new();
    for dir in
        ["/etc", "/etc/cni", "/opt", "/run", "/run/netns", "/usr/libexec", "/var/lib", "/var/log", "/var/run/netns"]
    {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            // The parent of other clusters' directories.
            if path != Path::new("/var/lib/pilotlight") {
                found.push(format!("file: {}", path.display()));
            }
        }
    }
    found
}

/// The cluster's own branch, and any that its components would make elsewhere.
fn cgroups(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let file = entry.file_name().to_string_lossy().into_owned();
            let others = file.starts_with("pilotlight-") && file != format!("pilotlight-{name}");
            if others || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if ["pilotlight", "kube", "containerd", "cri-", "runc"].iter().any(|part| file.contains(part)) {
                found.push(format!("cgroup: {}", path.display()));
            }
            open.push(path);
        }
    }
    found
}

/// Processes that are the cluster's by their command line, program, cgroup or environment.
fn processes(name: &str) -> BTreeSet<String> {
    let marks = [
        format!("/var/lib/pilotlight/{name}/"),
        format!("/pilotlight-{name}/"),
        format!("pilotlight-cluster\0supervise\0{name}"),
    ];
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let read =
            |file: &str| String::from_utf8_lossy(&fs::read(entry.path().join(file)).unwrap_or_default()).into_owned();
        // What has ended and waits for its parent runs no more.
        if read("stat").rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')) {
            continue;
        }
        let line = read("cmdline");
        let all = [line.clone(), read("cgroup"), read("environ")].concat();
        if marks.iter().any(|mark| all.contains(mark)) {
            found.insert(format!("process: {pid} {}", line.replace('\0', " ")));
        }
    }
    found
}
