//! Rules about which revisions get the traffic.

use super::{FieldRule, rule};

const REVISION: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?-[1-9][0-9]{0,17}$";
const TAG: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?$";
/// A token of RFC 9110, section 5.6.2, but for the quote, which CEL's strings would need escaped.
const TOKEN: &str = "^[-!#$%&*+.^_`|~0-9A-Za-z]+$";

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
            "size(self) == 0 ? true : size(self) == 1 ? (!has(self[0].percent) || self[0].percent == 100) : self.all(t, has(t.percent) || has(t.tag) || has(t.matches)) && self.map(t, has(t.percent) ? t.percent : 0).sum() == 100",
            "the percentages in spec.traffic must make 100, and each of several entries must have one, or a tag, or matches: correct percent",
        ),
        rule(
            "spec.traffic",
            "self.all(t, !has(t.tag) || self.exists_one(other, has(other.tag) && other.tag == t.tag))",
            "a tag in spec.traffic must name one entry: two have the same",
        ),
        rule(
            "spec.traffic[].tag",
            format!("self.matches('{TAG}')"),
            "tag in spec.traffic must consist of lower case letters, digits and '-', begin with a letter and not end with '-': for example canary",
        ),
        rule(
            "",
            "!has(self.spec.traffic) || self.spec.traffic.all(t, !has(t.tag) || size(t.tag) + size(self.metadata.name) <= 62)",
            "a tag in spec.traffic and the Function's name must have at most 62 characters together, so that <tag>-<name> is a host name: choose a shorter tag",
        ),
        rule(
            "spec.traffic[].matches[]",
            "has(self.path) || (has(self.headers) && size(self.headers) > 0) || (has(self.cookies) && size(self.cookies) > 0) || (has(self.queryParams) && size(self.queryParams) > 0)",
            "an entry of matches in spec.traffic must have one of path, headers, cookies, queryParams at least: else it would be every request",
        ),
        rule(
            "spec.traffic[].matches[].path",
            "self.value.matches('^/[!-~]*$') && !self.value.contains('?') && !self.value.contains('#')",
            "path.value of matches in spec.traffic must begin with '/', without query and white space: for example /v2",
        ),
        rule(
            "spec.traffic[].matches[].headers[].name",
            format!("self.matches('{TOKEN}') && !self.lowerAscii().startsWith('pilotlight-')"),
            "the name of a header of matches in spec.traffic must be one that HTTP allows, and not begin with pilotlight-, which clients cannot send",
        ),
        rule(
            "spec.traffic[].matches[].cookies[].name",
            format!("self.matches('{TOKEN}')"),
            "the name of a cookie of matches in spec.traffic must be one that HTTP allows: letters, digits, '-', '_' and '.', say",
        ),
        rule(
            "spec.sticky",
            "has(self.cookie) != has(self.header)",
            "spec.sticky must have either cookie or header, not both: remove one",
        ),
        rule(
            "spec.sticky.cookie.name",
            format!("self.matches('{TOKEN}')"),
            "spec.sticky.cookie.name must be a name that HTTP allows: letters, digits, '-', '_' and '.', say",
        ),
        rule(
            "spec.sticky.header",
            format!("self.matches('{TOKEN}') && !self.lowerAscii().startsWith('pilotlight-')"),
            "spec.sticky.header must be a name that HTTP allows, and not begin with pilotlight-, which clients cannot send",
        ),
        rule(
            "spec.rollout",
            "!has(self.abortOn) || self.strategy == 'Gradual'",
            "spec.rollout.abortOn is for the strategy Gradual: with Immediate there is no old revision left to compare with; set strategy: Gradual",
        ),
        rule(
            "spec.rollout.abortOn",
            "has(self.errorPercent) || has(self.latencyP99Seconds)",
            "spec.rollout.abortOn must have errorPercent or latencyP99Seconds, or be left out",
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
        rule(
            "spec",
            "!has(self.targetRef) || !(has(self.sticky) || has(self.rollout))",
            "spec.sticky and spec.rollout are for revisions, and beside spec.targetRef there are none: leave them out",
        ),
    ]
}
