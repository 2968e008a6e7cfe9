//! The command line of each component: pure data, so that it can be read in one place and compared with upstream's
//! defaults. Only what a lone node in its own namespaces needs is set.

use crate::config::client_kubeconfig;
use crate::layout::Layout;
use crate::network::{API_PORT, NODE_ADDRESS, NODE_NAME, POD_RANGE, SERVICE_RANGE};

/// A process of the cluster that must live as long as the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Component {
    /// What it is called in messages; its log is `logs/<name>.log`.
    pub(crate) name: &'static str,
    /// The program, looked up in `bin/` and then in `PATH`.
    pub(crate) program: &'static str,
    /// Its arguments.
    pub(crate) args: Vec<String>,
}

/// Shorthand: flags of one component.
struct Flags<'a> {
    layout: &'a Layout,
    args: Vec<String>,
}

impl<'a> Flags<'a> {
    fn new(layout: &'a Layout) -> Self {
        Self { layout, args: Vec::new() }
    }

    fn flag(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.args.push(format!("--{name}={value}"));
        self
    }

    fn pki(self, name: &str, file: &str) -> Self {
        let path = self.layout.pki().join(file);
        self.flag(name, path.display())
    }

    fn config(self, name: &str, file: &str) -> Self {
        let path = self.layout.config().join(file);
        self.flag(name, path.display())
    }

    /// Access to the API server, also to ask it who a client is and what it may do.
    fn kubeconfig(self, client: &str, delegating: bool) -> Self {
        let path = client_kubeconfig(self.layout, client);
        let path = path.display();
        let with = self.flag("kubeconfig", &path);
        if !delegating {
            return with;
        }
        with.flag("authentication-kubeconfig", &path).flag("authorization-kubeconfig", &path)
    }

    fn component(self, name: &'static str) -> Component {
        Component { name, program: name, args: self.args }
    }
}

/// The store. It never waits for the disk: the data is thrown away with the cluster.
pub(crate) fn etcd(layout: &Layout) -> Component {
    Flags::new(layout)
        .flag("data-dir", layout.data("etcd").display())
        .flag("listen-client-urls", "http://127.0.0.1:2379")
        .flag("advertise-client-urls", "http://127.0.0.1:2379")
        .flag("unsafe-no-fsync", true)
        .component("etcd")
}

/// The API server, with authorization and admission as upstream's.
pub(crate) fn apiserver(layout: &Layout) -> Component {
    Flags::new(layout)
        .flag("etcd-servers", "http://127.0.0.1:2379")
        .flag("secure-port", API_PORT)
        .flag("advertise-address", NODE_ADDRESS)
        .flag("service-cluster-ip-range", SERVICE_RANGE)
        .flag("authorization-mode", "Node,RBAC")
        .flag("enable-admission-plugins", "NodeRestriction")
        .flag("allow-privileged", true)
        .flag("kubelet-preferred-address-types", "InternalIP")
        .flag("service-account-issuer", "https://kubernetes.default.svc.cluster.local")
        .pki("service-account-key-file", "service-account.pub")
        .pki("service-account-signing-key-file", "service-account.key")
        .pki("client-ca-file", "ca.crt")
        .pki("tls-cert-file", "apiserver.crt")
        .pki("tls-private-key-file", "apiserver.key")
        .pki("kubelet-certificate-authority", "ca.crt")
        .pki("kubelet-client-certificate", "apiserver-kubelet-client.crt")
        .pki("kubelet-client-key", "apiserver-kubelet-client.key")
        .component("kube-apiserver")
}

/// The built-in controllers, at upstream's client rates unless told otherwise.
pub(crate) fn controller_manager(layout: &Layout, qps: Option<u32>) -> Component {
    let flags = match qps {
        Some(qps) => Flags::new(layout).flag("kube-api-qps", qps).flag("kube-api-burst", qps),
        None => Flags::new(layout),
    };
    flags
        .kubeconfig("controller-manager", true)
        .flag("bind-address", "127.0.0.1")
        .flag("leader-elect", false)
        .flag("use-service-account-credentials", true)
        .flag("flex-volume-plugin-dir", "/var/lib/kubelet/volume-plugins")
        .pki("service-account-private-key-file", "service-account.key")
        .pki("root-ca-file", "ca.crt")
        .pki("cluster-signing-cert-file", "ca.crt")
        .pki("cluster-signing-key-file", "ca.key")
        .component("kube-controller-manager")
}

/// The scheduler.
pub(crate) fn scheduler(layout: &Layout) -> Component {
    Flags::new(layout)
        .kubeconfig("scheduler", true)
        .flag("bind-address", "127.0.0.1")
        .flag("leader-elect", false)
        .component("kube-scheduler")
}

/// The container runtime, from the distribution.
pub(crate) fn containerd(layout: &Layout) -> Component {
    Flags::new(layout).config("config", "containerd.toml").component("containerd")
}

/// The node agent.
pub(crate) fn kubelet(layout: &Layout) -> Component {
    Flags::new(layout)
        .config("config", "kubelet.yaml")
        .kubeconfig("kubelet", false)
        .flag("hostname-override", NODE_NAME)
        .flag("node-ip", NODE_ADDRESS)
        .component("kubelet")
}

/// Service addresses. By nftables, where a change touches the elements that it is about: iptables writes the chain of all Services anew at each, and now and
/// then a connection met none of its rules, though nothing about its own Service changed. It leaves the connection tracker's settings alone, which are not
/// all the namespace's own.
pub(crate) fn proxy(layout: &Layout) -> Component {
    Flags::new(layout)
        .kubeconfig("proxy", false)
        .flag("hostname-override", NODE_NAME)
        .flag("proxy-mode", "nftables")
        .flag("cluster-cidr", POD_RANGE)
        .flag("conntrack-max-per-core", 0)
        .flag("conntrack-tcp-timeout-established", "0s")
        .flag("conntrack-tcp-timeout-close-wait", "0s")
        .flag("conntrack-udp-timeout", "0s")
        .flag("conntrack-udp-timeout-stream", "0s")
        .component("kube-proxy")
}

/// The DNS server, on the node's address; the `kube-dns` Service leads to it.
pub(crate) fn coredns(layout: &Layout) -> Component {
    Component {
        name: "coredns",
        program: "coredns",
        args: vec!["-conf".to_owned(), layout.config().join("Corefile").display().to_string()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shapes_a_cold_start_stays_at_upstreams_defaults() {
        let layout = Layout::of(&Default::default());
        let all = [kubelet(&layout), scheduler(&layout), controller_manager(&layout, None), proxy(&layout)];
        let tuned = ["qps", "burst", "concurrent", "sync-period", "pull", "feature-gates", "frequency"];
        for component in all {
            for arg in &component.args {
                assert!(!tuned.iter().any(|name| arg.contains(name)), "{}: {arg}", component.name);
            }
        }
    }
}
