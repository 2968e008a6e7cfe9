//! What the schema's rules cannot refuse, because they see one field at a time or would cost too much there.
//!
//! Pure. A Function with a problem keeps what it has: its revisions go on, nothing new is built.

use pilotlight_crds::{Function, FunctionSpec, names};
use std::collections::BTreeSet;
use std::fmt;

use crate::autoscaler::calendar;
use crate::build::pod::RESERVED_ENV;

/// Longest name: the revision's name `<function>-<n>` is a label's value (63 characters), and so is the name of the
/// EndpointSlice's Service.
const LONGEST_NAME: usize = 52;

/// Something that the author must change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Everything that is wrong with `function`.
pub fn validate(function: &Function) -> Vec<Problem> {
    let mut problems = Vec::new();
    name(function.metadata.name.as_deref().unwrap_or_default(), &mut problems);
    volumes(&function.spec, &mut problems);
    environment(&function.spec, &mut problems);
    pod_labels(&function.spec, &mut problems);
    schedules(&function.spec, &mut problems);
    problems
}

fn problem(field: impl Into<String>, message: impl Into<String>) -> Problem {
    Problem { field: field.into(), message: message.into() }
}

/// The Service has the Function's name, and a Service's name is stricter than other objects'.
fn name(name: &str, problems: &mut Vec<Problem>) {
    let starts_with_letter = name.starts_with(|c: char| c.is_ascii_lowercase());
    let allowed = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !starts_with_letter || !allowed || name.ends_with('-') {
        problems.push(problem(
            "metadata.name",
            format!("`{name}` cannot name a Service; use lower-case letters, digits and `-`, beginning with a letter"),
        ));
    }
    if name.len() > LONGEST_NAME {
        problems.push(problem(
            "metadata.name",
            format!(
                "has {} characters; use {LONGEST_NAME} at most, so that its revisions can be named after it",
                name.len()
            ),
        ));
    }
}

fn volumes(spec: &FunctionSpec, problems: &mut Vec<Problem>) {
    let mut declared = BTreeSet::new();
    for (n, volume) in spec.volumes.iter().enumerate() {
        if !declared.insert(volume.name.as_str()) {
            problems.push(problem(
                format!("spec.volumes[{n}].name"),
                format!("`{}` is used twice; give each volume its own name", volume.name),
            ));
        }
    }
    let mut paths = BTreeSet::new();
    for (n, mount) in spec.volume_mounts.iter().enumerate() {
        if !declared.contains(mount.name.as_str()) {
            problems.push(problem(
                format!("spec.volumeMounts[{n}].name"),
                format!("no volume is named `{}`; add it to spec.volumes", mount.name),
            ));
        }
        if !paths.insert(mount.mount_path.as_str()) {
            problems.push(problem(
                format!("spec.volumeMounts[{n}].mountPath"),
                format!("`{}` is mounted twice; use another path", mount.mount_path),
            ));
        }
    }
}

fn environment(spec: &FunctionSpec, problems: &mut Vec<Problem>) {
    for (n, variable) in spec.env.iter().enumerate() {
        if RESERVED_ENV.contains(&variable.name.as_str()) {
            problems.push(problem(
                format!("spec.env[{n}].name"),
                format!("`{}` is set by Pilotlight; remove it (spec.port sets PORT)", variable.name),
            ));
        }
    }
}

fn pod_labels(spec: &FunctionSpec, problems: &mut Vec<Problem>) {
    for key in spec.pod_metadata.labels.keys() {
        let reserved = [names::LABEL_APP_NAME, names::LABEL_MANAGED_BY].contains(&key.as_str());
        if reserved || key.starts_with("pilotlight.dev/") {
            problems.push(problem(format!("spec.podMetadata.labels[{key}]"), "is set by Pilotlight; remove it"));
        }
    }
}

/// Whether a cron expression and a time zone mean anything is more than a rule can tell.
fn schedules(spec: &FunctionSpec, problems: &mut Vec<Problem>) {
    for (n, schedule) in spec.scaling.schedules.iter().enumerate() {
        if let Err(error) = calendar::parse(schedule) {
            problems.push(problem(format!("spec.scaling.schedules[{n}]"), error.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{EnvVar, VolumeMount};
    use pilotlight_crds::policy::ScalingSchedule;

    fn function(name: &str) -> Function {
        let spec = FunctionSpec { image: "example.com/hello:1".to_owned(), ..FunctionSpec::default() };
        Function::new(name, spec)
    }

    fn fields(function: &Function) -> Vec<String> {
        validate(function).into_iter().map(|p| p.field).collect()
    }

    #[test]
    fn an_ordinary_function_has_no_problem() {
        assert_eq!(validate(&function("hello")), []);
    }

    #[test]
    fn a_name_that_no_service_can_have_is_named() {
        for name in ["1hello", "he.llo", "hello-"] {
            assert_eq!(fields(&function(name)), ["metadata.name"], "{name}");
        }
        assert_eq!(fields(&function(&"a".repeat(53))), ["metadata.name"]);
    }

    #[test]
    fn a_schedule_that_means_nothing_is_named_with_a_remedy() {
        let mut function = function("hello");
        let fine = ScalingSchedule {
            name: "office".to_owned(),
            start: "0 8 * * 1-5".to_owned(),
            end: "0 18 * * 1-5".to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
            min_replicas: 2,
        };
        function.spec.scaling.schedules = vec![
            fine.clone(),
            ScalingSchedule { start: "0 25 * * *".to_owned(), ..fine.clone() },
            ScalingSchedule { time_zone: "Europe/Nowhere".to_owned(), ..fine },
        ];
        assert_eq!(fields(&function), ["spec.scaling.schedules[1]", "spec.scaling.schedules[2]"]);
        let words: Vec<_> = validate(&function).iter().map(ToString::to_string).collect();
        assert!(words[0].contains("start: \"0 25 * * *\" is no cron expression"), "{words:?}");
        assert!(words[1].contains("timeZone: \"Europe/Nowhere\""), "{words:?}");
    }

    #[test]
    fn each_problem_of_the_spec_names_its_field() {
        let mut function = function("hello");
        function.spec.volume_mounts =
            vec![VolumeMount { name: "data".to_owned(), mount_path: "/data".to_owned(), ..VolumeMount::default() }];
        function.spec.env = vec![EnvVar { name: "PORT".to_owned(), ..EnvVar::default() }];
        function.spec.pod_metadata.labels.insert(names::LABEL_REVISION.to_owned(), "x".to_owned());
        assert_eq!(
            fields(&function),
            ["spec.volumeMounts[0].name", "spec.env[0].name", "spec.podMetadata.labels[pilotlight.dev/revision]"]
        );
    }
}
