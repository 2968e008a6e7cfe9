//! The catalogue of images: what each is called, where its Containerfile lies, and where its files come from.

use anyhow::{Result, bail};

/// Where the files come from that a Containerfile copies.
pub(super) enum Source {
    /// A binary of the workspace; its package has the same name.
    Cargo(&'static str),
    /// A `main` package of the Go module in `examples/`.
    Go(&'static str),
    /// The distribution's Python, and files of the component's folder.
    Python(&'static [&'static str]),
    /// Traefik, as `e2e/traefik` pins it.
    Traefik,
    /// The machine's Node.js, and files of the component's folder.
    Node(&'static [&'static str]),
}

/// What is known about one image before it is built.
pub(super) struct Recipe {
    /// Last part of its name.
    pub(super) name: &'static str,
    /// Folder with the Containerfile, from the repository's top.
    pub(super) folder: &'static str,
    /// What it is made of.
    pub(super) source: Source,
}

/// The package that is in every pod, and compiled for size.
pub(super) const PILOT: &str = "pilotlight-pilot";

/// Every image; the README of each folder says what it is for.
const RECIPES: &[Recipe] = &[
    Recipe { name: "operator", folder: "operator", source: Source::Cargo("pilotlight-operator") },
    Recipe { name: "activator", folder: "activator", source: Source::Cargo("pilotlight-activator") },
    Recipe { name: "pilot", folder: "pilot", source: Source::Cargo(PILOT) },
    Recipe { name: "example-hello-rust", folder: "examples/hello-rust", source: Source::Cargo("example-hello-rust") },
    Recipe { name: "example-hello-go", folder: "examples/hello-go", source: Source::Go("hello-go") },
    Recipe { name: "example-hello-python", folder: "examples/hello-python", source: Source::Python(&["main.py"]) },
    Recipe { name: "example-hello-node", folder: "examples/hello-node", source: Source::Node(&["main.mjs"]) },
    Recipe { name: "example-slow-start", folder: "examples/slow-start", source: Source::Go("slow-start") },
    Recipe { name: "example-websocket", folder: "examples/websocket", source: Source::Go("websocket") },
    Recipe { name: "example-sse", folder: "examples/sse", source: Source::Go("sse") },
    Recipe { name: "example-grpc", folder: "examples/grpc", source: Source::Go("grpc") },
    Recipe { name: "example-probe", folder: "examples/probe", source: Source::Go("probe") },
];

/// What only tests need, and takes long to build: no part of "every image".
const FOR_TESTS: &[Recipe] = &[Recipe { name: "test-traefik", folder: "e2e/traefik", source: Source::Traefik }];

/// The named recipes, or all but those for tests where none is named.
pub(super) fn select(only: &[String]) -> Result<Vec<&'static Recipe>> {
    if only.is_empty() {
        return Ok(RECIPES.iter().collect());
    }
    for name in only {
        if !known().any(|recipe| recipe.name == name) {
            let known: Vec<_> = known().map(|recipe| recipe.name).collect();
            bail!("--only {name}: there is no such image; there are {}", known.join(", "));
        }
    }
    Ok(known().filter(|recipe| only.iter().any(|name| name == recipe.name)).collect())
}

/// All recipes, those for tests included.
pub(super) fn known() -> impl Iterator<Item = &'static Recipe> {
    RECIPES.iter().chain(FOR_TESTS)
}

impl Source {
    /// The package of the workspace that has to be compiled for it.
    pub(super) fn package(&self) -> Option<&'static str> {
        match self {
            Source::Cargo(package) => Some(package),
            Source::Go(_) | Source::Python(_) | Source::Node(_) | Source::Traefik => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::repository;

    #[test]
    fn every_recipe_has_its_containerfile() {
        for recipe in known() {
            let file = repository().join(recipe.folder).join("Containerfile");
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(text.contains("\nFROM scratch\n"), "{}: must be from scratch", file.display());
            assert!(text.contains("\nUSER 65532:65532\n"), "{}: must not run as root", file.display());
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_that_exist() {
        let error = select(&["operatr".to_owned()]).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("--only operatr") && error.contains("operator, activator"), "{error}");
    }
}
