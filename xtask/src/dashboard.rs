//! The chart's Grafana dashboard names metrics of the components; a panel of a metric that doesn't exist is just empty, and nobody
//! notices. This holds the names to those that the components register.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use crate::shell::repository;

    const SUFFIXES: [&str; 4] = ["_total", "_bucket", "_sum", "_count"];

    /// Every Rust file below a folder, one after the other.
    fn sources(folder: &Path) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                text.push_str(&sources(&path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
        text
    }

    /// Names after `prefix` in the dashboard, without what Prometheus adds to them.
    fn named(dashboard: &str, prefix: &str) -> BTreeSet<String> {
        let names = dashboard.split(prefix).skip(1).map(|rest| {
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let base = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
            base.unwrap_or(&name).to_owned()
        });
        names.collect()
    }

    #[test]
    fn the_dashboard_names_only_metrics_that_exist() {
        let file = repository().join("charts/pilotlight/dashboards/pilotlight.json");
        let dashboard = std::fs::read_to_string(file).unwrap();
        for component in ["operator", "activator"] {
            let sources = sources(&repository().join(component).join("src"));
            let named = named(&dashboard, &format!("pilotlight_{component}_"));
            assert!(!named.is_empty(), "the dashboard shows nothing of the {component}");
            for name in named {
                assert!(
                    sources.contains(&format!("\"{name}\"")),
                    "the {component} registers no metric {name}; correct charts/pilotlight/dashboards/pilotlight.json"
                );
            }
        }
    }
}
