//! The command line. Every flag can also come from the environment.

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::gateway::GatewayArgs;
use crate::hostnames::HostnameRule;

/// Pilotlight's operator: makes Functions run, and scales them.
#[derive(Debug, Parser)]
#[command(name = "operator", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reconciles Functions and scales them, as long as this process is the leader.
    Run(Box<RunArgs>),
    /// Turns every Function into a plain working Deployment and Service, before Pilotlight is uninstalled.
    Release(ReleaseArgs),
}

/// Where Pilotlight itself lives.
#[derive(Clone, Debug, Args)]
pub struct CommonArgs {
    /// Namespace that Pilotlight itself runs in.
    #[arg(long, env = "POD_NAMESPACE", value_parser = dns_name)]
    pub namespace: String,
    /// Name of the Lease that the leader holds, in that namespace.
    #[arg(long, env = "PILOTLIGHT_LEASE_NAME", default_value = "pilotlight-operator", value_parser = dns_name)]
    pub lease_name: String,
    /// Label selector of the activators' pods in that namespace.
    #[arg(
        long,
        env = "PILOTLIGHT_ACTIVATOR_SELECTOR",
        default_value = "app.kubernetes.io/name=pilotlight,app.kubernetes.io/component=activator"
    )]
    pub activator_selector: String,
}

/// Flags of `operator run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Where Pilotlight lives.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Name of this candidate in the election; a pod's own name is best. Random where absent.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// File with the bearer token of the control protocol.
    #[arg(long, env = "PILOTLIGHT_CONTROL_TOKEN_FILE")]
    pub control_token_file: PathBuf,
    /// External domain of Functions: `hello` in namespace `shop` is `hello.shop.<domain>`.
    #[arg(long, env = "PILOTLIGHT_DOMAIN", value_parser = domain)]
    pub domain: Option<String>,
    /// DNS name of the activators' Service, in full, by which tags answer inside the cluster: `pilotlight-activator.pilotlight-system.svc.cluster.local`.
    /// Empty: only its host name and its header lead to a tag.
    #[arg(long, env = "PILOTLIGHT_ACTIVATOR_HOST", value_parser = domain)]
    pub activator_host: Option<String>,
    /// Which namespaces may have which of the host names that Functions ask for (`spec.hostnames`): `www.example.com=shop,web`; `*.example.com=*` gives
    /// all names below a domain to every namespace. May be given several times; without it nobody may have any.
    #[arg(long = "hostnames", value_name = "DOMAIN=NAMESPACE[,NAMESPACE]")]
    pub hostnames: Vec<HostnameRule>,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "PILOTLIGHT_LISTEN", default_value = "[::]:9090")]
    pub listen: SocketAddr,
    /// Functions that are reconciled at once, at most.
    #[arg(
        long,
        env = "PILOTLIGHT_MAX_CONCURRENT_RECONCILES",
        default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    pub max_concurrent_reconciles: u16,
    /// The container that announces pods.
    #[command(flatten)]
    pub beacon: BeaconArgs,
    /// What leads to Functions from outside.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Flags about beacons.
#[derive(Clone, Debug, Args)]
pub struct BeaconArgs {
    /// Image of the pilot, which announces the address of each pod that starts. Empty: no pod gets a beacon.
    #[arg(long, env = "PILOTLIGHT_BEACON_IMAGE", default_value = "")]
    pub beacon_image: String,
    /// When nodes pull it: Always, IfNotPresent or Never.
    #[arg(
        long,
        env = "PILOTLIGHT_BEACON_PULL_POLICY",
        default_value = "IfNotPresent",
        value_parser = ["Always", "IfNotPresent", "Never"]
    )]
    pub beacon_pull_policy: String,
    /// Name of the Service, in Pilotlight's namespace, behind which activators listen for beacons.
    #[arg(long, env = "PILOTLIGHT_BEACON_SERVICE", default_value = "pilotlight-beacon", value_parser = dns_name)]
    pub beacon_service: String,
}

impl BeaconArgs {
    /// The pilot's image, if pods get beacons.
    pub fn image(&self) -> Option<&str> {
        Some(self.beacon_image.as_str()).filter(|image| !image.is_empty())
    }
}

/// Flags of `operator release`.
#[derive(Clone, Debug, Args)]
pub struct ReleaseArgs {
    /// Where Pilotlight lives.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Seconds to wait for pods to be ready, over all Functions.
    #[arg(
        long,
        env = "PILOTLIGHT_RELEASE_TIMEOUT_SECONDS",
        default_value_t = 120,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    pub timeout_seconds: u64,
}

fn dns_name(value: &str) -> Result<String, String> {
    let letters = value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.');
    let ends =
        value.starts_with(|c: char| c.is_ascii_alphanumeric()) && value.ends_with(|c: char| c.is_ascii_alphanumeric());
    if letters && ends && value.len() <= 253 {
        Ok(value.to_owned())
    } else {
        Err("use lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit".to_owned())
    }
}

/// An empty domain is none: charts pass what their values say.
fn domain(value: &str) -> Result<String, String> {
    if value.is_empty() {
        return Ok(String::new());
    }
    dns_name(value)
}

impl RunArgs {
    /// The DNS name of the activators' Service, if it is known.
    pub fn activator_host(&self) -> Option<String> {
        self.activator_host.clone().filter(|host| !host.is_empty())
    }

    /// The external domain, if there is one.
    pub fn domain(&self) -> Option<String> {
        self.domain.clone().filter(|domain| !domain.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["operator"], args].concat())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_bad_value_is_refused_with_the_flag_s_name() {
        let common = ["--namespace", "pilotlight", "--control-token-file", "/t"];
        for (flag, value) in [
            ("--lease-name", "No Name"),
            ("--max-concurrent-reconciles", "0"),
            ("--listen", "9090"),
            ("--domain", "exa_mple.com"),
            ("--hostnames", "*.example.com"),
            ("--gateway-parent-ref", "public"),
            ("--gateway-parent-ref", r#"{"name":""}"#),
            ("--ingress-annotation", "no-value"),
            ("--beacon-pull-policy", "Sometimes"),
            ("--beacon-service", "No Name"),
        ] {
            let args = [&["run"], &common[..], &[flag, value]].concat();
            let error = parse(&args).unwrap_err().to_string();
            assert!(error.contains(flag), "{error}");
        }
    }

    #[test]
    fn an_empty_domain_is_none() {
        let args = ["run", "--namespace", "n", "--control-token-file", "/t", "--domain", ""];
        let Command::Run(run) = parse(&args).unwrap().command else {
            panic!("run was asked for");
        };
        assert_eq!(run.domain(), None);
    }
}
