//! What must be true of the host before anything is tried. The judgement is a function of plain facts, so that every
//! message can be tested without the host that provokes it.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// Bit numbers of `man 7 capabilities`.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
pub(crate) const CAP_SYS_RESOURCE: u32 = 24;

/// What was seen of the host.
#[derive(Clone, Debug)]
pub(crate) struct HostFacts {
    pub(crate) linux: bool,
    pub(crate) root: bool,
    /// `/proc/self/status`.
    pub(crate) process_status: String,
}

impl HostFacts {
    /// Looks.
    pub(crate) fn gather() -> Result<Self> {
        let status = Path::new("/proc/self/status");
        let linux = cfg!(target_os = "linux");
        Ok(Self {
            linux,
            root: nix::unistd::geteuid().is_root(),
            process_status: if linux {
                fs::read_to_string(status).map_err(Error::io("reading", status))?
            } else {
                String::new()
            },
        })
    }
}

/// Whether a cluster can be tried here; if not, the first thing that is missing.
pub(crate) fn judge(facts: &HostFacts) -> Result<()> {
    if !facts.linux {
        return Err(Error::NotLinux);
    }
    if !facts.root {
        return Err(Error::NotRoot);
    }
    for (bit, name) in [(CAP_SYS_ADMIN, "CAP_SYS_ADMIN"), (CAP_NET_ADMIN, "CAP_NET_ADMIN")] {
        if !has_capability(&facts.process_status, bit) {
            return Err(Error::MissingCapability(name));
        }
    }
    Ok(())
}

/// Whether the effective capabilities in a `/proc/PID/status` have a bit.
pub(crate) fn has_capability(process_status: &str, bit: u32) -> bool {
    process_status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|bits| bits & (1 << bit) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> HostFacts {
        HostFacts { linux: true, root: true, process_status: "Name:\tx\nCapEff:\t000001fffeffffff\n".to_owned() }
    }

    fn message(facts: &HostFacts) -> String {
        judge(facts).unwrap_err().to_string()
    }

    #[test]
    fn a_privileged_root_may_try() {
        judge(&facts()).unwrap();
    }

    #[test]
    fn a_missing_privilege_is_named_with_its_remedy() {
        let user = message(&HostFacts { root: false, ..facts() });
        assert!(user.contains("sudo") && user.contains("--context"), "{user}");
        let mac = message(&HostFacts { linux: false, ..facts() });
        assert!(mac.contains("Linux") && mac.contains("--context"), "{mac}");
        let container = message(&HostFacts { process_status: "CapEff:\t00000000a80425fb".to_owned(), ..facts() });
        assert!(container.contains("CAP_SYS_ADMIN") && container.contains("--privileged"), "{container}");
    }

    #[test]
    fn capabilities_are_read_bit_by_bit() {
        assert!(!has_capability(&facts().process_status, CAP_SYS_RESOURCE));
        assert!(has_capability(&facts().process_status, CAP_SYS_ADMIN));
        assert!(!has_capability("", CAP_SYS_ADMIN));
    }
}
