//! Rules about which revisions get the traffic.

use super::{FieldRule, rule};

const REVISION: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?-[1-9][0-9]{0,17}$";

pub(super) fn rules() -> Vec<FieldRule> {
    vec![
        rule(
            "spec.traffic[]",
            "has(self.revisionName) != (has(self.latestRevision) && self.latestRevision)",
            "an entry of spec.traffic must have either revisionName, the name of a revision, or latestRevision: true",
        ),
        rule(
            "spec.traffic[].revisionName",
            format!("self.matches('{REVISION}')"),
            "revisionName in spec.traffic must be the name of a revision, <function>-<number>: for example hello-3; status.revisions lists them",
        ),
        rule(
            "spec.traffic",
            "size(self) == 0 ? true : size(self) == 1 ? (!has(self[0].percent) || self[0].percent == 100) : self.all(t, has(t.percent)) && self.map(t, t.percent).sum() == 100",
            "the percentages in spec.traffic must make 100, and each of several entries must have one: correct percent",
        ),
        rule(
            "",
            "!has(self.spec.traffic) || self.spec.traffic.all(t, !has(t.revisionName) || t.revisionName.startsWith(self.metadata.name + '-'))",
            "revisionName in spec.traffic must be one of this Function's own revisions, <name>-<number>: status.revisions lists them",
        ),
        rule(
            "spec",
            "!has(self.targetRef) || !has(self.traffic)",
            "spec.traffic is for revisions, and beside spec.targetRef there are none: leave it out",
        ),
    ]
}
