//! What a caller may choose about an embedded cluster. A value of these types is valid by construction: a name is
//! safe as a path, a cgroup and a host name, whatever the user typed.

use std::fmt;
use std::net::SocketAddrV4;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a cluster: 1 to 32 of `a-z`, `0-9` and `-`, beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

/// Why a text is not a cluster's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "--name {0:?} cannot name a cluster: use 1 to 32 of a-z, 0-9 and '-', beginning with a letter, for example --name test"
)]
pub struct BadName(String);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self("pilotlight".to_owned())
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClusterName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase());
        if starts_well && text.len() <= 32 && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ClusterName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0
    }
}

/// The program that starts containers. Its RuntimeClass in the cluster has the program's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// What most clusters have.
    #[default]
    Runc,
    /// Starts containers sooner; needs a host whose cgroups it understands.
    Crun,
}

impl Runtime {
    /// The program's name, also the name of its Debian package.
    pub fn program(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }
}

/// A port of the host's loopback address that leads to an address inside the cluster: `8080:10.96.7.7:80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The port on 127.0.0.1 of the host.
    pub host_port: u16,
    /// Where it leads: a pod's or a Service's address and port.
    pub target: SocketAddrV4,
}

/// Why a text is not a forward.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("--forward {0:?} is not HOSTPORT:ADDRESS:PORT, for example --forward 8080:10.96.7.7:80")]
pub struct BadForward(String);

impl FromStr for Forward {
    type Err = BadForward;

    fn from_str(text: &str) -> Result<Self, BadForward> {
        let bad = || BadForward(text.to_owned());
        let (host_port, target) = text.split_once(':').ok_or_else(bad)?;
        Ok(Self { host_port: host_port.parse().map_err(|_| bad())?, target: target.parse().map_err(|_| bad())? })
    }
}

/// All choices for one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Which cluster.
    pub name: ClusterName,
    /// The port on 127.0.0.1 of the host at which the API server answers; 0 lets the kernel choose a free one.
    pub api_port: u16,
    /// What starts containers.
    pub runtime: Runtime,
    /// What else can start them, where a pod names its RuntimeClass.
    #[serde(default)]
    pub more_runtimes: Vec<Runtime>,
    /// More ports of the host that lead inside.
    pub forwards: Vec<Forward>,
    /// How many requests a second each of Kubernetes' controllers may make of the API server; upstream's default (20) where absent.
    #[serde(default)]
    pub controllers_qps: Option<u32>,
}

impl Options {
    /// Every runtime that pods may use, each once, the default one first.
    pub fn runtimes(&self) -> Vec<Runtime> {
        let mut all = vec![self.runtime];
        for runtime in &self.more_runtimes {
            if !all.contains(runtime) {
                all.push(*runtime);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_is_named_twice_is_one() {
        let options = Options { more_runtimes: vec![Runtime::Crun, Runtime::Runc], ..Options::default() };
        assert_eq!(options.runtimes(), [Runtime::Runc, Runtime::Crun]);
    }

    #[test]
    fn a_name_that_could_leave_its_directory_is_refused_with_an_example() {
        for bad in ["", "..", "a/b", "Upper", "-x", "1a", &"a".repeat(33)] {
            let error = bad.parse::<ClusterName>().unwrap_err().to_string();
            assert!(error.contains("--name"), "{error}");
        }
        assert_eq!("e2e-1".parse::<ClusterName>().unwrap().as_str(), "e2e-1");
    }

    #[test]
    fn a_name_read_from_json_is_checked_as_well() {
        assert!(serde_json::from_str::<ClusterName>("\"../etc\"").is_err());
    }

    #[test]
    fn a_forward_is_port_address_port() {
        let forward: Forward = "8080:10.96.7.7:80".parse().unwrap();
        assert_eq!(forward.host_port, 8080);
        assert_eq!(forward.target.to_string(), "10.96.7.7:80");
        for bad in ["8080", "8080:10.96.7.7", "x:10.96.7.7:80", "8080:host:80"] {
            assert!(bad.parse::<Forward>().is_err(), "{bad}");
        }
    }
}
