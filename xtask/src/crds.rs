//! `cargo xtask crds`: the CustomResourceDefinition that the chart installs, generated from the types in `crds/`. A test
//! compares the file with the types, so neither changes alone.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell::repository;

/// What to do with the generated file.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only compare; fail where the file differs from what would be generated.
    #[arg(long, conflicts_with = "stdout")]
    check: bool,
    /// Print the plain CustomResourceDefinition, fit for `kubectl apply --server-side -f -`, and write nothing.
    #[arg(long)]
    stdout: bool,
}

/// Writes, checks or prints it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.stdout {
        print!("{}", yaml(&definition()?)?);
        return Ok(());
    }
    let path = path();
    let generated = template()?;
    if arguments.check {
        return check(&generated);
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    std::fs::write(&path, generated).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// Not in the chart's `crds/` folder: Helm never upgrades what is there.
fn path() -> PathBuf {
    repository().join("charts/pilotlight/templates/crds/functions.yaml")
}

fn check(generated: &str) -> Result<()> {
    let path = path();
    let found = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}: run `cargo xtask crds`", path.display()))?;
    if found == generated {
        return Ok(());
    }
    let line = found
        .lines()
        .zip(generated.lines())
        .position(|(found, generated)| found != generated)
        .unwrap_or_else(|| found.lines().count().min(generated.lines().count()));
    bail!(
        "{} differs from the types in crds/ from line {} on: run `cargo xtask crds` and commit the result",
        path.display(),
        line + 1
    )
}

/// The file in the chart: installed on request, kept at uninstall, since deleting it would delete every Function.
fn template() -> Result<String> {
    let mut definition = definition()?;
    definition["metadata"]["annotations"]["helm.sh/resource-policy"] = "keep".into();
    let yaml = yaml(&definition)?.replace("{{", r#"{{ "{{" }}"#);
    Ok(format!(
        "{{{{- if .Values.crds.install }}}}\n# Generated from crds/ by `cargo xtask crds`; do not edit.\n{yaml}{{{{- end }}}}\n"
    ))
}

fn definition() -> Result<Value> {
    let definition = serde_json::to_value(pilotlight_crds::crd())?;
    Ok(canonical(definition))
}

/// Keys in order, whichever map serde_json was built with, and whole numbers without a point: the file depends on the types
/// alone.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            entries.into_iter().map(|(k, v)| (k, canonical(v))).collect()
        }
        Value::Array(items) => items.into_iter().map(canonical).collect(),
        Value::Number(number) => match number.as_f64() {
            // Bounds are floating-point numbers in the API, but nobody writes 1.0.
            Some(whole) if number.is_f64() && whole.fract() == 0.0 && whole.abs() < 1e15 => Value::from(whole as i64),
            _ => Value::Number(number),
        },
        plain => plain,
    }
}

fn yaml(definition: &Value) -> Result<String> {
    let mut yaml = serde_saphyr::to_string(definition)?;
    if !yaml.ends_with('\n') {
        yaml.push('\n');
    }
    Ok(yaml)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_has_what_the_types_say() {
        check(&template().expect("the types make a definition")).expect("no drift");
    }

    #[test]
    fn what_is_written_reads_back_as_the_definition() {
        let definition = definition().expect("the types make a definition");
        let text = yaml(&definition).expect("it is plain data");
        let read: Value = serde_saphyr::from_str(&text).expect("it is YAML");
        let read: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
            serde_json::from_value(read).expect("it is a definition");
        assert_eq!(read, pilotlight_crds::crd());
    }

    #[test]
    fn helm_sees_nothing_to_expand_but_the_guard() {
        let template = template().expect("the types make a definition");
        let inside = template
            .strip_prefix("{{- if .Values.crds.install }}\n")
            .and_then(|rest| rest.strip_suffix("{{- end }}\n"))
            .expect("the guard is around it");
        assert!(!inside.replace(r#"{{ "{{" }}"#, "").contains("{{"));
    }
}
