//! Promise: the container contract of `docs/container-contract.md`, which is Knative's runtime contract as far as an application can
//! see it. The app of these tests, `runtime/app.py`, tells what it finds.

mod environment;
mod headers;
mod probes;
mod signals;
mod timeouts;

use anyhow::{Context as _, Result};
use pilotlight_e2e::fixture::image;
use pilotlight_e2e::stage::Stage;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What every Function of these tests is called.
const APP: &str = "app";

/// A Function of the app that has one pod; `changes` replace what else is said of it.
fn spec(changes: Value) -> Value {
    let mut spec = json!({
        "image": image("hello-python"),
        "command": ["/usr/bin/python3"],
        "args": ["-I", "-c", include_str!("runtime/app.py")],
        "scaling": {"minReplicas": 1},
    });
    let fields = spec.as_object_mut().expect("it is an object, four lines above");
    if let Value::Object(changes) = changes {
        fields.extend(changes);
    }
    spec
}

/// A stage with the app on it, ready.
async fn stage(prefix: &str, changes: Value) -> Result<Stage> {
    let stage = Stage::set(prefix).await?;
    stage.functions.create(APP, spec(changes)).await?;
    stage.ready(APP).await?;
    Ok(stage)
}

/// What the app answers at a path, as JSON.
async fn asked<T: DeserializeOwned>(stage: &Stage, path: &str) -> Result<T> {
    let text = stage.ok(APP, path).await?.text();
    serde_json::from_str(&text).with_context(|| format!("{path} answered {text:?}"))
}
