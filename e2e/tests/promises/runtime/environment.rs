//! What a container finds when it starts: environment, user, rights, standard input, file system.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::json;

use super::{APP, asked, stage};

#[derive(Debug, Deserialize)]
struct Findings {
    environment: BTreeMap<String, String>,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    stdin_ended: bool,
    capabilities: String,
    bounding: String,
    no_new_privileges: String,
    seccomp: String,
    token: bool,
    writes: BTreeMap<String, bool>,
}

fn none(capabilities: &str) -> bool {
    !capabilities.is_empty() && capabilities.bytes().all(|digit| digit == b'0')
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_container_finds_the_environment_of_the_contract_and_no_rights() -> Result<()> {
    let changes = json!({
        "port": 3000,
        "env": [
            {"name": "ADDRESS", "value": "http://localhost:$(PORT)/"},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
    });
    let stage = stage("environment", changes).await?;
    let found: Findings = asked(&stage, "/").await?;
    let pods = stage.functions.pods(APP).await?;
    let pod = pods.first().and_then(|pod: &Pod| pod.metadata.name.as_deref()).context("no pod runs")?;
    let expected = [
        ("PORT", "3000"),
        ("K_SERVICE", "app"),
        ("K_CONFIGURATION", "app"),
        ("K_REVISION", "app-1"),
        ("ADDRESS", "http://localhost:3000/"),
        ("POD", pod),
    ];
    for (name, value) in expected {
        assert_eq!(found.environment.get(name).map(String::as_str), Some(value), "{name}");
    }
    // The Function's own Service is there since before the pod was made: with links, it would be among the variables.
    let links: Vec<&String> = found.environment.keys().filter(|name| name.ends_with("_SERVICE_HOST")).collect();
    ensure!(links.iter().all(|name| *name == "KUBERNETES_SERVICE_HOST"), "variables for other Services: {links:?}");
    ensure!(found.stdin_ended, "standard input is not at its end");
    ensure!(!found.token, "a service account token is mounted");
    assert_eq!(found.uid, 65532, "not the image's own user");
    ensure!(none(&found.capabilities) && none(&found.bounding), "it has capabilities: {found:?}");
    assert_eq!(found.no_new_privileges, "1", "it may gain privileges");
    assert_eq!(found.seccomp, "2", "no seccomp filter is on");
    stage.strike().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn user_groups_and_a_place_to_write_are_the_authors_choice() -> Result<()> {
    let changes = json!({
        "securityContext": {"runAsUser": 1234, "runAsGroup": 5678, "readOnlyRootFilesystem": true},
        "podSecurityContext": {"fsGroup": 4321, "supplementalGroups": [2468]},
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Mi"}}],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    });
    let stage = stage("user", changes).await?;
    let found: Findings = asked(&stage, "/").await?;
    assert_eq!((found.uid, found.gid), (1234, 5678));
    for group in [4321, 2468] {
        ensure!(found.groups.contains(&group), "{group} is not among the groups {:?}", found.groups);
    }
    ensure!(found.writes["/tmp"], "its emptyDir cannot be written to");
    ensure!(!found.writes["/"], "its root file system can be written to");
    // As in every container, whatever the root file system.
    ensure!(found.writes["/dev/shm"], "/dev/shm cannot be written to");
    stage.strike().await
}
