//! Rules about load: scaling, and how long a request may take.

use super::{DNS_LABEL, FieldRule, rule};

pub(super) fn rules() -> Vec<FieldRule> {
    let mut rules = vec![
        rule(
            "spec.scaling",
            "self.minReplicas <= self.maxReplicas",
            "spec.scaling.minReplicas must not be above spec.scaling.maxReplicas: raise maxReplicas or lower minReplicas",
        ),
        rule(
            "spec.scaling",
            "self.initialReplicas <= self.maxReplicas",
            "spec.scaling.initialReplicas must not be above spec.scaling.maxReplicas: raise maxReplicas or lower initialReplicas",
        ),
        rule(
            "spec.scaling",
            "self.minActiveReplicas <= self.maxReplicas",
            "spec.scaling.minActiveReplicas must not be above spec.scaling.maxReplicas: raise maxReplicas or lower minActiveReplicas",
        ),
        rule(
            "spec.scaling",
            "self.activationReplicas <= self.maxReplicas",
            "spec.scaling.activationReplicas must not be above spec.scaling.maxReplicas: raise maxReplicas or lower activationReplicas",
        ),
        rule(
            "spec.scaling",
            "self.targetRPS == 0 || self.metric == 'RPS'",
            "spec.scaling.targetRPS counts only with the metric RPS: set spec.scaling.metric to RPS, or leave targetRPS out",
        ),
        rule(
            "spec.scaling",
            "self.targetConcurrency == 0 || self.metric == 'Concurrency'",
            "spec.scaling.targetConcurrency counts only with the metric Concurrency: set targetRPS instead, or leave metric out",
        ),
        rule(
            "spec.scaling",
            "self.stableWindowSeconds * self.panicWindowPercent >= 100",
            "the panic window (spec.scaling.panicWindowPercent of stableWindowSeconds) must last a second at least: raise either",
        ),
        rule(
            "spec",
            "self.concurrency.limit == 0 || self.scaling.targetConcurrency <= self.concurrency.limit",
            "spec.scaling.targetConcurrency must not be above spec.concurrency.limit, which it could never reach: lower it, or raise the limit",
        ),
        rule(
            "spec.coldStart",
            "!has(self.cpuBoost) || self.cpuBoost.matches('^([1-9][0-9]{0,2}|[1-9][0-9]{0,5}m)$')",
            "spec.coldStart.cpuBoost must be whole CPUs or thousandths of one, for example \"2\" or 1500m",
        ),
        rule(
            "spec",
            "!has(self.coldStart.cpuBoost) || (has(self.resources) && has(self.resources.limits) && 'cpu' in self.resources.limits)",
            "spec.coldStart.cpuBoost needs spec.resources.limits.cpu, because a pod without a limit may use all CPU that is free anyway: set a limit, or leave cpuBoost out",
        ),
        rule(
            "spec.timeouts",
            "self.requestSeconds == 0 || self.responseStartSeconds <= self.requestSeconds",
            "spec.timeouts.responseStartSeconds must not be above spec.timeouts.requestSeconds: lower it, or raise requestSeconds",
        ),
    ];
    rules.extend(idle());
    rules.extend(schedules());
    rules
}

fn idle() -> Vec<FieldRule> {
    const STEPS: &str = "!has(self.idleSeconds) || !has(self.idle) || !has(self.idle.steps)";
    const THROTTLED: &str = "!has(self.scaling.idle) || !has(self.scaling.idle.steps) || !self.scaling.idle.steps.exists(s, s.rung == 'Throttled')";
    vec![
        rule(
            "spec.scaling.idle",
            "has(self.policy) != has(self.steps)",
            "spec.scaling.idle must have either policy or steps, which state the times that the policy Adaptive would choose: remove one, or add one",
        ),
        rule(
            "spec.scaling.idle",
            "!has(self.steps) || self.steps.all(a, self.steps.all(b, a.rung == b.rung || a.rung == 'Zero' || b.rung == 'Throttled' || a.afterSeconds < b.afterSeconds))",
            "steps in spec.scaling.idle must go down the ladder, Throttled before Zero: raise afterSeconds of the lower rung",
        ),
        rule(
            "spec.scaling.idle",
            "!has(self.steps) || self.steps.all(a, self.steps.all(b, !has(a.replicas) || !has(b.replicas) || a.afterSeconds >= b.afterSeconds || a.replicas >= b.replicas))",
            "replicas of a step in spec.scaling.idle must not be above those of a step before it, because no pods are started for a step: lower them, or raise those before",
        ),
        rule(
            "spec.scaling.idle.steps[]",
            "!has(self.replicas) || self.rung != 'Zero'",
            "a step to Zero in spec.scaling.idle keeps no pods: remove its replicas, or choose another rung",
        ),
        rule(
            "spec.scaling",
            "!has(self.idle) || !has(self.idle.steps) || self.idle.steps.all(s, !has(s.replicas) || s.replicas <= self.maxReplicas)",
            "replicas of a step in spec.scaling.idle must not be above spec.scaling.maxReplicas: raise maxReplicas or lower them",
        ),
        rule(
            "spec.scaling",
            "!has(self.idleSeconds) || !has(self.idle) || !has(self.idle.policy)",
            "spec.scaling.idleSeconds states when the Function goes to zero, which the policy Adaptive in spec.scaling.idle would choose: remove one of them (versions before the policy wrote idleSeconds: 60 themselves; null removes it)",
        ),
        rule(
            "spec.scaling",
            format!("{STEPS} || !self.idle.steps.exists(s, s.rung == 'Zero')"),
            "spec.scaling.idleSeconds and a step to Zero in spec.scaling.idle both state when the Function goes to zero: remove one of them",
        ),
        rule(
            "spec.scaling",
            format!("{STEPS} || self.idle.steps.all(s, s.rung == 'Zero' || s.afterSeconds < self.idleSeconds)"),
            "afterSeconds of a step in spec.scaling.idle must be below spec.scaling.idleSeconds, after which the Function goes to zero: lower it, or raise idleSeconds",
        ),
        rule(
            "spec",
            format!(
                "{THROTTLED} || (has(self.resources) && has(self.resources.limits) && 'cpu' in self.resources.limits)"
            ),
            "the rung Throttled in spec.scaling.idle needs spec.resources.limits.cpu, because Kubernetes changes the limit of a running pod but takes none away: set one",
        ),
        rule(
            "spec",
            format!(
                "{THROTTLED} || !((has(self.readinessProbe) && has(self.readinessProbe.exec)) || (has(self.livenessProbe) && has(self.livenessProbe.exec)))"
            ),
            "the rung Throttled in spec.scaling.idle leaves too little CPU to start the program of an exec probe in time: use httpGet, tcpSocket or grpc in spec.readinessProbe and spec.livenessProbe",
        ),
        rule(
            "spec",
            "!has(self.scaling.idle) || !has(self.scaling.idle.steps) || !self.scaling.idle.steps.exists(s, s.rung == 'Parked') || !has(self.imagePullPolicy) || self.imagePullPolicy != 'Always'",
            "the rung Parked in spec.scaling.idle brings the function back without asking a registry: set spec.imagePullPolicy to IfNotPresent, or leave it out",
        ),
    ]
}

fn schedules() -> Vec<FieldRule> {
    let mut rules = vec![
        rule(
            "spec.scaling",
            "!has(self.schedules) || self.schedules.all(s, s.minReplicas <= self.maxReplicas)",
            "minReplicas in spec.scaling.schedules must not be above spec.scaling.maxReplicas: raise maxReplicas or lower it",
        ),
        rule(
            "spec.scaling.schedules[].name",
            format!("self.matches('{DNS_LABEL}')"),
            "the name of an entry of spec.scaling.schedules must consist of lower case letters, digits and '-', and neither begin nor end with '-'",
        ),
        rule(
            "spec.scaling.schedules[].timeZone",
            "self.matches('^[A-Z][-A-Za-z0-9_+]*(/[-A-Za-z0-9_+]+)*$') && self != 'Local'",
            "timeZone in spec.scaling.schedules must be an IANA name: for example Europe/Berlin or Etc/UTC",
        ),
        rule(
            "spec.scaling.schedules[]",
            "self.start != self.end",
            "start and end of an entry of spec.scaling.schedules must not be the same: it would never be in force",
        ),
    ];
    for (path, field) in [("spec.scaling.schedules[].start", "start"), ("spec.scaling.schedules[].end", "end")] {
        rules.push(rule(
            path,
            "self.matches('^[-A-Za-z0-9*,/]+( [-A-Za-z0-9*,/]+){4}$')",
            format!(
                "{field} in spec.scaling.schedules must be a cron expression of five fields (minute, hour, day of month, month, day of week) with single spaces between: for example 0 8 * * 1-5"
            ),
        ));
    }
    rules
}
