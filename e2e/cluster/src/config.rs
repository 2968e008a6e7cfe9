//! The configuration files of all components, as text made from plain data. What shapes a cold start (kubelet's relist,
//! client rates, image pulls) is left at upstream's defaults; what is set here is what a lone node in a namespace needs.

use std::path::{Path, PathBuf};

use crate::certificates::CLIENTS;
use crate::error::Result;
use crate::layout::{Layout, set_mode, write};
use crate::network::{API_PORT, BRIDGE, DNS_ADDRESS, NODE_ADDRESS, POD_RANGE};
use crate::options::Runtime;

/// What the configuration depends on besides the paths.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// What starts containers by default.
    pub(crate) runtime: Runtime,
    /// Runtimes that are installed, with their paths.
    pub(crate) runtimes: Vec<(Runtime, PathBuf)>,
    /// Where the CNI plugins are.
    pub(crate) cni_plugins: PathBuf,
    /// Whether processes may lower their OOM score (CAP_SYS_RESOURCE).
    pub(crate) may_lower_oom_score: bool,
    /// `overlayfs`, or `native` where the cluster's directory is on an overlay itself.
    pub(crate) snapshotter: &'static str,
}

/// The sandbox image's name.
pub(crate) const PAUSE_IMAGE: &str = "pilotlight.dev/pause:1";

/// Writes every file but the host's kubeconfig, whose port is not known yet.
pub(crate) fn write_all(layout: &Layout, host: &Host) -> Result<()> {
    let dir = layout.config();
    write(&dir.join("containerd.toml"), containerd(layout, host))?;
    write(&dir.join("cni/10-pilotlight.conflist"), cni())?;
    write(&dir.join("kubelet.yaml"), kubelet(layout))?;
    write(&dir.join("Corefile"), corefile(&client_kubeconfig(layout, "coredns")))?;
    write(&layout.resolv_conf(), resolv_conf())?;
    let inside = format!("https://{NODE_ADDRESS}:{API_PORT}");
    for (name, _, _) in CLIENTS {
        write_kubeconfig(layout, &client_kubeconfig(layout, name), name, &inside)?;
    }
    write_kubeconfig(layout, &layout.kubeconfig_inside(), "admin", &inside)
}

/// Where a component finds its access to the API server.
pub(crate) fn client_kubeconfig(layout: &Layout, name: &str) -> PathBuf {
    layout.config().join(format!("{name}.kubeconfig"))
}

/// Writes a kubeconfig with the certificates in it, so that the file can be copied anywhere.
pub(crate) fn write_kubeconfig(layout: &Layout, path: &Path, client: &str, server: &str) -> Result<()> {
    use base64::Engine;
    let encode = |data: &[u8]| base64::engine::general_purpose::STANDARD.encode(data);
    let read = |name: String| {
        let path = layout.pki().join(name);
        std::fs::read(&path).map_err(crate::error::Error::io("reading", &path))
    };
    let (ca, certificate, key) =
        (read("ca.crt".to_owned())?, read(format!("{client}.crt"))?, read(format!("{client}.key"))?);
    let name = layout.name();
    let text = format!(
        "apiVersion: v1
kind: Config
current-context: {name}
clusters:
- name: {name}
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: {name}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {name}
",
        ca = encode(&ca),
        certificate = encode(&certificate),
        key = encode(&key),
    );
    write(path, text)?;
    set_mode(path, 0o600)
}

fn containerd(layout: &Layout, host: &Host) -> String {
    let mut text = format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = {restrict}
  # Loading a profile would change the host's kernel for good.
  disable_apparmor = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{cni}"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "{default}"
"#,
        restrict = !host.may_lower_oom_score,
        plugins = host.cni_plugins.display(),
        cni = layout.config().join("cni").display(),
        snapshotter = host.snapshotter,
        default = host.runtime.program(),
    );
    for (runtime, path) in &host.runtimes {
        text.push_str(&format!(
            r#"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
      BinaryName = "{path}"
      SystemdCgroup = false
"#,
            name = runtime.program(),
            path = path.display(),
        ));
    }
    text
}

fn cni() -> String {
    let plugins = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "pilotlight",
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": POD_RANGE, "gateway": NODE_ADDRESS }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    });
    format!("{plugins:#}\n")
}

fn kubelet(layout: &Layout) -> String {
    let pki = layout.pki();
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{ enabled: false }}
  webhook: {{ enabled: true }}
  x509: {{ clientCAFile: {pki}/ca.crt }}
authorization: {{ mode: Webhook }}
tlsCertFile: {pki}/kubelet-server.crt
tlsPrivateKeyFile: {pki}/kubelet-server.key
cgroupDriver: cgroupfs
cgroupRoot: {cgroup}
failCgroupV1: false
failSwapOn: false
clusterDNS: [{DNS_ADDRESS}]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
# A developer's disk and memory may well be nearly full.
evictionHard: {{ memory.available: 50Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1% }}
imageGCHighThresholdPercent: 100
resolvConf: {config}/resolv.conf
volumePluginDir: /var/lib/kubelet/volume-plugins
",
        pki = pki.display(),
        cgroup = layout.cgroup(),
        config = layout.config().display(),
    )
}

/// Names outside the cluster do not exist, as nothing outside can be reached: said at once, nobody waits for a timeout.
fn corefile(kubeconfig: &Path) -> String {
    format!(
        "cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {{
    errors
    health 127.0.0.1:8081
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 30
    }}
    cache 30 {{
        disable success cluster.local
        disable denial cluster.local
    }}
}}
.:53 {{
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
",
        kubeconfig = kubeconfig.display(),
    )
}

fn resolv_conf() -> String {
    format!(
        "nameserver {DNS_ADDRESS}\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::of(&Default::default())
    }

    fn host(may_lower_oom_score: bool) -> Host {
        Host {
            runtime: Runtime::Crun,
            runtimes: vec![(Runtime::Runc, "/usr/sbin/runc".into()), (Runtime::Crun, "/usr/bin/crun".into())],
            cni_plugins: "/usr/lib/cni".into(),
            may_lower_oom_score,
            snapshotter: "overlayfs",
        }
    }

    #[test]
    fn containerd_keeps_oom_scores_where_it_may_not_lower_them() {
        assert!(containerd(&layout(), &host(false)).contains("restrict_oom_score_adj = true"));
        assert!(containerd(&layout(), &host(true)).contains("restrict_oom_score_adj = false"));
    }

    #[test]
    fn containerd_knows_every_runtime_and_prefers_the_chosen_one() {
        let text = containerd(&layout(), &host(true));
        assert!(text.contains("default_runtime_name = \"crun\""));
        assert!(text.contains("BinaryName = \"/usr/sbin/runc\"") && text.contains("BinaryName = \"/usr/bin/crun\""));
    }
}
