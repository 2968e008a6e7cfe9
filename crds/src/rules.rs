//! The rules that the API server holds a Function to, besides types and bounds: CEL, because there is no webhook.
//!
//! What always holds: a message names the field and says what to do; every list and string that a rule looks at is bounded,
//! or the API server refuses the rule as too expensive; every rule has a bad example in `e2e/tests/data/invalid`. Nothing newer
//! than Kubernetes 1.29's CEL is used.

mod load;
mod target;
mod traffic;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRule {
    /// Where it stands in the schema: field names with dots between, `[]` for the items of a list. Empty for the whole object.
    pub path: &'static str,
    /// The CEL expression; `self` is what `path` leads to.
    pub rule: String,
    /// What the author reads.
    pub message: String,
}

const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const DNS_SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const HOSTNAME: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+$";
const QUALIFIED_NAME: &str = "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";
const QUANTITY: &str = "^([0-9]+([.][0-9]*)?|[.][0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][-+]?[0-9]+)?$";
const PROBES: [&str; 3] = ["startupProbe", "readinessProbe", "livenessProbe"];

/// Every rule, in the order of the schema.
pub fn all() -> Vec<FieldRule> {
    let mut rules = Vec::new();
    rules.extend(names());
    rules.extend(container());
    rules.extend(volumes());
    rules.extend(probes());
    rules.extend(pods());
    rules.extend(routing());
    rules.extend(load::rules());
    rules.extend(target::rules());
    rules.extend(traffic::rules());
    rules
}

fn rule(path: &'static str, rule: impl Into<String>, message: impl Into<String>) -> FieldRule {
    FieldRule { path, rule: rule.into(), message: message.into() }
}

fn names() -> Vec<FieldRule> {
    vec![
        rule(
            "",
            "size(self.metadata.name) <= 52",
            "metadata.name must be at most 52 characters, so that the names of its revisions, <name>-<n>, fit into a label: choose a shorter one",
        ),
        rule(
            "",
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name must be fit for a Service: lower case letters, digits and '-', beginning with a letter, not ending with '-', no dots",
        ),
    ]
}

fn routing() -> Vec<FieldRule> {
    vec![
        rule(
            "spec",
            "!has(self.hostnames) || size(self.hostnames) == 0 || !has(self.visibility) || self.visibility == 'External'",
            "spec.hostnames are names for requests from outside the cluster, and spec.visibility is Cluster: remove one of both",
        ),
        rule(
            "spec.hostnames[]",
            format!("self.matches('{HOSTNAME}')"),
            "an entry of spec.hostnames must be a whole DNS name in lower case, without scheme, port, path or '*': for example www.example.com",
        ),
    ]
}

fn container() -> Vec<FieldRule> {
    vec![
        rule(
            "spec.image",
            "self.matches('^[!-~]+$')",
            "spec.image must name a container image, without white space: for example registry.example.com/team/app:1.0",
        ),
        rule(
            "spec.env[].name",
            "self.matches('^[ -<>-~]+$')",
            "the name of an environment variable in spec.env must not be empty nor have '=' or other than printable ASCII characters",
        ),
        rule(
            "spec.env[].name",
            "!(self in ['PORT', 'K_SERVICE', 'K_REVISION', 'K_CONFIGURATION'])",
            "spec.env must not set PORT, K_SERVICE, K_REVISION or K_CONFIGURATION: Pilotlight sets them; choose the port by spec.port",
        ),
        rule(
            "spec.env[]",
            "!has(self.valueFrom) || !has(self.value) || self.value == ''",
            "an entry of spec.env must have either value or valueFrom, not both: remove one",
        ),
        rule(
            "spec.env[].valueFrom",
            "[has(self.configMapKeyRef), has(self.secretKeyRef), has(self.fieldRef), has(self.resourceFieldRef)].filter(x, x).size() == 1",
            "valueFrom of an entry of spec.env must have exactly one of configMapKeyRef, secretKeyRef, fieldRef, resourceFieldRef",
        ),
        rule(
            "spec.env[].valueFrom.configMapKeyRef",
            "self.name != ''",
            "configMapKeyRef in spec.env must name the ConfigMap in its field name",
        ),
        rule(
            "spec.env[].valueFrom.secretKeyRef",
            "self.name != ''",
            "secretKeyRef in spec.env must name the Secret in its field name",
        ),
        rule(
            "spec.envFrom[]",
            "has(self.configMapRef) != has(self.secretRef)",
            "an entry of spec.envFrom must have exactly one of configMapRef and secretRef",
        ),
        rule(
            "spec.envFrom[]",
            "(!has(self.configMapRef) || self.configMapRef.name != '') && (!has(self.secretRef) || self.secretRef.name != '')",
            "an entry of spec.envFrom must name its ConfigMap or Secret in the field name",
        ),
        rule(
            "spec.resources.limits",
            format!("self.all(k, type(self[k]) == int || self[k].matches('{QUANTITY}'))"),
            "a value in spec.resources.limits must be a quantity: for example 500m or \"1.5\" of cpu, 64Mi of memory",
        ),
        rule(
            "spec.resources.requests",
            format!("self.all(k, type(self[k]) == int || self[k].matches('{QUANTITY}'))"),
            "a value in spec.resources.requests must be a quantity: for example 500m or \"1.5\" of cpu, 64Mi of memory",
        ),
    ]
}

fn volumes() -> Vec<FieldRule> {
    vec![
        rule(
            "spec.volumes[].name",
            format!("self.matches('{DNS_LABEL}')"),
            "the name of a volume in spec.volumes must consist of lower case letters, digits and '-', and neither begin nor end with '-'",
        ),
        rule(
            "spec.volumes[]",
            "[has(self.configMap), has(self.secret), has(self.emptyDir), has(self.persistentVolumeClaim)].filter(x, x).size() == 1",
            "a volume in spec.volumes must have exactly one of configMap, secret, emptyDir, persistentVolumeClaim",
        ),
        rule(
            "spec.volumes[].configMap",
            "self.name != ''",
            "configMap in spec.volumes must name the ConfigMap in its field name",
        ),
        rule(
            "spec.volumes[].secret",
            "has(self.secretName) && self.secretName != ''",
            "secret in spec.volumes must name the Secret in its field secretName",
        ),
        rule(
            "spec.volumes[].emptyDir",
            format!("!has(self.sizeLimit) || type(self.sizeLimit) == int || self.sizeLimit.matches('{QUANTITY}')"),
            "emptyDir.sizeLimit in spec.volumes must be a quantity of bytes, for example 64Mi",
        ),
        rule(
            "spec.volumes[].persistentVolumeClaim",
            "self.claimName != ''",
            "persistentVolumeClaim in spec.volumes must name the claim in its field claimName",
        ),
        rule(
            "spec.volumeMounts[].mountPath",
            "self.startsWith('/') && !self.contains(':')",
            "mountPath in spec.volumeMounts must be an absolute path without ':'",
        ),
        rule(
            "spec",
            "!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))",
            "every name in spec.volumeMounts must be that of a volume in spec.volumes: add the volume, or correct the name",
        ),
    ]
}

fn probes() -> Vec<FieldRule> {
    let mut rules = Vec::new();
    for (probe, paths) in PROBES.iter().zip(PROBE_PATHS) {
        rules.push(rule(
            paths.probe,
            "[has(self.httpGet), has(self.tcpSocket), has(self.exec), has(self.grpc)].filter(x, x).size() == 1",
            format!("spec.{probe} must have exactly one of httpGet, tcpSocket, exec, grpc"),
        ));
        for (action, path) in [("httpGet", paths.http_get), ("tcpSocket", paths.tcp_socket)] {
            rules.push(rule(
                path,
                "!has(self.host) || self.host == ''",
                format!("spec.{probe}.{action}.host must not be set: a probe goes to the pod's own address"),
            ));
            rules.push(rule(
                path,
                "type(self.port) != int || (self.port >= 1 && self.port <= 65535)",
                format!("spec.{probe}.{action}.port must be from 1 to 65535, or the name of the function's port"),
            ));
            rules.push(rule(
                "spec",
                format!(
                    "!has(self.{probe}) || !has(self.{probe}.{action}) || type(self.{probe}.{action}.port) == int || self.{probe}.{action}.port == (self.protocol == 'H2C' ? 'h2c' : 'http1')"
                ),
                format!(
                    "spec.{probe}.{action}.port names a port that the container does not have: it is http1 where spec.protocol is HTTP1, and h2c where it is H2C"
                ),
            ));
        }
    }
    rules.push(rule(
        "spec.startupProbe",
        "!has(self.successThreshold) || self.successThreshold == 1",
        "spec.startupProbe.successThreshold must be 1, as for every startup probe: leave it out",
    ));
    rules.push(rule(
        "spec.livenessProbe",
        "!has(self.successThreshold) || self.successThreshold == 1",
        "spec.livenessProbe.successThreshold must be 1, as for every liveness probe: leave it out",
    ));
    rules.push(rule(
        "spec.readinessProbe",
        "!has(self.terminationGracePeriodSeconds)",
        "spec.readinessProbe.terminationGracePeriodSeconds must not be set: a failing readiness probe ends nothing; use spec.livenessProbe's",
    ));
    rules
}

struct ProbePaths {
    probe: &'static str,
    http_get: &'static str,
    tcp_socket: &'static str,
}

const PROBE_PATHS: [ProbePaths; 3] = [
    ProbePaths {
        probe: "spec.startupProbe",
        http_get: "spec.startupProbe.httpGet",
        tcp_socket: "spec.startupProbe.tcpSocket",
    },
    ProbePaths {
        probe: "spec.readinessProbe",
        http_get: "spec.readinessProbe.httpGet",
        tcp_socket: "spec.readinessProbe.tcpSocket",
    },
    ProbePaths {
        probe: "spec.livenessProbe",
        http_get: "spec.livenessProbe.httpGet",
        tcp_socket: "spec.livenessProbe.tcpSocket",
    },
];

fn pods() -> Vec<FieldRule> {
    vec![
        rule(
            "spec.serviceAccountName",
            format!("self.matches('{DNS_SUBDOMAIN}')"),
            "spec.serviceAccountName must be the name of a ServiceAccount: lower case letters, digits, '-' and '.'",
        ),
        rule(
            "spec.imagePullSecrets[].name",
            format!("self.matches('{DNS_SUBDOMAIN}')"),
            "a name in spec.imagePullSecrets must be that of a Secret: lower case letters, digits, '-' and '.'",
        ),
        rule(
            "spec.runtimeClassName",
            format!("self.matches('{DNS_SUBDOMAIN}')"),
            "spec.runtimeClassName must be the name of a RuntimeClass: lower case letters, digits, '-' and '.'",
        ),
        rule(
            "spec.nodeSelector",
            format!("self.all(k, k.matches('{QUALIFIED_NAME}'))"),
            "a key in spec.nodeSelector must be a label's, as in example.com/name",
        ),
        rule(
            "spec.nodeSelector",
            format!("self.all(k, self[k].matches('{LABEL_VALUE}'))"),
            "a value in spec.nodeSelector must be a label's: letters, digits, '-', '_', '.', beginning and ending with a letter or digit",
        ),
        rule(
            "spec.podMetadata.labels",
            "self.all(k, !k.startsWith('pilotlight.dev/') && !(k in ['app.kubernetes.io/name', 'app.kubernetes.io/managed-by']))",
            "spec.podMetadata.labels must not set pilotlight.dev/…, app.kubernetes.io/name or app.kubernetes.io/managed-by: Pilotlight sets them; choose another key",
        ),
        rule(
            "spec.podMetadata.labels",
            format!("self.all(k, k.matches('{QUALIFIED_NAME}'))"),
            "a key in spec.podMetadata.labels must be a label's, as in example.com/name",
        ),
        rule(
            "spec.podMetadata.labels",
            format!("self.all(k, self[k].matches('{LABEL_VALUE}'))"),
            "a value in spec.podMetadata.labels must consist of letters, digits, '-', '_', '.', beginning and ending with a letter or digit",
        ),
        rule(
            "spec.podMetadata.annotations",
            "self.all(k, !k.startsWith('pilotlight.dev/'))",
            "spec.podMetadata.annotations must not set pilotlight.dev/…: Pilotlight sets them; choose another key",
        ),
        rule(
            "spec.podMetadata.annotations",
            format!("self.all(k, k.matches('{QUALIFIED_NAME}'))"),
            "a key in spec.podMetadata.annotations must be an annotation's, as in example.com/name",
        ),
    ]
}
