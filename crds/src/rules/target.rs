//! Rules about a Function that takes over a Deployment: what shapes pods is the Deployment's, and it is the same one for good.

use super::{DNS_SUBDOMAIN, FieldRule, rule};

/// Fields of the spec that shape pods and are absent unless they are set.
const OF_PODS: [&str; 19] = [
    "command",
    "args",
    "env",
    "envFrom",
    "resources",
    "startupProbe",
    "readinessProbe",
    "livenessProbe",
    "volumes",
    "volumeMounts",
    "securityContext",
    "podSecurityContext",
    "serviceAccountName",
    "imagePullSecrets",
    "imagePullPolicy",
    "nodeSelector",
    "tolerations",
    "affinity",
    "topologySpreadConstraints",
];

/// Fields of the spec that shape pods and have a default, as CEL sees it.
const OF_PODS_BY_DEFAULT: [(&str, &str); 4] = [
    ("port", "8080"),
    ("automountServiceAccountToken", "false"),
    ("enableServiceLinks", "false"),
    ("terminationGracePeriodSeconds", "30"),
];

pub(super) fn rules() -> Vec<FieldRule> {
    let mut rules = vec![
        rule(
            "spec",
            "has(self.image) != has(self.targetRef)",
            "spec must have either image or targetRef, an existing Deployment to take over: add one, or remove one",
        ),
        rule(
            "spec",
            "has(self.targetRef) == has(oldSelf.targetRef) && (!has(self.targetRef) || self.targetRef.name == oldSelf.targetRef.name)",
            "spec.targetRef can neither be changed nor added nor removed: delete the Function, which gives the Deployment back, and create it again",
        ),
        rule(
            "spec.targetRef.name",
            format!("self.matches('{DNS_SUBDOMAIN}')"),
            "spec.targetRef.name must be the name of a Deployment of the same namespace: lower case letters, digits, '-' and '.'",
        ),
    ];
    rules.extend(
        OF_PODS.into_iter().chain(["runtimeClassName"]).map(|field| of_pods(field, &format!("!has(self.{field})"))),
    );
    rules.extend(
        OF_PODS_BY_DEFAULT.into_iter().map(|(field, default)| of_pods(field, &format!("self.{field} == {default}"))),
    );
    rules.push(of_pods("podMetadata", "!has(self.podMetadata.labels) && !has(self.podMetadata.annotations)"));
    rules.extend([
        rule(
            "spec",
            "!has(self.targetRef) || self.scaling.initialReplicas == 1",
            "spec.scaling.initialReplicas is for new revisions, and beside spec.targetRef there are none: leave it out",
        ),
        rule(
            "spec",
            "!has(self.targetRef) || !has(self.scaling.idle) || !has(self.scaling.idle.steps) || self.scaling.idle.steps.all(s, s.rung == 'Zero')",
            "beside spec.targetRef the only rung in spec.scaling.idle is Zero, because the pods of the Deployment are never changed: remove the other steps",
        ),
        rule(
            "spec",
            "!has(self.targetRef) || !has(self.coldStart.cpuBoost)",
            "spec.coldStart.cpuBoost changes pods, and beside spec.targetRef those of the Deployment are never changed: leave it out",
        ),
    ]);
    rules
}

fn of_pods(field: &str, unset: &str) -> FieldRule {
    rule(
        "spec",
        format!("!has(self.targetRef) || ({unset})"),
        format!(
            "spec.{field} must not be set beside spec.targetRef, because pods are as the Deployment's template says: set it there"
        ),
    )
}
