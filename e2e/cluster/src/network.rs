//! The cluster's network: one bridge in a network namespace of its own, without a way out. Because the namespace is the
//! cluster's alone, every cluster has the same addresses.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use crate::command::{find_program, run, tail};
use crate::error::{Error, Result};

/// The node's name.
pub const NODE_NAME: &str = "pilotlight";
/// The node's address: that of the bridge, since kubelet refuses a loopback address.
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// The `kubernetes` Service.
pub const API_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The `kube-dns` Service.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Where pods get addresses from.
pub const POD_RANGE: &str = "10.244.0.0/24";
/// Where Services get addresses from.
pub const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The API server's port on [`NODE_ADDRESS`].
pub(crate) const API_PORT: u16 = 6443;
/// The bridge's name, which the CNI configuration names too.
pub(crate) const BRIDGE: &str = "cni0";

/// Sets up the network namespace that this process is in. Only sysctls that belong to the namespace are written.
pub(crate) async fn set_up() -> Result<()> {
    let node = format!("{NODE_ADDRESS}/24");
    let steps: [&[&str]; 6] = [
        &["link", "set", "lo", "up"],
        // A fixed hardware address: else the bridge takes that of whichever pod has the lowest, and every change
        // makes the others' ARP entries wrong for a while.
        &["link", "add", BRIDGE, "address", "0a:58:0a:f4:00:01", "type", "bridge"],
        &["addr", "add", &node, "dev", BRIDGE],
        &["link", "set", BRIDGE, "up"],
        // Without a route a Service's address is unreachable from the node before any rule can rewrite it.
        &["route", "add", SERVICE_RANGE, "dev", BRIDGE],
        &["link", "show", BRIDGE],
    ];
    for step in steps {
        run("ip", step).await?;
    }
    write_sysctl("net/ipv4/ip_forward", "1")?;
    // Answers of a pod to its neighbour would otherwise pass the bridge without the Service's address put back.
    write_sysctl("net/bridge/bridge-nf-call-iptables", "1")
}

/// Switches of br_netfilter: whether what passes a bridge passes the packet filter, too. Each network namespace has its own.
const BRIDGE_FILTERS: [&str; 3] = [
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-arptables",
];

/// Sees to it that the kernel has br_netfilter, which Services need on a bridge. To be called in the host's network namespace: where the
/// module has to be loaded, it switches itself on everywhere, and the host's own bridges must go on as they did without it.
pub(crate) fn load_bridge_filter() -> Result<()> {
    let [first, ..] = BRIDGE_FILTERS;
    if Path::new("/proc/sys").join(first).exists() {
        return Ok(());
    }
    let missing = |reason: String| {
        Error::Internal(format!(
            "the kernel has no br_netfilter, which Services need on a bridge: load it with `modprobe br_netfilter` ({reason})"
        ))
    };
    let modprobe = find_program("modprobe").ok_or_else(|| missing("there is no modprobe here".to_owned()))?;
    let loaded = Command::new(modprobe).arg("br_netfilter").output().map_err(|error| missing(error.to_string()))?;
    if !loaded.status.success() {
        return Err(missing(tail(&String::from_utf8_lossy(&loaded.stderr), 1)));
    }
    BRIDGE_FILTERS.iter().try_for_each(|filter| write_sysctl(filter, "0"))
}

fn write_sysctl(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    fs::write(&path, value).map_err(Error::io("setting sysctl", &path))
}
